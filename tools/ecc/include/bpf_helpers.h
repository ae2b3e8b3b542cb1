/*
 * Wraps libbpf's bpf_helpers.h. Records the type of each event in the debug information, and counts the
 * records that are dropped because a ring buffer is full.
 */
#pragma clang system_header
#include_next <bpf/bpf_helpers.h>

#ifndef __EUNOMIA_BPF_HELPERS_H
#define __EUNOMIA_BPF_HELPERS_H

#ifdef __EUNOMIA_COUNT_LOST
/*
 * Static, so that programs without a ring buffer do not contain it. libbpf requires global maps: the symbol
 * is made global here, and ecc makes the variable in the BTF global. The map type is a number because the
 * program may include neither vmlinux.h nor linux/bpf.h.
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

static __attribute__((always_inline)) inline long
__eunomia_ringbuf_reserve_dynptr(void *ring, unsigned int size, unsigned long long flags,
                                 struct bpf_dynptr *record) {
    long result = bpf_ringbuf_reserve_dynptr(ring, size, flags, record);

    if (result)
        __eunomia_count_lost();
    return result;
}
#define bpf_ringbuf_reserve_dynptr(ring, ...) __eunomia_ringbuf_reserve_dynptr((void *)(ring), __VA_ARGS__)
#else
#define __eunomia_ringbuf_reserve bpf_ringbuf_reserve
#define __eunomia_ringbuf_output bpf_ringbuf_output
#endif

/*
 * Local variables stay in the debug information even if the optimizer removes them from the code. The
 * conditional converts an array to a pointer. ecc's object/local_variables.rs searches for the name
 * __eunomia_data.
 */
#define __eunomia_note(name, what) __typeof__(1 ? (what) : (what)) name = (what)

#define __eunomia_typed_output(call, ctx, map, flags, data, size)                                            \
    ({                                                                                                       \
        __eunomia_note(__eunomia_map, map);                                                                  \
        __eunomia_note(__eunomia_data, data);                                                                \
        (call)(ctx, (void *)__eunomia_map, flags, (void *)__eunomia_data, size);                             \
    })
#define __eunomia_typed_ringbuf_output(map, data, size, flags)                                               \
    ({                                                                                                       \
        __eunomia_note(__eunomia_map, map);                                                                  \
        __eunomia_note(__eunomia_data, data);                                                                \
        __eunomia_ringbuf_output((void *)__eunomia_map, (void *)__eunomia_data, size, flags);                \
    })
#define __eunomia_typed_ringbuf_reserve(map, size, flags)                                                    \
    ({                                                                                                       \
        __eunomia_note(__eunomia_map, map);                                                                  \
        __eunomia_ringbuf_reserve((void *)__eunomia_map, size, flags);                                       \
    })
#define __eunomia_typed_ringbuf_submit(data, flags)                                                          \
    ({                                                                                                       \
        __eunomia_note(__eunomia_data, data);                                                                \
        (bpf_ringbuf_submit)((void *)__eunomia_data, flags);                                                 \
    })

/*
 * Function-like macros, so that other uses of the names are unchanged. Variadic, because a compound literal
 * may contain commas; such a call is passed on unchanged.
 */
#define __eunomia_16th(_1, _2, _3, _4, _5, _6, _7, _8, _9, _10, _11, _12, _13, _14, _15, name, ...) name
#define __eunomia_if_5(yes, no, ...)                                                                         \
    __eunomia_16th(__VA_ARGS__, no, no, no, no, no, no, no, no, no, no, yes, no, no, no, no)(__VA_ARGS__)
#define __eunomia_if_4(yes, no, ...)                                                                         \
    __eunomia_16th(__VA_ARGS__, no, no, no, no, no, no, no, no, no, no, no, yes, no, no, no)(__VA_ARGS__)
#define __eunomia_typed_perf_output(...) __eunomia_typed_output(bpf_perf_event_output, __VA_ARGS__)
#define __eunomia_typed_skb_output(...) __eunomia_typed_output(bpf_skb_output, __VA_ARGS__)
#define __eunomia_typed_xdp_output(...) __eunomia_typed_output(bpf_xdp_output, __VA_ARGS__)
#define bpf_perf_event_output(...)                                                                           \
    __eunomia_if_5(__eunomia_typed_perf_output, (bpf_perf_event_output), __VA_ARGS__)
#define bpf_skb_output(...) __eunomia_if_5(__eunomia_typed_skb_output, (bpf_skb_output), __VA_ARGS__)
#define bpf_xdp_output(...) __eunomia_if_5(__eunomia_typed_xdp_output, (bpf_xdp_output), __VA_ARGS__)
#define bpf_ringbuf_output(...)                                                                              \
    __eunomia_if_4(__eunomia_typed_ringbuf_output, __eunomia_ringbuf_output, __VA_ARGS__)
#define bpf_ringbuf_reserve(map, ...) __eunomia_typed_ringbuf_reserve(map, __VA_ARGS__)
#define bpf_ringbuf_submit(data, ...) __eunomia_typed_ringbuf_submit(data, __VA_ARGS__)

#endif
