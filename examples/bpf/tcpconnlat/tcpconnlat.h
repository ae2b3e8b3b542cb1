#ifndef TCPCONNLAT_H
#define TCPCONNLAT_H

#ifndef __VMLINUX_H__
#include <linux/types.h>
#endif

#define COMM_LEN 16

struct event {
    __u64 ts;       // nanoseconds since boot
    __u64 delta_ns; // from the call of connect until the peer's answer
    int pid;
    __u16 family; // 2: IPv4, 10: IPv6
    __u16 sport;
    __u16 dport;
    __u8 saddr[16]; // IPv6, or IPv4 mapped into it
    __u8 daddr[16];
    char comm[COMM_LEN];
};

#endif
