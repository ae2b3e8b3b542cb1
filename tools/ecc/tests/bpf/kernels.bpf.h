#ifndef __KERNELS_BPF_H
#define __KERNELS_BPF_H

#include <vmlinux.h>

#include <bpf/bpf_core_read.h>

struct task_struct___new {
    unsigned int __state;
} __attribute__((preserve_access_index));

struct bio___new {
    struct block_device *bi_bdev;
} __attribute__((preserve_access_index));

/* The name changed with Linux 5.14. */
static __always_inline s64 task_state(void *task) {
    struct task_struct___new *now = task;

    if (bpf_core_field_exists(now->__state))
        return BPF_CORE_READ(now, __state);
    return BPF_CORE_READ((struct task_struct *)task, state);
}

/* With Linux 5.12. */
static __always_inline struct gendisk *disk_of(void *bio) {
    struct bio___new *now = bio;

    if (bpf_core_field_exists(now->bi_bdev))
        return BPF_CORE_READ(now, bi_bdev, bd_disk);
    return BPF_CORE_READ((struct bio *)bio, bi_disk);
}

/* A power of two. */
static __always_inline u64 slot(u64 value) {
    u64 result = 0;

    for (int shift = 32; shift; shift /= 2)
        if (value >> shift) {
            value >>= shift;
            result += shift;
        }
    return result;
}

#endif
