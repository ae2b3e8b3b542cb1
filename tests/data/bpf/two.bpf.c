// Two ring buffers with records of different types. Each getpgid(2) of one process sends one record to each.
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#define SYS_GETPGID 121

struct first {
    __u32 one;
};

struct second {
    __u64 two;
    __u64 more;
};

__u32 target = 0;

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 4096);
    __type(value, struct first);
} firsts SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 4096);
    __type(value, struct second);
} seconds SEC(".maps");

SEC("raw_tp/sys_enter")
int on_call(struct bpf_raw_tracepoint_args *ctx) {
    struct first first = {1};
    struct second second = {2, 3};
    if (bpf_get_current_pid_tgid() >> 32 != target || ctx->args[1] != SYS_GETPGID)
        return 0;
    bpf_ringbuf_output(&firsts, &first, sizeof(first), 0);
    bpf_ringbuf_output(&seconds, &second, sizeof(second), 0);
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
