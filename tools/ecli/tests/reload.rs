//! `ecli run --watch-package` and `--reload`: the running package is replaced while events flow, and a version that fails
//! leaves it running.

#[path = "fetch/server.rs"]
#[allow(dead_code, reason = "a part of it is used")]
mod server;
mod support;

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, getpgid};
use serde_json::Value;
use server::{Reply, Server};
use support::{Process, Ran, compile, ecli, run, run_with_input, signal, wait_for};

/// A version of a package whose events are calls of getpgid(2) by the process --tgid. `members` are added to its record.
fn source(version: u32, members: &str, more: &str) -> String {
    r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
struct event { u32 version; u32 number; MEMBERS };
const volatile u32 tgid = 0;
/// @cmdarg {"default": VERSION}
const volatile u32 depth = 0;
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 22); } events SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 1); __type(key, u32); __type(value, u64);
} handled SEC(".maps");
SEC("raw_tp/sys_enter") int called(struct bpf_raw_tracepoint_args *ctx)
{
    u32 zero = 0;
    u64 *count = bpf_map_lookup_elem(&handled, &zero);
    if (ctx->args[1] != 121 || bpf_get_current_pid_tgid() >> 32 != tgid || !count)
        return 0;
    *count += 1;
    struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
    if (!event)
        return 0;
    __builtin_memset(event, 0, sizeof(*event));
    event->version = VERSION * 1000 + depth;
    event->number = BPF_CORE_READ((struct pt_regs *)ctx->args[0], di);
    bpf_ringbuf_submit(event, 0);
    return 0;
}
MORE
char LICENSE[] SEC("license") = "GPL";
"#
    .replace("VERSION", &version.to_string())
    .replace("MEMBERS", members)
    .replace("MORE", more)
}

/// The package of a source. Tests share what they have compiled.
fn package(version: u32, members: &str, more: &str) -> Vec<u8> {
    static COMPILED: Mutex<Vec<(String, Vec<u8>)>> = Mutex::new(Vec::new());
    let source = source(version, members, more);
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, package)) = compiled.iter().find(|(known, _)| *known == source) {
        return package.clone();
    }
    let package = fs::read(compile(&source).path().join("package.json")).expect("a package");
    compiled.push((source, package.clone()));
    package
}

/// Causes one event. There is no process of such a number.
fn call(number: i32) {
    assert!(getpgid(Pid::from_raw(FIRST + number)).is_err());
}

/// The number of the first event.
const FIRST: i32 = 1_000_000_000;

/// One test at a time, because each counts the events of this process.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running ecli, and the lines that it writes to stderr.
struct Running {
    process: Process,
    lines: Receiver<String>,
}

impl Running {
    fn start(args: &[&str]) -> Running {
        let command = ecli(&[&["run"], args, &["--tgid", &std::process::id().to_string()]].concat());
        Running::spawn(command)
    }

    fn spawn(mut command: Command) -> Running {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("ecli starts");
        let (sender, lines) = channel();
        let err = BufReader::new(child.stderr.take().expect("a pipe"));
        std::thread::spawn(move || {
            err.lines().map_while(Result::ok).try_for_each(|line| {
                println!("{line}");
                sender.send(line)
            })
        });
        let started = Running { process: Process(child), lines };
        wait_for("the thread that reloads", || started.thread("reload").is_some());
        // Signals are handled when this thread runs.
        wait_for("the thread that handles signals", || started.thread("signals").is_some());
        started
    }

    /// The next line on stderr, which has to contain this.
    #[track_caller]
    fn says(&self, text: &str) -> String {
        let line = self.lines.recv_timeout(std::time::Duration::from_secs(60)).expect("a line");
        assert!(line.contains(text), "{line:?} instead of {text:?}");
        line
    }

    /// The status of a thread.
    fn thread(&self, name: &str) -> Option<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.process.0.id())).expect("threads").flatten();
        let mut named = tasks.filter(|task| {
            fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name)
        });
        fs::read_to_string(named.next()?.path().join("status")).ok()
    }

    /// Ends it. Returns what it has written to stdout, and the rest of stderr.
    fn end(mut self) -> (String, String) {
        signal(&self.process.0, Signal::INT);
        let mut out = String::new();
        self.process.0.stdout.take().expect("a pipe").read_to_string(&mut out).expect("text");
        assert_eq!(self.process.0.wait().expect("ecli ends").code(), Some(0));
        (out, self.lines.iter().collect::<Vec<_>>().join("\n"))
    }
}

