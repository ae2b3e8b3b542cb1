//! The summary reports lost events only as far as their number is known.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getpgid, getpid, kill_process};

use crate::needs_root;
use crate::support::{Ran, compile, ecli};

/// Events of the flood.
const FLOOD: usize = 20_000;

/// Sends one event for the first call of getpgid(2) in this thread, while the buffer is empty, and one for each call of
/// the flood.
fn source(buffer: &str, send: &str) -> String {
    let thread = std::fs::read_link("/proc/thread-self").expect("a thread");
    let thread = thread.file_name().and_then(|name| name.to_str()).expect("its number").to_owned();
    format!(
        r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
struct event {{ bool in_flood; char text[120]; }};
struct {{ {buffer} }} events SEC(".maps");
bool begun;
SEC("tp/syscalls/sys_enter_getpgid")
int produce(struct trace_event_raw_sys_enter *ctx)
{{
    struct event event = {{}};
    if ((u32)bpf_get_current_pid_tgid() != {thread})
        return 0;
    event.in_flood = ctx->args[0] != 0;
    if (!event.in_flood && begun)
        return 0;
    begun = true;
    {send};
    return 0;
}}
char LICENSE[] SEC("license") = "GPL";
"#
    )
}

fn perf() -> String {
    source(
        "__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __uint(key_size, 4); __uint(value_size, 4);",
        "bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, &event, sizeof(event))",
    )
}

fn ring(send: &str) -> String {
    source("__uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096);", send)
}

/// Runs a program and floods it while its reader is stopped; returns how many events there were.
fn flood(source: &str, preload: Option<&Path>) -> (Ran, usize) {
    let folder = compile(source);
    let package = folder.path().join("package.json");
    let mut command = ecli(&["run", "-j", "--stats", package.to_str().expect("UTF-8")]);
    if let Some(library) = preload {
        command.env("LD_PRELOAD", library);
    }
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("ecli starts");
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        out.read_line(&mut text).expect("an event");
        (text, out)
    });
    let deadline = Instant::now() + Duration::from_secs(20);
    while !reader.is_finished() {
        assert!(Instant::now() < deadline, "ecli takes no events");
        getpgid(None).expect("our own group");
        std::thread::yield_now();
    }
    for _ in 0..FLOOD {
        getpgid(Some(getpid())).expect("our own group");
    }
    let (mut text, mut out) = reader.join().expect("an event came");
    kill_process(Pid::from_child(&child), Signal::INT).expect("it runs");
    out.read_to_string(&mut text).expect("what came until then");
    let output = child.wait_with_output().expect("it ends");
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    let is_early = |line: &&str| line.contains("\"in_flood\":false");
    let early = text.lines().filter(is_early).count();
    assert!(early > 0 && text.lines().count() < early + FLOOD, "{err}");
    (Ran { code: output.status.code(), out: text, err }, early + FLOOD)
}

/// The number before a word of the summary.
fn before(err: &str, word: &str) -> usize {
    let (front, _) = err.split_once(word).unwrap_or_else(|| panic!("{word:?} in {err}"));
    front.trim_end().rsplit(' ').next().and_then(|number| number.parse().ok()).expect("a number")
}

fn has_counters() -> bool {
    let release = rustix::system::uname();
    let major = release.release().to_str().expect("UTF-8").split('.').next().map(str::parse::<u32>);
    major.is_some_and(|major| major.is_ok_and(|major| major >= 6))
}

#[test]
fn losses_of_a_perf_buffer_are_reported_at_the_end() {
    needs_root!();
    if !has_counters() {
        return;
    }
    let (ran, produced) = flood(&perf(), None);
    let shown = ran.out.lines().count();
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert_eq!(shown + before(&ran.err, " in the kernel"), produced, "{}", ran.err);
    let source = format!("source events: {shown} events, {} lost", produced - shown);
    assert!(ran.err.contains(&source), "{}", ran.err);
}

#[test]
fn uncounted_losses_are_reported_as_unknown() {
    needs_root!();
    // The kernel before Linux 6.0 refuses the flag that it does not know.
    let folder = tempfile::tempdir().expect("a folder");
    let (code, library) = (folder.path().join("old.c"), folder.path().join("old.so"));
    let text = "#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/perf_event.h>
#include <stdarg.h>
#include <sys/syscall.h>
long syscall(long number, ...) {
    static long (*real)(long, ...);
    long a[6];
    va_list list;
    va_start(list, number);
    for (int i = 0; i < 6; i++) a[i] = va_arg(list, long);
    va_end(list);
    if (!real) real = (long (*)(long, ...))dlsym(RTLD_NEXT, \"syscall\");
    if (number == SYS_perf_event_open && ((struct perf_event_attr *)a[0])->read_format & ~15UL)
        return errno = EINVAL, -1;
    return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
";
    std::fs::write(&code, text).expect("the source is written");
    let made = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &code]).status();
    assert!(made.expect("cc runs").success());
    let (ran, produced) = flood(&perf(), Some(&library));
    assert!(ran.out.lines().count() < produced, "{}", ran.err);
    let is_open = "losses after the last record of each CPU are unknown";
    assert!(ran.err.contains(is_open) && !ran.err.contains("none lost"), "{}", ran.err);
    assert!(ran.err.contains("lost before the last record of each CPU"), "{}", ran.err);
}

#[test]
fn ring_buffer_losses_are_counted_or_reported_as_unknown() {
    needs_root!();
    let (ran, produced) = flood(&ring("bpf_ringbuf_output(&events, &event, sizeof(event), 0)"), None);
    let shown = ran.out.lines().count();
    assert_eq!(shown + before(&ran.err, " in the kernel"), produced, "{}", ran.err);
    let source = format!("source events: {shown} events, losses not counted per buffer");
    assert!(ran.err.contains(&source), "{}", ran.err);

    let (ran, _) = flood(&ring("(bpf_ringbuf_output)(&events, &event, sizeof(event), 0)"), None);
    let is_open = "no losses known; ring buffer losses are not counted";
    assert!(ran.err.contains(is_open), "{}", ran.err);
}
