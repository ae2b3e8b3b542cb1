// A map of type KIND, for a program that does nothing with it: whether a kernel has such maps.
#include "vmlinux.h"

#include <bpf/bpf_helpers.h>

struct value {
    u64 first, second;
};

struct {
    __uint(type, KIND);
#if defined(LOCAL_STORAGE)
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, int);
    __type(value, struct value);
#elif defined(KEYLESS)
    __uint(max_entries, 4);
    __type(value, struct value);
#elif defined(TRIE)
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, 4);
    __type(key, u64);
    __type(value, struct value);
#elif defined(ARENA)
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 4);
#elif defined(BUFFER)
    __uint(max_entries, 4096);
#elif defined(CGROUP)
    __type(key, struct bpf_cgroup_storage_key);
    __type(value, struct value);
#elif defined(NUMBERS)
    __uint(max_entries, 4);
    __uint(key_size, 4);
    __uint(value_size, 4);
#elif defined(MAPS)
    __uint(max_entries, 4);
    __type(key, u32);
    __array(
        values, struct {
            __uint(type, BPF_MAP_TYPE_ARRAY);
            __uint(max_entries, 1);
            __type(key, u32);
            __type(value, u64);
        });
#elif defined(STACKS)
    __uint(max_entries, 4);
    __uint(key_size, 4);
    __uint(value_size, 8 * 8);
#else
    __uint(max_entries, 4);
    __type(key, u32);
    __type(value, struct value);
#endif
} map SEC(".maps");

SEC("raw_tp/sys_enter")
int refers(void *ctx) {
    void *volatile it = &map;

    return it ? 0 : 0;
}

char LICENSE[] SEC("license") = "GPL";
