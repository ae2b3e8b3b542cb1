// Handles events in the host's own event loop, alongside its other work, until SIGINT or SIGTERM.
// usage: loop PACKAGE.json
#include <errno.h>
#include <eunomia.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/timerfd.h>
#include <unistd.h>

static eunomia_vm *vm;

static void on_signal(int number) {
    (void)number;
    eunomia_stop(vm); // makes the vm's descriptor readable
}

static int on_event(void *arg, const eunomia_event *event) {
    (void)arg;
    puts(event->data);
    return 0;
}

// The other work: a timer tick every second.
static int new_timer(void) {
    struct itimerspec every = {.it_interval = {.tv_sec = 1}, .it_value = {.tv_sec = 1}};
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    timerfd_settime(timer, 0, &every, NULL);
    return timer;
}

// Returns the status that ended the loop.
static int loop(int timer) {
    struct pollfd fds[2] = {{.fd = eunomia_epoll_fd(vm), .events = POLLIN}, {.fd = timer, .events = POLLIN}};
    int status = 0;
    uint64_t ticks;
    while (status >= 0) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            return EUNOMIA_ERR_SYSTEM;
        if (fds[1].revents && read(timer, &ticks, sizeof(ticks)) > 0)
            puts("tick");
        status = eunomia_poll(vm, 0, EUNOMIA_FORMAT_JSON, on_event, NULL); // does not wait
    }
    return status;
}

int main(int argc, char **argv) {
    if (argc != 2 || eunomia_new(&vm, NULL) < 0)
        return 2;
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    setvbuf(stdout, NULL, _IOLBF, 0);
    int timer = new_timer();
    int status = eunomia_open_file(vm, argv[1], EUNOMIA_KIND_JSON);
    if (status >= 0)
        status = eunomia_attach(vm);
    if (status >= 0)
        status = loop(timer);
    if (status != EUNOMIA_ERR_STOPPED)
        fprintf(stderr, "%s\n", eunomia_errmsg(vm));
    signal(SIGINT, SIG_IGN); // a late signal must not use the destroyed vm
    signal(SIGTERM, SIG_IGN);
    eunomia_destroy(vm);
    close(timer);
    return status != EUNOMIA_ERR_STOPPED;
}
