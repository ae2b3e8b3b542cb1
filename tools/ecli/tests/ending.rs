//! How a run begins to write and how it ends: files, closed pipes, and signals.

mod support;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use support::{Activity, Ran, ecli, has_interrupt, package, run, signal, wait_for, without_privileges};

fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

#[test]
fn a_run_that_does_not_begin_leaves_its_file_alone() {
    needs_root!();
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777))
        .expect("open to all");
    let file = folder.path().join("kept");
    std::fs::write(&file, "recorded for hours\n").expect("a file");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .expect("open to all");
    let file = file.to_str().expect("UTF-8");
    let copy = folder.path().join("package.json");
    std::fs::copy(package("bootstrap"), &copy).expect("a copy");
    let prog = copy.to_str().expect("UTF-8");
    let kept = || assert_eq!(std::fs::read_to_string(file).expect("a file"), "recorded for hours\n");
    let missing: [&[&str]; 7] = [
        &["--filter", "nosuch > 1", prog],
        &["--columns", "nosuch", prog],
        &["--map", "nosuch", prog],
        &["--attach", "nosuch=pid:1", prog],
        &["--attach", "handle_exec=attach:tracepoint/nosuch/nosuch", "--strict", prog],
        &[prog, "--nosuch"],
        &["/nonexistent.json"],
    ];
    for args in missing {
        let ran = run(&[&["run", "-j", "-o", file], args].concat());
        assert!(ran.code.is_some_and(|code| code > 0), "{args:?}: {}", ran.err);
        kept();
    }
    let ran = without_privileges(&["run", "-o", file, prog], "");
    assert_eq!(ran.code, Some(4), "{}", ran.err);
    kept();
}

#[test]
fn events_are_appended_to_a_file_with_one_csv_header() {
    needs_root!();
    let _activity = Activity::start();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("events.csv");
    let name = file.to_str().expect("UTF-8");
    for count in [3, 6] {
        let ran = run(&["run", "--format", "csv", "-o", name, "--count", "3", &package("bootstrap")]);
        assert_eq!(ran.code, Some(0), "{}", ran.err);
        assert_eq!(lines(&file), 1 + count, "a head and {count} events");
    }
    let text = std::fs::read_to_string(&file).expect("a file");
    assert_eq!(text.matches("pid,ppid,").count(), 1, "{text}");
}

/// A run of opensnoop into a file of that name, which has begun to write.
fn writing(file: &Path, format: &str) -> Child {
    let name = file.to_str().expect("UTF-8");
    let child = ecli(&["run", "--format", format, "-o", name, &package("bootstrap")])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("ecli starts");
    wait_for("an event", || lines(file) > 1);
    child
}

fn interrupted(child: Child) -> Ran {
    signal(&child, Signal::INT);
    child.wait_with_output().expect("ecli ends").into()
}

#[test]
fn sighup_opens_a_new_file_after_a_rename() {
    needs_root!();
    let _activity = Activity::start();
    let folder = tempfile::tempdir().expect("a folder");
    let (file, old) = (folder.path().join("log"), folder.path().join("log.1"));
    let child = writing(&file, "csv");
    std::fs::rename(&file, &old).expect("rotated");
    let before = lines(&old);
    wait_for("an event in the old file", || lines(&old) > before);
    signal(&child, Signal::HUP);
    wait_for("events in the new file", || lines(&file) > 3);
    let done = lines(&old);
    wait_for("more events", || lines(&file) > 20);
    assert_eq!(lines(&old), done, "nothing more in the old file");
    let ran = interrupted(child);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let texts = [&old, &file].map(|path| std::fs::read_to_string(path).expect("a file"));
    let heads = texts.each_ref().map(|text| text.lines().next().unwrap_or_default().to_owned());
    assert!(heads[0].contains("pid") && heads[0] == heads[1], "each file has its head: {heads:?}");
    let shown: usize = texts.iter().map(|text| text.lines().count() - 1).sum();
    assert!(ran.err.starts_with(&format!("ecli: {shown} events")), "{shown}: {}", ran.err);
}

#[test]
fn a_truncated_log_has_no_hole() {
    needs_root!();
    let _activity = Activity::start();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("log");
    let child = writing(&file, "json");
    std::fs::copy(&file, folder.path().join("log.1")).expect("a copy");
    std::fs::File::create(&file).expect("truncated");
    wait_for("events in the truncated file", || lines(&file) > 1);
    let ran = interrupted(child);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let text = std::fs::read_to_string(&file).expect("a file");
    assert!(text.starts_with("{\""), "no zeros in front: {:?}", &text[..20]);
}

#[test]
fn a_failed_reopen_is_reported_and_the_old_file_is_used() {
    needs_root!();
    let _activity = Activity::start();
    let folder = tempfile::tempdir().expect("a folder");
    let (file, old) = (folder.path().join("log"), folder.path().join("log.1"));
    let mut child = writing(&file, "json");
    std::fs::rename(&file, &old).expect("rotated");
    // Opening a pipe without a reader would block the thread that handles Ctrl-C.
    let made = Command::new("mkfifo").arg(&file).status().expect("mkfifo runs");
    assert!(made.success());
    signal(&child, Signal::HUP);
    let mut err = BufReader::new(child.stderr.take().expect("a pipe"));
    let mut line = String::new();
    err.read_line(&mut line).expect("a line");
    assert!(line.starts_with("ecli: SIGHUP: ") && line.contains("log"), "{line}");
    let before = lines(&old);
    wait_for("events in the old file", || lines(&old) > before);
    signal(&child, Signal::INT);
    assert_eq!(child.wait().expect("ecli ends").code(), Some(0));
}

