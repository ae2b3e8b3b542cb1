//! Privileges: which are missing, and which are not needed once the programs are attached.

use std::collections::HashSet;

use caps::{CapSet, Capability};
use eunomia::{Error, Status, Vm};

use crate::error::{Code, Failure};
use crate::symbols;

/// `BPF_PROG_TYPE_SCHED_CLS` and `BPF_PROG_TYPE_SCHED_ACT`: letting go of them is a request to the network stack.
const NET_PROGRAMS: [u32; 2] = [3, 4];

/// Gives up all privileges of this thread but those that reading maps, detaching and naming the functions on stacks take.
/// For the kernel before 5.8, which has no CAP_BPF, that is CAP_SYS_ADMIN.
pub fn give_up(vm: &Vm, has_stacks: bool) {
    let programs = (0..vm.prog_count().unwrap_or(0)).filter_map(|index| vm.prog_at(index).ok());
    let is_net = programs.into_iter().any(|prog| NET_PROGRAMS.contains(&prog.kind));
    let bpf = if caps::runtime::thread_all_supported().contains(&Capability::CAP_BPF) {
        Capability::CAP_BPF
    } else {
        Capability::CAP_SYS_ADMIN
    };
    let mut needed = HashSet::from([bpf]);
    if is_net {
        needed.insert(Capability::CAP_NET_ADMIN);
    }
    if has_stacks {
        needed.extend(symbols::PRIVILEGES);
    }
    keep(&needed);
}

/// Gives up all privileges of this thread.
pub fn give_up_all() {
    keep(&HashSet::new());
}

/// A privilege that cannot be given up does no harm beyond being there.
fn keep(needed: &HashSet<Capability>) {
    let Ok(permitted) = caps::read(None, CapSet::Permitted) else { return };
    let kept = permitted.intersection(needed).copied().collect();
    for set in [CapSet::Effective, CapSet::Permitted] {
        let _ = caps::set(None, set, &kept);
    }
}

/// The error of loading or attaching, and what a user without privileges can do about it.
pub fn explain(error: Error) -> Failure {
    let (is_denied, is_unreadable) = (error.status == Status::Perm, error.errno == EACCES);
    let failure = Failure::from(error);
    let missing = missing();
    if is_denied && !missing.is_empty() {
        let missing = missing.join(", ");
        let text = format!("{}; missing here: {missing}; run it as root, or see ecli doctor", failure.text());
        return Failure::new(Code::Privilege, text);
    }
    if is_unreadable && std::fs::read_dir(TRACEFS).is_err() {
        let text = format!("{}; {TRACEFS} is not readable: CAP_DAC_READ_SEARCH is missing", failure.text());
        return Failure::new(Code::Privilege, text);
    }
    failure
}

/// Permission denied, for files.
const EACCES: i32 = 13;
/// Where the kernel has its tracepoints.
pub const TRACEFS: &str = "/sys/kernel/tracing";

/// Of the privileges that loading programs takes, those that this process does not have.
pub fn missing() -> Vec<&'static str> {
    if is_admin() {
        return Vec::new();
    }
    let wanted = [(Capability::CAP_BPF, "CAP_BPF"), (Capability::CAP_PERFMON, "CAP_PERFMON")];
    wanted.into_iter().filter(|(cap, _)| !has(*cap)).map(|(_, name)| name).collect()
}

/// Whether CAP_SYS_ADMIN stands in for the others.
pub fn is_admin() -> bool {
    has(Capability::CAP_SYS_ADMIN)
}

/// The privileges that count here, of those that this process has.
pub fn describe() -> String {
    let counted =
        [Capability::CAP_SYS_ADMIN, Capability::CAP_BPF, Capability::CAP_PERFMON, Capability::CAP_NET_ADMIN];
    counted.iter().filter(|cap| has(**cap)).map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn has(cap: Capability) -> bool {
    caps::has_cap(None, CapSet::Effective, cap).unwrap_or(false)
}
