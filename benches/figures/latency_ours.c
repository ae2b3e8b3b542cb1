// Latency of libeunomia. usage: latency_ours PACKAGE
#include <eunomia.h>

#include "latency.h"

static eunomia_vm *vm;

static int on_event(void *arg, const eunomia_event *event) {
    (void)arg;
    arrived(*(const uint64_t *)event->data, clock_ns(CLOCK_MONOTONIC));
    return 0;
}

static void start(const char *path) {
    if (eunomia_new(&vm, NULL) < 0)
        die(path, "no vm");
    if (eunomia_open_file(vm, path, EUNOMIA_KIND_JSON) < 0 || eunomia_attach(vm) < 0)
        die(path, eunomia_errmsg(vm));
}

static void drain(void) {
    if (eunomia_poll(vm, -1, EUNOMIA_FORMAT_RAW, on_event, NULL) < 0)
        die("polling", eunomia_errmsg(vm));
}

int main(int argc, char **argv) {
    return measure_latency(argc, argv);
}
