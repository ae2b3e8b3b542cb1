#include "vmlinux.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "slabrate.h"

/// @description "trace only allocations of this process (0: all)"
const volatile pid_t targ_pid = 0;

/// @sample {"interval":1000, "clear_map":true}
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 1024);
    __type(key, struct cache);
    __type(value, struct allocations);
} caches SEC(".maps");

static __always_inline int count(struct kmem_cache *from) {
    struct cache cache = {};
    struct allocations none = {}, *known;

    if (targ_pid && targ_pid != (pid_t)(bpf_get_current_pid_tgid() >> 32))
        return 0;
    bpf_probe_read_kernel_str(cache.name, sizeof(cache.name), BPF_CORE_READ(from, name));
    known = bpf_map_lookup_elem(&caches, &cache);
    if (!known) {
        bpf_map_update_elem(&caches, &cache, &none, BPF_NOEXIST);
        known = bpf_map_lookup_elem(&caches, &cache);
        if (!known)
            return 0;
    }
    __sync_fetch_and_add(&known->count, 1);
    __sync_fetch_and_add(&known->bytes, BPF_CORE_READ(from, size));
    return 0;
}

SEC("kprobe/kmem_cache_alloc")
int BPF_KPROBE(on_alloc, struct kmem_cache *from) {
    return count(from);
}

// The name of the function since Linux 6.10.
SEC("kprobe/kmem_cache_alloc_noprof")
int BPF_KPROBE(on_alloc_noprof, struct kmem_cache *from) {
    return count(from);
}

/// @description "Count allocations from each slab cache of the kernel, per second."
char LICENSE[] SEC("license") = "Dual MIT/GPL";
