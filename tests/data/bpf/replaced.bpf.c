// Two versions of a package, VERSION 1 and 2. Each getsockopt(2) of level 0x1234 in its control group sends
// an event, which has one member more in version 2. The kernel can update the link of such a program.
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#define LEVEL 0x1234

struct event {
#if VERSION == 2
    __u64 more;
#endif
    __u32 seq;
    __u32 version;
};

const volatile __u32 wanted = 0;
__u32 version = VERSION;

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 64 * 1024);
    __type(value, struct event);
} events SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 64);
    __type(key, __u32);
    __type(value, __u64);
} kept SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 64 * VERSION);
    __type(key, __u32);
    __type(value, __u64);
} resized SEC(".maps");

SEC("cgroup/getsockopt")
int on_call(struct bpf_sockopt *ctx) {
    __u32 key = 0;
    __u64 *entry = bpf_map_lookup_elem(&kept, &key);
    struct event event = {.seq = ctx->optname, .version = VERSION};
    if (ctx->level != LEVEL || wanted != 1)
        return 1;
    if (entry)
        *entry += 1;
    bpf_ringbuf_output(&events, &event, sizeof(event), 0);
    return 1;
}

char LICENSE[] SEC("license") = "GPL";
