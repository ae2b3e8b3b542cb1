#include "vmlinux.h"

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "xdp.h"

// Traffic received so far, by EtherType (0x0800: IPv4, 0x86dd: IPv6).
/// @sample {"interval":1000, "type":"default_kv"}
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 256);
    __type(key, u32);
    __type(value, struct traffic);
} traffic SEC(".maps");

static void count(u32 ethertype, u64 bytes) {
    struct traffic first = {.packets = 1, .bytes = bytes};
    struct traffic *seen = bpf_map_lookup_elem(&traffic, &ethertype);

    if (!seen) {
        // If another CPU has added the entry since the lookup, the update fails.
        if (!bpf_map_update_elem(&traffic, &ethertype, &first, BPF_NOEXIST))
            return;
        seen = bpf_map_lookup_elem(&traffic, &ethertype);
        if (!seen)
            return;
    }
    __sync_fetch_and_add(&seen->packets, 1);
    __sync_fetch_and_add(&seen->bytes, bytes);
}

/// @ifindex 1
/// @flags 0
SEC("xdp")
int xdp_pass(struct xdp_md *ctx) {
    void *data = (void *)(long)ctx->data;
    void *end = (void *)(long)ctx->data_end;
    struct ethhdr *eth = data;

    if ((void *)(eth + 1) <= end)
        count(bpf_ntohs(eth->h_proto), end - data);
    return XDP_PASS;
}

/// @description "Count the packets that arrive at an interface (loopback by default) and let them pass."
char LICENSE[] SEC("license") = "Dual MIT/GPL";
