// Each getpgid(2) of one process sends a burst of events and counts itself in maps. raw_tp attaches and
// detaches within microseconds and needs no tracefs.
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#define SYS_GETPGID 121

struct event {
    __u32 pid;
    __u32 seq;
    __u64 value;
    char comm[16];
};

const volatile __u32 target = 0;
__u32 burst = 1;
__u64 calls = 0;
__u64 bonus = 7;

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 64 * 1024);
} events SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 64);
    __type(key, __u32);
    __type(value, __u64);
} counts SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 2);
    __type(key, __u32);
    __type(value, __u32);
} per_cpu SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct event);
} last SEC(".maps");

static void send(__u32 pid, __u32 seq) {
    struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
    __u32 zero = 0;
    if (!event)
        return;
    event->pid = pid;
    event->seq = seq;
    event->value = bonus + seq;
    bpf_get_current_comm(event->comm, sizeof(event->comm));
    bpf_map_update_elem(&last, &zero, event, BPF_ANY);
    bpf_ringbuf_submit(event, 0);
}

SEC("raw_tp/sys_enter")
int on_call(struct bpf_raw_tracepoint_args *ctx) {
    __u32 pid = bpf_get_current_pid_tgid() >> 32, zero = 0;
    if (pid != target || ctx->args[1] != SYS_GETPGID)
        return 0;
    __u32 *count = bpf_map_lookup_elem(&per_cpu, &zero);
    if (count)
        ++*count;
    calls++;
    bpf_map_update_elem(&counts, &pid, &calls, BPF_ANY);
    for (__u32 i = 0; i < 1000 && i < burst; i++)
        send(pid, i);
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
