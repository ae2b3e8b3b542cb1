// A map with many entries, for scrapes: one run of the program adds EVENTS_PER_RUN of them.
#include "vmlinux.h"

#include <bpf/bpf_helpers.h>

#include "signal.h"

struct entry {
    unsigned int number;
    char name[16];
};

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 16384);
    __type(key, struct entry);
    __type(value, unsigned long long);
} entries SEC(".maps");

unsigned int next = 0;

SEC("syscall")
int produce(void *ctx) {
    for (unsigned int i = 0; i < EVENTS_PER_RUN; i++) {
        struct entry key = {.number = next++, .name = "entry"};
        unsigned long long value = key.number;

        bpf_map_update_elem(&entries, &key, &value, BPF_ANY);
    }
    return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
