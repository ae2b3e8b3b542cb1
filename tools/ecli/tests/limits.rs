//! Limits of kernel memory: counted before load, and enforced by a memory cgroup.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use support::{Process, ecli, package, run, wait_for_handlers};

/// Much longer than a start takes.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_package_beyond_the_limit_is_refused_with_the_option_that_allows_it() {
    needs_root!();
    for command in ["run", "check"] {
        let ran = run(&[command, "--max-kernel-memory", "100K", &package("bootstrap")]);
        assert_eq!(ran.code, Some(1), "{command}: {}", ran.err);
        assert!(ran.err.contains("map \""), "{}", ran.err);
        let end = "the limit is 1 MiB; raise the limit: --max-kernel-memory SIZE\n";
        assert!(ran.err.ends_with(end), "{command}: {}", ran.err);
    }
    for enough in ["64M", "1GiB", "100000000", "none"] {
        let ran = run(&["check", "--max-kernel-memory", enough, &package("bootstrap")]);
        assert_eq!(ran.code, Some(0), "{enough}: {}", ran.err);
    }
}

#[test]
fn invalid_sizes_are_refused() {
    for wrong in ["much", "-1", "1T", "5X", "99999999999G", ""] {
        let ran = run(&["run", &format!("--max-kernel-memory={wrong}"), "package.json"]);
        assert_eq!(ran.code, Some(2), "{wrong:?}: {}", ran.err);
        assert!(ran.err.contains("--max-kernel-memory"), "{}", ran.err);
    }
}

/// A run in progress, and its cgroup.
struct Running {
    child: Process,
    group: PathBuf,
}

impl Running {
    fn start() -> Running {
        let args = ["run", "-q", "--max-kernel-memory", "64M", &package("bootstrap")];
        let child = ecli(&args).stdout(Stdio::null()).spawn().expect("ecli starts");
        let mut running = Running { child: Process(child), group: PathBuf::new() };
        let deadline = Instant::now() + PATIENCE;
        while !running.group.is_absolute() {
            assert!(Instant::now() < deadline, "it enters no group");
            std::thread::sleep(Duration::from_millis(10));
            running.group = group_of(running.child.id()).unwrap_or_default();
        }
        running
    }

    fn end(&mut self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
        self.child.wait().expect("it ends");
    }
}

/// The memory cgroup that a process has for itself.
fn group_of(pid: u32) -> Option<PathBuf> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let own = groups.lines().find(|line| line.ends_with(&format!("/ecli-{pid}")))?;
    let root = if own.starts_with("0::") { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/memory" };
    Some(Path::new(root).join(own.splitn(3, ':').last()?.trim_start_matches('/')))
}

/// Whether a process may create a memory cgroup below its own.
fn has_groups() -> bool {
    Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists()
}

#[test]
fn a_run_creates_and_removes_a_memory_cgroup() {
    needs_root!();
    if !has_groups() {
        assert!(std::env::var_os("CI").is_none(), "CI has memory cgroups of the first version");
        eprintln!("SKIPPED: no memory cgroups of the first version");
        return;
    }
    let mut running = Running::start();
    let limit =
        fs::read_to_string(running.group.join("memory.limit_in_bytes")).expect("a group with a limit");
    assert_eq!(limit.trim(), ((64u64 << 20) + (1 << 30)).to_string());
    // The handlers are installed first, so that the run ends normally.
    wait_for_handlers(&running.child);
    running.end(Signal::INT);
    assert!(!running.group.exists(), "{} is left", running.group.display());

    // A killed run cannot remove its cgroup; the next run does.
    let mut killed = Running::start();
    killed.end(Signal::KILL);
    assert!(killed.group.exists(), "nobody removes it yet");
    let ran = run(&["check", &package("bootstrap")]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(!killed.group.exists(), "{} is left", killed.group.display());
}
