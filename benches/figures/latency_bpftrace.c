// Latency of bpftrace, up to the arrival of its line in a pipe. usage: latency_bpftrace SCRIPT
#include <signal.h>
#include <sys/wait.h>

#include "latency.h"

static FILE *lines;
static pid_t bpftrace;

static void start(const char *script) {
    int ends[2];

    check(!pipe(ends), "pipe");
    bpftrace = fork();
    check(bpftrace >= 0, "fork");
    if (bpftrace == 0) {
        dup2(ends[1], STDOUT_FILENO);
        close(ends[0]);
        close(ends[1]);
        execlp("bpftrace", "bpftrace", "-B", "line", script, NULL);
        die("bpftrace", strerror(errno));
    }
    close(ends[1]);
    lines = fdopen(ends[0], "r");
    check(lines != NULL, "pipe");
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
    int status = measure_latency(argc, argv);

    kill(bpftrace, SIGTERM);
    waitpid(bpftrace, NULL, 0);
    return status;
}
