//! The effects of the results of programs, by program type and attach type.
//!
//! This file lists the harmless results of each type. Any other result has an effect.

use std::collections::BTreeSet;

use crate::findings::Program;
use crate::names;

pub(crate) const REDIRECTS: &str = "redirects packets";
const DROPS: &str = "drops packets";
const STEALS: &str = "takes packets from the network stack";
const DENIES: &str = "denies operations";
const REFUSES_CONNECTIONS: &str = "refuses connections";
const REFUSES_SOCKETS: &str = "refuses sockets";
const CHANGES_RESULTS: &str = "overrides results of kernel functions";

/// BPF_MODIFY_RETURN, BPF_LSM_CGROUP and BPF_SK_SKB_STREAM_PARSER of `enum bpf_attach_type`.
const MODIFY_RETURN: u32 = 26;
const LSM_CGROUP: u32 = 43;
const STREAM_PARSER: u32 = 4;
/// BPF_CGROUP_INET_EGRESS. Only programs of this attach type can return more than 1.
const EGRESS: u32 = 1;

/// The effect of a result; `None` if it is harmless.
type Rule = fn(i32) -> Option<&'static str>;

/// The effects of the results of one type of program.
enum Results {
    /// The kernel ignores the result, or it affects only the events of the program.
    Harmless,
    /// The effect depends on the result. The samples cover all effects.
    ByRule(Rule, &'static [i32]),
    /// Any result has this effect.
    Always(&'static str),
}

fn of(program: &Program) -> Option<Results> {
    use Results::{Always, ByRule, Harmless};
    const BITS: &[i32] = &[0, 3];
    let results = match names::program(program.kind).as_str() {
        "kprobe"
        | "tracepoint"
        | "perf_event"
        | "raw_tracepoint"
        | "raw_tracepoint_writable"
        | "lirc_mode2"
        | "syscall" => Harmless,
        // Any result continues as without the program.
        "sock_ops" => Harmless,
        "socket_filter" => {
            ByRule(|it| if it == -1 { None } else { Some("drops or cuts packets for its socket") }, &[0])
        }
        "sched_cls" | "sched_act" => ByRule(traffic_control, &[1, 2, 4, 7]),
        "xdp" => ByRule(xdp, &[1, 3]),
        "cgroup_skb" => ByRule(
            |it| match it {
                1 => None,
                3 => Some("throttles senders"),
                _ => Some(DROPS),
            },
            if program.attach_type == EGRESS { BITS } else { &[0] },
        ),
        "cgroup_sock" => ByRule(|it| is_even(it).then_some(REFUSES_SOCKETS), BITS),
        "cgroup_sock_addr" => ByRule(
            |it| match it {
                1 => None,
                3 => Some("allows binding to privileged ports"),
                _ => Some(REFUSES_CONNECTIONS),
            },
            BITS,
        ),
        "cgroup_device" => ByRule(|it| is_even(it).then_some("refuses access to devices"), BITS),
        "cgroup_sysctl" => ByRule(|it| is_even(it).then_some("refuses access to settings (sysctl)"), BITS),
        "cgroup_sockopt" => ByRule(|it| is_even(it).then_some("refuses socket options"), BITS),
        "lwt_in" | "lwt_out" | "lwt_xmit" | "lwt_seg6local" => ByRule(
            |it| match it {
                0 => None,
                7 | 128 => Some(REDIRECTS),
                _ => Some(DROPS),
            },
            &[2, 7],
        ),
        "sk_skb" if program.attach_type == STREAM_PARSER => {
            Always("decides where messages in a socket stream end")
        }
        "sk_skb" => ByRule(|it| if it == 1 { None } else { Some(DROPS) }, &[0]),
        "sk_msg" => ByRule(|it| if it == 1 { None } else { Some(DROPS) }, &[0]),
        "sk_reuseport" | "sk_lookup" => {
            ByRule(|it| if it == 1 { None } else { Some(REFUSES_CONNECTIONS) }, &[0])
        }
        "netfilter" => ByRule(|it| if it == 1 { None } else { Some(DROPS) }, &[0]),
        "flow_dissector" => Always("replaces the flow dissector of the kernel"),
        "struct_ops" => Always("replaces kernel operations"),
        "ext" => Always("replaces a function of another BPF program"),
        "tracing" if program.attach_type == MODIFY_RETURN => {
            ByRule(|it| if it == 0 { None } else { Some(CHANGES_RESULTS) }, &[1])
        }
        "tracing" => Harmless,
        "lsm" if program.attach_type == LSM_CGROUP => ByRule(|it| is_even(it).then_some(DENIES), BITS),
        "lsm" => ByRule(|it| if it == 0 { None } else { Some(DENIES) }, &[1]),
        _ => return None,
    };
    Some(results)
}

/// All programs of a cgroup must return an odd number to allow an operation.
fn is_even(result: i32) -> bool {
    result & 1 == 0
}

fn xdp(result: i32) -> Option<&'static str> {
    match result {
        2 => None,
        3 | 4 => Some(REDIRECTS),
        _ => Some(DROPS),
    }
}

/// TC_ACT_* results. Continuing with the next filter or action is harmless.
fn traffic_control(result: i32) -> Option<&'static str> {
    match result {
        -1 | 0 | 3 => None,
        2 => Some(DROPS),
        7 => Some(REDIRECTS),
        4 | 5 | 8 => Some(STEALS),
        _ => Some("classifies packets"),
    }
}

/// The effects of the results of a program; `None` means any result.
pub(crate) fn effects(program: &Program, results: Option<&BTreeSet<i32>>) -> BTreeSet<String> {
    let Some(rule) = of(program) else {
        let name = names::program(program.kind);
        return BTreeSet::from([format!("other: effects of program type {name}")]);
    };
    match (rule, results) {
        (Results::Harmless, _) => BTreeSet::new(),
        (Results::Always(effect), _) => BTreeSet::from([effect.to_owned()]),
        (Results::ByRule(rule, _), Some(results)) => {
            results.iter().filter_map(|result| rule(*result)).map(str::to_owned).collect()
        }
        (Results::ByRule(rule, samples), None) => {
            let effects = samples.iter().filter_map(|result| rule(*result));
            effects.map(|effect| format!("{effect} (possibly: its result is computed)")).collect()
        }
    }
}
