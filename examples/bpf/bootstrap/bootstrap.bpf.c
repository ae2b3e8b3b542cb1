#include "vmlinux.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "bootstrap.h"

/// @description "report only the exits of processes that ran at least this many nanoseconds (0: report all)"
const volatile unsigned long long min_duration_ns = 0;

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 8192);
    __type(key, pid_t);
    __type(value, u64);
} exec_time SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 256 * 1024);
} events SEC(".maps");

// Reserves an event and sets the members that exec and exit share.
static struct event *begin_event(pid_t pid) {
    struct task_struct *task = (struct task_struct *)bpf_get_current_task();
    struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

    if (!event)
        return NULL;
    event->pid = pid;
    event->ppid = BPF_CORE_READ(task, real_parent, tgid);
    event->exit_code = 0;
    event->duration_ns = 0;
    event->filename[0] = '\0';
    bpf_get_current_comm(event->comm, sizeof(event->comm));
    return event;
}

SEC("tp/sched/sched_process_exec")
int handle_exec(struct trace_event_raw_sched_process_exec *ctx) {
    pid_t pid = bpf_get_current_pid_tgid() >> 32;
    u64 now = bpf_ktime_get_ns();
    struct event *event;

    bpf_map_update_elem(&exec_time, &pid, &now, BPF_ANY);
    if (min_duration_ns)
        return 0;

    event = begin_event(pid);
    if (!event)
        return 0;
    event->exit_event = false;
    // The lower half of a __data_loc field is the offset of the string within the record.
    bpf_probe_read_kernel_str(event->filename, sizeof(event->filename),
                              (void *)ctx + (ctx->__data_loc_filename & 0xffff));
    bpf_ringbuf_submit(event, 0);
    return 0;
}

SEC("tp/sched/sched_process_exit")
int handle_exit(void *ctx) {
    struct task_struct *task = (struct task_struct *)bpf_get_current_task();
    u64 id = bpf_get_current_pid_tgid();
    pid_t pid = id >> 32;
    u64 duration_ns = 0;
    struct event *event;
    u64 *start;

    // The tracepoint fires for every thread; report only the main thread.
    if (pid != (pid_t)id)
        return 0;

    start = bpf_map_lookup_elem(&exec_time, &pid);
    if (start) {
        duration_ns = bpf_ktime_get_ns() - *start;
        bpf_map_delete_elem(&exec_time, &pid);
    }
    if (duration_ns < min_duration_ns)
        return 0;

    event = begin_event(pid);
    if (!event)
        return 0;
    event->exit_event = true;
    event->duration_ns = duration_ns;
    event->exit_code = (BPF_CORE_READ(task, exit_code) >> 8) & 0xff;
    bpf_ringbuf_submit(event, 0);
    return 0;
}

/// @description "Trace the start and exit of processes."
char LICENSE[] SEC("license") = "Dual MIT/GPL";
