#include "vmlinux.h"

#include <bpf/bpf_helpers.h>

#include "sigsnoop.h"

/// @description "trace only signals sent by this process (0: all)"
/// @cmdarg {"short":"p", "long":"pid"}
const volatile pid_t filtered_pid = 0;

/// @description "trace only this signal (0: all)"
/// @cmdarg {"short":"s", "long":"signal"}
const volatile int target_signal = 0;

/// @description "trace only signals that could not be sent"
/// @cmdarg {"short":"x", "long":"failed"}
const volatile bool failed_only = false;

/// @description "trace only the system call kill"
/// @cmdarg {"short":"k", "long":"killed"}
const volatile bool kill_only = false;

struct kill_args {
    u32 tpid;
    int sig;
};

// Arguments of pending sends, by thread.
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 10240);
    __type(key, u32);
    __type(value, struct kill_args);
} started SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 256 * 1024);
} events SEC(".maps");

static int on_enter(u32 tpid, int sig) {
    u64 id = bpf_get_current_pid_tgid();
    struct kill_args args = {.tpid = tpid, .sig = sig};
    u32 tid = id;

    if (filtered_pid && filtered_pid != (pid_t)(id >> 32))
        return 0;
    if (target_signal && target_signal != sig)
        return 0;
    bpf_map_update_elem(&started, &tid, &args, BPF_ANY);
    return 0;
}

static void report(struct kill_args *args, int ret) {
    struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

    if (!event)
        return;
    event->pid = bpf_get_current_pid_tgid() >> 32;
    event->tpid = args->tpid;
    event->sig = args->sig;
    event->ret = ret;
    bpf_get_current_comm(event->comm, sizeof(event->comm));
    bpf_ringbuf_submit(event, 0);
}

static int on_exit(int ret) {
    u32 tid = bpf_get_current_pid_tgid();
    struct kill_args *args = bpf_map_lookup_elem(&started, &tid);

    if (!args)
        return 0;
    if (!failed_only || ret < 0)
        report(args, ret);
    bpf_map_delete_elem(&started, &tid);
    return 0;
}

SEC("tracepoint/syscalls/sys_enter_kill")
int enter_kill(struct trace_event_raw_sys_enter *ctx) {
    return on_enter(ctx->args[0], ctx->args[1]);
}

SEC("tracepoint/syscalls/sys_exit_kill")
int exit_kill(struct trace_event_raw_sys_exit *ctx) {
    return on_exit(ctx->ret);
}

SEC("tracepoint/syscalls/sys_enter_tkill")
int enter_tkill(struct trace_event_raw_sys_enter *ctx) {
    return kill_only ? 0 : on_enter(ctx->args[0], ctx->args[1]);
}

SEC("tracepoint/syscalls/sys_exit_tkill")
int exit_tkill(struct trace_event_raw_sys_exit *ctx) {
    return on_exit(ctx->ret);
}

SEC("tracepoint/syscalls/sys_enter_tgkill")
int enter_tgkill(struct trace_event_raw_sys_enter *ctx) {
    return kill_only ? 0 : on_enter(ctx->args[1], ctx->args[2]);
}

SEC("tracepoint/syscalls/sys_exit_tgkill")
int exit_tgkill(struct trace_event_raw_sys_exit *ctx) {
    return on_exit(ctx->ret);
}

/// @description "Trace the signals that processes send."
char LICENSE[] SEC("license") = "Dual MIT/GPL";
