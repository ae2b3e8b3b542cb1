//! The effects of writes to the context and through pointers, by program type.

use crate::findings::Program;
use crate::names;

pub(crate) const CHANGES_PACKETS: &str = "changes packets";
const CHANGES_OPTIONS: &str = "changes socket options";

/// BPF_TRACE_ITER of `enum bpf_attach_type`.
const ITERATOR: u32 = 28;

/// The effect of writing to the context; `None` if there is none.
pub(crate) fn context(program: &Program) -> Option<&'static str> {
    let effect = match names::program(program.kind).as_str() {
        "socket_filter" | "sched_cls" | "sched_act" | "xdp" | "cgroup_skb" | "lwt_in" | "lwt_out"
        | "lwt_xmit" | "lwt_seg6local" | "sk_skb" | "sk_msg" => CHANGES_PACKETS,
        "cgroup_sock" => "changes sockets and network settings",
        "cgroup_sock_addr" => "changes addresses of connections",
        "sock_ops" => "changes how TCP connections work",
        "cgroup_sysctl" => "changes settings (sysctl)",
        "cgroup_sockopt" => CHANGES_OPTIONS,
        "kprobe" => "changes registers of the traced code",
        "raw_tracepoint_writable" => "changes arguments of tracepoints",
        // The context belongs to the process that runs the program.
        "syscall" => return None,
        _ => "other: writes to its context",
    };
    Some(effect)
}

/// The effect of writing through pointers from the context or the kernel; `None` if the kernel does not allow it.
pub(crate) fn foreign(program: &Program) -> Option<&'static str> {
    let effect = match names::program(program.kind).as_str() {
        "sched_cls" | "sched_act" | "xdp" | "lwt_xmit" | "sk_skb" | "sk_msg" | "socket_filter"
        | "cgroup_skb" | "lwt_in" | "lwt_out" | "lwt_seg6local" => CHANGES_PACKETS,
        "cgroup_sockopt" => CHANGES_OPTIONS,
        "raw_tracepoint_writable" => "changes arguments of tracepoints",
        "tracing" if program.attach_type == ITERATOR => "changes elements of maps of other programs",
        // Reported for all programs of these types.
        "struct_ops" | "ext" | "flow_dissector" => return None,
        "kprobe" | "tracepoint" | "perf_event" | "raw_tracepoint" | "tracing" | "lsm" | "syscall"
        | "lirc_mode2" | "cgroup_sock" | "cgroup_device" | "cgroup_sock_addr" | "cgroup_sysctl"
        | "sock_ops" | "sk_reuseport" | "sk_lookup" | "netfilter" => return None,
        _ => "other: writes to memory of the kernel",
    };
    Some(effect)
}

/// Whether programs of a type access packets.
pub(crate) fn has_packets(kind: u32) -> bool {
    let program = Program { kind, attach_type: 0 };
    foreign(&program) == Some(CHANGES_PACKETS) || names::program(kind) == "netfilter"
}
