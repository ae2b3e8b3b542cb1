// Latency of bpftrace, up to the arrival of its line in a pipe. usage: latency_bpftrace SCRIPT
#include "latency.h"

static FILE *lines;

static void start(const char *script) {
    char command[4096];

    snprintf(command, sizeof(command), "exec bpftrace -B line '%s'", script);
    lines = popen(command, "r");
    check(lines != NULL, "bpftrace");
}

static void drain(void) {
    char line[256];
    uint64_t submitted;

    if (!fgets(line, sizeof(line), lines))
        die("bpftrace", "ended early");
    if (sscanf(line, "submitted %lu", &submitted) == 1)
        arrived(submitted, clock_ns(CLOCK_BOOTTIME));
}

int main(int argc, char **argv) {
    return measure_latency(argc, argv);
}
