#include "vmlinux.h"

#include <bpf/bpf_helpers.h>

/// @description "the only process whose writes are announced (0: every process)"
const volatile pid_t target_pid = 0;

SEC("tp/syscalls/sys_enter_write")
int hello(void *ctx) {
    pid_t pid = bpf_get_current_pid_tgid() >> 32;

    if (target_pid && pid != target_pid)
        return 0;
    bpf_printk("hello from process %d", pid);
    return 0;
}

/// @description "Say hello in the kernel's trace log at every write system call."
char LICENSE[] SEC("license") = "Dual MIT/GPL";
