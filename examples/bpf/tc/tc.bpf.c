#include "vmlinux.h"

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "tc.h"

#define ETH_P_IP 0x0800
#define TC_ACT_OK 0

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 256 * 1024);
} events SEC(".maps");

/// @tchook {"ifindex":1, "attach_point":"BPF_TC_INGRESS"}
/// @tcopts {"handle":1, "priority":1}
SEC("tc")
int tc_ingress(struct __sk_buff *skb) {
    void *end = (void *)(long)skb->data_end;
    struct ethhdr *eth = (void *)(long)skb->data;
    struct iphdr *ip = (struct iphdr *)(eth + 1);
    struct event *event;

    if (skb->protocol != bpf_htons(ETH_P_IP) || (void *)(ip + 1) > end)
        return TC_ACT_OK;

    event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
    if (!event)
        return TC_ACT_OK;
    event->ifindex = skb->ifindex;
    event->len = skb->len;
    event->ttl = ip->ttl;
    event->protocol = ip->protocol;
    __builtin_memcpy(event->saddr, &ip->saddr, sizeof(event->saddr));
    __builtin_memcpy(event->daddr, &ip->daddr, sizeof(event->daddr));
    bpf_ringbuf_submit(event, 0);
    return TC_ACT_OK;
}

/// @description "Report the IPv4 packets that arrive at an interface (loopback by default)."
char LICENSE[] SEC("license") = "Dual MIT/GPL";
