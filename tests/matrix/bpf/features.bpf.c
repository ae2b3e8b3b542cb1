// One program for each way to attach, all in one package. A program is loaded only on request, and counts how
// often it ran.
#include "vmlinux.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/usdt.bpf.h>

const volatile u32 wanted = 1; // settable before load
u64 hits = 0;
u32 tgid = 0; // of the process that runs, by the kernel's own types

static int hit(int answer) {
    __sync_fetch_and_add(&hits, wanted);
    return answer;
}

static int hit_by_task(int answer) {
    tgid = BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), tgid);
    return hit(answer);
}

#define FEATURE(name, section, answer)                                                                       \
    SEC("?" section) int name(void *ctx) {                                                                   \
        return hit(answer);                                                                                  \
    }
#define FEATURE_OF_TASKS(name, section)                                                                      \
    SEC("?" section) int name(void *ctx) {                                                                   \
        return hit_by_task(0);                                                                               \
    }

FEATURE_OF_TASKS(kprobe, "kprobe/vfs_read")
FEATURE_OF_TASKS(kretprobe, "kretprobe/vfs_read")
FEATURE_OF_TASKS(kprobe_multi, "kprobe.multi/vfs_read")
FEATURE_OF_TASKS(kprobe_session, "kprobe.session/vfs_read")
FEATURE_OF_TASKS(tracepoint, "tracepoint/syscalls/sys_enter_getpgid")
FEATURE_OF_TASKS(raw_tp, "raw_tp/sys_enter")
FEATURE_OF_TASKS(tp_btf, "tp_btf/sys_enter")
FEATURE_OF_TASKS(fentry, "fentry/vfs_read")
FEATURE_OF_TASKS(fexit, "fexit/vfs_read")
FEATURE_OF_TASKS(fmod_ret, "fmod_ret/security_inode_getattr")
FEATURE_OF_TASKS(lsm, "lsm/inode_getattr")
FEATURE_OF_TASKS(uprobe, "uprobe")
FEATURE_OF_TASKS(uretprobe, "uretprobe")
FEATURE_OF_TASKS(uprobe_multi, "uprobe.multi//lib/x86_64-linux-gnu/libc.so.6:getpgid")
FEATURE_OF_TASKS(usdt, "usdt")
FEATURE_OF_TASKS(perf_event, "perf_event")
FEATURE(xdp, "xdp", XDP_PASS)
FEATURE(tc, "tc", 0)
FEATURE(tcx, "tcx/ingress", -1)
FEATURE(netkit, "netkit/primary", -1)
FEATURE(cgroup_ingress, "cgroup_skb/ingress", 1)
FEATURE(cgroup_egress, "cgroup_skb/egress", 1)
FEATURE(cgroup_sock_create, "cgroup/sock_create", 1)
FEATURE(cgroup_sock_release, "cgroup/sock_release", 1)
FEATURE(cgroup_post_bind, "cgroup/post_bind4", 1)
FEATURE(cgroup_bind, "cgroup/bind4", 1)
FEATURE(cgroup_connect, "cgroup/connect4", 1)
FEATURE(cgroup_connect_unix, "cgroup/connect_unix", 1)
FEATURE(cgroup_sendmsg, "cgroup/sendmsg4", 1)
FEATURE(cgroup_recvmsg, "cgroup/recvmsg4", 1)
FEATURE(cgroup_getpeername, "cgroup/getpeername4", 1)
FEATURE(cgroup_getsockname, "cgroup/getsockname4", 1)
FEATURE(cgroup_getsockopt, "cgroup/getsockopt", 1)
FEATURE(cgroup_setsockopt, "cgroup/setsockopt", 1)
FEATURE(cgroup_sysctl, "cgroup/sysctl", 1)
FEATURE(cgroup_device, "cgroup/dev", 1)
FEATURE(sockops, "sockops", 1)
FEATURE(sk_lookup, "sk_lookup", 1)
FEATURE(sk_msg, "sk_msg", 1)
FEATURE(sk_skb, "sk_skb/stream_verdict", 1)
FEATURE(socket_filter, "socket", 0)
FEATURE(syscall, "syscall", 0)
FEATURE(freplace, "freplace/hit", 0)

SEC("?iter/task")
int iter(struct bpf_iter__task *ctx) {
    struct seq_file *seq = ctx->meta->seq;
    static const char line[] = "task\n";

    if (ctx->task)
        bpf_seq_write(seq, line, sizeof(line) - 1);
    return hit(0);
}

char LICENSE[] SEC("license") = "GPL";