/// Replaces a file as editors and compilers do: by renaming another one.
fn rename_to(path: &Path, bytes: &[u8]) {
    let draft = path.with_extension("draft");
    fs::write(&draft, bytes).expect("a draft");
    fs::rename(draft, path).expect("the draft is renamed");
}

#[test]
fn under_load_each_event_is_shown_once_over_several_replaces() {
    needs_root!();
    let _turn = turn();
    let folder = tempfile::tempdir().expect("a folder");
    let (path, out) = (folder.path().join("package.json"), folder.path().join("out"));
    let versions = [package(1, "", ""), package(2, "u64 more;", "")];
    fs::write(&path, &versions[0]).expect("a file");
    let (path_text, out_text) = (path.to_str().expect("UTF-8"), out.to_str().expect("UTF-8"));
    let running = Running::start(&["-j", "--watch-package", "--map", "handled", "-o", out_text, path_text]);
    let over = Arc::new(AtomicBool::new(false));
    let load = |thread: i32| {
        let over = Arc::clone(&over);
        std::thread::spawn(move || {
            let mut count = 0;
            while !over.load(SeqCst) {
                call(thread << 28 | count);
                count += 1;
                // Waits a little, because other processes may load the machine. Lost records are counted in any case.
                if count % 64 == 0 {
                    std::thread::sleep(std::time::Duration::from_micros(200));
                }
            }
            count as u64
        })
    };
    let threads = [1, 2].map(load);
    for turn in 1..=6 {
        match turn % 2 {
            0 => fs::write(&path, &versions[turn % 2]).expect("in place"),
            _ => rename_to(&path, &versions[turn % 2]),
        }
        let line = running.says("replaced by");
        assert!(line.contains("programs: 1 swapped; maps: 1 carried"), "{line}");
    }
    over.store(true, SeqCst);
    let produced: u64 = threads.into_iter().map(|thread| thread.join().expect("the load ends")).sum();
    let (_, summary) = running.end();
    let text = fs::read_to_string(&out).expect("the events");
    let (mut ids, mut twice, mut handled, mut versions) = (HashSet::new(), 0, 0, HashSet::new());
    for line in text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")) {
        if let Some(number) = line["number"].as_u64() {
            twice += u64::from(!ids.insert(number));
            versions.insert(line["version"].as_u64());
            assert_eq!(line["version"] == 2002, line["more"].is_u64(), "{line}");
        } else {
            let values = line["value"].as_array().expect("a value for each CPU");
            handled = values.iter().filter_map(Value::as_u64).sum();
        }
    }
    let lost = summary.split_once("lost ").and_then(|(_, rest)| rest.split(' ').next()?.parse::<u64>().ok());
    let lost = lost.unwrap_or(0);
    println!(
        "produced {produced}, handled {handled}, shown {}, twice {twice}, lost {lost}: {summary}",
        ids.len()
    );
    assert_eq!((produced, handled, twice), (handled, ids.len() as u64 + lost, 0));
    assert_eq!(versions, HashSet::from([Some(1001), Some(2002)]));
}

