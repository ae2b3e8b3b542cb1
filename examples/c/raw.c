// Reads raw records of the example "bootstrap" as C structs, without JSON, until Ctrl-C.
// usage: raw target/packages/bootstrap/package.json
#include <eunomia.h>
#include <signal.h>
#include <stdio.h>

#include "../bpf/bootstrap/bootstrap.h"

static eunomia_vm *vm;

static void on_signal(int number) {
    (void)number;
    eunomia_stop(vm);
}

static int on_event(void *arg, const eunomia_event *event) {
    const struct event *record = event->data; // valid until this function returns
    (void)arg;
    if (event->kind != EUNOMIA_EVENT_SAMPLE || event->len < sizeof(*record))
        return 0;
    if (record->exit_event)
        printf("%d %s exit %u\n", record->pid, record->comm, record->exit_code);
    else
        printf("%d %s %s\n", record->pid, record->comm, record->filename);
    return 0;
}

// Checks that the struct is the one of the package, by its size.
static int check_size(const char *path) {
    eunomia_source_info source = EUNOMIA_INIT(eunomia_source_info);
    int status = eunomia_source_at(vm, 0, &source);
    if (status >= 0 && source.record_size != sizeof(struct event)) {
        fprintf(stderr, "%s: its records have %u bytes, not %zu\n", path, source.record_size,
                sizeof(struct event));
        status = EUNOMIA_ERR_TYPE;
    }
    return status;
}

int main(int argc, char **argv) {
    if (argc != 2 || eunomia_new(&vm, NULL) < 0)
        return 2;
    signal(SIGINT, on_signal);
    setvbuf(stdout, NULL, _IOLBF, 0);
    int failed = eunomia_open_file(vm, argv[1], EUNOMIA_KIND_JSON) < 0 || eunomia_load(vm) < 0 ||
                 check_size(argv[1]) < 0 || eunomia_attach(vm) < 0 ||
                 eunomia_run(vm, EUNOMIA_FORMAT_RAW, on_event, NULL) < 0;
    if (failed)
        fprintf(stderr, "%s\n%s", eunomia_errmsg(vm), eunomia_errdetail(vm));
    signal(SIGINT, SIG_IGN); // a late signal must not use the destroyed vm
    eunomia_destroy(vm);
    return failed;
}
