// The part of the tool that runs as WASM. `ecc build-wasm` compiles it to app.wasm, with the BPF program
// inside.
#include "eunomia-include/wasm-app.h"

#include "eunomia-include/entry.h"
#include "ewasm-skel.h"

static const char *const usages[] = {"app [-h]", NULL};

int main(int argc, const char **argv) {
    struct argparse_option options[] = {
        OPT_HELP(),
        // OPT_INTEGER('p', "pid", &pid, "report only this process", NULL, 0, 0),
        OPT_END(),
    };
    struct argparse argparse;

    argparse_init(&argparse, options, usages, 0);
    argparse_parse(&argparse, argc, argv);

    cJSON *program = cJSON_Parse(program_data);
    // set_bpf_program_global_var(program, "wanted_pid", cJSON_CreateNumber(pid));
    return start_bpf_program(cJSON_PrintUnformatted(program));
}

// Receives each event as JSON before the host does. The host receives the string that is left in `e`, which
// has space for EWASM_EVENT_ROOM bytes. If the result is negative, the host does not receive the event.
int process_event(int ctx, char *e, int str_len) {
    (void)ctx;
    (void)e;
    (void)str_len;
    return 0;
}
