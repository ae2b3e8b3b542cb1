#include "vmlinux.h"

#include <bpf/bpf_helpers.h>

#include "cgroup-traffic.h"

#define LET_PASS 1

// Per-CPU counters, so that CPUs do not contend.
/// @sample {"interval":1000}
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 2);
    __type(key, enum direction);
    __type(value, struct traffic);
} traffic SEC(".maps");

static int count(enum direction direction, struct __sk_buff *skb) {
    struct traffic *counts = bpf_map_lookup_elem(&traffic, &direction);

    if (counts) {
        counts->packets++;
        counts->bytes += skb->len;
    }
    return LET_PASS;
}

/// @cgroup /sys/fs/cgroup
SEC("cgroup_skb/ingress")
int count_ingress(struct __sk_buff *skb) {
    return count(INGRESS, skb);
}

/// @cgroup /sys/fs/cgroup
SEC("cgroup_skb/egress")
int count_egress(struct __sk_buff *skb) {
    return count(EGRESS, skb);
}

/// @description "Count the packets that the processes of a cgroup send and receive."
char LICENSE[] SEC("license") = "Dual MIT/GPL";
