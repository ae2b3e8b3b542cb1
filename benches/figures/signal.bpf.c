// Produces records on demand: one run of the program writes EVENTS_PER_RUN records.
#include "vmlinux.h"

#include <bpf/bpf_helpers.h>

#include "signal.h"

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 16 * 1024 * 1024);
} events SEC(".maps");

// Names and numbers of several lengths: constant records would favour the branch predictor.
static const char names[4][16] = {"bash", "systemd-journal", "kworker/u4:2", "cron"};

// The last column may be wider: libeunomia realigns later columns after a value that is too wide,
// printf does not.
static const char short_names[4][16] = {"sh", "python", "cron", "httpd"};

#define PID(name) event->name = i * 104729 % 65536;
#define SIG(name) event->name = i % 31 + 1;
#define RET(name) event->name = i % 8 ? 0 : -3;
#define COMM(name) __builtin_memcpy(event->name, short_names[i * 5 % 7 % 4], sizeof(event->name));
#define LAST(name) __builtin_memcpy(event->name, names[i * 5 % 7 % 4], sizeof(event->name));

SEC("syscall")
int produce(void *ctx) {
    for (unsigned int i = 0; i < EVENTS_PER_RUN; i++) {
        struct signal *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

        if (!event)
            return EVENTS_PER_RUN - i; // the rest is lost
        event->pid = i * 7919 % 1000000;
        MEMBERS(PID, SIG, RET, COMM, LAST)
        bpf_ringbuf_submit(event, 0);
    }
    return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
