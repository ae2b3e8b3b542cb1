//! Shared by these tests: guests from C and from text, a BPF program that reports what this thread does, and runs.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use eunomia::vm::WasmOptions;
use eunomia::{Error, Event, EventKind, Flow, Format, Kind, Options, Status, Vm};
use serde_json::{Value, json};

use crate::support;

/// One event per call of getpgid(2) by the thread `only_tid`, times `repeat`.
pub const CALLS: &str = include_str!("../data/bpf/getpgid.bpf.c");

/// Runs `make` once in this process for each key.
fn once(key: String, make: impl FnOnce() -> Vec<u8>) -> Vec<u8> {
    static MADE: Mutex<Option<HashMap<String, Vec<u8>>>> = Mutex::new(None);
    if let Some(made) = MADE.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().get(&key)
    {
        return made.clone();
    }
    let made = make();
    MADE.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().insert(key, made.clone());
    made
}

/// The package of `CALLS`, for this thread, with `repeat`.
pub fn calls(repeat: u32) -> String {
    let package = once("package".into(), || support::package(CALLS));
    let mut document: Value = serde_json::from_slice(&package).expect("a package is JSON");
    document["runtime_args"] = json!({ "only_tid": tid(), "repeat": repeat });
    document.to_string()
}

/// `CALLS` with a perf buffer in place of the ring buffer.
fn perf_source() -> String {
    let (head, rest) = CALLS.split_once("        struct event *event = ").unwrap();
    let (_, tail) = rest.split_once("        bpf_ringbuf_submit(event, 0);\n").unwrap();
    let body = "        struct event event = {.seq = __sync_fetch_and_add(&seen, 1), .tid = tid};\n        \
                bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, &event, sizeof(event));\n";
    let perf = "BPF_MAP_TYPE_PERF_EVENT_ARRAY);\n    __uint(key_size, 4);\n    __uint(value_size, 4);";
    let ring = "BPF_MAP_TYPE_RINGBUF);\n    __uint(max_entries, 256 * 1024);";
    format!("{head}{body}{tail}").replace(ring, perf)
}

/// The package of a perf buffer, for this thread.
pub fn perf_calls() -> String {
    let package = once("perf package".into(), || support::package(&perf_source()));
    let mut document: Value = serde_json::from_slice(&package).expect("a package is JSON");
    document["runtime_args"] = json!({ "only_tid": tid() });
    document.to_string()
}

/// The object of a perf buffer, for this thread.
pub fn perf_object() -> Vec<u8> {
    let source = perf_source().replace("only_tid = 0", &format!("only_tid = {}", tid()));
    let folder = support::compile(&source);
    std::fs::read(folder.path().join("test.bpf.o")).expect("ecc wrote an object")
}

/// Stops the vm after a time that is longer than any run, so that a test fails if its guest waits forever.
pub fn with_patience<T>(vm: &Vm, work: impl FnOnce() -> T) -> T {
    let (done, waiting) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            if waiting.recv_timeout(Duration::from_secs(30)) == Err(RecvTimeoutError::Timeout) {
                vm.stop();
            }
        });
        let result = work();
        drop(done);
        result
    })
}

/// Waits until the thread `tid` sleeps in one of these system calls, and returns the arguments of the call. Returns `None`
/// when `is_over` becomes true.
pub fn wait_until_blocked(tid: u32, calls: &[i64], is_over: &AtomicBool) -> Option<Vec<u64>> {
    while !is_over.load(SeqCst) {
        // The file holds "running" while the thread does not sleep.
        let line = std::fs::read_to_string(format!("/proc/self/task/{tid}/syscall")).unwrap_or_default();
        let mut fields = line.split_whitespace();
        if fields.next().and_then(|number| number.parse().ok()).is_some_and(|number| calls.contains(&number))
        {
            let hex = |field: &str| u64::from_str_radix(field.trim_start_matches("0x"), 16).ok();
            return Some(fields.filter_map(hex).collect());
        }
        std::thread::yield_now();
    }
    None
}

/// System calls in which a vm waits for events.
pub const WAITS: [i64; 2] = [libc::SYS_epoll_wait, libc::SYS_epoll_pwait];

/// The object of `CALLS`, for this thread, with `repeat`.
pub fn object(repeat: u32) -> Vec<u8> {
    once(format!("object {} {repeat}", tid()), || {
        let source = CALLS
            .replace("only_tid = 0", &format!("only_tid = {}", tid()))
            .replace("repeat = 1", &format!("repeat = {repeat}"));
        let folder = support::compile(&source);
        std::fs::read(folder.path().join("test.bpf.o")).expect("ecc wrote an object")
    })
}

/// This thread's id: tests run as threads of one process.
pub fn tid() -> u32 {
    // SAFETY: no arguments.
    unsafe { libc::gettid() as u32 }
}

/// Causes `times` events if a program is attached.
pub fn call(times: usize) {
    for _ in 0..times {
        // SAFETY: no pointers.
        unsafe { libc::getpgid(0) };
    }
}

