#include "vmlinux.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "lsm-connect.h"

#define AF_INET 2
#define EPERM 1

/// @description "the IPv4 address to deny connections to"
/// @cmdarg {"short":"a", "long":"address"}
const volatile struct in_addr denied_addr = {.s_addr = bpf_htonl(0x01010101)};

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 256 * 1024);
} events SEC(".maps");

static void report(const struct in_addr *addr, u16 port) {
    struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

    if (!event)
        return;
    event->pid = bpf_get_current_pid_tgid() >> 32;
    event->port = port;
    __builtin_memcpy(event->addr, addr, sizeof(event->addr));
    bpf_get_current_comm(event->comm, sizeof(event->comm));
    bpf_ringbuf_submit(event, 0);
}

SEC("lsm/socket_connect")
int BPF_PROG(restrict_connect, struct socket *sock, struct sockaddr *address, int addrlen, int ret) {
    struct sockaddr_in v4 = {};

    // Keep the decision of an earlier program.
    if (ret)
        return ret;
    bpf_probe_read_kernel(&v4, sizeof(v4), address);
    if (v4.sin_family != AF_INET || v4.sin_addr.s_addr != denied_addr.s_addr)
        return 0;
    report(&v4.sin_addr, bpf_ntohs(v4.sin_port));
    return -EPERM;
}

/// @description "Deny connections to one IPv4 address, and report the attempts."
char LICENSE[] SEC("license") = "Dual MIT/GPL";
