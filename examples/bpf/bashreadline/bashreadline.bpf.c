#include "vmlinux.h"

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "bashreadline.h"

/// @description "trace only this process (0: all)"
/// @cmdarg {"short":"p", "long":"pid"}
const volatile pid_t targ_pid = 0;

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 256 * 1024);
} events SEC(".maps");

// If bash is linked to libreadline, set the target's path to that library.
SEC("uretprobe//bin/bash:readline")
int BPF_KRETPROBE(exit_readline, const char *line) {
    pid_t pid = bpf_get_current_pid_tgid() >> 32;
    struct event *event;

    // A null pointer means end of input.
    if (!line || (targ_pid && targ_pid != pid))
        return 0;

    event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
    if (!event)
        return 0;
    event->pid = pid;
    event->line[0] = '\0';
    bpf_get_current_comm(event->comm, sizeof(event->comm));
    bpf_probe_read_user_str(event->line, sizeof(event->line), line);
    bpf_ringbuf_submit(event, 0);
    return 0;
}

/// @description "Print the lines that are typed into any bash."
char LICENSE[] SEC("license") = "Dual MIT/GPL";
