//! Restricts what each process may do.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use caps::{CapSet, Capability};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
};
use rustix::thread::{self, CapabilitiesSecureBits as Secure};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

use crate::policy::DEFAULT_FILE;

/// The capabilities that loading needs: for programs, tracing programs, programs on interfaces, and for reading
/// tracefs, which only root may do otherwise.
const LOADER: [Capability; 4] = [
    Capability::CAP_BPF,
    Capability::CAP_PERFMON,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_DAC_READ_SEARCH,
];

/// The files that the server reads: the number of CPUs, for maps with a value for each, and the local time.
const READABLE: [&str; 3] = ["/sys/devices/system/cpu", "/usr/share/zoneinfo", "/etc/localtime"];

/// The newest version of Landlock whose restrictions are used. An older kernel applies those that it has.
const LANDLOCK: ABI = ABI::V6;

/// Drops permanently all privileges of this thread that loading does not need.
pub(super) fn confine_loader() -> Result<(), String> {
    let mut needed = HashSet::from(LOADER);
    // Before Linux 5.8 there is no CAP_BPF; CAP_SYS_ADMIN loads programs there.
    if !caps::runtime::thread_all_supported().contains(&Capability::CAP_BPF) {
        needed.insert(Capability::CAP_SYS_ADMIN);
    }
    keep(&needed)
}

/// Drops all privileges of this thread, and access to all files but those beneath `writable` and `readable`. Returns a warning if
/// the kernel has no Landlock, and an error if anything else fails. Call it before other threads run, and after all sockets are bound.
pub fn confine_server(writable: &Path, readable: Vec<PathBuf>) -> Result<Option<String>, String> {
    keep(&HashSet::new())?;
    let readable = READABLE.map(PathBuf::from).into_iter().chain(readable);
    match restrict_files(&[writable.to_owned()], readable, AccessNet::from_all(LANDLOCK)) {
        Ok(RulesetStatus::NotEnforced) => {
            Ok(Some("this kernel has no Landlock: access to files is not restricted".into()))
        }
        Ok(_) => Ok(None),
        Err(error) => Err(format!("access to files cannot be restricted: {error}")),
    }
}

/// Drops all privileges of this thread, and access to all files but those that opening a package needs. A kernel without Landlock
/// is not an error.
pub fn confine_parser() -> Result<(), String> {
    keep(&HashSet::new())?;
    let readable = [READABLE[0], "/sys/kernel/btf"].map(PathBuf::from);
    restrict_files(&[], readable.into_iter(), AccessNet::from_all(LANDLOCK))
        .map(drop)
        .map_err(|error| error.to_string())
}

/// Drops all privileges of this thread, and access to all files but those that a download and the policy need. A kernel without
/// Landlock is not an error.
pub fn confine_fetcher(policy: Option<&Path>) -> Result<(), String> {
    keep(&HashSet::new())?;
    let policy = policy.unwrap_or(Path::new(DEFAULT_FILE)).parent().map(Path::to_owned);
    // Certificates, and the files and libraries of name resolution.
    let readable =
        ["/etc", "/usr", "/lib", "/lib64", "/run/systemd/resolve", "/dev/urandom"].map(PathBuf::from);
    restrict_files(&[], readable.into_iter().chain(policy), AccessNet::BindTcp.into())
        .map(drop)
        .map_err(|error| error.to_string())
}

