// Runs a package many times on libeunomia, in one group. usage: many_ours PACKAGE COUNT
#include <eunomia.h>

#include "many.h"

static eunomia_group *group;

static int on_event(void *arg, const eunomia_event *event) {
    (void)arg, (void)event;
    seen++;
    return 0;
}

static void start(const char *path, int package) {
    eunomia_vm *vm;

    if (package == 0 && eunomia_group_new(&group) < 0)
        die(path, "no group");
    if (eunomia_new(&vm, NULL) < 0)
        die(path, "no vm");
    if (eunomia_open_file(vm, path, EUNOMIA_KIND_JSON) < 0 || eunomia_attach(vm) < 0)
        die(path, eunomia_errmsg(vm));
    check(!eunomia_group_add(group, vm, vm), "group");
}

static void drain(void) {
    if (eunomia_group_poll(group, -1, EUNOMIA_FORMAT_RAW, on_event, NULL) < 0)
        die("polling", eunomia_group_errmsg(group, NULL));
}

int main(int argc, char **argv) {
    measure(argc, argv);
}
