// Produces records on demand: one run of the program fills the ring buffer with EVENTS_PER_RUN of them.
#include "vmlinux.h"

#include <bpf/bpf_helpers.h>

#include "signal.h"

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 16 * 1024 * 1024);
} events SEC(".maps");

// Names of several lengths, and numbers too: a constant record would flatter every branch predictor.
static const char names[4][16] = {"bash", "systemd-journal", "kworker/u4:2", "cron"};

SEC("syscall")
int produce(void *ctx) {
    for (unsigned int i = 0; i < EVENTS_PER_RUN; i++) {
        struct signal *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

        if (!event)
            return EVENTS_PER_RUN - i; // so many are lost
        event->pid = i * 7919 % 1000000;
        event->tpid = i * 104729 % 65536;
        event->sig = i % 31 + 1;
        event->ret = i % 8 ? 0 : -3;
        __builtin_memcpy(event->comm, names[i * 5 % 7 % 4], sizeof(event->comm));
        bpf_ringbuf_submit(event, 0);
    }
    return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
