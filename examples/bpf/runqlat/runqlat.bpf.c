#include "vmlinux.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "../log2.bpf.h"
#include "runqlat.h"

#define TASK_RUNNING 0
#define ALL_PROCESSES 0

/// @description "trace only this process (0: all)"
/// @cmdarg {"short":"p", "long":"pid"}
const volatile pid_t targ_tgid = 0;

/// @description "one histogram per process"
/// @cmdarg {"short":"P", "long":"per-process"}
const volatile bool targ_per_process = false;

// Linux 5.14 renamed the member; with both names one object runs before and after.
struct task_struct___since_5_14 {
    unsigned int __state;
} __attribute__((preserve_access_index));

struct task_struct___before_5_14 {
    long state;
} __attribute__((preserve_access_index));

// The time at which each waiting thread became runnable.
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 10240);
    __type(key, u32);
    __type(value, u64);
} runnable_since SEC(".maps");

/// @sample {"interval":1000, "type":"log2_hist", "unit":"usecs"}
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 10240);
    __type(key, u32);
    __type(value, struct hist);
} hists SEC(".maps");

static const struct hist empty_hist;

static bool still_runnable(void *task) {
    struct task_struct___since_5_14 *newer = task;
    struct task_struct___before_5_14 *older = task;

    if (bpf_core_field_exists(newer->__state))
        return BPF_CORE_READ(newer, __state) == TASK_RUNNING;
    return BPF_CORE_READ(older, state) == TASK_RUNNING;
}

static struct hist *find_hist(struct task_struct *task) {
    u32 key = targ_per_process ? task->tgid : ALL_PROCESSES;
    struct hist *hist = bpf_map_lookup_elem(&hists, &key);

    if (hist)
        return hist;
    bpf_map_update_elem(&hists, &key, &empty_hist, BPF_NOEXIST);
    hist = bpf_map_lookup_elem(&hists, &key);
    if (hist && targ_per_process)
        bpf_probe_read_kernel_str(hist->comm, sizeof(hist->comm), task->comm);
    return hist;
}

static int on_runnable(struct task_struct *task) {
    u64 now = bpf_ktime_get_ns();
    u32 tid = task->pid;

    // Thread 0 is the idle loop of each CPU, which never waits in the run queue.
    if (!tid || (targ_tgid && targ_tgid != task->tgid))
        return 0;
    bpf_map_update_elem(&runnable_since, &tid, &now, BPF_ANY);
    return 0;
}

static int on_running(struct task_struct *task) {
    u32 tid = task->pid;
    u64 *since = bpf_map_lookup_elem(&runnable_since, &tid);
    u64 wait_us;
    u64 slot;
    struct hist *hist;

    if (!since)
        return 0;
    wait_us = (bpf_ktime_get_ns() - *since) / 1000;
    bpf_map_delete_elem(&runnable_since, &tid);

    hist = find_hist(task);
    if (!hist)
        return 0;
    slot = log2_floor(wait_us);
    if (slot >= MAX_SLOTS)
        slot = MAX_SLOTS - 1;
    __sync_fetch_and_add(&hist->slots[slot], 1);
    return 0;
}

SEC("tp_btf/sched_wakeup")
int BPF_PROG(handle_wakeup, struct task_struct *task) {
    return on_runnable(task);
}

SEC("tp_btf/sched_wakeup_new")
int BPF_PROG(handle_wakeup_new, struct task_struct *task) {
    return on_runnable(task);
}

SEC("tp_btf/sched_switch")
int BPF_PROG(handle_switch, bool preempt, struct task_struct *prev, struct task_struct *next) {
    if (still_runnable(prev))
        on_runnable(prev);
    return on_running(next);
}

/// @description "Summarize how long threads wait for a CPU, as histograms."
char LICENSE[] SEC("license") = "Dual MIT/GPL";
