// Traces opens: the BPF program filters by process and result, the guest by name. It gets events as structs.
#include "eunomia-include/wasm-app.h"

#include "eunomia-include/entry.h"
#include "ewasm-skel.h"
#include "opensnoop.wasm.h"

static int failed_only;
static int target_pid;
static const char *name;
static const char *path;

static const char *const usages[] = {"opensnoop [-h] [-x] [-p PID] [-n NAME] [-f TEXT]", NULL};

int main(int argc, const char **argv) {
    struct argparse_option options[] = {
        OPT_HELP(),
        OPT_BOOLEAN('x', "failed", &failed_only, "failed opens only", NULL, 0, 0),
        OPT_INTEGER('p', "pid", &target_pid, "target pid", NULL, 0, 0),
        OPT_STRING('n', "name", &name, "processes whose name contains this", NULL, 0, 0),
        OPT_STRING('f', "file", &path, "files whose name contains this", NULL, 0, 0),
        OPT_END(),
    };
    struct argparse argparse;

    argparse_init(&argparse, options, usages, 0);
    argparse_describe(&argparse, "Trace open family syscalls.", NULL);
    argparse_parse(&argparse, argc, argv);

    cJSON *program = cJSON_Parse(program_data);
    program = set_bpf_program_global_var(program, "targ_pid", cJSON_CreateNumber(target_pid));
    program = set_bpf_program_global_var(program, "targ_failed", cJSON_CreateBool(failed_only));
    return start_bpf_program(cJSON_PrintUnformatted(program));
}

int eunomia_event_format(void) {
    return EWASM_EVENT_RAW;
}

int process_event(int ctx, char *e, int str_len) {
    const struct event *event = (const struct event *)e;
    (void)ctx;

    if ((size_t)str_len < sizeof(*event))
        return -1;
    if (name && !strstr(event->comm, name))
        return -1;
    if (path && !strstr(event->fname, path))
        return -1;
    return 0;
}
