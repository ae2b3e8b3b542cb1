// The package for latency.h: it sends the time when a thread takes the name in trigger.h.
#include "vmlinux.h"

#include <bpf/bpf_helpers.h>

#include "trigger.h"

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 64 * 1024);
} events SEC(".maps");

struct event {
    __u64 submitted_ns;
};

SEC("raw_tp/task_rename")
int renamed(struct bpf_raw_tracepoint_args *ctx) {
    struct event *event;
    __u64 name[2] = {};

    bpf_probe_read_kernel_str(name, sizeof(name), (const void *)ctx->args[1]);
    if (name[0] != TRIGGER_WORD)
        return 0;
    event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
    if (!event)
        return 0;
    event->submitted_ns = bpf_ktime_get_ns();
    bpf_ringbuf_submit(event, 0);
    return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
