// A program of any size: READS times five relocated reads of members of kernel structs
// of five types, and PLAIN instructions without relocations.
#include "vmlinux.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#define TEXT_OF(number) #number
#define TEXT(number) TEXT_OF(number)

// The address is that of a task for every type, because the program is only loaded. The compiler must not
// see that it is always the same, or reads would share relocations.
#define READ(type, member)                                                                                   \
    barrier_var(task);                                                                                       \
    bpf_core_read(&value, sizeof(value), &((const struct type *)task)->member);
#define FIVE                                                                                                 \
    READ(task_struct, pid)                                                                                   \
    READ(mm_struct, total_vm) READ(signal_struct, nr_threads) READ(file, f_flags) READ(sock, sk_priority)

#define TIMES_0
#define TIMES_1 FIVE
#define TIMES_3 FIVE FIVE FIVE
#define TIMES_30 TIMES_3 TIMES_3 TIMES_3 TIMES_3 TIMES_3 TIMES_3 TIMES_3 TIMES_3 TIMES_3 TIMES_3
#define TIMES_120 TIMES_30 TIMES_30 TIMES_30 TIMES_30
#define JOIN(a, b) a##b
#define TIMES(number) JOIN(TIMES_, number)

// Never attached and never run.
SEC("syscall")
int sized(const void *task) {
    int value = 0;

    TIMES(READS)
    asm volatile(".rept " TEXT(PLAIN) "\n%0 += 1\n.endr" : "+r"(value));
    return value;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