/// Returns a C string literal with these bytes.
pub fn literal(bytes: &[u8]) -> String {
    let text: String = bytes.iter().map(|byte| format!("\\{byte:03o}")).collect();
    format!("\"{text}\"")
}

/// Compiles tests/data/guests/NAME.c with the macros `defines`. The guest has `package` as the array `package`.
pub fn guest(name: &str, defines: &[&str], package: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let header = format!("static const char package[] = {};\n", literal(package));
    std::fs::write(folder.path().join("package.h"), header).expect("the header is written");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/guests/{name}.c"));
    let module = folder.path().join("guest.wasm");
    let made = Command::new("clang")
        .args(["--target=wasm32", "-nostdlib", "-O1", "-Wall", "-Wextra", "-Werror", "-fno-builtin"])
        .args(["-Wl,--no-entry", "-Wl,--allow-undefined", "-Wl,--export-table", "-I"])
        .arg(folder.path())
        .args(defines.iter().map(|define| format!("-D{define}")))
        .arg(source)
        .arg("-o")
        .arg(&module)
        .output()
        .expect("clang runs");
    assert!(made.status.success(), "clang: {}", String::from_utf8_lossy(&made.stderr));
    std::fs::read(module).expect("clang wrote a module")
}

/// Compiles tests/data/guests/NAME.c with wasi-libc.
pub fn wasi_libc_guest(name: &str, defines: &[&str]) -> Vec<u8> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/guests/{name}.c"));
    let module = tempfile::NamedTempFile::new().expect("a temporary file");
    let made = Command::new("clang")
        .args([
            "--target=wasm32-wasi",
            "-mexec-model=reactor",
            "-O1",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-D_GNU_SOURCE",
        ])
        .args(defines.iter().map(|define| format!("-D{define}")))
        .arg(source)
        .arg("-o")
        .arg(module.path())
        .output()
        .expect("clang runs");
    assert!(made.status.success(), "clang: {}", String::from_utf8_lossy(&made.stderr));
    std::fs::read(module.path()).expect("clang wrote a module")
}

/// A module from its text.
pub fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// A module whose `bpf_main` is `body`, with two pages of memory and the definitions `items`.
pub fn main_of(items: &str, body: &str) -> Vec<u8> {
    wat(&format!(
        r#"(module {items} (memory (export "memory") 2)
           (func (export "bpf_main") (param i32 i32) (result i32) {body}))"#
    ))
}

/// A vm with this module open.
pub fn opened(module: &[u8], wasm: WasmOptions) -> Vm {
    let (vm, _) = support::vm_with(Options::new().wasm(wasm));
    assert_eq!(vm.open(module, Kind::Json | Kind::Wasm).expect("it opens"), Kind::Wasm);
    vm
}

/// The output and the events of a run.
#[derive(Default, Debug)]
pub struct Seen {
    /// Lines of output.
    pub lines: Vec<String>,
    /// Events.
    pub events: Vec<Vec<u8>>,
}

impl Seen {
    /// The events as JSON.
    pub fn json(&self) -> Vec<Value> {
        self.events.iter().map(|event| serde_json::from_slice(event).expect("JSON")).collect()
    }

    /// The member `seq` of each.
    pub fn seqs(&self) -> Vec<u64> {
        self.json().iter().map(|event| event["seq"].as_u64().expect("a number")).collect()
    }
}

/// Runs a guest that prints "ready" when its programs run. Calls getpgid `ready` times then. The run ends with event
/// number `until`.
pub fn run_until(vm: &Vm, format: Format, ready: usize, until: usize) -> (Result<i32, Error>, Seen) {
    let mut seen = Seen::default();
    let result = vm.wasm_run(&["guest"], format, |event: &Event<'_>| {
        match event.kind {
            EventKind::Output => {
                let line = String::from_utf8(event.data.to_vec()).expect("UTF-8");
                if line == "ready" {
                    call(ready);
                }
                seen.lines.push(line);
            }
            EventKind::Sample | EventKind::MapEntry => seen.events.push(event.data.to_vec()),
            _ => {}
        }
        if until > 0 && seen.events.len() >= until { Flow::End } else { Flow::Continue }
    });
    (result, seen)
}

/// Runs a guest to its end.
pub fn run(vm: &Vm) -> (Result<i32, Error>, Seen) {
    run_until(vm, Format::Json, 0, 0)
}

/// Runs a module to its end.
pub fn run_module(module: &[u8]) -> (Result<i32, Error>, Seen) {
    run(&opened(module, WasmOptions::new()))
}

/// The exit code of a module.
#[track_caller]
pub fn exit_code(module: &[u8]) -> i32 {
    run_module(module).0.expect("it runs to its end")
}

/// Returns the error of something that must fail. Its message must contain each of `words`.
#[track_caller]
pub fn refused<T: std::fmt::Debug>(result: Result<T, Error>, status: Status, words: &[&str]) -> Error {
    let error = result.expect_err("this must fail");
    assert_eq!(error.status(), status, "{error} ({})", error.detail());
    let missing: Vec<_> = words.iter().filter(|word| !error.message().contains(**word)).collect();
    assert!(missing.is_empty(), "{missing:?} not in: {error} ({})", error.detail());
    error
}
