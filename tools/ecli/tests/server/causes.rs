//! Packages with an event for each start of a program, and what starts these programs.
//!
//! Each package observes only programs whose names begin in one way. So a test has only the events that it has caused itself, whatever
//! other tests do and however slow the machine is.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::folder;
use crate::support::compile;

/// The beginning of each of these packages: whether the current program has one of the names.
const NAMED: &str = r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
char LICENSE[] SEC("license") = "GPL";
static __always_inline int is_named(const char *comm)
{
    const char names[] = NAMES;
#pragma unroll
    for (int i = 0; i < sizeof(names) - 1; i++)
        if (comm[i] != names[i])
            return 0;
    return 1;
}
"#;

/// Sends an event at each start of a program, with its consecutive number and the version of the package.
const COUNTED: &str = r#"
struct event { unsigned long long number; unsigned int version; unsigned int extra; char comm[16]; };
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 20); } events SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, unsigned int); __type(value, unsigned long long); } counter SEC(".maps");
/// @cmdarg {"long": "extra", "help": "a number in each event"}
const volatile unsigned int extra = 0;
SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *task)
{
    char comm[16];
    bpf_get_current_comm(comm, sizeof(comm));
    if (!is_named(comm))
        return 0;
    unsigned int zero = 0;
    unsigned long long *count = bpf_map_lookup_elem(&counter, &zero);
    struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
    if (!event)
        return 0;
    event->number = count ? __sync_fetch_and_add(count, 1) : 0;
    event->version = VERSION;
    event->extra = extra;
    __builtin_memcpy(event->comm, comm, sizeof(comm));
    bpf_ringbuf_submit(event, 0);
    return 0;
}
"#;

/// The paths of the packages that this process has compiled, by their source text.
static COMPILED: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());

/// A version of the package that counts the programs whose names begin with `marker`, as the path of its file.
pub fn counted(version: u32) -> String {
    counted_of(version, "marker")
}

/// A version of the package that counts the programs whose names begin with `names`.
pub fn counted_of(version: u32, names: &str) -> String {
    package_of(names, &format!("#define VERSION {version}\n{COUNTED}"))
}

/// Compiles a package that can ask whether a program has a name that begins with `names`, once for all tests.
pub fn package_of(names: &str, source: &str) -> String {
    let source = format!("#define NAMES {names:?}\n{NAMED}{source}");
    let mut all = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(path) = all.get(&source) {
        return path.clone();
    }
    // The file stays for the other tests. The next run of the tests replaces it.
    let kept = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("{}.json", crate::support::sha256(source.as_bytes())));
    let compiled = compile(&source);
    let draft = kept.with_extension(std::process::id().to_string());
    std::fs::copy(compiled.path().join("package.json"), &draft).expect("a copy");
    std::fs::rename(&draft, &kept).expect("it is in the same directory");
    let path = kept.to_str().expect("UTF-8").to_owned();
    all.insert(source, path.clone());
    path
}

/// A program that can be recognised in events.
pub struct Marker {
    folder: tempfile::TempDir,
}

impl Marker {
    pub fn new() -> Marker {
        Marker { folder: folder() }
    }

    /// Runs the program under this name, at most 15 bytes.
    pub fn run(&self, name: &str) {
        let path = self.folder.path().join(name);
        if !path.exists() {
            // The kernel takes the name of the link. A copy could not be executed while a child of another test has it open.
            symlink("/bin/true", &path).expect("a link");
        }
        assert!(Command::new(path).stdin(Stdio::null()).status().expect("it runs").success());
    }
}

/// Causes events, one after the other, until it is stopped or dropped. It waits for the reader of the events, so none is lost only because
/// the machine is slow.
pub struct Load {
    /// The number of events that were read.
    read: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Load {
    /// Starts programs with this name. At most 200 starts wait until a test has read their events; all buffers have space for more.
    pub fn start(name: &'static str) -> Load {
        let marker = Marker::new();
        Load::of(200, move |_| marker.run(name))
    }

    /// Calls `cause` with consecutive numbers, each of which causes events. At most `ahead` calls wait until a test has read their events.
    pub fn of(ahead: u64, cause: impl Fn(u64) + Send + 'static) -> Load {
        let (read, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (seen, ends) = (Arc::clone(&read), Arc::clone(&is_over));
        let run = move || {
            let mut caused = 0;
            while !ends.load(Relaxed) {
                if caused >= seen.load(Relaxed).saturating_add(ahead) {
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                }
                cause(caused);
                caused += 1;
            }
            caused
        };
        Load { read, is_over, thread: Some(std::thread::spawn(run)) }
    }

    /// Records the number of calls whose events were read. `u64::MAX`: it never waits.
    pub fn has_read(&self, count: u64) {
        self.read.store(count, Relaxed);
    }

    /// Stops it. Returns the number of calls.
    pub fn stop(mut self) -> u64 {
        self.is_over.store(true, Relaxed);
        self.thread.take().expect("it runs").join().expect("it does not panic")
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.is_over.store(true, Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
