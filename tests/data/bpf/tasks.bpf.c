// An iterator that writes one line for each task, and nothing to poll from.
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

struct task_struct {
    int pid;
} __attribute__((preserve_access_index));

struct bpf_iter_meta {
    struct seq_file *seq;
} __attribute__((preserve_access_index));

struct bpf_iter__task {
    struct bpf_iter_meta *meta;
    struct task_struct *task;
} __attribute__((preserve_access_index));

SEC("iter/task")
int tasks(struct bpf_iter__task *ctx) {
    static const char format[] = "pid %d\n";
    struct task_struct *task = ctx->task;
    if (!task)
        return 0;
    __u64 pid = task->pid;
    bpf_seq_printf(ctx->meta->seq, format, sizeof(format), &pid, sizeof(pid));
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
