// The part of the tool that runs as WASM. `ecc build-wasm` compiles it to app.wasm, together with the BPF
// program.
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

// Gets each event as JSON before the host does. The host gets what is written back to `e`, of at most
// EWASM_EVENT_ROOM bytes, and nothing if the result is below 0.
int process_event(int ctx, char *e, int str_len) {
    (void)ctx;
    (void)e;
    (void)str_len;
    return 0;
}
