// Reports the signals that a process sends and the files that it opens, by two packages in one module.
#include "eunomia-include/wasm-app.h"

#include "eunomia-include/entry.h"
#include "opensnoop.ewasm-skel.h"
#include "sigsnoop.ewasm-skel.h"

static const char *const usages[] = {"activity -p PID", NULL};

static int pid;

// Configures one package and starts it. Returns its number, or -1.
static int start(char *package, const char *pid_variable) {
    cJSON *program = cJSON_Parse(package);
    char *text;
    int id;

    program = set_bpf_program_global_var(program, pid_variable, cJSON_CreateNumber(pid));
    text = cJSON_PrintUnformatted(program);
    id = load_bpf_program(text);
    free(text);
    cJSON_Delete(program);
    return id;
}

int main(int argc, const char **argv) {
    struct argparse_option options[] = {
        OPT_HELP(),
        OPT_INTEGER('p', "pid", &pid, "the process", NULL, 0, 0),
        OPT_END(),
    };
    struct argparse argparse;

    argparse_init(&argparse, options, usages, 0);
    argparse_describe(&argparse, "Reports the signals that a process sends and the files that it opens.\n",
                      "");
    argparse_parse(&argparse, argc, argv);
    if (start(sigsnoop_package, "filtered_pid") < 0 || start(opensnoop_package, "targ_pid") < 0)
        return 1;
    return poll_bpf_program(EWASM_ALL_PROGRAMS);
}

// Events of both come here; only a signal has a member "sig".
int process_event(int ctx, char *e, int str_len) {
    cJSON *event = cJSON_ParseWithLength(e, str_len);
    const char *kind = cJSON_GetObjectItem(event, "sig") ? "signal" : "open";
    (void)ctx;

    cJSON_AddItemToObject(event, "kind", cJSON_CreateString(kind));
    cJSON_PrintPreallocated(event, e, EWASM_EVENT_ROOM, 0);
    cJSON_Delete(event);
    return 0;
}
