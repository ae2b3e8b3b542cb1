#ifndef CGROUP_TRAFFIC_H
#define CGROUP_TRAFFIC_H

#ifndef __VMLINUX_H__
#include <linux/types.h>
#endif

enum direction {
    INGRESS,
    EGRESS,
};

struct traffic {
    __u64 packets;
    __u64 bytes; // from the IP header on
};

#endif
