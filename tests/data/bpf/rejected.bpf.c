// A program that every verifier rejects: it uses a number as a pointer.
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

SEC("raw_tp/sys_enter")
int read_nowhere(struct bpf_raw_tracepoint_args *ctx) {
    return *(volatile int *)ctx->args[1];
}

char LICENSE[] SEC("license") = "GPL";
