//! Privileges: reports missing ones, and drops those that are not needed after attaching.

use std::collections::HashSet;

use caps::{CapSet, Capability};
use eunomia::internal::constants::prog_type;
use eunomia::{Error, Status, Vm};
use eunomia_agent::loader::privileges;

use crate::error::{Code, Failure};

/// Program types whose detaching is a request to the network stack.
const NET_PROGRAMS: [u32; 2] = [prog_type::SCHED_CLS, prog_type::SCHED_ACT];

/// Drops all privileges of this thread and of the threads that it starts, except those for reading maps, detaching and
/// looking up symbols. Before Linux 5.8, which has no CAP_BPF, CAP_SYS_ADMIN is kept. Other threads keep their privileges,
/// so call this before any thread is started.
pub fn drop_unneeded(vm: &Vm, needed_for_symbols: &[Capability]) {
    let programs = (0..vm.prog_count().unwrap_or(0)).filter_map(|index| vm.prog_at(index).ok());
    let is_net = programs.into_iter().any(|prog| NET_PROGRAMS.contains(&prog.kind));
    let mut needed = HashSet::from([for_maps()]);
    if is_net {
        needed.insert(Capability::CAP_NET_ADMIN);
    }
    needed.extend(needed_for_symbols);
    keep(&needed);
}

/// The privilege for reading maps.
fn for_maps() -> Capability {
    match caps::runtime::thread_all_supported().contains(&Capability::CAP_BPF) {
        true => Capability::CAP_BPF,
        false => Capability::CAP_SYS_ADMIN,
    }
}

/// Drops all privileges of this thread, except those for looking up symbols, if another process loads and attaches the package.
/// Before Linux 6.0, the kernel requires one for reading maps.
pub fn drop_for_reading(needed_for_symbols: &[Capability]) {
    let mut needed: HashSet<Capability> = needed_for_symbols.iter().copied().collect();
    if eunomia::internal::kernel_version().is_none_or(|version| version < (6, 0)) {
        needed.insert(for_maps());
    }
    keep(&needed);
}

/// Drops all privileges of this thread, except those for loading and attaching another version, and for reading its file.
/// Before Linux 5.8, CAP_SYS_ADMIN is kept.
pub fn keep_for_loading() {
    let mut needed = HashSet::from([
        Capability::CAP_NET_ADMIN,
        Capability::CAP_IPC_LOCK,
        Capability::CAP_SYS_RESOURCE,
        Capability::CAP_SYS_PTRACE,
        Capability::CAP_DAC_READ_SEARCH,
    ]);
    match caps::runtime::thread_all_supported().contains(&Capability::CAP_BPF) {
        true => needed.extend([Capability::CAP_BPF, Capability::CAP_PERFMON]),
        false => needed.extend([Capability::CAP_SYS_ADMIN]),
    }
    keep(&needed);
}

/// Drops all privileges of this thread.
pub fn drop_all() {
    keep(&HashSet::new());
}

/// Drops all other privileges. Failures are ignored.
fn keep(needed: &HashSet<Capability>) {
    let _ = privileges::keep(needed);
}

/// Converts an error of loading or attaching, with a hint about missing privileges.
pub fn explain(error: Error) -> Failure {
    let (is_denied, is_unreadable) = (error.status() == Status::Perm, error.errno() == Some(EACCES));
    let failure = Failure::from(error);
    let missing = missing();
    if let (true, Some(namespace)) = (is_denied, user_namespace()) {
        let text = format!(
            "{}; run ecli outside of {namespace} (a rootless container or unshare -U), or see ecli doctor",
            failure.text()
        );
        return Failure::new(Code::Privilege, text);
    }
    if is_denied && !missing.is_empty() {
        let missing = missing.join(", ");
        let text = format!("{}; missing: {missing}; run ecli as root, or see ecli doctor", failure.text());
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
/// The mount point of tracefs, which lists tracepoints.
pub const TRACEFS: &str = "/sys/kernel/tracing";

/// The privileges for loading programs that this process lacks.
pub fn missing() -> Vec<&'static str> {
    if is_admin() {
        return Vec::new();
    }
    let wanted = [(Capability::CAP_BPF, "CAP_BPF"), (Capability::CAP_PERFMON, "CAP_PERFMON")];
    wanted.into_iter().filter(|(cap, _)| !has(*cap)).map(|(_, name)| name).collect()
}

/// The user namespace of this process, such as `user:[4026532178]`, unless it is the initial one. BPF requires capabilities
/// in the initial user namespace.
pub fn user_namespace() -> Option<String> {
    /// PROC_USER_INIT_INO: the inode of the initial one on every kernel.
    const INITIAL: &str = "user:[4026531837]";
    let name = std::fs::read_link("/proc/self/ns/user").ok()?.to_string_lossy().into_owned();
    (name != INITIAL).then_some(name)
}

/// Whether this process has CAP_SYS_ADMIN, which includes the others.
pub fn is_admin() -> bool {
    has(Capability::CAP_SYS_ADMIN)
}

/// The privileges for BPF that this process has.
pub fn describe() -> String {
    let counted =
        [Capability::CAP_SYS_ADMIN, Capability::CAP_BPF, Capability::CAP_PERFMON, Capability::CAP_NET_ADMIN];
    counted.iter().filter(|cap| has(**cap)).map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn has(cap: Capability) -> bool {
    user_namespace().is_none() && caps::has_cap(None, CapSet::Effective, cap).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use rustix::thread::{self, CapabilitiesSecureBits as Secure};

    use super::*;

    /// The lines about privileges in the status of a thread or process.
    fn privileges(status: &str) -> Vec<&str> {
        status.lines().filter(|line| line.starts_with("Cap") || line.starts_with("NoNewPrivs")).collect()
    }

    #[test]
    fn programs_started_afterwards_have_no_privileges() {
        // Dropping affects the calling thread only.
        let after = std::thread::spawn(|| {
            drop_all();
            let own = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            let started = Command::new("cat").arg("/proc/self/status").output().unwrap();
            let shell = "exec cat /proc/self/status";
            let second = Command::new("sh").args(["-c", shell]).output().unwrap();
            let bits = thread::capabilities_secure_bits().unwrap();
            (own, started.stdout, second.stdout, bits)
        });
        let (own, started, second, bits) = after.join().unwrap();
        let (started, second) = (String::from_utf8(started).unwrap(), String::from_utf8(second).unwrap());
        let is_root = rustix::process::geteuid().is_root();
        for status in [&own, &started, &second] {
            let none =
                ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map(|set| format!("{set}:\t{:016x}", 0));
            let none = none.iter().map(String::as_str).chain(["NoNewPrivs:\t1"]);
            let is_bound = |line: &&str| is_root || !line.starts_with("CapBnd");
            let found: Vec<&str> = privileges(status).into_iter().filter(is_bound).collect();
            assert_eq!(found, none.filter(is_bound).collect::<Vec<_>>());
        }
        let locked = Secure::NO_ROOT | Secure::NO_ROOT_LOCKED | Secure::NO_CAP_AMBIENT_RAISE_LOCKED;
        assert!(!is_root || bits.contains(locked), "{bits:?}");
    }
}
