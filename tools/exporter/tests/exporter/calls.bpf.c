// Everything that the exporter can read, with values that the test chooses: it calls prctl with an option
// that the kernel does not have, a number, and the address of a name.
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#define PRCTL 157
#define NAME_LEN 16
#define SLOTS 5

char LICENSE[] SEC("license") = "GPL";

/// @cmdarg {"long": "option", "help": "the option of prctl"}
const volatile unsigned int option = 0;

// Incremented by each call.
unsigned long long calls = 0;

struct event {
#ifdef MOVED
    unsigned int more[3];
#endif
    unsigned long long value;
    /// @format errno
    int error;
    unsigned int pid;
    char name[NAME_LEN];
#ifdef LARGER
    unsigned int last;
#endif
};

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 1 << 22);
} events SEC(".maps");

struct name {
    char name[NAME_LEN];
};

struct total {
    unsigned long long count;
    unsigned long long bytes;
    long long last;
};

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 16384);
    __type(key, struct name);
    __type(value, struct total);
} totals SEC(".maps");

struct hist {
    unsigned int slots[SLOTS];
    unsigned long long sum;
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, unsigned int);
    __type(value, struct hist);
} hists SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, unsigned int);
    __type(value, unsigned long long);
} by_cpu SEC(".maps");

static unsigned int log2_floor(unsigned long long value) {
    unsigned int slot = 0;

    for (int i = 0; i < SLOTS - 1; i++) {
        value >>= 1;
        if (!value)
            break;
        slot++;
    }
    return slot;
}

static void count_maps(struct name *name, unsigned long long value) {
    struct total none = {}, *total;
    unsigned int zero = 0, slot = log2_floor(value);
    struct hist *hist = bpf_map_lookup_elem(&hists, &zero);
    unsigned long long *count = bpf_map_lookup_elem(&by_cpu, &zero);

    bpf_map_update_elem(&totals, name, &none, BPF_NOEXIST);
    total = bpf_map_lookup_elem(&totals, name);
    if (total) {
        __sync_fetch_and_add(&total->count, 1);
        __sync_fetch_and_add(&total->bytes, value);
        total->last = value;
    }
    if (hist && slot < SLOTS) {
        __sync_fetch_and_add(&hist->slots[slot], 1);
        __sync_fetch_and_add(&hist->sum, value);
    }
    if (count)
        *count += 1;
}

SEC("tp_btf/sys_enter")
int BPF_PROG(on_enter, struct pt_regs *regs, long id) {
    struct name name = {};
    struct event *event;
    unsigned long long value;

    if (id != PRCTL || (unsigned int)PT_REGS_PARM1_CORE_SYSCALL(regs) != option)
        return 0;
    value = PT_REGS_PARM2_CORE_SYSCALL(regs);
    bpf_probe_read_user_str(name.name, sizeof(name.name), (void *)PT_REGS_PARM3_CORE_SYSCALL(regs));
    __sync_fetch_and_add(&calls, 1);
    count_maps(&name, value);
    event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
    if (!event)
        return 0;
    event->value = value;
    event->error = -(int)value;
    event->pid = bpf_get_current_pid_tgid() >> 32;
    __builtin_memcpy(event->name, name.name, sizeof(event->name));
    bpf_ringbuf_submit(event, 0);
    return 0;
}
