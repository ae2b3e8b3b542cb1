#ifndef SLABRATE_H
#define SLABRATE_H

#ifndef __VMLINUX_H__
#include <linux/types.h>
#endif

#define CACHE_NAME_LEN 32

struct cache {
    char name[CACHE_NAME_LEN];
};

struct allocations {
    __u64 count;
    __u64 bytes;
};

#endif
