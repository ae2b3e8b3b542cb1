// Traces signals: sets the BPF program up from the command line and adds the names of signals to its events.
#include "eunomia-include/wasm-app.h"

#include "eunomia-include/entry.h"
#include "ewasm-skel.h"

static int failed_only;
static int kill_only;
static int name_only;
static int target_pid;
static int target_signal;

static const char *const usages[] = {"sigsnoop [-h] [-x] [-k] [-n] [-p PID] [-s SIGNAL]", NULL};

// The numbers of Linux on most machines. Signal 0 only checks whether the target exists.
static const char *const signal_names[] = {
    "N/A",       "SIGHUP",  "SIGINT",    "SIGQUIT", "SIGILL",   "SIGTRAP", "SIGABRT", "SIGBUS",
    "SIGFPE",    "SIGKILL", "SIGUSR1",   "SIGSEGV", "SIGUSR2",  "SIGPIPE", "SIGALRM", "SIGTERM",
    "SIGSTKFLT", "SIGCHLD", "SIGCONT",   "SIGSTOP", "SIGTSTP",  "SIGTTIN", "SIGTTOU", "SIGURG",
    "SIGXCPU",   "SIGXFSZ", "SIGVTALRM", "SIGPROF", "SIGWINCH", "SIGIO",   "SIGPWR",  "SIGSYS",
};
#define SIGNALS (int)(sizeof(signal_names) / sizeof(signal_names[0]))
#define LAST_SIGNAL 64

int main(int argc, const char **argv) {
    struct argparse_option options[] = {
        OPT_HELP(),
        OPT_BOOLEAN('x', "failed", &failed_only, "failed signals only", NULL, 0, 0),
        OPT_BOOLEAN('k', "killed", &kill_only, "kill only", NULL, 0, 0),
        OPT_BOOLEAN('n', "name", &name_only, "signal name instead of number", NULL, 0, 0),
        OPT_INTEGER('p', "pid", &target_pid, "target pid", NULL, 0, 0),
        OPT_INTEGER('s', "signal", &target_signal, "target signal", NULL, 0, 0),
        OPT_END(),
    };
    struct argparse argparse;

    argparse_init(&argparse, options, usages, 0);
    argparse_describe(&argparse, "Trace standard and real-time signals.\n", "");
    argparse_parse(&argparse, argc, argv);

    cJSON *program = cJSON_Parse(program_data);
    program = set_bpf_program_global_var(program, "filtered_pid", cJSON_CreateNumber(target_pid));
    program = set_bpf_program_global_var(program, "target_signal", cJSON_CreateNumber(target_signal));
    program = set_bpf_program_global_var(program, "failed_only", cJSON_CreateBool(failed_only));
    program = set_bpf_program_global_var(program, "kill_only", cJSON_CreateBool(kill_only));
    return start_bpf_program(cJSON_PrintUnformatted(program));
}

static cJSON *signal_name(int number) {
    char name[16];

    if (number >= 0 && number < SIGNALS)
        return cJSON_CreateString(signal_names[number]);
    if (number > LAST_SIGNAL || number < 0)
        return cJSON_CreateString("N/A");
    snprintf(name, sizeof(name), "SIGRT_%d", number - SIGNALS);
    return cJSON_CreateString(name);
}

int process_event(int ctx, char *e, int str_len) {
    cJSON *event = cJSON_ParseWithLength(e, str_len);
    cJSON *number = cJSON_GetObjectItem(event, "sig");
    (void)ctx;

    if (cJSON_IsNumber(number)) {
        cJSON *name = signal_name(number->valueint);
        if (name_only ? !cJSON_ReplaceItemInObject(event, "sig", name)
                      : !cJSON_AddItemToObject(event, "sig_name", name))
            cJSON_Delete(name);
        cJSON_PrintPreallocated(event, e, EWASM_EVENT_ROOM, 0);
    }
    cJSON_Delete(event);
    return 0;
}