#[test]
fn a_version_that_fails_leaves_the_running_one() {
    needs_root!();
    let _turn = turn();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("package.json");
    let (one, two) = (package(1, "", ""), package(2, "", ""));
    fs::write(&path, &one).expect("a file");
    let columns = ["-j", "--columns", "version,number", "--filter", "number > 1000000007", "--watch-package"];
    let mut running = Running::start(&[&columns[..], &[path.to_str().expect("UTF-8")]].concat());
    let mut out = BufReader::new(running.process.0.stdout.take().expect("a pipe"));
    let mut runs = |version: u32| {
        call(7);
        call(8);
        let mut line = String::new();
        out.read_line(&mut line).expect("an event");
        assert_eq!(line, format!("{{\"version\":{version},\"number\":1000000008}}\n"));
    };
    runs(1001);
    let rejected = r#"SEC("raw_tp/sys_exit") int more(void *ctx) { return *(int *)0; }"#;
    let sleeps = r#"SEC("uprobe.s/libc.so.6:getpgid") int more(void *ctx) { return 0; }"#;
    let without_number = source(3, "", "").replace("number", "id");
    let without_number = fs::read(compile(&without_number).path().join("package.json")).expect("a package");
    let cases = [
        (b"garbage".to_vec(), "not a package"),
        (two[..two.len() / 2].to_vec(), "package"),
        (package(3, "", rejected), "more"),
        (package(3, "", sleeps), "it is sleepable"),
        (without_number, "number"),
        (b"\0asm\x01\0\0\0".to_vec(), "a WASM module"),
    ];
    for (bytes, text) in cases {
        rename_to(&path, &bytes);
        let line = running.says("ecli: not replaced: ");
        assert!(line.contains(text) && line.ends_with("; the running version stays"), "{line}");
        runs(1001);
    }
    // Writes half of the file, and the rest while ecli waits for it.
    fs::write(&path, &two[..two.len() / 2]).expect("in place");
    std::thread::sleep(std::time::Duration::from_millis(300));
    fs::write(&path, &two).expect("in place");
    running.says("programs: 1 swapped");
    runs(2002);
    // SIGHUP has the same effect, and none if nothing has changed.
    signal(&running.process.0, Signal::HUP);
    running.says("has not changed");
    runs(2002);
    signal(&running.process.0, Signal::INT);
    assert_eq!(running.process.0.wait().expect("ecli ends").code(), Some(0));
}

#[test]
fn a_new_version_is_checked_as_the_first_one() {
    needs_root!();
    let _turn = turn();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("package.json");
    let of_ecli = |args: &[&str]| {
        let status = ecli(args).current_dir(folder.path()).status().expect("ecli starts");
        assert!(status.success(), "{args:?}");
    };
    of_ecli(&["keygen", "--no-password", "-s", "me.key", "-p", "me.pub"]);
    fs::create_dir(folder.path().join("trusted")).expect("a folder");
    fs::copy(folder.path().join("me.pub"), folder.path().join("trusted/me.pub")).expect("a copy");
    let sign = |bytes: &[u8]| {
        fs::write(folder.path().join("signed"), bytes).expect("a file");
        of_ecli(&["sign", "-s", "me.key", "./signed"]);
        fs::rename(folder.path().join("signed.minisig"), path.with_extension("json.minisig"))
            .expect("renamed");
        rename_to(&path, bytes);
    };
    sign(&package(1, "", ""));
    let (own, path_text) = (std::process::id().to_string(), path.to_str().expect("UTF-8"));
    let checks = ["--require-signed", "--trust", "trusted", "--max-kernel-memory", "64M"];
    let args = [&["run", "-j", "--watch-package"], &checks[..], &[path_text, "--tgid", &own]].concat();
    let mut command = ecli(&args);
    command.current_dir(folder.path());
    let running = Running::spawn(command);
    rename_to(&path, &package(2, "", ""));
    let line = running.says("not replaced");
    assert!(line.contains("package.json") && line.contains("sign"), "{line}");
    let large = "struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1 << 24); __type(key, u32); \
                 __type(value, u64); } large SEC(\".maps\");";
    sign(&package(3, "", large));
    running.says("raise the limit: --max-kernel-memory SIZE; the running version stays");
    let mut other: Value = serde_json::from_slice(&package(4, "", "")).expect("JSON");
    other["arch"] = "riscv64".into();
    sign(other.to_string().as_bytes());
    let line = running.says("not replaced");
    assert!(line.contains("riscv64"), "{line}");
    sign(&package(5, "", ""));
    running.says("programs: 1 swapped");
    running.end();
}

