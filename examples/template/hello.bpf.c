#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "hello.h"

/// @description "only this process; 0: all"
/// @cmdarg {"short": "p", "long": "pid"}
const volatile int wanted_pid = 0;

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 256 * 1024);
} events SEC(".maps");

SEC("tracepoint/sched/sched_process_exec")
int on_exec(void *ctx) {
    int pid = bpf_get_current_pid_tgid() >> 32;
    if (wanted_pid && wanted_pid != pid)
        return 0;

    struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
    if (!event)
        return 0;
    event->pid = pid;
    bpf_get_current_comm(event->comm, sizeof(event->comm));
    bpf_ringbuf_submit(event, 0);
    return 0;
}

/// @description Says hello for every program that starts.
char LICENSE[] SEC("license") = "GPL";
