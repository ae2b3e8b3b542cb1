#include "vmlinux.h"

#include <bpf/bpf_helpers.h>

#include "opensnoop.h"

/// @description "trace only this process (0: all)"
/// @cmdarg {"short":"p", "long":"pid"}
const volatile pid_t targ_pid = 0;

/// @description "trace only failed events"
/// @cmdarg {"short":"f", "long":"failed"}
const volatile bool targ_failed = false;

struct open_args {
    const char *fname;
    int flags;
};

// Arguments of pending opens, by thread.
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 10240);
    __type(key, u32);
    __type(value, struct open_args);
} started SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
    __uint(key_size, sizeof(u32));
    __uint(value_size, sizeof(u32));
} events SEC(".maps");

static int on_enter(const char *fname, int flags) {
    u64 id = bpf_get_current_pid_tgid();
    struct open_args args = {.fname = fname, .flags = flags};
    u32 tid = id;

    if (targ_pid && targ_pid != (pid_t)(id >> 32))
        return 0;
    bpf_map_update_elem(&started, &tid, &args, BPF_ANY);
    return 0;
}

static int on_exit(struct trace_event_raw_sys_exit *ctx) {
    u64 id = bpf_get_current_pid_tgid();
    u32 tid = id;
    struct open_args *args = bpf_map_lookup_elem(&started, &tid);
    struct event event = {};

    if (!args)
        return 0;
    if (!targ_failed || ctx->ret < 0) {
        event.ts = bpf_ktime_get_ns();
        event.pid = id >> 32;
        event.uid = bpf_get_current_uid_gid();
        event.ret = ctx->ret;
        event.flags = args->flags;
        bpf_get_current_comm(event.comm, sizeof(event.comm));
        bpf_probe_read_user_str(event.fname, sizeof(event.fname), args->fname);
        bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, &event, sizeof(event));
    }
    bpf_map_delete_elem(&started, &tid);
    return 0;
}

SEC("tracepoint/syscalls/sys_enter_open")
int enter_open(struct trace_event_raw_sys_enter *ctx) {
    return on_enter((const char *)ctx->args[0], ctx->args[1]);
}

SEC("tracepoint/syscalls/sys_enter_openat")
int enter_openat(struct trace_event_raw_sys_enter *ctx) {
    return on_enter((const char *)ctx->args[1], ctx->args[2]);
}

SEC("tracepoint/syscalls/sys_exit_open")
int exit_open(struct trace_event_raw_sys_exit *ctx) {
    return on_exit(ctx);
}

SEC("tracepoint/syscalls/sys_exit_openat")
int exit_openat(struct trace_event_raw_sys_exit *ctx) {
    return on_exit(ctx);
}

/// @description "Trace open family syscalls."
char LICENSE[] SEC("license") = "Dual MIT/GPL";
