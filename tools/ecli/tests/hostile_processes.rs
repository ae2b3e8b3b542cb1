//! Stacks of processes whose owners try to prevent reading of their files. Whatever the files do, ecli continues, ends when
//! it should, and names the functions of other processes.

mod support;

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::{Process, Ran, ecli, package};

/// A process of the user nobody, and its perf map.
struct Stranger {
    child: Process,
    perf_map: PathBuf,
    _folder: tempfile::TempDir,
}

impl Stranger {
    fn start(mode: &str) -> Stranger {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).expect("open to all");
        let program = folder.path().join("stranger");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/stranger.c");
        let made = Command::new("cc").args(["-O1", "-pthread", "-o"]).arg(&program).arg(source).status();
        assert!(made.expect("cc runs").success());
        let mut child = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&program)
            .arg(folder.path())
            .arg(mode)
            .stdout(Stdio::piped())
            .spawn()
            .expect("setpriv runs");
        let mut line = String::new();
        let out = child.stdout.take().expect("a pipe");
        BufReader::new(out).read_line(&mut line).expect("a line");
        assert!(line.starts_with("/tmp/perf-"), "{mode}: it did not begin: {line:?}");
        Stranger { child: Process(child), perf_map: line.trim().into(), _folder: folder }
    }

    fn pid(&self) -> u64 {
        self.child.id().into()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.perf_map);
    }
}

/// A process of another user, whose functions have names.
struct Bystander(Process);

impl Bystander {
    fn start() -> Bystander {
        let dd =
            Command::new("dd").args(["if=/dev/zero", "of=/dev/null", "bs=1M"]).stderr(Stdio::null()).spawn();
        Bystander(Process(dd.expect("dd starts")))
    }

    fn pid(&self) -> u64 {
        self.0.id().into()
    }
}

const SYMBOLS: [&str; 5] = ["run", "-j", "--symbols", "--columns", "pid,kstack,ustack"];

/// A profile of the whole machine until it is interrupted, with a summary.
fn profile(seconds: &str) -> Ran {
    // A run that does not end on Ctrl-C is killed, and the test then fails.
    let timeout = ["-k", "20", "-s", "INT", seconds, env!("CARGO_BIN_EXE_ecli")];
    let output = Command::new("timeout").args(timeout).args(SYMBOLS).arg(package("profile")).output();
    output.expect("timeout runs").into()
}

/// A profile of one process. Another test covers the effects of other processes.
fn profile_of(pid: u64) -> Ran {
    let ran = support::run(
        &[&SYMBOLS[..], &["--count", "60", &package("profile"), "-p", &pid.to_string()]].concat(),
    );
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    ran
}

/// All frames of a process, kernel and user, in its events.
fn frames(ran: &Ran, pid: u64, stack: &str) -> Vec<String> {
    let events = ran.out.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let of_pid = events.filter(|event| event["pid"] == pid);
    of_pid
        .flat_map(|event| event[stack].as_array().cloned().unwrap_or_default())
        .filter_map(|frame| frame.as_str().map(str::to_owned))
        .collect()
}

fn is_named(frame: &str) -> bool {
    !frame.starts_with("0x")
}

#[test]
fn hostile_symbol_files_do_not_block_a_run() {
    needs_root!();
    let bystander = Bystander::start();
    for mode in ["fifo", "device", "changing", "large", "lease", "elf", "maps"] {
        let stranger = Stranger::start(mode);
        let ran = profile("4");
        // `timeout` exits with 124 if its signal ended the command, and with 137 if it had to kill it.
        assert_eq!(ran.code, Some(124), "{mode}: {}", ran.err);
        assert!(ran.err.contains(" events in "), "{mode}: no summary: {}", ran.err);
        assert!(!frames(&ran, stranger.pid(), "ustack").is_empty(), "{mode}: {}", ran.err);
        let kernel = frames(&ran, bystander.pid(), "kstack");
        let named = kernel.iter().filter(|frame| is_named(frame)).count();
        assert!(named > 0 && 2 * named > kernel.len(), "{mode}: {named} of {}: {}", kernel.len(), ran.err);
    }
}

#[test]
fn names_in_perf_maps_are_escaped() {
    needs_root!();
    for (mode, name) in [("map", "compiled_by_a_stranger+0x"), ("escape", "a?[2J?name+0x")] {
        let stranger = Stranger::start(mode);
        let named = frames(&profile_of(stranger.pid()), stranger.pid(), "ustack");
        assert!(named.iter().any(|frame| frame.starts_with(name)), "{mode}: {named:?}");
    }
}

#[test]
fn perf_maps_of_other_users_are_ignored() {
    needs_root!();
    let stranger = Stranger::start("map");
    let (path, other) = (stranger.perf_map.clone(), 1);
    let text = std::fs::read_to_string(&path).expect("a perf map");
    std::fs::remove_file(&path).and_then(|()| std::fs::write(&path, text)).expect("another file");
    std::os::unix::fs::chown(&path, Some(other), Some(other)).expect("another owner");
    let named = frames(&profile_of(stranger.pid()), stranger.pid(), "ustack");
    assert!(!named.is_empty() && !named.iter().any(|frame| frame.starts_with("compiled_by")), "{named:?}");
}

/// The only child of a process.
fn child_of(pid: u32) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

/// The child of ecli that reads symbols, as soon as it has started.
fn reader_of(ecli: u32) -> Option<u32> {
    let reader = child_of(ecli)?;
    let line = std::fs::read_to_string(format!("/proc/{reader}/cmdline")).ok()?;
    line.contains("--read-symbols").then_some(reader)
}

fn send(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid as i32).expect("a number");
    kill_process(pid, signal).expect("the process is there");
}

