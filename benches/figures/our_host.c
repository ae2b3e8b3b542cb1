// Runs a package on libeunomia until it is killed. Prints "ready" before it waits for events; for a module,
// which loads its package itself, slightly earlier. usage: our_host PACKAGE-OR-MODULE
#include <eunomia.h>

#include "measure.h"

static int on_event(void *arg, const eunomia_event *event) {
    (void)arg, (void)event;
    return 0;
}

static void ready(void) {
    puts("ready");
    fflush(stdout);
}

int main(int argc, char **argv) {
    eunomia_vm *vm;
    int kind;

    if (argc != 2)
        die("usage", "our_host PACKAGE-OR-MODULE");
    if (eunomia_new(&vm, NULL) < 0)
        die(argv[1], "no vm");
    kind = eunomia_open_file(vm, argv[1], EUNOMIA_KIND_ANY);
    if (kind == EUNOMIA_KIND_WASM) {
        ready();
        eunomia_wasm_run(vm, 1, (const char *const *)argv + 1, NULL, EUNOMIA_FORMAT_JSON, on_event, NULL);
    } else if (kind > 0 && eunomia_attach(vm) >= 0) {
        ready();
        eunomia_run(vm, EUNOMIA_FORMAT_JSON, on_event, NULL);
    }
    die(argv[1], eunomia_errmsg(vm));
}
