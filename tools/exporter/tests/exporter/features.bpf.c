// A program in the manner of ebpf_exporter: each metric has a map of its own name, whose keys are labels.
// features.yaml describes them. The test calls prctl with an option that the kernel does not have, a number,
// and the address of a name.
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#define PRCTL 157
#define NAME_LEN 16
#define LOOPBACK 0x0100007f
#define EPERM 1
#define READ 0
#define ENTRIES 64
#define EXP2_MAX 4
#define EXP2_ZERO_MAX 5
#define LINEAR_MAX 4
#define LINEAR_STEP 10

char LICENSE[] SEC("license") = "GPL";

const volatile unsigned int option = 0;
// The exporter fills it with the address of the function.
const volatile u64 kaddr_do_exit = 0;

#define COUNTS(map_name, map_type, key_type)                                                                 \
    struct {                                                                                                 \
        __uint(type, map_type);                                                                              \
        __uint(max_entries, ENTRIES);                                                                        \
        __type(key, key_type);                                                                               \
        __type(value, u64);                                                                                  \
    } map_name SEC(".maps")

enum operation {
    OPERATION_READ = 1,
    OPERATION_WRITE,
};

struct call {
    u8 operation;
    u32 device;
    u32 address;
    u8 address6[16];
    u32 error;
    u32 interface;
    u32 syscall;
    u32 vendor;
    u64 cgroup;
    char name[NAME_LEN];
};

struct stack {
    u64 addresses[2];
};

struct named {
    char name[NAME_LEN];
};

struct exp2_key {
    enum operation operation;
    u32 bucket;
};

struct zero_key {
    u8 operation;
    u64 bucket;
};

struct event {
    u32 pid;
    char name[NAME_LEN];
};

// Keeps the type in the BTF of the object.
const struct event *unused __attribute__((unused));

COUNTS(calls_total, BPF_MAP_TYPE_HASH, struct call);
COUNTS(names_total, BPF_MAP_TYPE_LRU_HASH, struct named);
COUNTS(cpu_calls_total, BPF_MAP_TYPE_PERCPU_ARRAY, u32);
COUNTS(number_calls_total, BPF_MAP_TYPE_PERCPU_HASH, u64);
COUNTS(array_calls_total, BPF_MAP_TYPE_ARRAY, u32);
COUNTS(function_calls_total, BPF_MAP_TYPE_HASH, u64);
COUNTS(stack_calls_total, BPF_MAP_TYPE_HASH, struct stack);
COUNTS(latency_seconds, BPF_MAP_TYPE_HASH, struct exp2_key);
COUNTS(values, BPF_MAP_TYPE_HASH, struct zero_key);
COUNTS(depth, BPF_MAP_TYPE_PERCPU_ARRAY, u32);
COUNTS(sizes, BPF_MAP_TYPE_LRU_HASH, u64);

struct {
    __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
    __uint(key_size, sizeof(u32));
    __uint(value_size, sizeof(u32));
} event_calls_total SEC(".maps");

static __always_inline void add(void *map, void *key, u64 amount) {
    u64 zero = 0, *count;

    bpf_map_update_elem(map, key, &zero, BPF_NOEXIST);
    count = bpf_map_lookup_elem(map, key);
    if (count)
        __sync_fetch_and_add(count, amount);
}

static __always_inline u32 log2_floor(u64 value, u32 most) {
    u32 slot = 0;

    for (int i = 0; i < EXP2_ZERO_MAX; i++) {
        value >>= 1;
        if (!value)
            break;
        slot++;
    }
    return slot > most ? most : slot;
}

static __always_inline void count_calls(struct named *name) {
    struct call call;
    u32 zero = 0;
    u64 number = 0xbeef, function = kaddr_do_exit;
    struct stack stack = {.addresses = {0x10, 0x20}};

    // The padding too.
    __builtin_memset(&call, 0, sizeof(call));
    call.operation = OPERATION_WRITE;
    call.device = 0xfffu << 20 | 1;
    call.address = LOOPBACK;
    call.address6[15] = 1;
    call.error = EPERM;
    call.interface = 1;
    call.syscall = READ;
    call.vendor = 0x8086;
    call.cgroup = 1;
    __builtin_memcpy(call.name, name->name, sizeof(call.name));
    add(&calls_total, &call, 1);
    add(&names_total, name, 1);
    add(&cpu_calls_total, &zero, 1);
    add(&number_calls_total, &number, 1);
    add(&array_calls_total, &zero, 1);
    add(&function_calls_total, &function, 1);
    add(&stack_calls_total, &stack, 1);
}

static __always_inline void count_value(u64 value) {
    struct exp2_key exp2 = {.operation = OPERATION_READ, .bucket = log2_floor(value, EXP2_MAX)};
    struct zero_key zero;
    u32 linear = value / LINEAR_STEP;
    u64 fixed = value <= 1 ? 1 : value <= 5 ? 5 : 10;

    add(&latency_seconds, &exp2, 1);
    exp2.bucket = EXP2_MAX + 1;
    if (value)
        add(&latency_seconds, &exp2, value);

    __builtin_memset(&zero, 0, sizeof(zero));
    zero.operation = OPERATION_READ;
    zero.bucket = value ? log2_floor(value, EXP2_ZERO_MAX - 1) + 1 : 0;
    add(&values, &zero, 1);
    zero.bucket = EXP2_ZERO_MAX + 1;
    add(&values, &zero, value);

    if (linear > LINEAR_MAX)
        linear = LINEAR_MAX;
    add(&depth, &linear, 1);
    linear = LINEAR_MAX + 1;
    add(&depth, &linear, value);
    add(&sizes, &fixed, 1);
}

SEC("tp_btf/sys_enter")
int BPF_PROG(on_enter, struct pt_regs *regs, long id) {
    struct event event = {};
    struct named name = {};
    u64 value;

    if (id != PRCTL || (unsigned int)PT_REGS_PARM1_CORE_SYSCALL(regs) != option)
        return 0;
    value = PT_REGS_PARM2_CORE_SYSCALL(regs);
    bpf_probe_read_user_str(name.name, sizeof(name.name), (void *)PT_REGS_PARM3_CORE_SYSCALL(regs));
    count_calls(&name);
    count_value(value);
    event.pid = bpf_get_current_pid_tgid() >> 32;
    __builtin_memcpy(event.name, name.name, sizeof(event.name));
    bpf_perf_event_output(ctx, &event_calls_total, BPF_F_CURRENT_CPU, &event, sizeof(event));
    return 0;
}