/// Reads events until one has a frame with a name (`wanted`) or without a name.
fn wait_for_frame(out: &mut impl BufRead, wanted: bool) {
    let mut line = String::new();
    for _ in 0..100_000 {
        line.clear();
        assert!(out.read_line(&mut line).expect("events") > 0, "it ended");
        let event: Value = serde_json::from_str(&line).expect("JSON");
        let frames = event["kstack"].as_array().cloned().unwrap_or_default();
        let users = event["ustack"].as_array().cloned().unwrap_or_default();
        let mut frames = frames.iter().chain(&users).filter_map(Value::as_str);
        if frames.any(|frame| is_named(frame) == wanted) {
            return;
        }
    }
    panic!("no frame that is named: {wanted}");
}

#[test]
fn the_reader_is_unprivileged_and_may_die_or_hang() {
    needs_root!();
    let bystander = Bystander::start();
    let only = bystander.pid().to_string();
    let mut run = ecli(&SYMBOLS)
        .args([&package("profile"), "-p", &only])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("ecli starts");
    let mut out = BufReader::new(run.stdout.take().expect("a pipe"));
    wait_for_frame(&mut out, true);
    let reader = reader_of(run.id()).expect("a child");
    let status = std::fs::read_to_string(format!("/proc/{reader}/status")).expect("a status");
    for line in ["CapInh", "CapPrm", "CapEff", "CapAmb"].map(|set| format!("{set}:\t{:016x}\n", 0)) {
        assert!(status.contains(&line), "{line}: {status}");
    }
    assert!(status.contains("NoNewPrivs:\t1\n") && status.contains("Seccomp:\t2\n"), "{status}");
    let limits = std::fs::read_to_string(format!("/proc/{reader}/limits")).expect("limits");
    let memory = limits.lines().find(|line| line.starts_with("Max address space")).expect("a limit");
    assert!(memory.contains("1073741824"), "{memory}");

    send(reader, Signal::KILL);
    for _ in 0..10 {
        wait_for_frame(&mut out, true);
    }
    // Known names are cached. For new ones, another child is started after a pause.
    let second = (0..600).find_map(|_| {
        wait_for_frame(&mut out, true);
        std::thread::sleep(Duration::from_millis(50));
        reader_of(run.id()).filter(|second| *second != reader)
    });
    send(second.expect("another reader"), Signal::STOP);
    wait_for_frame(&mut out, false);
    wait_for_frame(&mut out, true);

    send(run.id(), Signal::INT);
    let rest = std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
    let ran: Ran = run.wait_with_output().expect("it ends").into();
    rest.join().expect("no panic").expect("its output");
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(
        ran.err.contains("looking up function names timed out") && ran.err.contains(" events in "),
        "{}",
        ran.err
    );
    assert!(!Path::new(&format!("/proc/{reader}")).exists());
}

#[test]
fn ctrl_c_does_not_wait_for_a_reader_that_hangs_from_the_start() {
    needs_root!();
    let bystander = Bystander::start();
    let only = bystander.pid().to_string();
    // The run is interrupted after a shorter time than reading the kernel's symbols may take.
    let mut run = Command::new("timeout")
        .args(["--foreground", "-k", "6", "-s", "INT", "2", env!("CARGO_BIN_EXE_ecli")])
        .args(SYMBOLS)
        .args([&package("profile"), "-p", &only])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("timeout runs");
    let mut out = run.stdout.take().expect("a pipe");
    let rest = std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
    let reader = (0..10_000).find_map(|_| {
        std::thread::sleep(Duration::from_millis(1));
        reader_of(child_of(run.id())?)
    });
    send(reader.expect("a reader"), Signal::STOP);
    let ran: Ran = run.wait_with_output().expect("it ends").into();
    rest.join().expect("no panic").expect("its output");
    assert_eq!(ran.code, Some(124), "{}", ran.err);
    assert!(ran.err.contains(" events in "), "{}", ran.err);
}

#[test]
fn targets_are_opened_without_blocking() {
    needs_root!();
    let folder = support::compile(
        "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\nchar LICENSE[] SEC(\"license\") = \"GPL\";\n\
         SEC(\"uprobe\") int up(void *ctx) { return 0; }\n\
         SEC(\"cgroup_skb/egress\") int cg(void *ctx) { return 1; }\n",
    );
    let fifo = folder.path().join("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status().expect("mkfifo runs");
    assert!(made.success());
    let fifo = fifo.to_str().expect("UTF-8");
    let (up, cg) = (format!("up=path:{fifo},func:main"), format!("cg=cgroup:{fifo}"));
    let at_address = format!("up=path:{fifo},address:4096");
    let own = "up=path:/bin/sh,offset:4096";
    for (up, cg, why) in [
        (up.as_str(), "cg=cgroup:/sys/fs/cgroup/unified", "not a regular file"),
        (&at_address, "cg=cgroup:/sys/fs/cgroup/unified", "ELF"),
        (own, &cg, "Not a directory"),
    ] {
        let ran: Ran = Command::new("timeout")
            .args(["20", env!("CARGO_BIN_EXE_ecli"), "run", "--attach", up, "--attach", cg])
            .arg(folder.path().join("package.json"))
            .output()
            .expect("timeout runs")
            .into();
        assert!(
            ran.code.is_some_and(|code| code != 0 && code != 124),
            "{up} {cg}: {:?} {}",
            ran.code,
            ran.err
        );
        assert!(ran.err.contains("fifo") && ran.err.contains(why), "{up} {cg}: {}", ran.err);
    }
}

#[test]
fn nothing_but_ecli_uses_the_reader() {
    let ran = support::run(&["--read-symbols"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{}", ran.err);
    assert!(ran.err.contains("for internal use"), "{}", ran.err);
}
