// Programs whose targets the user selects: the sections only name their types.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/usdt.bpf.h>

struct call {
    u64 time;
    u32 pid;
    char host[80];
};

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 1024);
    __type(key, u32);
    __type(value, struct call);
} starts SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
    __uint(key_size, sizeof(u32));
    __uint(value_size, sizeof(u32));
} calls SEC(".maps");

SEC("uprobe")
int BPF_UPROBE(called, const char *host) {
    u32 tid = bpf_get_current_pid_tgid();
    struct call call = {.time = bpf_ktime_get_ns(), .pid = bpf_get_current_pid_tgid() >> 32};

    bpf_probe_read_user_str(call.host, sizeof(call.host), host);
    bpf_map_update_elem(&starts, &tid, &call, BPF_ANY);
    return 0;
}

SEC("uretprobe")
int BPF_URETPROBE(returned) {
    u32 tid = bpf_get_current_pid_tgid();
    struct call *call = bpf_map_lookup_elem(&starts, &tid);

    if (!call)
        return 0;
    call->time = bpf_ktime_get_ns() - call->time;
    bpf_perf_event_output(ctx, &calls, BPF_F_CURRENT_CPU, call, sizeof(*call));
    bpf_map_delete_elem(&starts, &tid);
    return 0;
}

SEC("usdt")
int BPF_USDT(marked, int number) {
    return number;
}

SEC("kprobe/dummy_file_read")
int BPF_KPROBE(read_begins, struct kiocb *iocb) {
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
