//! What these tests share: sources, packages made of them once, and the look before and after.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use eunomia::package::Package;
use eunomia::{Error, Event, EventKind, Flow, Format, Kind, Status, Vm};
use serde_json::Value;

use crate::support::{self, kernel::Watch};

/// Far beyond what an event takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// One event per call of getpgid(2) by the thread `only_tid`, from two programs; variables of many kinds.
pub const CALLS: &str = r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

struct event {
    u64 seq;
    u32 tid;
    char comm[16];
};

const volatile u32 only_tid = 0;
u64 seen = 0;

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 64 * 1024);
} events SEC(".maps");

static int report(void)
{
    u32 tid = bpf_get_current_pid_tgid();
    if (tid != only_tid)
        return 0;
    struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
    if (!event)
        return 0;
    event->seq = __sync_fetch_and_add(&seen, 1);
    event->tid = tid;
    bpf_get_current_comm(event->comm, sizeof(event->comm));
    bpf_ringbuf_submit(event, 0);
    return 0;
}

SEC("tp/syscalls/sys_enter_getpgid")
int on_enter(void *ctx)
{
    return report();
}

SEC("tp/syscalls/sys_exit_getpgid")
int on_exit(void *ctx)
{
    return report();
}

char LICENSE[] SEC("license") = "GPL";
"#;

/// The package of a source; compiled once in this process.
pub fn package(source: &'static str) -> Vec<u8> {
    static MADE: Mutex<Option<HashMap<&str, Vec<u8>>>> = Mutex::new(None);
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    made.get_or_insert_default().entry(source).or_insert_with(|| support::package(source)).clone()
}

/// What was there before a test. Tests take turns, so that what is new is theirs; at the end all of it must be gone.
pub struct Clean {
    watch: Watch,
    _turn: MutexGuard<'static, ()>,
}

impl Clean {
    pub fn new() -> Clean {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        Clean { watch: Watch::new(), _turn: turn }
    }

    /// Nothing is loaded or attached, although the vm is still there.
    pub fn nothing_in_kernel(&self) {
        self.watch.kernel_is_clean();
    }
}

impl Drop for Clean {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.watch.is_clean();
        }
    }
}

/// The error of a call that must fail: its status, and a text of one line that contains each of `words`.
#[track_caller]
pub fn refused<T: std::fmt::Debug>(result: Result<T, Error>, status: Status, words: &[&str]) -> Error {
    let error = result.expect_err("this call must fail");
    assert_eq!(error.status, status, "{error} ({})", error.detail);
    let line = error.to_string();
    let missing: Vec<_> = words.iter().filter(|word| !line.contains(**word)).collect();
    assert!(missing.is_empty(), "{missing:?} not in: {line} ({})", error.detail);
    assert!(!line.contains('\n') && !line.ends_with('.'), "not one plain line: {line}");
    error
}

/// Opens what must be refused: the vm stays empty and takes a good package afterwards.
#[track_caller]
pub fn open_refused(data: &[u8], status: Status, words: &[&str]) -> Error {
    let clean = Clean::new();
    let good = package(CALLS);
    let vm = support::vm();
    let error = refused(vm.open(data, Kind::Json as u32), status, words);
    refused(vm.load(), Status::State, &["no package is open"]);
    vm.open(&good, Kind::Json as u32).expect("the vm is as good as new");
    clean.nothing_in_kernel();
    drop(vm);
    drop(clean);
    error
}

/// Loads what must be refused, twice: the package stays open.
#[track_caller]
pub fn load_refused(vm: &Vm, clean: &Clean, status: Status, words: &[&str]) -> Error {
    let first = refused(vm.load(), status, words);
    clean.nothing_in_kernel();
    let again = refused(vm.attach(), status, words);
    assert_eq!(first.message, again.message);
    clean.nothing_in_kernel();
    first
}

/// The package with its JSON changed.
pub fn edited(package: &[u8], edit: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut document = serde_json::from_slice(package).expect("a package is JSON");
    edit(&mut document);
    document.to_string().into_bytes()
}

/// The object of a package.
pub fn object(package: &[u8]) -> Vec<u8> {
    Package::parse(package).expect("a good package").object
}

/// The package around another object.
pub fn with_object(package: &[u8], object: &[u8]) -> Vec<u8> {
    edited(package, |document| {
        document["bpf_object"] = packed(object).into();
        document["bpf_object_size"] = object.len().into();
    })
}

/// Bytes as the object of a package is written.
fn packed(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(miniz_oxide::deflate::compress_to_vec_zlib(bytes, 6))
}

/// This thread's id: tests run as threads of one process.
pub fn tid() -> u32 {
    // SAFETY: no arguments.
    unsafe { libc::gettid() as u32 }
}

/// Keeps this thread on the CPU it runs on: what a perf buffer lost is told with the next record of the same CPU.
pub fn stay_on_this_cpu() {
    // SAFETY: the set is a plain bit set of the size that is told, and the CPU is one of its bits.
    let done = unsafe {
        let mut cpus: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(libc::sched_getcpu() as usize, &mut cpus);
        libc::sched_setaffinity(0, size_of_val(&cpus), &cpus)
    };
    assert_eq!(done, 0);
}

/// Calls getpgid(2), which the programs watch.
pub fn call(times: usize) {
    for _ in 0..times {
        // SAFETY: no pointers.
        unsafe { libc::getpgid(0) };
    }
}

/// An event as a test looks at it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub kind: EventKind,
    pub source: String,
    pub data: Vec<u8>,
    pub key: Vec<u8>,
}

impl Seen {
    fn new(event: &Event<'_>) -> Seen {
        let (kind, source) = (event.kind, event.source.to_string_lossy().into_owned());
        Seen { kind, source, data: event.data.to_vec(), key: event.key.to_vec() }
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.data).expect("UTF-8")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.data).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }
}

/// Polls until `count` events have come (or more, in the last batch), or the patience ends.
pub fn events(vm: &Vm, format: Format, count: usize) -> Vec<Seen> {
    let deadline = Instant::now() + PATIENCE;
    let mut seen = Vec::new();
    while seen.len() < count {
        assert!(Instant::now() < deadline, "only these of {count} came: {seen:?}");
        let polled = vm.poll(100, format, &mut |event| {
            seen.push(Seen::new(event));
            Flow::Continue
        });
        polled.expect("poll works");
    }
    seen
}

/// Polls until nothing comes for a while, and says how many events it were.
pub fn drain(vm: &Vm) -> usize {
    let mut total = 0;
    loop {
        match vm.poll(200, Format::Raw, &mut |_| Flow::Continue).expect("poll works") {
            0 => return total,
            count => total += count,
        }
    }
}
