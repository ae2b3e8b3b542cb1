// Programs for test runs: a packet filter, a raw tracepoint, and a type that the kernel does not run.
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

__u64 total = 0;

// Cuts 4 bytes off the start, marks the first byte of the rest, and returns the remaining length.
SEC("xdp")
int cut(struct xdp_md *ctx) {
    if (bpf_xdp_adjust_head(ctx, 4))
        return XDP_ABORTED;
    char *data = (char *)(long)ctx->data, *end = (char *)(long)ctx->data_end;
    if (data + 1 > end)
        return XDP_ABORTED;
    *data = 'x';
    return end - data;
}

SEC("raw_tp/sys_enter")
int add(struct bpf_raw_tracepoint_args *ctx) {
    __sync_fetch_and_add(&total, ctx->args[0] + ctx->args[1]);
    return 7;
}

SEC("tracepoint/syscalls/sys_enter_getpgid")
int nothing(void *ctx) {
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
