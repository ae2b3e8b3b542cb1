// A congestion control of TCP, the oldest kind of struct_ops.
#include "vmlinux.h"

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

SEC("struct_ops/ssthresh")
u32 BPF_PROG(ssthresh, struct sock *sk) {
    return 2;
}

SEC("struct_ops/undo_cwnd")
u32 BPF_PROG(undo_cwnd, struct sock *sk) {
    return 2;
}

SEC("struct_ops/cong_avoid")
void BPF_PROG(cong_avoid, struct sock *sk, u32 ack, u32 acked) {}

SEC(".struct_ops")
struct tcp_congestion_ops control = {
    .ssthresh = (void *)ssthresh,
    .undo_cwnd = (void *)undo_cwnd,
    .cong_avoid = (void *)cong_avoid,
    .name = "bpf_eunomia",
};

char LICENSE[] SEC("license") = "GPL";
