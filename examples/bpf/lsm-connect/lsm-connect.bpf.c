#include "vmlinux.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "lsm-connect.h"

#define AF_INET 2
#define EPERM 1

/// @description "the IPv4 address that nobody may connect to"
/// @cmdarg {"short":"a", "long":"address"}
const volatile unsigned char denied_addr[4] = {1, 1, 1, 1};

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 256 * 1024);
} events SEC(".maps");

static bool is_denied(const unsigned char *addr) {
    return addr[0] == denied_addr[0] && addr[1] == denied_addr[1] && addr[2] == denied_addr[2] &&
           addr[3] == denied_addr[3];
}

static void report(const unsigned char *addr, u16 port) {
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

    // What a program before this one refused stays refused.
    if (ret)
        return ret;
    bpf_probe_read_kernel(&v4, sizeof(v4), address);
    if (v4.sin_family != AF_INET || !is_denied((unsigned char *)&v4.sin_addr))
        return 0;
    report((unsigned char *)&v4.sin_addr, bpf_ntohs(v4.sin_port));
    return -EPERM;
}

/// @description "Refuse connections to one IPv4 address, and report who tried."
char LICENSE[] SEC("license") = "Dual MIT/GPL";
