// One event for each getpgid(2), through the buffer that KIND names.
#include "vmlinux.h"

#include <bpf/bpf_helpers.h>

struct event {
    u32 tgid;
    char comm[16];
};

#ifdef PERF
struct {
    __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
    __uint(key_size, 4);
    __uint(value_size, 4);
} events SEC(".maps");
#else
struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 4096);
} events SEC(".maps");
#endif

SEC("raw_tp/sys_enter")
int on_call(struct bpf_raw_tracepoint_args *ctx) {
    struct event event = {.tgid = bpf_get_current_pid_tgid() >> 32};

    bpf_get_current_comm(event.comm, sizeof(event.comm));
#ifdef PERF
    bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, &event, sizeof(event));
#else
    bpf_ringbuf_output(&events, &event, sizeof(event), 0);
#endif
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
