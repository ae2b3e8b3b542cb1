#include "vmlinux.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "mdflush.h"

// A module has its own BTF, so vmlinux.h lacks this type unless md is built in; libbpf ignores what follows
// `___`.
struct mddev___partial {
    struct gendisk *gendisk;
} __attribute__((preserve_access_index));

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 256 * 1024);
} events SEC(".maps");

SEC("fentry/md_flush_request")
int BPF_PROG(handle_flush, struct mddev___partial *mddev) {
    struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

    if (!event)
        return 0;
    event->pid = bpf_get_current_pid_tgid() >> 32;
    bpf_get_current_comm(event->comm, sizeof(event->comm));
    bpf_probe_read_kernel_str(event->disk, sizeof(event->disk), mddev->gendisk->disk_name);
    bpf_ringbuf_submit(event, 0);
    return 0;
}

/// @description "Trace the flushes that software RAID (md) submits."
char LICENSE[] SEC("license") = "Dual MIT/GPL";