#[test]
fn another_record_has_a_head_of_its_own() {
    needs_root!();
    let _turn = turn();
    let folder = tempfile::tempdir().expect("a folder");
    let versions = [package(1, "", ""), package(2, "", ""), package(3, "u64 more;", "")];
    for format in ["text", "csv"] {
        for to_file in [false, true] {
            let (path, file) = (folder.path().join("package.json"), folder.path().join(format));
            fs::write(&path, &versions[0]).expect("a file");
            let mut args = vec!["-v", "--reload", "--format", format];
            let file_text = file.to_str().expect("UTF-8");
            args.extend(to_file.then_some(["-o", file_text]).into_iter().flatten());
            args.push(path.to_str().expect("UTF-8"));
            let running = Running::start(&args);
            for version in &versions {
                rename_to(&path, version);
                signal(&running.process.0, Signal::HUP);
                let line = running.says("package.json");
                if line.contains("replaced by") {
                    let report: Value = serde_json::from_str(&running.says("{")).expect("JSON");
                    assert_eq!(report["programs"][0]["change"], "swapped", "{report}");
                }
                call(1);
                call(2);
            }
            let (out, _) = running.end();
            let out = if to_file { fs::read_to_string(&file).expect("the events") } else { out };
            let is_head = |line: &&str| line.to_lowercase().contains("number");
            let heads: Vec<&str> = out.lines().filter(is_head).collect();
            assert_eq!((heads.len(), out.lines().count()), (2, 8), "{out}");
            assert!(!heads[0].to_lowercase().contains("more"), "{out}");
            assert!(
                heads[1].to_lowercase().contains("more") && is_head(&out.lines().nth(5).unwrap()),
                "{out}"
            );
        }
    }
}

#[test]
fn after_sighup_a_program_is_downloaded_again() {
    needs_root!();
    let _turn = turn();
    let server = Server::new();
    let (one, two) = (package(1, "", ""), package(2, "u64 more;", ""));
    let digest = support::sha256(&one);
    let url = server.on("/package.json", Reply::Content(one.clone()));
    let pinned = format!("{url}#sha256={digest}");
    for (prog, replaced) in [(&url, true), (&pinned, false)] {
        server.on("/package.json", Reply::Content(one.clone()));
        let running = Running::start(&["-j", "-n", "--reload", prog]);
        call(1);
        server.on("/package.json", Reply::Status(404));
        signal(&running.process.0, Signal::HUP);
        let line = running.says("not replaced");
        assert!(line.contains("404") && line.contains(&url), "{line}");
        server.on("/package.json", Reply::Content(two.clone()));
        signal(&running.process.0, Signal::HUP);
        running.says(if replaced { "programs: 1 swapped" } else { "digest mismatch" });
        call(2);
        let (out, _) = running.end();
        let version = if replaced { 2002 } else { 1001 };
        assert!(out.contains("\"version\":1001,\"number\":1000000001"), "{out}");
        assert!(out.contains(&format!("\"version\":{version},\"number\":1000000002")), "{out}");
    }
}

#[test]
fn an_edited_source_is_seen_at_once() {
    needs_root!();
    let _turn = turn();
    let folder = tempfile::tempdir().expect("a folder");
    let (file, path) = (folder.path().join("test.bpf.c"), folder.path().join("package.json"));
    fs::write(&file, source(1, "", "")).expect("a source");
    let mut command = support::ecc();
    command.arg(&file).arg("-o").arg(folder.path()).arg("--watch").stderr(Stdio::null());
    let compiler = Process(command.spawn().expect("ecc starts"));
    wait_for("the package", || path.exists());
    let running = Running::start(&["-j", "--watch-package", path.to_str().expect("UTF-8")]);
    call(1);
    fs::write(&file, source(2, "u64 more;", "")).expect("an edit");
    running.says("programs: 1 swapped");
    call(2);
    let (out, _) = running.end();
    drop(compiler);
    let is_of = |line: &str, version: &str| line.contains(&format!("\"version\":{version}"));
    assert!(out.lines().any(|line| is_of(line, "1001")), "{out}");
    assert!(out.lines().any(|line| is_of(line, "2002") && line.contains("\"more\":0")), "{out}");
}

/// The line of a status that begins with this, without it.
fn line_of(status: &str, name: &str) -> String {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("such a line");
    line.trim().to_owned()
}

impl Running {
    /// The statuses of all threads.
    fn threads(&self) -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.process.0.id())).expect("threads").flatten();
        tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok()).collect()
    }

    /// The number of the loader, the child of this process.
    fn loader(&self) -> i32 {
        let own = self.process.0.id();
        let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children")).expect("a process");
        children.trim().parse().expect("one child")
    }
}

/// Whether the kernel has a program of these packages. A dispatcher keeps it in the kernel while it is attached.
fn is_loaded() -> bool {
    // bpftool is in sbin, which may not be in $PATH.
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let listed = Command::new("bpftool").args(["-j", "prog", "show"]).env("PATH", path).output();
    let listed: Value = serde_json::from_slice(&listed.expect("bpftool runs").stdout).expect("JSON");
    listed.as_array().expect("a list").iter().any(|program| program["name"] == "called")
}

