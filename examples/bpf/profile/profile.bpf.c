#include "vmlinux.h"

#include <bpf/bpf_helpers.h>

#include "profile.h"

/// @description "sample only this process (0: all)"
/// @cmdarg {"short":"p", "long":"pid"}
const volatile pid_t targ_pid = 0;

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 256 * 1024);
} events SEC(".maps");

SEC("perf_event")
int profile(struct bpf_perf_event_data *ctx) {
    pid_t pid = bpf_get_current_pid_tgid() >> 32;
    struct event *event;

    // Process 0 is the idle loop.
    if (!pid || (targ_pid && targ_pid != pid))
        return 0;

    event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
    if (!event)
        return 0;
    event->pid = pid;
    event->cpu_id = bpf_get_smp_processor_id();
    bpf_get_current_comm(event->comm, sizeof(event->comm));
    event->kstack_sz = bpf_get_stack(ctx, event->kstack, sizeof(event->kstack), 0);
    event->ustack_sz = bpf_get_stack(ctx, event->ustack, sizeof(event->ustack), BPF_F_USER_STACK);
    bpf_ringbuf_submit(event, 0);
    return 0;
}

/// @description "Sample the running thread of each CPU, with its kernel and user stack."
char LICENSE[] SEC("license") = "Dual MIT/GPL";
