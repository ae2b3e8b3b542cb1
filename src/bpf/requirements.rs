//! What hooks, maps and programs require: a version of Linux, a kernel option, a capability.

use std::path::Path;

use super::constants::{KPROBES, map_type, prog_type};
use super::sys::object::{Object, ProgRef};
use crate::os;

/// A capability of capabilities(7): its bit and its name.
type Capability = (u32, &'static str);
const CAP_NET_ADMIN: Capability = (12, "CAP_NET_ADMIN");
const CAP_SYS_ADMIN: Capability = (21, "CAP_SYS_ADMIN");
const CAP_PERFMON: Capability = (38, "CAP_PERFMON");
const CAP_BPF: Capability = (39, "CAP_BPF");

/// A version of Linux.
type Version = (u32, u32);

/// The first kernel with the hooks of a section, if that is later than the oldest one that the library supports.
fn hook_since(section: &str) -> Option<Version> {
    const SINCE: [(&str, Version); 10] = [
        ("kprobe.multi", (5, 18)),
        ("kretprobe.multi", (5, 18)),
        ("kprobe.session", (6, 10)),
        ("uprobe.multi", (6, 6)),
        ("uretprobe.multi", (6, 6)),
        ("tcx", (6, 6)),
        ("tc/", (6, 6)), // tc is older
        ("netkit", (6, 7)),
        ("syscall", (5, 14)),
        ("sk_lookup", (5, 9)),
    ];
    if section.ends_with("_unix") {
        return Some((6, 7)); // of cgroups
    }
    SINCE.iter().find(|(hook, _)| section.starts_with(hook)).map(|(_, since)| *since)
}

/// The first kernel with a type of map, if that is later than the oldest one that the library supports.
fn map_since(map_kind: u32) -> Option<Version> {
    use map_type::*;
    const SINCE: [(u32, Version); 7] = [
        (RINGBUF, (5, 8)),
        (INODE_STORAGE, (5, 10)),
        (TASK_STORAGE, (5, 11)),
        (BLOOM_FILTER, (5, 16)),
        (USER_RINGBUF, (6, 1)),
        (CGRP_STORAGE, (6, 2)),
        (ARENA, (6, 9)),
    ];
    SINCE.iter().find(|(kind, _)| *kind == map_kind).map(|(_, since)| *since)
}

/// Whether hooks of the kind of `place` exist only on some kernels.
pub fn is_recent_hook(place: &str) -> bool {
    hook_since(place).is_some()
}

/// The version that a hook requires, if this kernel is older. Call it only after the kernel has refused the program, because
/// distributions backport hooks to older versions.
pub fn newer_for_hook(place: &str) -> Option<String> {
    newer(hook_since(place))
}

/// The version that a type of map requires, if this kernel is older.
pub fn newer_for_map(map_kind: u32) -> Option<String> {
    newer(map_since(map_kind))
}

fn newer(since: Option<Version>) -> Option<String> {
    let here = os::kernel_version()?;
    let (major, minor) = since.filter(|since| here < *since)?;
    Some(format!("it requires Linux {major}.{minor} or newer, and this is {}.{}", here.0, here.1))
}

/// Whether programs of a section need a target in the kernel's types.
pub fn needs_target(section: &str) -> bool {
    ["fentry", "fexit", "fmod_ret", "tp_btf", "lsm", "iter", "freplace"]
        .iter()
        .any(|kind| section.starts_with(kind))
}

/// Whether tracefs is mounted, which has a directory for each tracepoint.
pub fn has_tracefs() -> bool {
    let directories = ["/sys/kernel/tracing/events", "/sys/kernel/debug/tracing/events"];
    directories.into_iter().any(|path| Path::new(path).exists())
}

/// Whether the kernel has kprobes.
pub fn has_kprobes() -> bool {
    Path::new(KPROBES).exists()
}

/// The capabilities that a program requires and that this thread lacks, in words.
pub fn missing_for(prog: ProgRef<'_>) -> Option<String> {
    missing(&required(prog))
}

/// Names the capabilities that this thread lacks and that the maps, or any program to be loaded, require.
pub fn missing_for_all(object: &Object) -> Option<String> {
    let is_required = |capability: &Capability| {
        let mut progs = object.progs().filter(|prog| prog.autoload());
        *capability == CAP_BPF || progs.any(|prog| required(prog).contains(capability))
    };
    let all: Vec<_> = [CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN].into_iter().filter(is_required).collect();
    missing(&all)
}

/// Names what this thread lacks for attaching a program. Debian's kernels allow perf events only to processes with
/// CAP_SYS_ADMIN if `kernel.perf_event_paranoid` is 3, which is its default there; other kernels do not know this value.
pub fn missing_to_attach(prog: ProgRef<'_>) -> Option<String> {
    use prog_type::{KPROBE, PERF_EVENT, TRACEPOINT};
    let is_limited = || {
        let level = os::read_text("/proc/sys/kernel/perf_event_paranoid");
        let is_admin = os::capabilities() & (1 << CAP_SYS_ADMIN.0) != 0;
        [KPROBE, PERF_EVENT, TRACEPOINT].contains(&prog.kind())
            && !is_admin
            && level.is_ok_and(|level| level.trim().parse().is_ok_and(|level: i32| level > 2))
    };
    let perf_events = || "CAP_SYS_ADMIN or another limit: sysctl kernel.perf_event_paranoid=2".to_owned();
    missing_for(prog).or_else(|| is_limited().then(perf_events))
}

fn required(prog: ProgRef<'_>) -> Vec<Capability> {
    use prog_type::*;
    const TRACERS: [u32; 7] =
        [KPROBE, TRACEPOINT, PERF_EVENT, RAW_TRACEPOINT, RAW_TRACEPOINT_WRITABLE, TRACING, LSM];
    const NETWORK: [u32; 12] = [
        SCHED_CLS,
        SCHED_ACT,
        XDP,
        CGROUP_SKB,
        LWT_IN,
        LWT_OUT,
        LWT_XMIT,
        SOCK_OPS,
        SK_SKB,
        CGROUP_DEVICE,
        CGROUP_SOCK_ADDR,
        SK_LOOKUP,
    ];
    let more = match prog.kind() {
        kind if TRACERS.contains(&kind) => Some(CAP_PERFMON),
        kind if NETWORK.contains(&kind) => Some(CAP_NET_ADMIN),
        _ => None,
    };
    [CAP_BPF].into_iter().chain(more).collect()
}

/// Names the capabilities that the thread lacks. CAP_SYS_ADMIN includes CAP_BPF and CAP_PERFMON. In a user namespace below
/// the initial one, the kernel ignores capabilities for BPF.
fn missing(required: &[Capability]) -> Option<String> {
    let (held, how) = match os::in_initial_user_namespace() {
        true => (os::capabilities(), "(root has it)"),
        false => (0, "in the initial user namespace, and this process is in another one"),
    };
    let has = |(bit, _): Capability| held & (1 << bit) != 0;
    let is_included = |capability| capability != CAP_NET_ADMIN && has(CAP_SYS_ADMIN);
    let missing: Vec<_> =
        required.iter().filter(|&&c| !has(c) && !is_included(c)).map(|c| c.1.to_owned()).collect();
    (!missing.is_empty()).then(|| format!("{} {how}", missing.join(" and ")))
}
