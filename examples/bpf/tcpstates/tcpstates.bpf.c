#include "vmlinux.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "tcpstates.h"

#define AF_INET 2

/// @description "trace only this address family (2: IPv4, 10: IPv6, 0: both)"
/// @cmdarg {"short":"f", "long":"family"}
const volatile unsigned short target_family = 0;

/// @description "trace only this local port (0: all)"
/// @cmdarg {"short":"l", "long":"local-port"}
const volatile unsigned short target_sport = 0;

/// @description "trace only this remote port (0: all)"
/// @cmdarg {"short":"r", "long":"remote-port"}
const volatile unsigned short target_dport = 0;

// Time when each socket entered its current state, in microseconds.
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 10240);
    __type(key, u64);
    __type(value, u64);
} state_since SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
    __uint(key_size, sizeof(u32));
    __uint(value_size, sizeof(u32));
} events SEC(".maps");

static bool wanted(struct trace_event_raw_inet_sock_set_state *ctx) {
    return ctx->protocol == IPPROTO_TCP && (!target_family || target_family == ctx->family) &&
           (!target_sport || target_sport == ctx->sport) && (!target_dport || target_dport == ctx->dport);
}

// Returns the time spent in the old state, and stores when the new one began.
static u64 account_state(u64 skaddr, u64 now_us, int newstate) {
    u64 *since = bpf_map_lookup_elem(&state_since, &skaddr);
    u64 delta_us = since ? now_us - *since : 0;

    if (newstate == TCP_CLOSE)
        bpf_map_delete_elem(&state_since, &skaddr);
    else
        bpf_map_update_elem(&state_since, &skaddr, &now_us, BPF_ANY);
    return delta_us;
}

static __always_inline void set_address(unsigned char *address, int family, const void *v4, const void *v6) {
    if (family == AF_INET) {
        address[10] = address[11] = 0xff;
        bpf_probe_read_kernel(address + 12, 4, v4);
    } else {
        bpf_probe_read_kernel(address, 16, v6);
    }
}

SEC("tracepoint/sock/inet_sock_set_state")
int handle_set_state(struct trace_event_raw_inet_sock_set_state *ctx) {
    struct event event = {};

    if (!wanted(ctx))
        return 0;
    event.skaddr = (u64)ctx->skaddr;
    event.ts_us = bpf_ktime_get_ns() / 1000;
    event.delta_us = account_state(event.skaddr, event.ts_us, ctx->newstate);
    event.pid = bpf_get_current_pid_tgid() >> 32;
    event.oldstate = ctx->oldstate;
    event.newstate = ctx->newstate;
    event.family = ctx->family;
    event.sport = ctx->sport;
    event.dport = ctx->dport;
    bpf_get_current_comm(event.task, sizeof(event.task));
    set_address(event.saddr, ctx->family, ctx->saddr, ctx->saddr_v6);
    set_address(event.daddr, ctx->family, ctx->daddr, ctx->daddr_v6);
    bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, &event, sizeof(event));
    return 0;
}

/// @description "Trace the state changes of TCP connections."
char LICENSE[] SEC("license") = "Dual MIT/GPL";
