#include "vmlinux.h"

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/usdt.bpf.h>

#include "pythongc.h"

/// @description "report only collections that took at least this many microseconds"
/// @cmdarg {"short":"m", "long":"min"}
const volatile unsigned long long min_us = 0;

struct start {
    u64 ts;
    int generation;
};

// Pending collections, by thread.
struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 1024);
    __type(key, u32);
    __type(value, struct start);
} started SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 256 * 1024);
} events SEC(".maps");

SEC("usdt//usr/bin/python3:python:gc__start")
int BPF_USDT(gc_start, int generation) {
    u32 tid = bpf_get_current_pid_tgid();
    struct start start = {.ts = bpf_ktime_get_ns(), .generation = generation};

    bpf_map_update_elem(&started, &tid, &start, BPF_ANY);
    return 0;
}

SEC("usdt//usr/bin/python3:python:gc__done")
int BPF_USDT(gc_done, long long collected) {
    u64 id = bpf_get_current_pid_tgid(), duration;
    u32 tid = id;
    struct start *start = bpf_map_lookup_elem(&started, &tid);
    struct event *event;

    if (!start)
        return 0;
    duration = bpf_ktime_get_ns() - start->ts;
    event = duration / 1000 < min_us ? NULL : bpf_ringbuf_reserve(&events, sizeof(*event), 0);
    if (event) {
        event->pid = id >> 32;
        event->generation = start->generation;
        event->collected = collected;
        event->duration_ns = duration;
        bpf_get_current_comm(event->comm, sizeof(event->comm));
        bpf_ringbuf_submit(event, 0);
    }
    bpf_map_delete_elem(&started, &tid);
    return 0;
}

/// @description "Trace the garbage collections of Python programs."
char LICENSE[] SEC("license") = "Dual MIT/GPL";
