#include "vmlinux.h"

#include <bpf/bpf_helpers.h>

/// @description "trace only writes of this process (0: all)"
const volatile pid_t target_pid = 0;

SEC("tp/syscalls/sys_enter_write")
int hello(void *ctx) {
    pid_t pid = bpf_get_current_pid_tgid() >> 32;

    if (target_pid && pid != target_pid)
        return 0;
    bpf_printk("hello from process %d", pid);
    return 0;
}

/// @description "Write a line to the kernel's trace log at every write system call."
char LICENSE[] SEC("license") = "Dual MIT/GPL";
