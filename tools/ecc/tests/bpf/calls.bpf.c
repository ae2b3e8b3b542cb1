// Calls of programs: kernel functions, tail calls, loops, and callbacks for data from a host.
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

extern struct task_struct *bpf_task_from_pid(s32 pid) __ksym;
extern void bpf_task_release(struct task_struct *task) __ksym;
extern int no_such_function_of_any_kernel(int number) __ksym __weak;

struct order {
    u32 pid;
    u32 count;
};

struct {
    __uint(type, BPF_MAP_TYPE_USER_RINGBUF);
    __uint(max_entries, 4096);
} orders SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 4096);
} answers SEC(".maps");

struct per_process {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 8);
    __type(key, u32);
    __type(value, u64);
};

struct {
    __uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
    __uint(max_entries, 8);
    __type(key, u32);
    __array(values, struct per_process);
} processes SEC(".maps");

int last(void *ctx);

struct {
    __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
    __uint(max_entries, 2);
    __uint(key_size, sizeof(u32));
    __array(values, int(void *));
} next SEC(".maps") = {.values = {[1] = (void *)&last}};

const volatile u32 wanted = 0;
u32 ended, released, missing, looped, inner_maps;

static long on_order(struct bpf_dynptr *sent, void *context) {
    u32 *count = context;

    ++*count;
    return 0;
}

SEC("tp/syscalls/sys_enter_getpgid")
int last(void *ctx) {
    __sync_fetch_and_add(&ended, 1);
    return 0;
}

SEC("tp/syscalls/sys_enter_getpgid")
int first(void *ctx) {
    struct order order = {.pid = bpf_get_current_pid_tgid() >> 32};
    struct bpf_dynptr answer;
    int i;

    if (order.pid != wanted)
        return 0;
    bpf_for(i, 0, 10) looped++;
    inner_maps += !!bpf_map_lookup_elem(&processes, &order.pid);
    bpf_user_ringbuf_drain(&orders, on_order, &order.count, 0);
    if (!bpf_ringbuf_reserve_dynptr(&answers, sizeof(order), 0, &answer))
        bpf_dynptr_write(&answer, 0, &order, sizeof(order), 0);
    bpf_ringbuf_submit_dynptr(&answer, 0);
    bpf_tail_call(ctx, &next, 1);
    return 0;
}

SEC("tp_btf/sys_enter")
int BPF_PROG(looked_up, struct pt_regs *regs, long number) {
    struct task_struct *task;

    if (bpf_get_current_pid_tgid() >> 32 != wanted)
        return 0;
    missing = !no_such_function_of_any_kernel;
    task = bpf_task_from_pid(wanted);
    if (task) {
        bpf_task_release(task);
        released++;
    }
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
