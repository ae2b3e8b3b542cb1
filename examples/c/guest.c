// Runs a WASM package with its own command line and prints its events, until it ends or Ctrl-C.
// usage: guest APP.wasm [ARGUMENT]...   (-h: the guest's help)
#include <eunomia.h>
#include <signal.h>
#include <stdio.h>

static eunomia_vm *vm;

static void on_signal(int number) {
    (void)number;
    eunomia_stop(vm); // ends the guest at any point
}

static void on_log(void *arg, uint32_t level, const char *line) {
    (void)arg;
    (void)level;
    fprintf(stderr, "%s\n", line);
}

// Events and lines that the guest prints are both NUL-terminated strings.
static int on_event(void *arg, const eunomia_event *event) {
    (void)arg;
    return puts(event->data) < 0; // a closed pipe ends the guest
}

int main(int argc, char **argv) {
    int exit_code = 1;
    eunomia_options options = EUNOMIA_INIT(eunomia_options);
    options.log = on_log;
    if (argc < 2) {
        fprintf(stderr, "usage: %s APP.wasm [ARGUMENT]...\n", argv[0]);
        return 2;
    }
    if (eunomia_new(&vm, &options) < 0)
        return 1;
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    setvbuf(stdout, NULL, _IOLBF, 0);
    const char *const *arguments = (const char *const *)argv + 1; // the module's path is its argv[0]
    int status = eunomia_open_file(vm, argv[1], EUNOMIA_KIND_WASM);
    if (status >= 0)
        status = eunomia_wasm_run(vm, argc - 1, arguments, &exit_code, EUNOMIA_FORMAT_JSON, on_event, NULL);
    if (status == EUNOMIA_ERR_STOPPED)
        exit_code = 0;
    else if (status < 0)
        fprintf(stderr, "%s\n%s", eunomia_errmsg(vm), eunomia_errdetail(vm));
    signal(SIGINT, SIG_IGN); // a late signal must not use the destroyed vm
    signal(SIGTERM, SIG_IGN);
    eunomia_destroy(vm);
    return exit_code;
}
