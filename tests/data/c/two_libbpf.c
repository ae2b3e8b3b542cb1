// A host that links a libbpf of its own in addition to the one inside the library. Both must work.
// usage: two_libbpf OBJECT PACKAGE   Prints both versions.
#include <eunomia.h>

#include <bpf/libbpf.h>

#include <stdio.h>
#include <stdlib.h>

static void die(const char *what, const char *why) {
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

int main(int argc, char **argv) {
    eunomia_vm *vm = NULL;
    if (argc != 3)
        die("usage", "two_libbpf OBJECT PACKAGE");
    struct bpf_object *object = bpf_object__open_file(argv[1], NULL);
    if (!object || bpf_object__load(object) != 0)
        die(argv[1], "the host's libbpf cannot load it");
    if (eunomia_new(&vm, NULL) < 0)
        die("eunomia_new", "no vm");
    if (eunomia_open_file(vm, argv[2], EUNOMIA_KIND_JSON) < 0 || eunomia_attach(vm) < 0)
        die(argv[2], eunomia_errmsg(vm));
    printf("host: libbpf %s\n%s\n", libbpf_version_string(), eunomia_version_string());
    eunomia_destroy(vm);
    bpf_object__close(object);
    return 0;
}