/// Drops all capabilities of this thread except `needed`, and checks that they are gone. Threads that it starts inherit this. A
/// program that it executes gets no capability, neither as root, nor from its file, nor as an ambient one.
pub fn keep(needed: &HashSet<Capability>) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| format!("privileges cannot be dropped: {error}");
    thread::set_no_new_privs(true).map_err(|error| failed(&error))?;
    let _ = thread::clear_ambient_capability_set();
    // Both require CAP_SETPCAP. Without it, no_new_privs has the same effect.
    if let Ok(bits) = thread::capabilities_secure_bits() {
        let never = Secure::NO_ROOT
            | Secure::NO_ROOT_LOCKED
            | Secure::KEEP_CAPS_LOCKED
            | Secure::NO_CAP_AMBIENT_RAISE
            | Secure::NO_CAP_AMBIENT_RAISE_LOCKED;
        let _ = thread::set_capabilities_secure_bits(bits | never);
    }
    for capability in caps::runtime::thread_all_supported() {
        let _ = caps::drop(None, CapSet::Bounding, capability);
    }
    let permitted = caps::read(None, CapSet::Permitted).map_err(|error| failed(&error))?;
    let kept = permitted.intersection(needed).copied().collect();
    let _ = caps::clear(None, CapSet::Inheritable);
    for set in [CapSet::Effective, CapSet::Permitted] {
        let _ = caps::set(None, set, &kept);
    }
    for set in [CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        let left = caps::read(None, set).map_err(|error| failed(&error))?;
        if let Some(capability) = left.difference(&kept).next() {
            return Err(failed(&format_args!("{capability} is left")));
        }
    }
    Ok(())
}

fn restrict_files(
    writable: &[PathBuf],
    readable: impl Iterator<Item = PathBuf>,
    network: BitFlags<AccessNet>,
) -> Result<RulesetStatus, Box<dyn std::error::Error>> {
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(LANDLOCK))?
        // Listening sockets stay usable. No further TCP socket can be bound or connected.
        .handle_access(network)?
        .scope(Scope::Signal | Scope::AbstractUnixSocket)?
        .create()?;
    let write = AccessFs::from_all(LANDLOCK) & !AccessFs::Execute;
    for path in writable {
        rules = rules.add_rule(PathBeneath::new(PathFd::new(path)?, write))?;
    }
    for path in readable {
        if let Ok(file) = PathFd::new(path) {
            rules = rules.add_rule(PathBeneath::new(file, AccessFs::ReadFile | AccessFs::ReadDir))?;
        }
    }
    Ok(rules.restrict_self()?.ruleset)
}

/// The system calls of every restricted process: for memory, for reading open files, and for its end.
const COMMON_CALLS: [i64; 23] = [
    libc::SYS_read,
    libc::SYS_pread64,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_statx,
    libc::SYS_fcntl,
    libc::SYS_close,
    libc::SYS_mmap,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Restricts this thread to `COMMON_CALLS` and `more`; all other system calls fail with EPERM. Sets no_new_privs.
pub fn allow_only(more: &[i64]) -> Result<(), String> {
    let rules: BTreeMap<i64, Vec<_>> =
        COMMON_CALLS.iter().chain(more).map(|call| (*call, Vec::new())).collect();
    let denied = SeccompAction::Errno(libc::EPERM as u32);
    let none = "no system call filter for this machine";
    let machine = std::env::consts::ARCH.try_into().map_err(|_| none)?;
    let filter = SeccompFilter::new(rules, denied, SeccompAction::Allow, machine).map_err(|_| none)?;
    let program: BpfProgram = filter.try_into().map_err(|_| none)?;
    apply_filter(&program).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_server_reads_and_writes_only_its_state() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        // Restrictions are those of a thread.
        let found = std::thread::spawn(move || {
            let warning = confine_server(&path, Vec::new()).unwrap();
            let own = fs::write(path.join("a"), "").and_then(|()| fs::rename(path.join("a"), path.join("b")));
            let foreign = [
                fs::read("/etc/passwd").is_ok(),
                fs::write("/tmp/eunomia-agent-must-not-exist", "").is_ok(),
                std::process::Command::new("/bin/true").status().is_ok(),
                std::net::TcpListener::bind("127.0.0.1:0").is_ok(),
            ];
            (warning, own.is_ok(), foreign, fs::read("/sys/devices/system/cpu/possible").is_ok())
        });
        let (warning, own, foreign, cpus) = found.join().unwrap();
        if warning.is_some_and(|text| text.contains("no Landlock")) {
            assert!(std::env::var_os("CI").is_none(), "this test needs Landlock, and CI must not skip it");
            eprintln!("SKIPPED: this kernel has no Landlock");
            return;
        }
        assert_eq!((own, foreign, cpus), (true, [false; 4], true));
    }
}
