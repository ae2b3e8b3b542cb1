// Each getpgid(2) of one process sends a burst of records through a perf buffer.
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#define SYS_GETPGID 121

struct sent {
    __u32 pid;
    __u32 seq;
};

const volatile __u32 target = 0;
__u32 burst = 1;

struct {
    __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
    __uint(key_size, sizeof(__u32));
    __uint(value_size, sizeof(__u32));
} events SEC(".maps");

SEC("raw_tp/sys_enter")
int on_call(struct bpf_raw_tracepoint_args *ctx) {
    struct sent sent = {.pid = bpf_get_current_pid_tgid() >> 32};
    if (sent.pid != target || ctx->args[1] != SYS_GETPGID)
        return 0;
    for (__u32 i = 0; i < 1000 && i < burst; i++) {
        sent.seq = i;
        bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, &sent, sizeof(sent));
    }
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