/// A package without events.
fn silent() -> tempfile::TempDir {
    support::compile(
        "#include \"vmlinux.h\"\n#include <bpf/bpf_helpers.h>\nstruct event { int pid; };\n\
         struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); __type(value, struct event); } events SEC(\".maps\");\n\
         SEC(\"tracepoint/syscalls/sys_enter_getpgid\") int called(void *ctx) { return 0; }\n\
         char LICENSE[] SEC(\"license\") = \"GPL\";\n",
    )
}

#[test]
fn a_closed_pipe_ends_a_run_without_events() {
    needs_root!();
    let folder = silent();
    let package = folder.path().join("package.json");
    for format in ["text", "json", "raw"] {
        let mut child = Command::new("timeout")
            .args(["--foreground", "60", env!("CARGO_BIN_EXE_ecli"), "run", "--format", format])
            .arg(&package)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("timeout runs");
        drop(child.stdout.take());
        let ran: Ran = child.wait_with_output().expect("it ends").into();
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{format}");
    }
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("sockets");
    let mut child = Command::new("timeout")
        .args(["--foreground", "60", env!("CARGO_BIN_EXE_ecli"), "run", "-q"])
        .arg(&package)
        .stdin(Stdio::null())
        .stdout(std::os::fd::OwnedFd::from(theirs))
        .spawn()
        .expect("timeout runs");
    drop(ours);
    assert_eq!(child.wait().expect("it ends").code(), Some(0), "a socket");
}

/// The number of times that the threads of a process have gone to sleep.
fn switches(child: &Child) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", child.id())).expect("threads");
    let of = |path: std::path::PathBuf| {
        let status = std::fs::read_to_string(path.join("status")).expect("a status");
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:\t"));
        count.and_then(|count| count.trim().parse::<u64>().ok()).expect("a number")
    };
    tasks.map(|task| of(task.expect("a thread").path())).sum()
}

#[test]
fn a_run_without_events_wakes_up_for_nothing() {
    needs_root!();
    let folder = silent();
    let package = folder.path().join("package.json");
    let child = ecli(&["run", "-q"]).arg(&package).stdout(Stdio::piped()).spawn().expect("ecli starts");
    let thread = |name: &str| {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", child.id())).expect("threads");
        tasks.flatten().any(|task| {
            std::fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name)
        })
    };
    wait_for("the thread that watches the reader", || thread("reader"));
    let mut before = switches(&child);
    wait_for("rest", || {
        std::thread::sleep(Duration::from_millis(300));
        let now = switches(&child);
        std::mem::replace(&mut before, now) == now
    });
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(switches(&child), before);
    assert_eq!(interrupted(child).code, Some(0));
}

#[test]
fn simultaneous_signals_are_one_and_the_summary_is_printed() {
    needs_root!();
    let _activity = Activity::start();
    for second in [Signal::INT, Signal::TERM] {
        let map = ["run", "-j", "--map", "exec_time", &package("bootstrap")];
        let mut child =
            ecli(&map).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("ecli starts");
        let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        out.read_line(&mut line).expect("an event");
        let rest = std::thread::spawn(move || out.read_to_string(&mut line));
        signal(&child, Signal::INT);
        // Two pending signals of one number would be one anyway.
        wait_for("the first signal to be handled", || !has_interrupt(&child, "ShdPnd:"));
        let _ = kill_process(Pid::from_child(&child), second);
        let ran: Ran = child.wait_with_output().expect("ecli ends").into();
        rest.join().expect("no panic").expect("its output");
        assert_eq!(ran.code, Some(0), "{}", ran.err);
        assert!(ran.err.contains(" events in "), "{}", ran.err);
    }
}

#[test]
fn a_run_that_is_stopped_by_several_at_once_ends_well() {
    needs_root!();
    let _activity = Activity::start();
    for _ in 0..5 {
        let mut child = ecli(&["run", "-j", "--duration", "0.2", &package("bootstrap")])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("ecli starts");
        let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        out.read_line(&mut line).expect("an event");
        signal(&child, Signal::TERM);
        drop(out);
        let ran: Ran = child.wait_with_output().expect("it ends").into();
        assert_eq!(ran.code, Some(0), "{}", ran.err);
    }
}

#[test]
fn a_later_signal_ends_a_run_whose_reader_does_not_read() {
    needs_root!();
    let _activity = Activity::start();
    let mut child = ecli(&["run", "-j", &package("opensnoop")])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("ecli starts");
    let pipe = format!("/proc/{}/wchan", child.id());
    wait_for("a full pipe", || std::fs::read_to_string(&pipe).is_ok_and(|at| at.contains("pipe_write")));
    // The first ones are one request; a later one ends ecli.
    wait_for("the end of ecli", || {
        let has_ended = child.try_wait().expect("ecli is there").is_some();
        if !has_ended {
            signal(&child, Signal::INT);
        }
        has_ended
    });
    assert_eq!(child.wait().expect("ecli ends").code(), Some(130));
}
