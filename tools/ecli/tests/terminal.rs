//! `ecli run` on a terminal, with keys that send signals, and without root.

mod support;

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use rustix::process::Signal;
use support::{Activity, ecli, package, signal, wait_for, without_privileges};

/// The output of `ecli ARGS` on a terminal of that size.
fn on_terminal(columns: u32, rows: u32, environment: &str, args: &str) -> String {
    let line =
        format!("stty cols {columns} rows {rows}; {environment} exec {} {args}", env!("CARGO_BIN_EXE_ecli"));
    let output = Command::new("script").args(["-qec", &line, "/dev/null"]).stdin(Stdio::null()).output();
    String::from_utf8_lossy(&output.expect("script runs").stdout).into_owned()
}

/// The state of a process as /proc has it: R, S, T, ...
fn state(child: &Child) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).expect("the process is there");
    stat.rsplit(')').next().and_then(|rest| rest.trim().chars().next()).expect("a state")
}

fn wait_for_state(child: &Child, expected: char) {
    wait_for(&format!("state {expected}"), || state(child) == expected);
}

#[test]
fn a_table_fits_the_terminal() {
    needs_root!();
    let _activity = Activity::start();
    for columns in [60, 100, 200] {
        let args = format!("--count 12 {}", package("opensnoop"));
        let text = on_terminal(columns, 8, "TERM=xterm", &args);
        let rows: Vec<&str> = text.lines().filter(|line| !line.starts_with("ecli:")).collect();
        assert!(rows.len() > 12, "the head comes again on a screen of 8 rows: {text}");
        assert!(rows[0].contains("\u{1b}[1mTIME"), "a bold head: {text}");
        for row in rows {
            let bare = row.replace("\u{1b}[1m", "").replace("\u{1b}[2m", "").replace("\u{1b}[0m", "");
            assert!(bare.trim_end().chars().count() <= columns as usize, "{columns}: {bare}");
        }
        let plain = on_terminal(columns, 8, "TERM=xterm NO_COLOR=1", &args);
        assert!(!plain.contains('\u{1b}'), "{plain}");
    }
}

