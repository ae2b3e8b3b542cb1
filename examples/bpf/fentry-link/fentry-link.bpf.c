#include "vmlinux.h"

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "fentry-link.h"

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 256 * 1024);
} events SEC(".maps");

static struct event *begin_event(void) {
    struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

    if (!event)
        return NULL;
    event->pid = bpf_get_current_pid_tgid() >> 32;
    event->ret = 0;
    event->returned = false;
    event->filename[0] = '\0';
    bpf_get_current_comm(event->comm, sizeof(event->comm));
    return event;
}

SEC("fentry/do_unlinkat")
int BPF_PROG(enter_unlinkat, int dfd, struct filename *name) {
    struct event *event = begin_event();

    if (!event)
        return 0;
    bpf_probe_read_kernel_str(event->filename, sizeof(event->filename), name->name);
    bpf_ringbuf_submit(event, 0);
    return 0;
}

// The name is freed by then, so only the result is read.
SEC("fexit/do_unlinkat")
int BPF_PROG(exit_unlinkat, int dfd, struct filename *name, long ret) {
    struct event *event = begin_event();

    if (!event)
        return 0;
    event->ret = (int)ret;
    event->returned = true;
    bpf_ringbuf_submit(event, 0);
    return 0;
}

/// @description "Trace the removal of files through fentry and fexit at do_unlinkat."
char LICENSE[] SEC("license") = "Dual MIT/GPL";
