//! What programs change by writing to their context and to what it points to, by their type.

use crate::calls::Program;
use crate::names;

pub(crate) const CHANGES_PACKETS: &str = "changes packets";
const CHANGES_OPTIONS: &str = "changes socket options";

/// BPF_TRACE_ITER of `enum bpf_attach_type`.
const ITERATOR: u32 = 28;

/// What a program changes by writing to its context; `None`: nothing but its own results.
pub(crate) fn context(program: &Program) -> Option<&'static str> {
    let effect = match names::program(program.kind).as_str() {
        "socket_filter" | "sched_cls" | "sched_act" | "xdp" | "cgroup_skb" | "lwt_in" | "lwt_out"
        | "lwt_xmit" | "lwt_seg6local" | "sk_skb" | "sk_msg" => CHANGES_PACKETS,
        "cgroup_sock" => "changes sockets and settings of the network",
        "cgroup_sock_addr" => "changes addresses of connections",
        "sock_ops" => "changes how TCP connections work",
        "cgroup_sysctl" => "changes settings (sysctl)",
        "cgroup_sockopt" => CHANGES_OPTIONS,
        "kprobe" => "changes registers of the code that it interrupts",
        "raw_tracepoint_writable" => "changes what a tracepoint hands on",
        // It belongs to the process that runs the program.
        "syscall" => return None,
        _ => "other: writes to its context",
    };
    Some(effect)
}

/// What a program changes by writing through pointers that its context or the kernel gave it; `None`: the kernel lets it
/// write to nothing of others.
pub(crate) fn foreign(program: &Program) -> Option<&'static str> {
    let effect = match names::program(program.kind).as_str() {
        "sched_cls" | "sched_act" | "xdp" | "lwt_xmit" | "sk_skb" | "sk_msg" | "socket_filter"
        | "cgroup_skb" | "lwt_in" | "lwt_out" | "lwt_seg6local" => CHANGES_PACKETS,
        "cgroup_sockopt" => CHANGES_OPTIONS,
        "raw_tracepoint_writable" => "changes what a tracepoint hands on",
        "tracing" if program.attach_type == ITERATOR => "changes elements of maps of other programs",
        // Said of all of their type already.
        "struct_ops" | "ext" | "flow_dissector" => return None,
        "kprobe" | "tracepoint" | "perf_event" | "raw_tracepoint" | "tracing" | "lsm" | "syscall"
        | "lirc_mode2" | "cgroup_sock" | "cgroup_device" | "cgroup_sock_addr" | "cgroup_sysctl"
        | "sock_ops" | "sk_reuseport" | "sk_lookup" | "netfilter" => return None,
        _ => "other: writes to what is not its own",
    };
    Some(effect)
}

/// Whether programs of a type have packets in their hands.
pub(crate) fn has_packets(kind: u32) -> bool {
    let program = Program { kind, attach_type: 0 };
    foreign(&program) == Some(CHANGES_PACKETS) || names::program(kind) == "netfilter"
}
