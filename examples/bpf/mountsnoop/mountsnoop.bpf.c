#include "vmlinux.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "mountsnoop.h"

/// @description "trace only this process (0: all)"
/// @cmdarg {"short":"p", "long":"pid"}
const volatile pid_t targ_pid = 0;

struct mount_args {
    u64 ts;
    u64 flags;
    const char *fs;
    const char *src;
    const char *dest;
    const char *data;
    enum operation op;
};

// Arguments of pending calls, by thread.
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 10240);
    __type(key, u32);
    __type(value, struct mount_args);
} started SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 256 * 1024);
} events SEC(".maps");

static int on_enter(struct mount_args *args) {
    u64 id = bpf_get_current_pid_tgid();
    u32 tid = id;

    if (targ_pid && targ_pid != (pid_t)(id >> 32))
        return 0;
    args->ts = bpf_ktime_get_ns();
    bpf_map_update_elem(&started, &tid, args, BPF_ANY);
    return 0;
}

// A missing argument reads as an empty string.
static void read_text(char *text, u32 size, const char *arg) {
    text[0] = '\0';
    bpf_probe_read_user_str(text, size, arg);
}

static void report(struct mount_args *args, int ret) {
    struct task_struct *task = (struct task_struct *)bpf_get_current_task();
    struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

    if (!event)
        return;
    event->delta_ns = bpf_ktime_get_ns() - args->ts;
    event->flags = args->flags;
    event->pid = bpf_get_current_pid_tgid() >> 32;
    event->mnt_ns = BPF_CORE_READ(task, nsproxy, mnt_ns, ns.inum);
    event->ret = ret;
    event->op = args->op;
    bpf_get_current_comm(event->comm, sizeof(event->comm));
    read_text(event->fs, sizeof(event->fs), args->fs);
    read_text(event->src, sizeof(event->src), args->src);
    read_text(event->dest, sizeof(event->dest), args->dest);
    read_text(event->data, sizeof(event->data), args->data);
    bpf_ringbuf_submit(event, 0);
}

static int on_exit(int ret) {
    u32 tid = bpf_get_current_pid_tgid();
    struct mount_args *args = bpf_map_lookup_elem(&started, &tid);

    if (!args)
        return 0;
    report(args, ret);
    bpf_map_delete_elem(&started, &tid);
    return 0;
}

SEC("tracepoint/syscalls/sys_enter_mount")
int enter_mount(struct trace_event_raw_sys_enter *ctx) {
    struct mount_args args = {
        .op = MOUNT,
        .src = (const char *)ctx->args[0],
        .dest = (const char *)ctx->args[1],
        .fs = (const char *)ctx->args[2],
        .flags = ctx->args[3],
        .data = (const char *)ctx->args[4],
    };

    return on_enter(&args);
}

SEC("tracepoint/syscalls/sys_exit_mount")
int exit_mount(struct trace_event_raw_sys_exit *ctx) {
    return on_exit(ctx->ret);
}

SEC("tracepoint/syscalls/sys_enter_umount")
int enter_umount(struct trace_event_raw_sys_enter *ctx) {
    struct mount_args args = {
        .op = UMOUNT,
        .dest = (const char *)ctx->args[0],
        .flags = ctx->args[1],
    };

    return on_enter(&args);
}

SEC("tracepoint/syscalls/sys_exit_umount")
int exit_umount(struct trace_event_raw_sys_exit *ctx) {
    return on_exit(ctx->ret);
}

/// @description "Trace the system calls mount and umount."
char LICENSE[] SEC("license") = "Dual MIT/GPL";
