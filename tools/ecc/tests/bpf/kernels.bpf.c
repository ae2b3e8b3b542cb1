// Code for many kernels: uses names that this kernel no longer has, tests what exists, and leaves sizes to
// the host.
#include <vmlinux.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <errno.h>

#include "kernels.bpf.h"
#include "kernels.h"

extern u32 LINUX_KERNEL_VERSION __kconfig;
extern int CONFIG_HZ __kconfig __weak;
extern const void init_task __ksym;
extern const void no_such_symbol_of_any_kernel __ksym __weak;

const volatile bool only_kernel = false;
const volatile char wanted[TASK_COMM_LEN] = {};
const volatile u64 least_ns = 0;
const volatile s64 state = -1;
const volatile u16 ports[4] = {};
const volatile float ratio = 0.5;
void *const volatile lock = NULL;
const volatile int limit SEC(".rodata.limits") = 7;
u64 total SEC(".data.totals") = 1;
static struct hist zero;
struct hist hist = {};

struct {
    __uint(type, BPF_MAP_TYPE_STACK_TRACE);
    __uint(key_size, sizeof(u32));
} stacks SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, u32);
    __type(value, u64);
} since SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 64);
    __type(key, struct task_key);
    __type(value, struct hist);
} hists SEC(".maps");

static int on_switch(void *ctx, struct task_struct *prev, struct task_struct *next) {
    struct task_key key = {.pid = BPF_CORE_READ(prev, pid)};
    u64 now = bpf_ktime_get_ns(), *tsp;
    struct hist *histp;
    u32 pid = key.pid;

    if (state != -1 && task_state(prev) != state)
        return 0;
    if (LINUX_KERNEL_VERSION < KERNEL_VERSION(4, 0, 0) || &no_such_symbol_of_any_kernel)
        return 0;
    total += limit;
    key.stack = bpf_get_stackid(ctx, &stacks, 0);
    bpf_map_update_elem(&since, &pid, &now, BPF_ANY);
    pid = BPF_CORE_READ(next, pid);
    tsp = bpf_map_lookup_elem(&since, &pid);
    if (!tsp || now - *tsp < least_ns || lock || ports[0] || wanted[0] || only_kernel)
        return 0;
    if (bpf_map_update_elem(&hists, &key, &zero, BPF_NOEXIST) == -EEXIST)
        hist.again++;
    histp = bpf_map_lookup_elem(&hists, &key);
    if (histp)
        __sync_fetch_and_add(&histp->slots[slot(now - *tsp) & (SLOTS - 1)], 1);
    return 0;
}

SEC("raw_tp/sched_switch")
int BPF_PROG(switched, bool preempt, struct task_struct *prev, struct task_struct *next) {
    return on_switch(ctx, prev, next);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
