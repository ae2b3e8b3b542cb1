// Runs a package on libeunomia until it is killed. Says "ready" once it waits for events.
// usage: our_host PACKAGE
#include <eunomia.h>

#include "measure.h"

static int on_event(void *arg, const eunomia_event *event) {
    (void)arg, (void)event;
    return 0;
}

int main(int argc, char **argv) {
    eunomia_vm *vm;

    if (argc != 2)
        die("usage", "our_host PACKAGE");
    if (eunomia_new(&vm, NULL) < 0)
        die(argv[1], "no vm");
    if (eunomia_open_file(vm, argv[1], EUNOMIA_KIND_JSON) < 0 || eunomia_attach(vm) < 0)
        die(argv[1], eunomia_errmsg(vm));
    puts("ready");
    fflush(stdout);
    eunomia_run(vm, EUNOMIA_FORMAT_JSON, on_event, NULL);
    die(argv[1], eunomia_errmsg(vm));
}
