#ifndef OOMKILL_H
#define OOMKILL_H

#ifndef __VMLINUX_H__
#include <linux/types.h>
#endif

#define COMM_LEN 16

struct event {
    int pid;             // the process that the kernel kills
    char comm[COMM_LEN]; // its name; empty before Linux 6.10
    int trigger_pid;     // the process that needed memory
    char trigger_comm[COMM_LEN];
    __u64 cgroup; // the control group, version 2, of the process that needed memory
};

#endif
