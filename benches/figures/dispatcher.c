// Measures one event of a program that is attached directly, and through a dispatcher. The program does
// nothing.
//
// Usage: dispatcher PACKAGE. Prints "NAME direct dispatched" in nanoseconds per system call.
#define _GNU_SOURCE
#include <sys/syscall.h>

#include "eunomia.h"
#include "measure.h"

#define CALLS 1000000
#define ROUNDS 15

static double call_ns(void) {
    double start = now_ns();

    for (int i = 0; i < CALLS; i++)
        syscall(SYS_getpgid, 1 << 30);
    return (now_ns() - start) / CALLS;
}

static double round_ns(const char *package, uint32_t flags) {
    eunomia_options options = {.size = sizeof(options), .flags = flags};
    eunomia_vm *vm;
    double ns;

    check(eunomia_new(&vm, &options) >= 0, "new");
    if (eunomia_open_file(vm, package, EUNOMIA_KIND_JSON) < 0 ||
        eunomia_var_set_json(vm, "silent", "true") < 0 || eunomia_attach(vm) < 0)
        die("attach", eunomia_errmsg(vm));
    call_ns();
    ns = call_ns();
    eunomia_destroy(vm);
    return ns;
}

int main(int argc, char **argv) {
    static struct times direct, dispatched;

    if (argc != 2)
        die("usage", "dispatcher PACKAGE");
    for (int i = 0; i < ROUNDS; i++) {
        add(&direct, round_ns(argv[1], 0));
        add(&dispatched, round_ns(argv[1], EUNOMIA_REPLACEABLE));
    }
    report("call", &direct, &dispatched);
    return 0;
}
