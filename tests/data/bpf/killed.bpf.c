// A program and a map of a host that is killed. The test finds them by their names.
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 4096);
} killed_events SEC(".maps");

SEC("raw_tp/sys_enter")
int killed_prog(void *ctx) {
    bpf_ringbuf_output(&killed_events, &ctx, sizeof(ctx), 0);
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
