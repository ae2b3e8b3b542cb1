// The package for processes with many packages: it delivers an event when a thread takes the name in
// trigger.h.
#include "vmlinux.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "signal.h"
#include "trigger.h"

// The buffer is as small as a round allows, because every host maps all of it.
struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 64 * 1024);
} events SEC(".maps");

SEC("raw_tp/task_rename")
int renamed(struct bpf_raw_tracepoint_args *ctx) {
    struct task_struct *task = (struct task_struct *)ctx->args[0];
    struct signal *event;
    __u64 name[2] = {};

    bpf_probe_read_kernel_str(name, sizeof(name), (const void *)ctx->args[1]);
    if (name[0] != TRIGGER_WORD)
        return 0;
    event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
    if (!event)
        return 0;
    event->pid = BPF_CORE_READ(task, pid);
    event->tpid = BPF_CORE_READ(task, tgid);
    event->sig = event->ret = 0;
    __builtin_memcpy(event->comm, name, sizeof(event->comm));
    bpf_ringbuf_submit(event, 0);
    return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