#[test]
fn control_characters_in_events_are_escaped() {
    needs_root!();
    let folder = tempfile::tempdir().expect("a folder");
    let file = "a\u{9b}31mb\u{1b}[31mc\u{85}d\u{202e}e\u{e0041}f\u{7f}\u{e4}\u{200b}";
    let name = folder.path().join(file);
    std::fs::write(&name, "").expect("a file");
    let is_over = Arc::new(AtomicBool::new(false));
    let ends = Arc::clone(&is_over);
    let opening = std::thread::spawn(move || {
        while !ends.load(Relaxed) {
            let _ = std::fs::File::open(&name);
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    });
    for format in ["text", "json", "csv"] {
        let filter = "--filter 'fname =~ 31m'";
        let args = format!("--format {format} --duration 60 --count 1 {filter} {}", package("opensnoop"));
        let text = on_terminal(200, 20, "TERM=xterm NO_COLOR=1", &args);
        let seen = "a\\u009b31mb\\u001b[31mc\\u0085d\\u202ee\\udb40\\udc41f\\u007f\u{e4}\\u200b";
        assert!(text.contains(seen), "{format}: {text:?}");
        if format == "json" {
            let line = text.lines().find(|line| line.starts_with('{')).expect("an event");
            let event: serde_json::Value = serde_json::from_str(line.trim_end()).expect("JSON");
            assert!(event["fname"].as_str().expect("a text").ends_with(file), "{event}");
        }
        assert!(!text.contains(|c: char| c.is_control() && c != '\n' && c != '\r'), "{format}: {text:?}");
    }
    is_over.store(true, Relaxed);
    opening.join().expect("it ends");
}

#[test]
fn histograms_are_drawn_in_place() {
    needs_root!();
    let _activity = Activity::start();
    let text = on_terminal(100, 50, "TERM=xterm", &format!("--duration 3.5 {}", package("runqlat")));
    assert!(text.contains("distribution") && text.contains("A\r\u{1b}[J"), "{text}");
    let text = on_terminal(100, 50, "TERM=dumb", &format!("--duration 2.5 {}", package("runqlat")));
    assert!(text.matches("distribution").count() >= 2 && !text.contains('\u{1b}'), "{text}");
}

#[test]
fn ctrl_c_ends_with_a_summary() {
    needs_root!();
    let _activity = Activity::start();
    let mut child = ecli(&["run", "-j", &package("bootstrap")])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("ecli starts");
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    out.read_line(&mut line).expect("an event");
    signal(&child, Signal::INT);
    let mut rest = String::new();
    out.read_to_string(&mut rest).expect("what came until then");
    let output = child.wait_with_output().expect("it ends");
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{err}");
    let events = 1 + rest.lines().count();
    assert!(err.starts_with(&format!("ecli: {events} events in ")) && err.contains(", none lost"), "{err}");
    assert_eq!(err.lines().count(), 1, "{err}");
}

#[test]
fn ctrl_z_pauses_and_events_of_the_pause_come_afterwards() {
    needs_root!();
    let mut child = ecli(&["run", "-j", "--filter", "filename =~ \"true$\"", &package("bootstrap")])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("ecli starts");
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    {
        let _activity = Activity::start();
        out.read_line(&mut line).expect("an event");
    }
    signal(&child, Signal::TSTP);
    wait_for_state(&child, 'T');
    let mut started = Command::new("/bin/true").spawn().expect("a program starts");
    let pid = started.id();
    started.wait().expect("it ends");
    assert_eq!(state(&child), 'T');
    signal(&child, Signal::CONT);
    let wanted = format!("\"pid\":{pid},");
    loop {
        line.clear();
        assert!(out.read_line(&mut line).expect("events") > 0, "the event of the pause is missing");
        if line.contains(&wanted) {
            break;
        }
    }
    signal(&child, Signal::INT);
    assert_eq!(child.wait().expect("it ends").into_raw(), 0);
}

#[test]
fn capabilities_suffice_without_root() {
    needs_root!();
    let _activity = Activity::start();
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("readable");
    let copy = folder.path().join("package.json");
    std::fs::copy(package("bootstrap"), &copy).expect("a copy");
    let args = ["run", "-j", "--count", "1", copy.to_str().expect("UTF-8")];
    let ran = without_privileges(&args, "+bpf,+perfmon,+dac_read_search");
    assert_eq!((ran.code, ran.out.lines().count()), (Some(0), 1), "{}", ran.err);
    for (capabilities, missing) in
        [("", "CAP_BPF, CAP_PERFMON"), ("+bpf", "CAP_PERFMON"), ("+bpf,+perfmon", "CAP_DAC_READ_SEARCH")]
    {
        let ran = without_privileges(&args, capabilities);
        assert_eq!(ran.code, Some(4), "{capabilities}: {}", ran.err);
        assert!(ran.err.contains(missing), "{capabilities}: {}", ran.err);
    }
}

const BPF: u32 = 39;

/// Checks that no thread of the process has other privileges than these, and that no program that a thread starts gets
/// any.
#[track_caller]
fn assert_bare(pid: u32, kept: u64) {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("threads");
    let mut count = 0;
    for thread in threads {
        let status =
            std::fs::read_to_string(thread.expect("a thread").path().join("status")).expect("a status");
        let value = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:\t"))).expect(name);
            u64::from_str_radix(line, 16).expect("a number")
        };
        for set in ["CapEff", "CapPrm"] {
            assert_eq!(value(set) & !kept, 0, "{set}: {status}");
        }
        for set in ["CapInh", "CapBnd", "CapAmb"] {
            assert_eq!(value(set), 0, "{set}: {status}");
        }
        assert_eq!(value("NoNewPrivs"), 1, "{status}");
        count += 1;
    }
    // One thread shows events, the other waits for signals.
    assert!(count >= 2, "{count} threads");
}

#[test]
fn privileges_are_given_up_once_attached() {
    needs_root!();
    let _activity = Activity::start();
    let mut child =
        ecli(&["run", "-j", &package("bootstrap")]).stdout(Stdio::piped()).spawn().expect("ecli starts");
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("a pipe")).read_line(&mut line).expect("an event");
    assert_bare(child.id(), 1 << BPF);
    signal(&child, Signal::INT);
    child.wait().expect("it ends");
}

/// Looking up functions requires additional privileges. A run that shows stacks keeps these and no others.
#[test]
fn with_stacks_only_privileges_for_symbols_are_kept() {
    needs_root!();
    const SYS_PTRACE: u32 = 19;
    const DAC_READ_SEARCH: u32 = 2;
    const SYSLOG: u32 = 34;
    const CHECKPOINT_RESTORE: u32 = 40;
    let _activity = Activity::start();
    let mut child = ecli(&["run", &package("profile")]).stdout(Stdio::piped()).spawn().expect("ecli starts");
    let lines = BufReader::new(child.stdout.as_mut().expect("a pipe")).lines();
    // A function of the kernel, by its name.
    let named = lines.map_while(Result::ok).find(|line| line.contains("+0x") && !line.contains('('));
    assert!(named.is_some());
    let kept = [BPF, SYS_PTRACE, DAC_READ_SEARCH, SYSLOG, CHECKPOINT_RESTORE];
    assert_bare(child.id(), kept.iter().map(|cap| 1u64 << cap).sum());
    // Nobody reads what it still writes.
    child.kill().expect("it ends");
    child.wait().expect("it ends");
}

