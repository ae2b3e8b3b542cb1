#ifndef BINDSNOOP_H
#define BINDSNOOP_H

#ifndef __VMLINUX_H__
#include <linux/types.h>
#endif

#define COMM_LEN 16

struct event {
    __u64 ts; // nanoseconds since boot
    int pid;
    int ret;       ///< @format errno
    __u8 addr[16]; ///< @format ipv6
    __u16 port;    // of the socket, or as requested if it got none
    __u16 family;  // 2: IPv4, 10: IPv6
    __u16 type;    // 1: stream, 2: datagrams, 3: raw
    __u16 protocol;
    char comm[COMM_LEN];
};

#endif
