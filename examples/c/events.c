// Runs a package and prints one line of JSON per event, until Ctrl-C or for a number of seconds.
// usage: events PACKAGE.json [SECONDS]
#include <eunomia.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static eunomia_vm *vm;

static void on_signal(int number) {
    (void)number;
    eunomia_stop(vm); // safe in a signal handler
}

static void on_log(void *arg, uint32_t level, const char *line) {
    (void)arg, (void)level;
    fprintf(stderr, "%s\n", line);
}

static int on_event(void *arg, const eunomia_event *event) {
    (void)arg;
    return puts(event->data) < 0; // a closed pipe ends the run
}

int main(int argc, char **argv) {
    eunomia_options options = EUNOMIA_INIT(eunomia_options);
    options.log = on_log;
    if (argc < 2) {
        fprintf(stderr, "usage: %s PACKAGE.json [SECONDS]\n", argv[0]);
        return 2;
    }
    if (eunomia_new(&vm, &options) < 0)
        return 1;
    signal(SIGINT, on_signal);
    signal(SIGALRM, on_signal);
    setvbuf(stdout, NULL, _IOLBF, 0);
    int status = eunomia_open_file(vm, argv[1], EUNOMIA_KIND_JSON);
    if (status >= 0)
        status = eunomia_attach(vm);
    alarm(argc > 2 ? (unsigned)atoi(argv[2]) : 0);
    if (status >= 0)
        status = eunomia_run(vm, EUNOMIA_FORMAT_JSON, on_event, NULL);
    if (status < 0)
        fprintf(stderr, "%s\n%s", eunomia_errmsg(vm), eunomia_errdetail(vm));
    signal(SIGINT, SIG_IGN); // a late signal must not use the destroyed vm
    signal(SIGALRM, SIG_IGN);
    eunomia_destroy(vm);
    return status < 0;
}
