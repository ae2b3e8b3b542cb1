//! What the results of programs do, by their type and what they attach to.
//!
//! For each type the results that are known to be harmless are listed; whatever else a program can return is named.

use std::collections::BTreeSet;

use crate::calls::Program;
use crate::names;

pub(crate) const REDIRECTS: &str = "sends packets elsewhere";
const DROPS: &str = "drops packets";
const TAKES: &str = "takes packets from their way";
const DENIES: &str = "denies operations";
const REFUSES_CONNECTIONS: &str = "refuses connections";
const REFUSES_SOCKETS: &str = "refuses sockets";
const CHANGES_RESULTS: &str = "makes functions of the kernel fail or return something else";

/// BPF_MODIFY_RETURN, BPF_LSM_CGROUP and BPF_SK_SKB_STREAM_PARSER of `enum bpf_attach_type`.
const MODIFY_RETURN: u32 = 26;
const LSM_CGROUP: u32 = 43;
const STREAM_PARSER: u32 = 4;
/// BPF_CGROUP_INET_EGRESS: only there a program can return more than 1.
const EGRESS: u32 = 1;

/// What a result does: nothing to be named, or this.
type Rule = fn(i32) -> Option<&'static str>;

/// The rule of a type of program, and the results that show all that it names.
enum Results {
    /// The kernel takes no notice of them, or only the program's own events are at stake.
    Harmless,
    /// By this rule; the samples bring out each of its effects.
    Acts(Rule, &'static [i32]),
    /// Whatever the results are, it does this.
    Always(&'static str),
}

fn of(program: &Program) -> Option<Results> {
    use Results::{Acts, Always, Harmless};
    const BITS: &[i32] = &[0, 3];
    let results = match names::program(program.kind).as_str() {
        "kprobe"
        | "tracepoint"
        | "perf_event"
        | "raw_tracepoint"
        | "raw_tracepoint_writable"
        | "lirc_mode2"
        | "syscall" => Harmless,
        // Results that say to do as without the program.
        "sock_ops" => Harmless,
        "socket_filter" => {
            Acts(|it| if it == -1 { None } else { Some("drops or cuts packets for its socket") }, &[0])
        }
        "sched_cls" | "sched_act" => Acts(traffic_control, &[1, 2, 4, 7]),
        "xdp" => Acts(xdp, &[1, 3]),
        "cgroup_skb" => Acts(
            |it| match it {
                1 => None,
                3 => Some("slows senders down"),
                _ => Some(DROPS),
            },
            if program.attach_type == EGRESS { BITS } else { &[0] },
        ),
        "cgroup_sock" => Acts(|it| is_even(it).then_some(REFUSES_SOCKETS), BITS),
        "cgroup_sock_addr" => Acts(
            |it| match it {
                1 => None,
                3 => Some("lets processes use ports that need privileges"),
                _ => Some(REFUSES_CONNECTIONS),
            },
            BITS,
        ),
        "cgroup_device" => Acts(|it| is_even(it).then_some("refuses access to devices"), BITS),
        "cgroup_sysctl" => Acts(|it| is_even(it).then_some("refuses access to settings (sysctl)"), BITS),
        "cgroup_sockopt" => Acts(|it| is_even(it).then_some("refuses socket options"), BITS),
        "lwt_in" | "lwt_out" | "lwt_xmit" | "lwt_seg6local" => Acts(
            |it| match it {
                0 => None,
                7 | 128 => Some(REDIRECTS),
                _ => Some(DROPS),
            },
            &[2, 7],
        ),
        "sk_skb" if program.attach_type == STREAM_PARSER => Always("decides where messages of sockets end"),
        "sk_skb" => Acts(|it| if it == 1 { None } else { Some(DROPS) }, &[0]),
        "sk_msg" => Acts(|it| if it == 1 { None } else { Some(DROPS) }, &[0]),
        "sk_reuseport" | "sk_lookup" => {
            Acts(|it| if it == 1 { None } else { Some(REFUSES_CONNECTIONS) }, &[0])
        }
        "netfilter" => Acts(|it| if it == 1 { None } else { Some(DROPS) }, &[0]),
        "flow_dissector" => Always("takes the place of the kernel's reading of packet headers"),
        "struct_ops" => Always("takes the place of an algorithm of the kernel"),
        "ext" => Always("takes the place of a function of another BPF program"),
        "tracing" if program.attach_type == MODIFY_RETURN => {
            Acts(|it| if it == 0 { None } else { Some(CHANGES_RESULTS) }, &[1])
        }
        "tracing" => Harmless,
        "lsm" if program.attach_type == LSM_CGROUP => Acts(|it| is_even(it).then_some(DENIES), BITS),
        "lsm" => Acts(|it| if it == 0 { None } else { Some(DENIES) }, &[1]),
        _ => return None,
    };
    Some(results)
}

/// Of several programs of a group each has to return an odd number.
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

/// Results of TC_ACT_*; what is left to the next filter or action is harmless.
fn traffic_control(result: i32) -> Option<&'static str> {
    match result {
        -1 | 0 | 3 => None,
        2 => Some(DROPS),
        7 => Some(REDIRECTS),
        4 | 5 | 8 => Some(TAKES),
        _ => Some("sorts packets into classes"),
    }
}

/// What a program does by its results; `None` if they can be anything.
pub(crate) fn effects(program: &Program, results: Option<&BTreeSet<i32>>) -> BTreeSet<String> {
    let Some(rule) = of(program) else {
        let name = names::program(program.kind);
        return BTreeSet::from([format!("other: what programs of the type {name} do")]);
    };
    match (rule, results) {
        (Results::Harmless, _) => BTreeSet::new(),
        (Results::Always(effect), _) => BTreeSet::from([effect.to_owned()]),
        (Results::Acts(rule, _), Some(results)) => {
            results.iter().filter_map(|result| rule(*result)).map(str::to_owned).collect()
        }
        (Results::Acts(rule, samples), None) => {
            let effects = samples.iter().filter_map(|result| rule(*result));
            effects.map(|effect| format!("{effect} (perhaps: its result is computed)")).collect()
        }
    }
}
