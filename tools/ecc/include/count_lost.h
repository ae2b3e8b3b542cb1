/* Stands before libbpf's bpf_helpers.h and counts the ring-buffer reservations that fail. */
#pragma clang system_header
#include_next <bpf/bpf_helpers.h>

#ifndef __EUNOMIA_COUNT_LOST_H
#define __EUNOMIA_COUNT_LOST_H

/*
 * Static, so that it vanishes from programs that use no ring buffer; but libbpf wants maps to be global, so
 * the symbol is made global here, and the variable in the BTF by the compiler afterwards. Plain numbers,
 * because the program may include neither vmlinux.h nor linux/bpf.h.
 */
static struct {
    __uint(type, 6); /* BPF_MAP_TYPE_PERCPU_ARRAY */
    __uint(max_entries, 1);
    __type(key, unsigned int);
    __type(value, unsigned long long);
} __eunomia_lost __attribute__((section(".maps")));
__asm__(".globl __eunomia_lost");

static __attribute__((always_inline)) inline void __eunomia_count_lost(void) {
    unsigned int key = 0;
    unsigned long long *lost = bpf_map_lookup_elem(&__eunomia_lost, &key);

    if (lost)
        __sync_fetch_and_add(lost, 1);
}

static __attribute__((always_inline)) inline void *
__eunomia_ringbuf_reserve(void *ring, unsigned long long size, unsigned long long flags) {
    void *record = bpf_ringbuf_reserve(ring, size, flags);

    if (!record)
        __eunomia_count_lost();
    return record;
}

static __attribute__((always_inline)) inline long
__eunomia_ringbuf_output(void *ring, void *data, unsigned long long size, unsigned long long flags) {
    long result = bpf_ringbuf_output(ring, data, size, flags);

    if (result)
        __eunomia_count_lost();
    return result;
}

/* Function-like, so that other uses of the names stay as they are; variadic, for commas in compound literals.
 */
#define bpf_ringbuf_reserve(...) __eunomia_ringbuf_reserve(__VA_ARGS__)
#define bpf_ringbuf_output(...) __eunomia_ringbuf_output(__VA_ARGS__)

#endif
