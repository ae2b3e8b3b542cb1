// A package without events, for idle hosts.
#include "vmlinux.h"

#include <bpf/bpf_helpers.h>

SEC("syscall")
int nothing(void *ctx) {
    return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
