#include "vmlinux.h"

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "offcputime.h"

/// @description "trace only this process (0: all)"
/// @cmdarg {"short":"p", "long":"pid"}
const volatile pid_t targ_tgid = 0;

/// @description "report only threads that were off the CPU for at least this many microseconds"
/// @cmdarg {"short":"m", "long":"min"}
const volatile unsigned long long min_us = 1000;

// State of each thread that is off the CPU. An event is too large for a program's stack.
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 4096);
    __type(key, u32);
    __type(value, struct event);
} waiting SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 1024 * 1024);
} events SEC(".maps");

static const struct event empty_event;

static u64 now_us(void) {
    return bpf_ktime_get_ns() / 1000;
}

// The outgoing thread performs the switch, so its stacks can be read only now.
static void on_leave(void *ctx, struct task_struct *task) {
    u32 tid = task->pid;
    struct event *event;

    // Thread 0 is the idle loop of each CPU.
    if (!tid || (targ_tgid && targ_tgid != task->tgid))
        return;
    bpf_map_update_elem(&waiting, &tid, &empty_event, BPF_ANY);
    event = bpf_map_lookup_elem(&waiting, &tid);
    if (!event)
        return;
    event->pid = task->tgid;
    event->tid = tid;
    bpf_get_current_comm(event->comm, sizeof(event->comm));
    event->kstack_sz = bpf_get_stack(ctx, event->kstack, sizeof(event->kstack), 0);
    event->ustack_sz = bpf_get_stack(ctx, event->ustack, sizeof(event->ustack), BPF_F_USER_STACK);
    // Until the thread returns, this is the time when it left.
    event->off_us = now_us();
}

static void on_return(struct task_struct *task) {
    u32 tid = task->pid;
    struct event *event = bpf_map_lookup_elem(&waiting, &tid);

    if (!event)
        return;
    event->off_us = now_us() - event->off_us;
    if (event->off_us >= min_us)
        bpf_ringbuf_output(&events, event, sizeof(*event), 0);
    bpf_map_delete_elem(&waiting, &tid);
}

SEC("tp_btf/sched_switch")
int BPF_PROG(handle_switch, bool preempt, struct task_struct *prev, struct task_struct *next) {
    on_leave(ctx, prev);
    on_return(next);
    return 0;
}

// A thread that exits never returns.
SEC("tp_btf/sched_process_free")
int BPF_PROG(handle_free, struct task_struct *task) {
    u32 tid = task->pid;

    bpf_map_delete_elem(&waiting, &tid);
    return 0;
}

/// @description "Trace how long threads are off the CPU, with their stacks."
char LICENSE[] SEC("license") = "Dual MIT/GPL";
