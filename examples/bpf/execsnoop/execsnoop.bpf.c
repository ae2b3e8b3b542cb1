#include "vmlinux.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "execsnoop.h"

#define ANY_UID 0xffffffff

/// @description "trace only processes of this user id (4294967295: all)"
/// @cmdarg {"short":"u", "long":"uid"}
const volatile unsigned int targ_uid = ANY_UID;

/// @description "trace only processes whose parent is this one (0: all)"
/// @cmdarg {"short":"P", "long":"ppid"}
const volatile pid_t targ_ppid = 0;

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 256 * 1024);
} events SEC(".maps");

// Replaces each NUL by a space, eight bytes at a time and without branches: one branch per byte would exceed
// the verifier's limit.
static void separate(char *args) {
    const u64 low_bits = 0x7f7f7f7f7f7f7f7f;
    u64 word, zeros;
    u32 i;

    for (i = 0; i < ARGS_LEN; i += sizeof(word)) {
        __builtin_memcpy(&word, args + i, sizeof(word));
        // 0x80 for each byte that is zero; a space is 0x20.
        zeros = ~(((word & low_bits) + low_bits) | word | low_bits);
        word |= zeros >> 2;
        __builtin_memcpy(args + i, &word, sizeof(word));
    }
}

// The arguments are at the top of the new program's stack, one after the other, each NUL-terminated.
static void read_args(struct event *event, struct mm_struct *mm) {
    u64 start = BPF_CORE_READ(mm, arg_start);
    u64 size = BPF_CORE_READ(mm, arg_end) - start;

    event->args_size = size;
    event->args[0] = '\0';
    if (size > ARGS_LEN)
        size = ARGS_LEN;
    if (!size || bpf_probe_read_user(event->args, size, (void *)start))
        return;
    separate(event->args);
    event->args[(size - 1) % ARGS_LEN] = '\0';
}

// Fires after the process has its new memory, so a failed exec is not reported.
SEC("tp/sched/sched_process_exec")
int handle_exec(void *ctx) {
    struct task_struct *task = (struct task_struct *)bpf_get_current_task();
    pid_t ppid = BPF_CORE_READ(task, real_parent, tgid);
    u32 uid = bpf_get_current_uid_gid();
    struct event *event;

    if ((targ_uid != ANY_UID && targ_uid != uid) || (targ_ppid && targ_ppid != ppid))
        return 0;

    event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
    if (!event)
        return 0;
    event->pid = bpf_get_current_pid_tgid() >> 32;
    event->ppid = ppid;
    event->uid = uid;
    bpf_get_current_comm(event->comm, sizeof(event->comm));
    read_args(event, BPF_CORE_READ(task, mm));
    bpf_ringbuf_submit(event, 0);
    return 0;
}

/// @description "Trace new programs with their arguments."
char LICENSE[] SEC("license") = "Dual MIT/GPL";
