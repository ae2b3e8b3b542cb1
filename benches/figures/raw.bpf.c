// A program on a raw tracepoint, for hosts that open, attach and detach thousands of times.
#include "vmlinux.h"

#include <bpf/bpf_helpers.h>

__u64 calls = 0;

SEC("raw_tp/task_rename")
int count(void *ctx) {
    __sync_fetch_and_add(&calls, 1);
    return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
