// Reports how programs end. The guest gets events in batches, and in C++.
#include "eunomia-include/wasm-app.h"

#include "eunomia-include/batch.h"
#include "eunomia-include/entry.h"

#include "bootstrap.wasm.h"
#include "ewasm-skel.h"

namespace {

// The options of the command line.
struct Filter {
    int failed_only = 0;
    const char *command = nullptr;

    bool accepts(const event &event) const {
        if (!event.exit_event || (failed_only && event.exit_code == 0))
            return false;
        return !command || strncmp(event.comm, command, sizeof(event.comm)) == 0;
    }
};

Filter filter;

const char *const usages[] = {"bootstrap [-h] [-x] [-c NAME] [-m MS]", nullptr};

} // namespace

int main(int argc, const char **argv) {
    int min_ms = 0;
    argparse_option options[] = {
        OPT_HELP(),
        OPT_BOOLEAN('x', "failed", &filter.failed_only, "programs that end with an error", nullptr, 0, 0),
        OPT_STRING('c', "command", &filter.command, "programs of this name", nullptr, 0, 0),
        OPT_INTEGER('m', "min-ms", &min_ms, "programs that ran this many milliseconds", nullptr, 0, 0),
        OPT_END(),
    };
    struct argparse argparse;
    argparse_init(&argparse, options, usages, 0);
    argparse_describe(&argparse, "Report the programs that end.", nullptr);
    argparse_parse(&argparse, argc, argv);

    cJSON *program = cJSON_Parse(program_data);
    if (min_ms > 0)
        set_bpf_program_global_var(program, "min_duration_ns", cJSON_CreateNumber(min_ms * 1e6));
    return start_bpf_program(cJSON_PrintUnformatted(program));
}

int process_events(char *records, int len, int) {
    ewasm_record *record;
    ewasm_for_each_record(record, records, len) {
        const auto *data = static_cast<const event *>(ewasm_record_data(record));
        if (record->len < sizeof(event) || !filter.accepts(*data))
            ewasm_record_drop(record);
    }
    return 0;
}
