// One event per call of getpgid(2) by the thread `only_tid` (any, if 0), times `repeat`. Detaching a raw_tp
// takes microseconds, detaching a tracepoint 70 ms.
#include "vmlinux.h"

#include <bpf/bpf_helpers.h>

#define SYS_GETPGID 121

struct event {
    u64 seq;
    u32 tid;
    char comm[16];
};

const volatile u32 only_tid = 0;
const volatile u32 repeat = 1;
u64 seen = 0;

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 256 * 1024);
} events SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 64);
    __type(key, u32);
    __type(value, u64);
} counts SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 2);
    __type(key, u32);
    __type(value, u32);
} per_cpu SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
    __uint(max_entries, 2);
    __uint(key_size, 4);
    __uint(value_size, 4);
} programs SEC(".maps");

SEC("raw_tp/sys_enter")
int on_getpgid(struct bpf_raw_tracepoint_args *ctx) {
    u32 tid = bpf_get_current_pid_tgid();
    if (ctx->args[1] != SYS_GETPGID || (only_tid && tid != only_tid))
        return 0;
    for (u32 i = 0; i < repeat && i < 100; i++) {
        struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
        if (!event)
            continue;
        event->seq = __sync_fetch_and_add(&seen, 1);
        event->tid = tid;
        bpf_get_current_comm(event->comm, sizeof(event->comm));
        bpf_ringbuf_submit(event, 0);
    }
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
