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

static int report_name(const void *name) {
    struct event *event = begin_event();

    if (!event)
        return 0;
    bpf_probe_read_kernel_str(event->filename, sizeof(event->filename), name);
    bpf_ringbuf_submit(event, 0);
    return 0;
}

// The name has been freed by now, so read only the result.
static int report_result(int ret) {
    struct event *event = begin_event();

    if (!event)
        return 0;
    event->ret = ret;
    event->returned = true;
    bpf_ringbuf_submit(event, 0);
    return 0;
}

/// Before Linux 7.0 the function had another name.
/// @instead_of enter_do_unlinkat
SEC("fentry/filename_unlinkat")
int BPF_PROG(enter_unlinkat, int dfd, struct filename *name) {
    return report_name(name->name);
}

SEC("fentry/do_unlinkat")
int BPF_PROG(enter_do_unlinkat, int dfd, struct filename *name) {
    return report_name(name->name);
}

/// @instead_of exit_do_unlinkat
SEC("fexit/filename_unlinkat")
int BPF_PROG(exit_unlinkat, int dfd, struct filename *name, int ret) {
    return report_result(ret);
}

SEC("fexit/do_unlinkat")
int BPF_PROG(exit_do_unlinkat, int dfd, struct filename *name, int ret) {
    return report_result(ret);
}

/// @description "Trace the removal of files with fentry and fexit."
char LICENSE[] SEC("license") = "Dual MIT/GPL";
