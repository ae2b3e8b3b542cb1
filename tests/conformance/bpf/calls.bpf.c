// Each getpgid(2) of one process sends a burst of events. Their content is the same on every machine and for
// every process, so that a table can specify it. NEXT: its second version, see next.bpf.c.
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#define SYS_GETPGID 121

enum mode { MODE_OFF, MODE_ON = 5 };

struct pair {
    __s32 left;
    __u16 right;
};

struct event {
    __u32 seq;
    enum mode mode;
    __u64 value;
    char text[8];
#ifdef NEXT
    __u32 more;
#endif
};

/// @cmdarg {"short": "t"}
const volatile __u32 target = 0;
const volatile __u32 limit = 100;
__u32 burst = 1;
__u64 bonus = 7;
__u16 small = 16;
_Bool flag = 0;
char text[8] = "hello";
enum mode mode = MODE_ON;
struct pair pair = {-3, 4};
__s32 list[3] = {1, 2, 3};

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 64 * 1024);
    __type(value, struct event);
} events SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 8);
    __type(key, __u32);
    __type(value, __u64);
} counts SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 2);
    __type(key, __u32);
    __type(value, struct pair);
} pairs SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u32);
} per_cpu SEC(".maps");

static void send(__u32 seq) {
    struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
    if (!event)
        return;
    event->seq = seq;
    event->mode = mode;
    event->value = bonus + seq;
    __builtin_memcpy(event->text, text, sizeof(text));
#ifdef NEXT
    event->more = 9;
#endif
    bpf_ringbuf_submit(event, 0);
}

SEC("raw_tp/sys_enter")
int on_call(struct bpf_raw_tracepoint_args *ctx) {
    __u32 pid = bpf_get_current_pid_tgid() >> 32;
    if (pid != target || ctx->args[1] != SYS_GETPGID)
        return 0;
    for (__u32 i = 0; i < 1000 && i < burst && i < limit; i++)
        send(i);
    return 0;
}

#ifdef NEXT
SEC("raw_tp/sched_process_exit")
int on_exit(void *ctx) {
    return 0;
}
#else
SEC("raw_tp/sys_exit")
int on_return(void *ctx) {
    return 0;
}
#endif

/// @description "Sends a burst of events for each getpgid of a process"
char LICENSE[] SEC("license") = "GPL";
