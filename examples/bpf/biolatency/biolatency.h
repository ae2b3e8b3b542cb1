#ifndef BIOLATENCY_H
#define BIOLATENCY_H

#ifndef __VMLINUX_H__
#include <linux/types.h>
#endif

#define DISK_LEN 32
#define MAX_SLOTS 27

// Slot n counts the requests that took 2^n up to 2^(n+1)-1 microseconds.
struct hist {
    __u32 slots[MAX_SLOTS];
    char disk[DISK_LEN]; // empty if all disks are counted together
};

#endif