#[test]
fn the_process_that_shows_events_has_no_privileges() {
    needs_root!();
    let _turn = turn();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("package.json");
    fs::write(&path, package(1, "", "")).expect("a file");
    let running = Running::start(&["-j", "--watch-package", "--stats", path.to_str().expect("UTF-8")]);
    let has_none = |status: &String| {
        let all = ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"].map(|set| line_of(status, set));
        all.iter().all(|set| *set == "0".repeat(16)) && line_of(status, "NoNewPrivs:") == "1"
    };
    // A thread begins with the privileges of its parent.
    wait_for("dropped privileges", || running.threads().iter().all(has_none));
    let loader = fs::read_to_string(format!("/proc/{}/status", running.loader())).expect("a process");
    let kept = u64::from_str_radix(&line_of(&loader, "CapEff:"), 16).expect("bits").count_ones();
    assert!((2..=7).contains(&kept), "{loader}");
    assert_eq!(line_of(&loader, "Threads:"), "1");
    call(1);
    rename_to(&path, &package(2, "", ""));
    running.says("programs: 1 swapped; maps: 1 carried");
    call(2);
    signal(&running.process.0, Signal::HUP);
    running.says("has not changed");
    call(3);
    let (out, messages) = running.end();
    let versions: Vec<u64> = out
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["version"].as_u64().expect("a number"))
        .collect();
    assert_eq!(versions, [1001, 2002, 2002]);
    assert!(messages.contains("ecli: program called: "), "{messages}");
    wait_for("the end of the programs", || !is_loaded());
}

/// As with `sudo`: the file is of a user who lets nobody else read it. Capabilities would open it, and the process that shows
/// events has none.
#[test]
fn a_file_that_only_its_owner_may_read_is_read_again() {
    needs_root!();
    let _turn = turn();
    let outer = tempfile::tempdir().expect("a folder");
    let folder = outer.path().join("home");
    fs::create_dir(&folder).expect("a folder");
    let own = |path: &Path, mode: u32| {
        std::os::unix::fs::chown(path, Some(65534), Some(65534)).expect("an owner");
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("a mode");
    };
    let write = |version: u32| {
        let draft = folder.join("draft");
        fs::write(&draft, package(version, "", "")).expect("a draft");
        own(&draft, 0o600);
        fs::rename(draft, folder.join("package.json")).expect("renamed");
    };
    write(1);
    own(&folder, 0o700);
    let path = folder.join("package.json");
    let running = Running::start(&["-j", "--watch-package", path.to_str().expect("UTF-8")]);
    for version in 2..4 {
        call(1);
        write(version);
        running.says("programs: 1 swapped");
    }
    call(1);
    let (out, _) = running.end();
    for version in ["1001", "2002", "3003"] {
        assert!(out.contains(&format!("\"version\":{version}")), "{out}");
    }
}

#[test]
fn the_same_package_in_another_file_is_unchanged() {
    needs_root!();
    let _turn = turn();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("package.json");
    let one = package(1, "", "");
    fs::write(&path, &one).expect("a file");
    let running = Running::start(&["-j", "--watch-package", path.to_str().expect("UTF-8")]);
    let touched = Command::new("touch").arg(&path).status().expect("touch runs");
    assert!(touched.success());
    running.says("package.json has not changed");
    rename_to(&path, &one);
    running.says("package.json has not changed");
    // Other bytes with the same content.
    let value: Value = serde_json::from_slice(&one).expect("JSON");
    rename_to(&path, &serde_json::to_vec_pretty(&value).expect("JSON"));
    running.says("package.json has not changed");
    call(1);
    let (out, _) = running.end();
    assert_eq!(out.lines().count(), 1, "{out}");
}

