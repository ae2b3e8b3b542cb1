// Replaces a running package with a new version, and returns to the old one if no event comes within 10
// seconds. usage: replace PACKAGE.json NEW.json
#include <eunomia.h>
#include <stdio.h>
#include <stdlib.h>

static eunomia_vm *vm;

// Exits if a call failed.
static int check(int status) {
    if (status >= 0)
        return status;
    fprintf(stderr, "%s: %s\n%s", eunomia_status_name(status), eunomia_errmsg(vm), eunomia_errdetail(vm));
    exit(1); // the kernel releases everything
}

static int print(void *arg, const eunomia_event *event) {
    (void)arg;
    puts(event->data);
    return 0;
}

static char *read_file(const char *path, size_t *len) {
    FILE *file = fopen(path, "rb");
    static char data[16 << 20];
    if (!file)
        return NULL;
    *len = fread(data, 1, sizeof(data), file);
    fclose(file);
    return data;
}

int main(int argc, char **argv) {
    eunomia_options options = EUNOMIA_INIT(eunomia_options);
    eunomia_replace_options replace = EUNOMIA_INIT(eunomia_replace_options);
    size_t len;
    char *next = argc == 3 ? read_file(argv[2], &len) : NULL;
    options.flags = EUNOMIA_REPLACEABLE;
    if (!next || eunomia_new(&vm, &options) < 0)
        return 2;
    check(eunomia_open_file(vm, argv[1], EUNOMIA_KIND_JSON));
    check(eunomia_attach(vm));
    check(eunomia_poll(vm, -1, EUNOMIA_FORMAT_JSON, print, NULL));

    // Everything that can fail or takes long is in prepare. If it fails, the old version keeps running.
    replace.flags = EUNOMIA_REPLACE_KEEP_OLD;
    check(eunomia_prepare(vm, next, len, &replace));
    check(eunomia_flip(vm)); // from here on, each event is one of the new version
    puts(eunomia_replace_report(vm));

    if (check(eunomia_poll(vm, 10000, EUNOMIA_FORMAT_JSON, print, NULL)) > 0) {
        check(eunomia_commit(vm));
        puts("the new version stays");
    } else {
        check(eunomia_rollback(vm));
        puts("the old version is back");
    }
    eunomia_destroy(vm);
    return 0;
}
