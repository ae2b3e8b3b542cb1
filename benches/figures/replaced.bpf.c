// A package that is replaced under load: VERSION is that of the source. Calls of getpgid(2) are its events.
#include "vmlinux.h"

#include <bpf/bpf_helpers.h>

#define GETPGID 121

struct event {
    u64 version;
    u64 time_ns;
};

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 16 << 20);
} events SEC(".maps");

const volatile bool silent = false;
// The time of the first event; 0 before.
u64 first_ns = 0;

SEC("raw_tp/sys_enter")
int called(struct bpf_raw_tracepoint_args *ctx) {
    struct event event = {.version = VERSION};

    if (ctx->args[1] != GETPGID || silent)
        return 0;
    event.time_ns = bpf_ktime_get_ns();
    if (!first_ns)
        __sync_val_compare_and_swap(&first_ns, 0, event.time_ns);
    bpf_ringbuf_output(&events, &event, sizeof(event), 0);
    return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
