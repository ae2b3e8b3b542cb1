#include "vmlinux.h"

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "sleeps.h"

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 64 * 1024);
} events SEC(".maps");

static int report(enum hook hook) {
    struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

    if (!event)
        return 0;
    event->pid = bpf_get_current_pid_tgid() >> 32;
    event->hook = hook;
    bpf_get_current_comm(event->comm, sizeof(event->comm));
    bpf_ringbuf_submit(event, 0);
    return 0;
}

/// The cheapest hook. It needs a kernel with BTF and trampolines
/// @instead_of by_kprobe
SEC("fentry/hrtimer_nanosleep")
int by_fentry(void *ctx) {
    return report(HOOK_FENTRY);
}

/// @instead_of by_tracepoint
SEC("kprobe/hrtimer_nanosleep")
int by_kprobe(void *ctx) {
    return report(HOOK_KPROBE);
}

/// Exists on every kernel with syscall tracepoints
SEC("tracepoint/syscalls/sys_enter_clock_nanosleep")
int by_tracepoint(void *ctx) {
    return report(HOOK_TRACEPOINT);
}

/// @description "Report threads that go to sleep, with the best hook of this kernel."
char LICENSE[] SEC("license") = "Dual MIT/GPL";
