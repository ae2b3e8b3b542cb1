// Runs the program "produce" of another process at an even rate: EVENTS_PER_RUN records per run.
// usage: flood RECORDS-PER-SECOND SECONDS
//
// Prints "produced N lost N per_second N"; lost records did not fit into the ring buffer.
#include <bpf/bpf.h>

#include "measure.h"
#include "signal.h"

// An unloaded program may still exist for a while, so use the newest one.
static int find(void) {
    struct bpf_prog_info info;
    __u32 id = 0, len;
    int found = -1;

    while (!bpf_prog_get_next_id(id, &id)) {
        int fd = bpf_prog_get_fd_by_id(id);

        memset(&info, 0, sizeof(info));
        len = sizeof(info);
        if (fd >= 0 && !bpf_prog_get_info_by_fd(fd, &info, &len) && !strcmp(info.name, "produce")) {
            if (found >= 0)
                close(found);
            found = fd;
        } else if (fd >= 0) {
            close(fd);
        }
    }
    return found;
}

static void wait_until(double ns) {
    double left = ns - now_ns();

    if (left > 0) {
        struct timespec time = {.tv_sec = left / 1e9, .tv_nsec = (long)left % 1000000000};

        nanosleep(&time, NULL);
    }
}

int main(int argc, char **argv) {
    uint64_t runs, lost = 0;
    double start, step;
    int prog;

    if (argc != 3)
        die("usage", "flood RECORDS-PER-SECOND SECONDS");
    prog = find();
    check(prog >= 0, "program \"produce\"");
    step = EVENTS_PER_RUN / atof(argv[1]) * 1e9;
    runs = atof(argv[1]) * atof(argv[2]) / EVENTS_PER_RUN;
    start = now_ns();
    for (uint64_t run = 0; run < runs; run++) {
        LIBBPF_OPTS(bpf_test_run_opts, opts);

        wait_until(start + run * step);
        check(!bpf_prog_test_run_opts(prog, &opts), "running the producer");
        lost += opts.retval;
    }
    printf("produced %llu lost %llu per_second %.0f\n", (unsigned long long)runs * EVENTS_PER_RUN,
           (unsigned long long)lost, runs * EVENTS_PER_RUN / (now_ns() - start) * 1e9);
    return 0;
}