#[test]
fn after_the_end_of_one_process_the_other_one_ends_and_nothing_is_attached() {
    needs_root!();
    let _turn = turn();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("package.json");
    let kill = |number: i32| {
        let pid = Pid::from_raw(number).expect("a number");
        rustix::process::kill_process(pid, Signal::KILL).expect("a process");
    };
    for replaces in [0, 1] {
        let start = || {
            rename_to(&path, &package(1, "", ""));
            let running = Running::start(&["-j", "--watch-package", path.to_str().expect("UTF-8")]);
            call(1);
            for version in 0..replaces {
                rename_to(&path, &package(version + 2, "", ""));
                running.says("programs: 1 swapped");
            }
            assert!(is_loaded());
            running
        };
        let mut running = start();
        let loader = running.loader();
        kill(running.process.0.id() as i32);
        running.process.0.wait().expect("it ends");
        wait_for("the end of the loader", || !Path::new(&format!("/proc/{loader}/exe")).exists());
        wait_for("the end of the programs", || !is_loaded());

        let mut running = start();
        kill(running.loader());
        let mut out = String::new();
        running.process.0.stdout.take().expect("a pipe").read_to_string(&mut out).expect("text");
        assert_eq!(running.process.0.wait().expect("it ends").code(), Some(1));
        assert!(out.contains("\"number\":1000000001"), "{out}");
        let messages: Vec<String> = running.lines.iter().collect();
        let last = messages.last().expect("a message");
        let why = "ecli: the process that loads the package has ended (signal: 9 (SIGKILL)), so all programs are detached";
        assert_eq!(last, why, "{messages:?}");
        wait_for("the end of the programs", || !is_loaded());
    }
}

#[test]
fn a_module_is_ended_and_its_new_version_runs() {
    needs_root!();
    let _turn = turn();
    let folder = tempfile::tempdir().expect("a folder");
    let (path, out) = (folder.path().join("app.wasm"), folder.path().join("out"));
    let one = fs::read(support::module("sigsnoop")).expect("a module");
    // A custom section, which nobody reads.
    let two = [&one[..], &[0, 2, 1, b'x']].concat();
    fs::write(&path, &one).expect("a file");
    let (path_text, out_text) = (path.to_str().expect("UTF-8"), out.to_str().expect("UTF-8"));
    let pid = std::process::id().to_string();
    let args = ["run", "--watch-package", "-o", out_text, path_text, "-p", &pid, "-s", "28"];
    let running = Running::spawn(ecli(&args));
    let seen = || fs::read_to_string(&out).unwrap_or_default().matches("SIGWINCH").count();
    let sees_signals = || {
        let before = seen();
        wait_for("a signal", || {
            let sent = rustix::process::kill_process(rustix::process::getpid(), Signal::WINCH);
            sent.expect("a signal without effect");
            seen() > before
        });
    };
    sees_signals();
    rename_to(&path, &two);
    running.says("the module runs anew");
    sees_signals();
    rename_to(&path, &two);
    running.says("has not changed");
    rename_to(&path, b"\0asm garbage");
    running.says("not replaced");
    rename_to(&path, &package(1, "", ""));
    running.says("a JSON package, unlike the running program; the running version stays");
    sees_signals();
    signal(&running.process.0, Signal::HUP);
    running.says("a JSON package");
    running.end();
}

#[test]
fn what_cannot_be_reloaded_is_refused_at_the_start() {
    let one = support::package("bootstrap");
    let object = compile(&source(1, "", ""));
    let object = object.path().join("test.bpf.o");
    let refused = |ran: Ran, text: &str| {
        assert_eq!(ran.code, Some(2), "{}", ran.err);
        assert!(ran.err.lines().count() == 1 && ran.err.contains(text), "{}", ran.err);
    };
    for option in ["--watch-package", "--reload"] {
        refused(run(&["run", option, object.to_str().expect("UTF-8")]), "package.json that ecc writes");
        let bytes = fs::read(&one).expect("a package");
        refused(run_with_input(&["run", option, "-"], &bytes), "standard input cannot be read again");
    }
    if rustix::process::geteuid().is_root() {
        let iterates = r#"SEC("iter/task") int walk(struct bpf_iter__task *ctx) { return 0; }"#;
        let folder = compile(&source(1, "", iterates));
        let path = folder.path().join("package.json");
        let ran = run(&["run", "--reload", path.to_str().expect("UTF-8")]);
        refused(ran, "program \"walk\" (iter/task): an iterator cannot be replaced");
    }
    let server = Server::new();
    let url = server.on("/p", Reply::Content(fs::read(&one).expect("a package")));
    refused(run(&["run", "-n", "--watch-package", &url]), "use --reload, and send SIGHUP");
}
