#include "vmlinux.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "tcpconnlat.h"

#define AF_INET 2

/// @description "trace only this process (0: all)"
/// @cmdarg {"short":"p", "long":"pid"}
const volatile pid_t targ_pid = 0;

/// @description "report only connections that took at least this many microseconds"
/// @cmdarg {"short":"m", "long":"min"}
const volatile unsigned long long min_us = 0;

struct start {
    u64 ts;
    pid_t pid;
    char comm[COMM_LEN];
};

// Pending connections, by socket: the reply may arrive while any process runs.
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 10240);
    __type(key, u64);
    __type(value, struct start);
} started SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 256 * 1024);
} events SEC(".maps");

static int on_connect(struct sock *sock) {
    struct start start = {.ts = bpf_ktime_get_ns(), .pid = bpf_get_current_pid_tgid() >> 32};
    u64 key = (u64)sock;

    if (targ_pid && targ_pid != start.pid)
        return 0;
    bpf_get_current_comm(start.comm, sizeof(start.comm));
    bpf_map_update_elem(&started, &key, &start, BPF_ANY);
    return 0;
}

static void map_v4(__u8 *addr, __be32 v4) {
    addr[10] = addr[11] = 0xff;
    __builtin_memcpy(addr + 12, &v4, sizeof(v4));
}

static void read_addresses(struct event *event, struct sock *sock) {
    if (event->family == AF_INET) {
        map_v4(event->saddr, BPF_CORE_READ(sock, __sk_common.skc_rcv_saddr));
        map_v4(event->daddr, BPF_CORE_READ(sock, __sk_common.skc_daddr));
    } else {
        BPF_CORE_READ_INTO(&event->saddr, sock, __sk_common.skc_v6_rcv_saddr.in6_u.u6_addr8);
        BPF_CORE_READ_INTO(&event->daddr, sock, __sk_common.skc_v6_daddr.in6_u.u6_addr8);
    }
}

// Called for each packet outside an established connection. The first packet to a socket that has sent its
// SYN ends the measurement, whether the peer accepts or refuses.
static int on_packet(struct sock *sock) {
    u64 key = (u64)sock, now = bpf_ktime_get_ns();
    struct event event = {};
    struct start *start;

    if (BPF_CORE_READ(sock, __sk_common.skc_state) != TCP_SYN_SENT)
        return 0;
    start = bpf_map_lookup_elem(&started, &key);
    if (!start)
        return 0;
    event.ts = now;
    event.delta_ns = now - start->ts;
    event.pid = start->pid;
    __builtin_memcpy(event.comm, start->comm, sizeof(event.comm));
    bpf_map_delete_elem(&started, &key);
    if (event.delta_ns / 1000 < min_us)
        return 0;

    event.family = BPF_CORE_READ(sock, __sk_common.skc_family);
    event.sport = BPF_CORE_READ(sock, __sk_common.skc_num);
    event.dport = bpf_ntohs(BPF_CORE_READ(sock, __sk_common.skc_dport));
    read_addresses(&event, sock);
    bpf_ringbuf_output(&events, &event, sizeof(event), 0);
    return 0;
}

// A connection that is abandoned gets no reply.
static int on_destroy(struct sock *sock) {
    u64 key = (u64)sock;

    bpf_map_delete_elem(&started, &key);
    return 0;
}

// Each hook twice: fentry is cheaper, kprobes exist on more kernels and architectures.

/// @instead_of kprobe_v4_connect
SEC("fentry/tcp_v4_connect")
int BPF_PROG(fentry_v4_connect, struct sock *sock) {
    return on_connect(sock);
}

SEC("kprobe/tcp_v4_connect")
int BPF_KPROBE(kprobe_v4_connect, struct sock *sock) {
    return on_connect(sock);
}

/// @instead_of kprobe_v6_connect
SEC("fentry/tcp_v6_connect")
int BPF_PROG(fentry_v6_connect, struct sock *sock) {
    return on_connect(sock);
}

SEC("kprobe/tcp_v6_connect")
int BPF_KPROBE(kprobe_v6_connect, struct sock *sock) {
    return on_connect(sock);
}

/// @instead_of kprobe_rcv_state_process
SEC("fentry/tcp_rcv_state_process")
int BPF_PROG(fentry_rcv_state_process, struct sock *sock) {
    return on_packet(sock);
}

SEC("kprobe/tcp_rcv_state_process")
int BPF_KPROBE(kprobe_rcv_state_process, struct sock *sock) {
    return on_packet(sock);
}

SEC("tp/tcp/tcp_destroy_sock")
int handle_destroy(struct trace_event_raw_tcp_event_sk *ctx) {
    return on_destroy((struct sock *)ctx->skaddr);
}

/// @description "Trace how long TCP connections take until the peer answers."
char LICENSE[] SEC("license") = "Dual MIT/GPL";
