// The first program: opens a package, sets a variable, prints one event and ends.
// usage: first PACKAGE.json   (the package of examples/bpf/bootstrap)
#include <eunomia.h>
#include <stdio.h>

static int on_event(void *arg, const eunomia_event *event) {
    (void)arg;
    puts(event->data);
    return 1; // > 0 ends eunomia_run
}

int main(int argc, char **argv) {
    eunomia_vm *vm;
    if (argc != 2 || eunomia_new(&vm, NULL) < 0)
        return 2;
    int failed = eunomia_open_file(vm, argv[1], EUNOMIA_KIND_JSON) < 0 ||
                 eunomia_var_set_json(vm, "min_duration_ns", "1000") < 0 || eunomia_attach(vm) < 0 ||
                 eunomia_run(vm, EUNOMIA_FORMAT_JSON, on_event, NULL) < 0;
    if (failed)
        fprintf(stderr, "%s\n%s", eunomia_errmsg(vm), eunomia_errdetail(vm));
    eunomia_destroy(vm);
    return failed;
}
