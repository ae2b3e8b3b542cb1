//! Shared set-up: sources, packages that are compiled once, and checks that nothing is left behind.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use eunomia::package::Package;
use eunomia::{Error, Event, EventKind, Flow, Format, Kind, Status, Vm};
use serde_json::Value;

use crate::support::{self, kernel::Watch};

/// Much longer than any event takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A BPF source: these lines with the usual headers and license.
macro_rules! source {
    ($($lines:literal),+) => {
        concat!(
            "#include \"vmlinux.h\"\n#include <bpf/bpf_helpers.h>\n#include <bpf/bpf_tracing.h>\n",
            $($lines,)+
            "\nchar LICENSE[] SEC(\"license\") = \"GPL\";\n"
        )
    };
}
pub(crate) use source;

/// A map that is pinned by name, and a program that uses it.
pub const PINNED: &str = source!(
    r#"
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __uint(pinning, LIBBPF_PIN_BY_NAME);
    __type(key, u32);
    __type(value, u64);
} PPPPPPPPPPPP SEC(".maps");
SEC("tp/syscalls/sys_enter_getpgid")
int on_enter(void *ctx)
{
    u32 key = 0;
    bpf_map_lookup_elem(&PPPPPPPPPPPP, &key);
    return 0;
}
"#
);

/// One event per call of getpgid(2) by the thread `only_tid`, from two programs.
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

/// Returns the package of a source, which is compiled once per process.
pub fn package(source: &'static str) -> Vec<u8> {
    static MADE: Mutex<Option<HashMap<&str, Vec<u8>>>> = Mutex::new(None);
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    made.get_or_insert_default().entry(source).or_insert_with(|| support::package(source)).clone()
}

/// The state before a test. Tests run one after the other, so everything new belongs to the test, and must be gone at its end.
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

    /// Checks that nothing is loaded or attached while the vm exists.
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

/// Checks that a call failed with a status and a one-line message that contains each of `words`. Returns the error.
#[track_caller]
pub fn refused<T: std::fmt::Debug>(result: Result<T, Error>, status: Status, words: &[&str]) -> Error {
    let error = result.expect_err("this call must fail");
    assert_eq!(error.status(), status, "{error} ({})", error.detail());
    let line = error.to_string();
    let missing: Vec<_> = words.iter().filter(|word| !line.contains(**word)).collect();
    assert!(missing.is_empty(), "{missing:?} not in: {line} ({})", error.detail());
    assert!(!line.contains('\n') && !line.ends_with('.'), "not one plain line: {line}");
    error
}

/// Opens a package that must be refused. The vm stays empty and accepts a good package afterwards.
#[track_caller]
pub fn open_refused(data: &[u8], status: Status, words: &[&str]) -> Error {
    let clean = Clean::new();
    let good = package(CALLS);
    let vm = support::vm();
    let error = refused(vm.open(data, Kind::Json), status, words);
    refused(vm.load(), Status::State, &["no package is open"]);
    vm.open(&good, Kind::Json).expect("the vm is as good as new");
    clean.nothing_in_kernel();
    drop(vm);
    drop(clean);
    error
}

/// Loads a package that must be refused, twice. The package stays open.
#[track_caller]
pub fn load_refused(vm: &Vm, clean: &Clean, status: Status, words: &[&str]) -> Error {
    let first = refused(vm.load(), status, words);
    clean.nothing_in_kernel();
    let again = refused(vm.attach(), status, words);
    assert_eq!(first.message(), again.message());
    clean.nothing_in_kernel();
    first
}

/// Returns a package with changed JSON.
pub fn edited(package: &[u8], edit: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut document = serde_json::from_slice(package).expect("a package is JSON");
    edit(&mut document);
    document.to_string().into_bytes()
}

/// Returns the object of a package.
pub fn object(package: &[u8]) -> Vec<u8> {
    Package::parse(package).expect("a good package").object
}

/// Returns a package with another object.
pub fn with_object(package: &[u8], object: &[u8]) -> Vec<u8> {
    edited(package, |document| {
        document["bpf_object"] = packed(object).into();
        document["bpf_object_size"] = object.len().into();
    })
}

/// Encodes bytes like the object of a package.
fn packed(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(miniz_oxide::deflate::compress_to_vec_zlib(bytes, 6))
}

/// Returns the id of this thread. Tests run as threads of one process.
pub fn tid() -> u32 {
    // SAFETY: no arguments.
    unsafe { libc::gettid() as u32 }
}

/// Pins this thread to its current CPU. The kernel reports lost perf records with the next record of the same CPU.
pub fn stay_on_this_cpu() {
    // SAFETY: the set is a bit set of that size, and the CPU is one of its bits.
    let done = unsafe {
        let mut cpus: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(libc::sched_getcpu() as usize, &mut cpus);
        libc::sched_setaffinity(0, size_of_val(&cpus), &cpus)
    };
    assert_eq!(done, 0);
}

/// Calls getpgid(2), which the programs trace.
pub fn call(times: usize) {
    for _ in 0..times {
        // SAFETY: no pointers.
        unsafe { libc::getpgid(0) };
    }
}

/// A copy of an event.
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

/// Polls until at least `count` events have arrived. Fails after `PATIENCE`.
pub fn events(vm: &Vm, format: Format, count: usize) -> Vec<Seen> {
    let deadline = Instant::now() + PATIENCE;
    let mut seen = Vec::new();
    while seen.len() < count {
        assert!(Instant::now() < deadline, "only these of {count} came: {seen:?}");
        let polled = vm.poll(Some(Duration::from_millis(100)), format, |event| {
            seen.push(Seen::new(event));
            Flow::Continue
        });
        polled.expect("poll works");
    }
    seen
}

/// Polls until no event arrives for a while. Returns the number of events.
pub fn drain(vm: &Vm) -> usize {
    let mut total = 0;
    loop {
        match vm.poll(Some(Duration::from_millis(200)), Format::Raw, |_| Flow::Continue).expect("poll works")
        {
            0 => return total,
            count => total += count,
        }
    }
}
