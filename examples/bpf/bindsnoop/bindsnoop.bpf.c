#include "vmlinux.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "bindsnoop.h"

#define AF_INET 2
#define AF_INET6 10

/// @description "trace only this process (0: all)"
/// @cmdarg {"short":"p", "long":"pid"}
const volatile pid_t targ_pid = 0;

/// @description "trace only this port (0: all)"
/// @cmdarg {"short":"P", "long":"port"}
const volatile unsigned short targ_port = 0;

/// @description "trace only failed calls"
/// @cmdarg {"short":"x", "long":"failed"}
const volatile bool targ_failed = false;

struct bind_args {
    struct socket *socket;
    void *address;
};

// Arguments of pending binds, by thread.
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 10240);
    __type(key, u32);
    __type(value, struct bind_args);
} started SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 256 * 1024);
} events SEC(".maps");

static int on_enter(struct socket *socket, void *address) {
    u64 id = bpf_get_current_pid_tgid();
    struct bind_args args = {.socket = socket, .address = address};
    u32 tid = id;

    if (targ_pid && targ_pid != (pid_t)(id >> 32))
        return 0;
    bpf_map_update_elem(&started, &tid, &args, BPF_ANY);
    return 0;
}

static void read_address(struct event *event, void *address) {
    struct sockaddr_in6 v6 = {};
    struct sockaddr_in v4 = {};

    if (event->family == AF_INET6) {
        bpf_probe_read_kernel(&v6, sizeof(v6), address);
        __builtin_memcpy(event->addr, &v6.sin6_addr, sizeof(event->addr));
        event->port = bpf_ntohs(v6.sin6_port);
        return;
    }
    bpf_probe_read_kernel(&v4, sizeof(v4), address);
    event->addr[10] = event->addr[11] = 0xff;
    __builtin_memcpy(event->addr + 12, &v4.sin_addr, sizeof(v4.sin_addr));
    event->port = bpf_ntohs(v4.sin_port);
}

static int on_exit(void *ctx, u16 family, int ret) {
    u64 id = bpf_get_current_pid_tgid();
    u32 tid = id;
    struct bind_args *args = bpf_map_lookup_elem(&started, &tid);
    struct event event = {};
    struct socket *socket;
    struct inet_sock *sock;

    if (!args)
        return 0;
    socket = args->socket;
    event.ts = bpf_ktime_get_ns();
    event.pid = id >> 32;
    event.ret = ret;
    event.family = family;
    event.type = BPF_CORE_READ(socket, type);
    read_address(&event, args->address);
    sock = (struct inet_sock *)BPF_CORE_READ(socket, sk);
    event.protocol = BPF_CORE_READ(sock, sk.sk_protocol);
    // Port 0 lets the kernel choose one.
    if (!ret)
        event.port = bpf_ntohs(BPF_CORE_READ(sock, inet_sport));
    bpf_map_delete_elem(&started, &tid);

    if ((targ_failed && !ret) || (targ_port && targ_port != event.port))
        return 0;
    bpf_get_current_comm(event.comm, sizeof(event.comm));
    bpf_ringbuf_output(&events, &event, sizeof(event), 0);
    return 0;
}

SEC("kprobe/inet_bind")
int BPF_KPROBE(enter_inet_bind, struct socket *socket, void *address) {
    return on_enter(socket, address);
}

SEC("kretprobe/inet_bind")
int BPF_KRETPROBE(exit_inet_bind, int ret) {
    return on_exit(ctx, AF_INET, ret);
}

SEC("kprobe/inet6_bind")
int BPF_KPROBE(enter_inet6_bind, struct socket *socket, void *address) {
    return on_enter(socket, address);
}

SEC("kretprobe/inet6_bind")
int BPF_KRETPROBE(exit_inet6_bind, int ret) {
    return on_exit(ctx, AF_INET6, ret);
}

/// @description "Trace the addresses and ports that sockets are bound to."
char LICENSE[] SEC("license") = "Dual MIT/GPL";
