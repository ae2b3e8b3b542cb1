#ifndef RUNQLAT_H
#define RUNQLAT_H

#ifndef __VMLINUX_H__
#include <linux/types.h>
#endif

#define COMM_LEN 16
#define MAX_SLOTS 26

// Slot n counts the waits of 2^n up to 2^(n+1)-1 microseconds.
struct hist {
    __u32 slots[MAX_SLOTS];
    char comm[COMM_LEN];
};

#endif
