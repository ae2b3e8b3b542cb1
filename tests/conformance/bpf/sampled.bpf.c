// A map whose entries are delivered at an interval, and a program that is never attached.
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

/// @sample {"interval": 10, "clear_map": false}
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 2);
    __type(key, __u32);
    __type(value, __u64);
} totals SEC(".maps");

SEC("raw_tp/sys_enter")
int on_call(void *ctx) {
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
