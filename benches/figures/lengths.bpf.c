// Produces records on demand whose lengths change without a pattern, from 8 to 71 bytes.
#include "vmlinux.h"

#include <bpf/bpf_helpers.h>

#include "signal.h"

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 16 * 1024 * 1024);
} events SEC(".maps");

char bytes[72] = "the same in every record";
// The state of a generator of pseudorandom numbers.
unsigned int state = 1;

SEC("syscall")
int produce(void *ctx) {
    for (unsigned int i = 0; i < EVENTS_PER_RUN; i++) {
        state = state * 1664525 + 1013904223;
        if (bpf_ringbuf_output(&events, bytes, 8 + (state >> 20 & 63), 0))
            return EVENTS_PER_RUN - i; // the rest is lost
    }
    return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
