#include "vmlinux.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "oomkill.h"

#define OFFSET_MASK 0xffff

// Linux 6.10 added the name of the process. The lower half of the member is the offset of the string.
struct trace_event_raw_mark_victim___since_6_10 {
    u32 __data_loc_comm;
} __attribute__((preserve_access_index));

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 64 * 1024);
} events SEC(".maps");

SEC("tracepoint/oom/mark_victim")
int handle_victim(struct trace_event_raw_mark_victim *ctx) {
    struct trace_event_raw_mark_victim___since_6_10 *newer = (void *)ctx;
    struct event event = {.pid = ctx->pid};

    if (bpf_core_field_exists(newer->__data_loc_comm)) {
        u32 offset = newer->__data_loc_comm & OFFSET_MASK;

        bpf_probe_read_kernel_str(event.comm, sizeof(event.comm), (void *)ctx + offset);
    }
    event.trigger_pid = bpf_get_current_pid_tgid() >> 32;
    bpf_get_current_comm(event.trigger_comm, sizeof(event.trigger_comm));
    event.cgroup = bpf_get_current_cgroup_id();
    bpf_ringbuf_output(&events, &event, sizeof(event), 0);
    return 0;
}

/// @description "Trace the processes that the kernel kills because memory has run out."
char LICENSE[] SEC("license") = "Dual MIT/GPL";
