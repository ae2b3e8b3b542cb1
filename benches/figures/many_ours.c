// Runs a package many times on libeunomia, with one epoll for all. usage: many_ours PACKAGE COUNT
#include <eunomia.h>
#include <sys/epoll.h>

#include "many.h"

static eunomia_vm *vms[MOST_PACKAGES];
static int epoll = -1;

static int on_event(void *arg, const eunomia_event *event) {
    (void)arg, (void)event;
    seen++;
    return 0;
}

static void start(const char *path, int package) {
    struct epoll_event interest = {.events = EPOLLIN};
    eunomia_vm *vm;

    if (epoll < 0)
        epoll = epoll_create1(EPOLL_CLOEXEC);
    if (eunomia_new(&vm, NULL) < 0)
        die(path, "no vm");
    if (eunomia_open_file(vm, path, EUNOMIA_KIND_JSON) < 0 || eunomia_attach(vm) < 0)
        die(path, eunomia_errmsg(vm));
    interest.data.ptr = vms[package] = vm;
    check(!epoll_ctl(epoll, EPOLL_CTL_ADD, eunomia_epoll_fd(vm), &interest), "epoll");
}

static void drain(void) {
    struct epoll_event ready[MOST_PACKAGES];
    int count = epoll_wait(epoll, ready, MOST_PACKAGES, -1);

    check(count >= 0, "epoll");
    for (int i = 0; i < count; i++)
        if (eunomia_poll(ready[i].data.ptr, 0, EUNOMIA_FORMAT_RAW, on_event, NULL) < 0)
            die("polling", eunomia_errmsg(ready[i].data.ptr));
}

int main(int argc, char **argv) {
    return measure(argc, argv);
}