#[inline(never)]
fn spin_in_a_function_with_a_name(until: &std::sync::atomic::AtomicBool) -> u64 {
    let mut sum = 0u64;
    while !until.load(std::sync::atomic::Ordering::Relaxed) {
        // Calls no function: without optimisation most samples would be in the called function.
        let mut step = 0;
        while step < 10_000_000 {
            sum ^= step;
            step += 1;
        }
    }
    sum
}

#[test]
fn stacks_are_shown_as_functions() {
    needs_root!();
    static DONE: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    let spinning = std::thread::spawn(|| spin_in_a_function_with_a_name(&DONE));
    let own = std::process::id().to_string();
    let ran = support::run(&["run", "--count", "20", &package("profile"), "-p", &own]);
    let json = ["run", "-j", "--symbols", "--columns", "pid,ustack", "--count", "20"];
    let named = support::run(&[&json[..], &[&package("profile"), "-p", &own]].concat());
    DONE.store(true, std::sync::atomic::Ordering::Relaxed);
    spinning.join().expect("it ends");
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.out.contains("spin_in_a_function_with_a_name"), "{}", ran.out);
    assert!(!ran.out.contains("USTACK "), "a stack is no column: {}", ran.out);
    let line: serde_json::Value =
        serde_json::from_str(named.out.lines().last().unwrap_or_default()).expect("JSON");
    assert_eq!(line["pid"].to_string(), own, "{}", named.out);
    let frames = line["ustack"].as_array().expect("an array");
    let is_named =
        |frame: &serde_json::Value| frame.as_str().is_some_and(|frame| frame.contains("spin_in_a_function"));
    assert!(frames.iter().any(is_named), "{}", named.out);
    let mut reads =
        Command::new("dd").args(["if=/dev/zero", "of=/dev/null", "bs=1M"]).stderr(Stdio::null()).spawn();
    let reads = reads.as_mut().expect("dd starts");
    let ran = support::run(&["run", "--count", "30", &package("profile"), "-p", &reads.id().to_string()]);
    reads.kill().and_then(|()| reads.wait()).expect("dd ends");
    assert!(
        ran.out.lines().any(|line| line.starts_with("    read_zero+0x") || line.contains("vfs_read+0x")),
        "{}",
        ran.out
    );
}

#[test]
fn stacks_that_come_faster_than_they_are_named_wait() {
    needs_root!();
    let source = r#"#include "vmlinux.h"
        #include <bpf/bpf_helpers.h>
        struct event { u32 pid; u64 stack[16]; };
        struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 65536); } events SEC(".maps");
        SEC("tracepoint/syscalls/sys_enter_getpgid")
        int called(void *ctx) {
            if (bpf_get_current_pid_tgid() >> 32 != OWN)
                return 0;
            struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
            if (!event)
                return 0;
            event->pid = bpf_get_current_pid_tgid() >> 32;
            bpf_get_stack(ctx, event->stack, sizeof(event->stack), BPF_F_USER_STACK);
            bpf_ringbuf_submit(event, 0);
            return 0;
        }
        char LICENSE[] SEC("license") = "GPL";"#;
    let folder = support::compile(&source.replace("OWN", &std::process::id().to_string()));
    let path = folder.path().join("package.json");
    let child = ecli(&["run", "--duration", "3", path.to_str().expect("UTF-8")])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("ecli starts");
    // Sends more events than the ring buffer holds while the first stacks are looked up, which takes tens of
    // milliseconds.
    support::wait_for_handlers(&child);
    for _ in 0..40 {
        for _ in 0..100 {
            let _ = rustix::process::getpgid(None);
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let ran: support::Ran = child.wait_with_output().expect("it ends").into();
    let shown = ran.err.trim_start_matches("ecli: ").split(' ').next().and_then(|n| n.parse::<u64>().ok());
    assert!(shown.is_some_and(|shown| shown >= 4000) && ran.err.contains("none lost"), "{}", ran.err);
}

#[test]
fn nohup_is_respected() {
    needs_root!();
    let _activity = Activity::start();
    let mut child = Command::new("nohup")
        .args([env!("CARGO_BIN_EXE_ecli"), "run", "-j", &package("bootstrap")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("nohup starts");
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    out.read_line(&mut line).expect("an event");
    signal(&child, Signal::HUP);
    for _ in 0..200 {
        line.clear();
        assert!(out.read_line(&mut line).expect("events") > 0, "it ended");
    }
    signal(&child, Signal::TERM);
    drop(out);
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}
