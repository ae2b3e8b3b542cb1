// Maps and calls of newer programs: maps in maps, timers, bpf_loop, storage, global functions and
// subprograms.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

struct inner {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 2);
    __type(key, u32);
    __type(value, u64);
} first SEC(".maps"), second SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
    __uint(max_entries, 2);
    __type(key, u32);
    __array(values, struct inner);
} outer SEC(".maps") = {.values = {&first, &second}};

struct bell {
    struct bpf_timer timer;
    u64 rings;
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, u32);
    __type(value, struct bell);
} bells SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_CGROUP_STORAGE);
    __type(key, struct bpf_cgroup_storage_key);
    __type(value, u64);
} storage SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_TASK_STORAGE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, int);
    __type(value, u64);
} tasks SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_HASH);
    __uint(max_entries, 16);
    __type(key, u32);
    __type(value, u64);
} counts SEC(".maps");

u64 steps;

static int step(u32 index, void *context) {
    u64 *sum = context;

    *sum += index;
    return 0;
}

static int ring(void *map, u32 *key, struct bell *bell) {
    bell->rings++;
    return 0;
}

__noinline int is_even(u32 number) {
    return number % 2 == 0;
}

static __noinline u64 count(u32 key) {
    u64 one = 1, *known = bpf_map_lookup_elem(&counts, &key);

    if (!known) {
        bpf_map_update_elem(&counts, &key, &one, BPF_ANY);
        return 1;
    }
    return ++*known;
}

SEC("tc")
int walk(struct __sk_buff *skb) {
    u32 key = 0;
    u64 sum = 0;
    struct bell *bell = bpf_map_lookup_elem(&bells, &key);
    void *inner = bpf_map_lookup_elem(&outer, &key);
    u64 *value = inner ? bpf_map_lookup_elem(inner, &key) : NULL;

    if (value && is_even(skb->len))
        *value += count(key);
    bpf_loop(10, step, &sum, 0);
    steps += sum;
    if (bell && !bpf_timer_init(&bell->timer, &bells, 1)) {
        bpf_timer_set_callback(&bell->timer, ring);
        bpf_timer_start(&bell->timer, 1000, 0);
    }
    return 0;
}

SEC("cgroup_skb/egress")
int counted(struct __sk_buff *skb) {
    u64 *packets = bpf_get_local_storage(&storage, 0);

    __sync_fetch_and_add(packets, 1);
    return 1;
}

SEC("tp_btf/sched_switch")
int stored(u64 *ctx) {
    u64 *times =
        bpf_task_storage_get(&tasks, (struct task_struct *)ctx[1], NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);

    if (times)
        ++*times;
    return 0;
}

char _license[] SEC("license") = "GPL";
