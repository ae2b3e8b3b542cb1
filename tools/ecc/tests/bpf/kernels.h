#ifndef __KERNELS_H
#define __KERNELS_H

#define TASK_COMM_LEN 16
#define SLOTS 32

struct task_key {
    __u32 pid;
    int stack;
};

struct hist {
    __u32 again;
    __u32 slots[SLOTS];
};

#endif
