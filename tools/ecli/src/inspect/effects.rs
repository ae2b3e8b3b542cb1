//! What a program could do to the system, by what it calls and returns.

use std::collections::BTreeSet;

use super::code::Calls;
use super::names;

/// Helpers and kfuncs that do more than look, by the start of their names.
const BY_CALL: [(&str, &[&str]); 9] = [
    ("writes memory of processes", &["probe_write_user", "bpf_copy_to_user"]),
    ("reads memory of processes", &["probe_read_user", "copy_from_user", "bpf_copy_from_user"]),
    ("makes functions of the kernel fail or return something else", &["override_return"]),
    ("sends signals to processes", &["send_signal", "bpf_send_signal"]),
    (
        "changes packets",
        &[
            "skb_store_bytes",
            "skb_change_",
            "skb_adjust_room",
            "skb_vlan_",
            "skb_set_",
            "xdp_adjust_",
            "xdp_store_bytes",
            "msg_push_data",
            "msg_pop_data",
            "lwt_push_encap",
            "lwt_seg6_",
            "store_hdr_opt",
            "l3_csum_replace",
            "l4_csum_replace",
        ],
    ),
    (
        "sends packets elsewhere",
        &["redirect", "clone_redirect", "sk_redirect_", "msg_redirect_", "sk_assign"],
    ),
    (
        "changes sockets and settings of the network",
        &["setsockopt", "bind", "sock_destroy", "bpf_sock_destroy", "sk_release_cb", "sysctl_set_"],
    ),
    ("makes bpf system calls", &["sys_bpf", "sys_close", "btf_find_by_name_kind"]),
    ("writes to the kernel's trace log", &["trace_printk", "trace_vprintk"]),
];

/// How a result acts: the type of the program, what it means, and for which results.
type ByResult = (&'static str, &'static str, fn(i32) -> bool);

const BY_RESULT: [ByResult; 16] = [
    ("xdp", "drops packets", |result| !(2..=4).contains(&result)),
    ("xdp", "sends packets elsewhere", |result| matches!(result, 3 | 4)),
    ("sched_cls", "drops packets", |result| result == 2),
    ("sched_cls", "sends packets elsewhere", |result| result == 7),
    ("sched_act", "drops packets", |result| result == 2),
    ("cgroup_skb", "drops packets", |result| matches!(result, 0 | 2)),
    ("netfilter", "drops packets", |result| result == 0),
    ("sk_skb", "drops packets", |result| result == 0),
    ("sk_msg", "drops packets", |result| result == 0),
    ("sk_lookup", "refuses connections", |result| result == 0),
    ("cgroup_sock", "refuses sockets", |result| result == 0),
    ("cgroup_sock_addr", "refuses connections", |result| result == 0),
    ("cgroup_device", "refuses access to devices", |result| result == 0),
    ("cgroup_sysctl", "refuses access to settings (sysctl)", |result| result == 0),
    ("cgroup_sockopt", "refuses socket options", |result| result == 0),
    ("lsm", "denies operations", |result| result != 0),
];

/// What programs of a type do, whatever their code says.
const BY_TYPE: [(&str, &str); 2] = [
    ("struct_ops", "takes the place of an algorithm of the kernel"),
    ("ext", "takes the place of a function of another BPF program"),
];

/// What a program of this type could do, a line each. `section` is its section in the object.
pub fn of(program: &str, section: &str, calls: &Calls) -> Vec<String> {
    let mut effects = BTreeSet::new();
    let helpers = calls.helpers.iter().map(|helper| names::helper(*helper));
    let called: Vec<String> = helpers.chain(calls.kfuncs.iter().cloned()).collect();
    for (effect, starts) in BY_CALL {
        let acts = called.iter().any(|name| starts.iter().any(|start| name.starts_with(start)));
        if acts {
            effects.insert(effect.to_owned());
        }
    }
    for (kind, effect, acts) in BY_RESULT.iter().filter(|(kind, ..)| *kind == program) {
        let _ = kind;
        match &calls.returns {
            Some(results) if results.iter().any(|result| acts(*result)) => {
                effects.insert((*effect).to_owned())
            }
            Some(_) => false,
            None => effects.insert(format!("{effect} (perhaps: its result is computed)")),
        };
    }
    effects
        .extend(BY_TYPE.iter().filter(|(kind, _)| *kind == program).map(|(_, effect)| (*effect).to_owned()));
    let changes_result = section.starts_with("fmod_ret")
        && calls.returns.as_ref().is_none_or(|it| it.iter().any(|it| *it != 0));
    if changes_result {
        effects.insert("makes functions of the kernel fail or return something else".into());
    }
    effects.into_iter().collect()
}
