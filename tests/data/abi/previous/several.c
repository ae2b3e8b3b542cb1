// Runs several packages at once, each in a vm, and handles all events in one loop, until Ctrl-C.
// usage: several PACKAGE.json...
#include <errno.h>
#include <eunomia.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>

#define MAX_PACKAGES 16

static struct pollfd fds[MAX_PACKAGES];
static eunomia_vm *vms[MAX_PACKAGES];
static volatile sig_atomic_t is_over;

static void on_signal(int number) {
    (void)number;
    is_over = 1;
}

static int on_event(void *arg, const eunomia_event *event) {
    const char *package = arg;
    printf("%s %s\n", package, (const char *)event->data);
    return 0;
}

static int start(int i, const char *package) {
    if (eunomia_new(&vms[i], NULL) < 0)
        return -1;
    fds[i] = (struct pollfd){.fd = eunomia_epoll_fd(vms[i]), .events = POLLIN};
    if (eunomia_open_file(vms[i], package, EUNOMIA_KIND_JSON) >= 0 && eunomia_attach(vms[i]) >= 0)
        return 0;
    fprintf(stderr, "%s: %s\n", package, eunomia_errmsg(vms[i]));
    return -1;
}

int main(int argc, char **argv) {
    int count = argc - 1, status = count > 0 && count <= MAX_PACKAGES ? 0 : -1;
    if (status < 0)
        fprintf(stderr, "usage: %s PACKAGE... (at most %d)\n", argv[0], MAX_PACKAGES);
    struct sigaction action = {.sa_handler = on_signal}; // interrupts poll
    sigaction(SIGINT, &action, NULL);
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 0; i < count && status >= 0; i++)
        status = start(i, argv[i + 1]);
    while (!is_over && status >= 0) {
        if (poll(fds, (nfds_t)count, -1) < 0 && errno != EINTR) {
            perror("poll");
            status = -1;
        }
        for (int i = 0; i < count && status >= 0; i++) {
            if (fds[i].revents)
                status = eunomia_poll(vms[i], 0, EUNOMIA_FORMAT_JSON, on_event, argv[i + 1]);
            if (status < 0)
                fprintf(stderr, "%s: %s\n", argv[i + 1], eunomia_errmsg(vms[i]));
        }
    }
    for (int i = 0; i < count && i < MAX_PACKAGES; i++)
        eunomia_destroy(vms[i]);
    return status < 0;
}
