// The source of executables that ecc --standalone links. Before this code, ecc writes the package as
// program_data, and the options for JSON output, JSON_LETTER and JSON_WORD, each 0 if the package has an
// option of this name.
#include <errno.h>
#include <eunomia.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static eunomia_vm *vm;
static const char *name;

// Ends the run, so that everything is detached. A second signal ends the process.
static void on_signal(int number) {
    (void)number;
    eunomia_stop(vm);
}

static void on_log(void *arg, uint32_t level, const char *text) {
    (void)arg, (void)level;
    fprintf(stderr, "%s: %s\n", name, text);
}

static int on_event(void *arg, const eunomia_event *event) {
    (void)arg;
    if (event->len > 0) {
        fwrite(event->data, 1, event->len, stdout);
        putchar('\n');
    }
    return ferror(stdout) ? -1 : 0;
}

static int failed(int status) {
    fprintf(stderr, "%s: %s\n%s", name, eunomia_errmsg(vm), eunomia_errdetail(vm));
    eunomia_destroy(vm);
    return status;
}

static int is_json(const char *argument) {
    const char *const options[] = {JSON_LETTER, JSON_WORD};
    for (int i = 0; i < 2; i++)
        if (options[i] && strcmp(argument, options[i]) == 0)
            return 1;
    return 0;
}

// Removes the options for JSON from the arguments. Returns whether there were any.
static int take_json(int *argc, char **argv) {
    int kept = 1;
    for (int i = 1; i < *argc; i++)
        if (!is_json(argv[i]))
            argv[kept++] = argv[i];
    int found = kept < *argc;
    *argc = kept;
    return found;
}

// Prints what eunomia_args_set found to be requested: the help, which has several lines, or the version.
static int help(void) {
    const char *text, *letter = JSON_LETTER, *word = JSON_WORD;
    if (eunomia_args_help(vm, &text) < 0)
        return failed(1);
    int is_help = strchr(text, '\n') != strrchr(text, '\n');
    printf("%s%s", text, strchr(text, '\n') ? "" : "\n");
    if (is_help && (letter || word))
        printf("\nEvents are printed as text, or as lines of JSON with %s%s%s.\n", letter ? letter : "",
               letter && word ? " or " : "", word ? word : "");
    eunomia_destroy(vm);
    return fflush(stdout) != 0;
}

// Prints events until a signal arrives, then the remaining ones. Returns a status. An output error is in
// errno.
static int print_events(uint32_t format) {
    int status;
    do {
        status = eunomia_poll(vm, -1, format, on_event, NULL);
        if (fflush(stdout) != 0)
            return EUNOMIA_ERR_CALLBACK;
    } while (status >= 0);
    if (status != EUNOMIA_ERR_STOPPED)
        return status;
    status = eunomia_detach(vm);
    while (status >= 0 && (status = eunomia_poll(vm, 0, format, on_event, NULL)) > 0)
        ;
    return fflush(stdout) != 0 ? EUNOMIA_ERR_CALLBACK : status;
}

static void report_losses(void) {
    eunomia_stats stats = EUNOMIA_INIT(eunomia_stats);
    if (eunomia_stats_get(vm, &stats) < 0)
        return;
    if (stats.lost_kernel > 0)
        fprintf(stderr, "%s: %llu events lost: buffers were full\n", name,
                (unsigned long long)stats.lost_kernel);
    if (stats.malformed > 0)
        fprintf(stderr, "%s: %llu events malformed\n", name, (unsigned long long)stats.malformed);
}

int main(int argc, char **argv) {
    name = argc > 0 && strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argc > 0 ? argv[0] : "program";
    uint32_t format = take_json(&argc, argv) ? EUNOMIA_FORMAT_JSON : EUNOMIA_FORMAT_TEXT;
    eunomia_options options = EUNOMIA_INIT(eunomia_options);
    options.log = on_log;
    options.flags = EUNOMIA_SKIP_MISSING_HOOKS;
    if (eunomia_new(&vm, &options) < 0) {
        fprintf(stderr, "%s: out of memory or descriptors\n", name);
        return 1;
    }
    if (eunomia_open(vm, program_data, strlen(program_data), EUNOMIA_KIND_JSON) < 0)
        return failed(1);
    int requested = eunomia_args_set(vm, argc, (const char *const *)argv);
    if (requested != 0)
        return requested > 0 ? help() : failed(2);

    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESETHAND};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    // If the reader has closed the pipe, the write fails, and everything is detached.
    signal(SIGPIPE, SIG_IGN);
    if (eunomia_attach(vm) < 0)
        return failed(1);
    errno = 0;
    int status = print_events(format), error = errno;
    report_losses();
    if (status == EUNOMIA_ERR_CALLBACK && error != EPIPE)
        fprintf(stderr, "%s: cannot write the events: %s\n", name, strerror(error));
    else if (status < 0 && status != EUNOMIA_ERR_CALLBACK)
        return failed(1);
    eunomia_destroy(vm);
    return status < 0 && error != EPIPE;
}
