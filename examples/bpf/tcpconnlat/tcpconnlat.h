#ifndef TCPCONNLAT_H
#define TCPCONNLAT_H

#ifndef __VMLINUX_H__
#include <linux/types.h>
#endif

#define COMM_LEN 16

struct event {
    __u64 ts; // nanoseconds since boot
    /// The time from the call of connect until the peer's answer. @format duration
    __u64 delta_ns;
    int pid;
    __u16 family; // 2: IPv4, 10: IPv6
    __u16 sport;
    __u16 dport;
    __u8 saddr[16]; ///< @format ipv6
    __u8 daddr[16]; ///< @format ipv6
    char comm[COMM_LEN];
};

#endif
