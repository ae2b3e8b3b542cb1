//! Replaces a running package under load from two threads: each event is handled by one version and delivered once, with its
//! own type. A failed replace changes nothing. Nothing is left behind.

mod support;

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use eunomia::vm::{Batch, ReplaceOptions};
use eunomia::{Event, Flow, Format, Kind, Options, Status, Vm};
use support::kernel::Watch;
use support::seen::Seen;

/// Each getsockopt(2) with this level by thread 0 or 1 is an event, whose number is the option.
const LEVEL: i32 = 0x1234;
const THREADS: u32 = 2;

/// Returns the source of a version. `event`: the members of its record in addition to the two numbers.
fn source(version: u32, event: &str, extra: &str) -> String {
    format!(
        r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
struct event {{ {event} u32 thread; u32 seq; }};
const volatile u32 wanted = 0;
u64 version = {version};
struct {{
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 1 << 18);
}} events SEC(".maps");
struct {{
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 2);
    __type(key, u32);
    __type(value, u64);
}} handled SEC(".maps");
{extra}
SEC("cgroup/getsockopt")
int on_call(struct bpf_sockopt *ctx)
{{
    u32 thread = ctx->level - {LEVEL};
    if (thread >= {THREADS} || !wanted)
        return 1;
    u64 *count = bpf_map_lookup_elem(&handled, &thread);
    if (count)
        *count += 1;
    struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
    if (!event)
        return 1;
    __builtin_memset(event, 0, sizeof(*event));
    event->thread = thread;
    event->seq = ctx->optname;
    bpf_ringbuf_submit(event, 0);
    return 1;
}}
char LICENSE[] SEC("license") = "GPL";
"#
    )
}

fn versions() -> [Vec<u8>; 2] {
    static MADE: Mutex<Option<[Vec<u8>; 2]>> = Mutex::new(None);
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    let compile =
        || [source(1, "", ""), source(2, "u64 more[2];", "")].map(|source| support::package(&source));
    made.get_or_insert_with(compile).clone()
}

/// A cgroup with this process. One test at a time.
struct Group {
    folder: PathBuf,
    root: PathBuf,
    _turn: MutexGuard<'static, ()>,
}

impl Group {
    fn new() -> Group {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let mounts = fs::read_to_string("/proc/mounts").expect("mounts");
        let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
        let root = PathBuf::from(mount.expect("cgroup2 is mounted").split(' ').nth(1).expect("a path"));
        let folder = root.join(format!("eunomia-replace-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a cgroup");
        fs::write(folder.join("cgroup.procs"), "0").expect("this process enters the cgroup");
        Group { folder, root, _turn: turn }
    }

    fn attached(&self, package: &[u8]) -> Vm {
        let vm = support::vm_with(Options::new()).0;
        vm.open(package, Kind::Json).expect("the package opens");
        let target = serde_json::json!({ "cgroup": self.folder.to_str() }).to_string();
        vm.prog_set_target_json("on_call", &target).expect("a target");
        vm.var_set_json("wanted", "1").expect("a variable");
        vm.attach().expect("the package attaches");
        vm
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        fs::write(self.root.join("cgroup.procs"), "0").expect("this process leaves the cgroup");
        fs::remove_dir(&self.folder).expect("the cgroup is empty");
    }
}

/// Produces one event.
fn call(socket: i32, thread: u32, seq: u32) {
    let (mut value, mut len) = (0u32, 4u32);
    // SAFETY: both pointers are valid; the kernel knows no such level and fails after the program has run.
    unsafe {
        libc::getsockopt(socket, LEVEL + thread as i32, seq as i32, (&raw mut value).cast(), &raw mut len);
    }
}

fn socket() -> i32 {
    // SAFETY: numbers only.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    assert!(socket >= 0, "a socket");
    socket
}

/// Threads that produce events until the end, each on one CPU.
struct Load {
    over: Arc<AtomicBool>,
    counts: Arc<[AtomicU32; THREADS as usize]>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    fn start() -> Load {
        let (over, counts) =
            (Arc::new(AtomicBool::new(false)), Arc::new([AtomicU32::new(0), AtomicU32::new(0)]));
        let run = |thread: u32| {
            let (over, counts) = (Arc::clone(&over), Arc::clone(&counts));
            move || {
                let socket = socket();
                while !over.load(SeqCst) {
                    let seq = counts[thread as usize].fetch_add(1, SeqCst);
                    call(socket, thread, seq);
                }
                // SAFETY: opened above.
                unsafe { libc::close(socket) };
            }
        };
        let threads = (0..THREADS).map(|thread| std::thread::spawn(run(thread))).collect();
        Load { over, counts, threads }
    }

    /// Ends the threads and returns the number of events of each.
    fn end(self) -> Vec<u32> {
        self.over.store(true, SeqCst);
        self.threads.into_iter().for_each(|thread| thread.join().expect("the load ends"));
        self.counts.iter().map(|count| count.load(SeqCst)).collect()
    }
}

fn handled(vm: &Vm) -> u64 {
    let count = |key: u32| {
        let mut value = vec![0; vm.map_find("handled").unwrap().value_size as usize * 64];
        let cpus = eunomia_cpus();
        value.resize(8 * cpus, 0);
        vm.map_get("handled", &key.to_ne_bytes(), &mut value).expect("a value");
        value.chunks(8).map(|value| u64::from_ne_bytes(value.try_into().unwrap())).sum::<u64>()
    };
    (0..THREADS).map(count).sum()
}

fn eunomia_cpus() -> usize {
    let text = fs::read_to_string("/sys/devices/system/cpu/possible").expect("CPUs");
    text.trim().rsplit(['-', ',']).next().unwrap().parse::<usize>().unwrap() + 1
}

/// Replaces `count` times under load, with polls in another thread.
fn under_load(count: usize, options: ReplaceOptions, queue: bool) {
    let group = Group::new();
    let watch = Watch::new();
    let [one, two] = versions();
    let vm = Arc::new(group.attached(&one));
    if queue {
        vm.queue_start(1 << 20).expect("a queue");
    }
    let seen = Arc::new(Mutex::new(Seen::default()));
    let failed = Arc::new(AtomicU64::new(0));
    let load = Load::start();
    let poller = {
        let (vm, seen, failed) = (Arc::clone(&vm), Arc::clone(&seen), Arc::clone(&failed));
        std::thread::spawn(move || {
            let mut take = |event: &Event<'_>| seen.lock().unwrap().take(event);
            while let Err(e) = vm.run(Format::Raw, &mut take) {
                failed.fetch_add(1, SeqCst);
                eprintln!("poll: {e}");
            }
        })
    };
    let mut from_old = 0;
    for turn in 0..count {
        let report = vm.replace([&two, &one][turn % 2], options).expect("the replace works");
        assert!(!report.unchanged);
        from_old += report.events_from_old();
    }
    let produced: u64 = load.end().iter().map(|&count| u64::from(count)).sum();
    vm.stop();
    poller.join().expect("the polls end");
    let mut seen = seen.lock().unwrap();
    while vm.poll(Some(Duration::ZERO), Format::Raw, |event| seen.take(event)).expect("the rest") > 0 {}
    if queue {
        vm.queue_stop().expect("the queue ends");
        while vm.poll(Some(Duration::ZERO), Format::Raw, |event| seen.take(event)).expect("the rest") > 0 {}
    }
    let (stats, handled) = (vm.stats(), handled(&vm));
    println!(
        "{count} replaces, {options:?}, queue {queue}: produced {produced}, handled {handled}, delivered {} ({:?} by \
         version, {from_old} from an old one after its end), lost {} + {}, twice {}, mistyped {}",
        stats.events, seen.by_version, stats.lost_kernel, stats.lost_queue, seen.twice, seen.mistyped
    );
    assert_eq!(failed.load(SeqCst), 0, "polls that failed");
    assert_eq!((seen.twice, seen.mistyped), (0, 0));
    assert_eq!(handled, produced);
    assert_eq!(stats.events, seen.count);
    assert_eq!(stats.events + stats.lost_kernel + stats.lost_queue, produced);
    assert_eq!(stats.replaces, count as u64);
    assert!(seen.by_version.iter().all(|&count| count > 0));
    drop(vm);
    watch.is_clean();
    drop(group);
}

#[test]
fn under_load_each_event_is_handled_and_delivered_once() {
    needs_root!();
    under_load(20, ReplaceOptions::default(), false);
}

#[test]
fn under_load_an_ordered_replace_delivers_each_event_once() {
    needs_root!();
    let mut options = ReplaceOptions::default();
    options.ordered = true;
    under_load(20, options, false);
}

#[test]
fn under_load_a_queue_delivers_the_events_of_all_versions() {
    needs_root!();
    under_load(20, ReplaceOptions::default(), true);
}

/// Returns the number of events of one call, and the size of its record.
fn one_event(vm: &Vm) -> (usize, usize) {
    let socket = socket();
    call(socket, 0, 7);
    // SAFETY: opened above.
    unsafe { libc::close(socket) };
    let mut size = 0;
    let count = vm.poll(Some(Duration::ZERO), Format::Raw, |event| {
        size = event.data.len();
        Flow::Continue
    });
    (count.expect("a poll"), size)
}

#[test]
fn a_failed_replace_changes_nothing() {
    needs_root!();
    let group = Group::new();
    let [one, two] = versions();
    let vm = group.attached(&one);
    assert!(vm.replace(&one, ReplaceOptions::default()).expect("the same").unchanged);
    let clean = Watch::new();
    let compile = |source: String| support::package(&source);
    let without_variable = compile(source(3, "", "").replace("wanted", "other"));
    let other_type =
        compile(source(3, "", "").replace("const volatile u32 wanted", "const volatile u64 wanted"));
    let endless = compile(source(3, "", "").replace("*count += 1;", "*(volatile u64 *)(count + 99) = 1;"));
    let renamed = compile(source(3, "", "").replace("on_call", "other_call"));
    let second = r#"SEC("tp/syscalls/sys_enter_getpgid") int more(void *ctx) { return 0; }"#;
    let second = compile(source(3, "", second));
    let tracing = r#"#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
const volatile u32 wanted = 0;
SEC("tp/syscalls/sys_enter_getpgid") int on_call(void *ctx) { return wanted; }
char LICENSE[] SEC("license") = "GPL";"#;
    let cases: [(&str, &[u8], Status); 6] = [
        ("garbage", b"{}", Status::Package),
        ("lacks a variable", &without_variable, Status::NotFound),
        ("another type of a variable", &other_type, Status::Type),
        ("does not verify", &endless, Status::Verifier),
        ("lacks the program with a target", &renamed, Status::NotFound),
        ("adds a program", &second, Status::Unsupported),
    ];
    for (what, package, status) in cases {
        let error = vm.replace(package, ReplaceOptions::default()).expect_err(what);
        println!("{what}: {error}");
        assert_eq!(error.status(), status, "{what}: {error}");
        assert_eq!(one_event(&vm), (1, 8), "after: {what}");
        clean.is_clean();
    }
    assert!(vm.replace(&compile(tracing.into()), ReplaceOptions::default()).is_err());
    clean.is_clean();
    // What is not a package for this machine.
    let mut package: serde_json::Value = serde_json::from_slice(&compile(source(3, "", ""))).expect("JSON");
    package["arch"] = "s390x".into();
    let other_machine = serde_json::to_vec(&package).expect("JSON");
    let cases: [(&str, &[u8], Status); 3] = [
        ("a WASM module", b"\0asm\x01\0\0\0", Status::Package),
        ("an object", b"\x7fELF\x02\x01\x01", Status::Package),
        ("another architecture", &other_machine, Status::Unsupported),
    ];
    for (what, data, status) in cases {
        let error = vm.replace(data, ReplaceOptions::default()).expect_err(what);
        println!("{what}: {error}");
        assert_eq!(error.status(), status, "{what}: {error}");
        assert_eq!(one_event(&vm), (1, 8), "after: {what}");
        clean.is_clean();
    }
    let socket = socket();
    call(socket, 0, 1);
    // SAFETY: opened above.
    unsafe { libc::close(socket) };
    let mut status = None;
    vm.poll(Some(Duration::ZERO), Format::Raw, |_| {
        status = vm.replace(&two, ReplaceOptions::default()).err().map(|e| e.status());
        Flow::Continue
    })
    .expect("a poll");
    assert_eq!(status, Some(Status::Busy));
    assert_eq!(one_event(&vm), (1, 8));
    assert_eq!(vm.stats().replaces, 0);
    // A pause delays the events of both versions.
    let socket = self::socket();
    call(socket, 0, 1);
    // SAFETY: opened above.
    unsafe { libc::close(socket) };
    vm.pause(true).expect("a pause");
    vm.replace(&two, ReplaceOptions::default()).expect("the second version runs");
    let delivered = vm.poll(Some(Duration::ZERO), Format::Raw, |_| Flow::Continue);
    assert_eq!(delivered.expect("a poll"), 0);
    vm.pause(false).expect("the end of the pause");
    let mut sizes = Vec::new();
    vm.poll(Some(Duration::ZERO), Format::Raw, |event| {
        sizes.push(event.data.len());
        Flow::Continue
    })
    .expect("a poll");
    assert_eq!((sizes, one_event(&vm)), (vec![8], (1, 24)));
    drop(vm);
    drop(group);
}

#[test]
fn maps_are_carried_over_if_they_mean_the_same() {
    needs_root!();
    let group = Group::new();
    let map = |value: &str, kind: &str, count: u32| {
        format!(
            "struct value {{ {value} }};\nstruct {{ __uint(type, BPF_MAP_TYPE_{kind}); __uint(max_entries, {count}); \
             __type(key, u32); __type(value, struct value); }} state SEC(\".maps\");"
        )
    };
    let first = map("u32 a; u32 b;", "HASH", 8);
    let vm = group.attached(&support::package(&source(1, "", &first)));
    vm.map_set_json("state", "1", r#"{"a":5,"b":6}"#, 0).expect("an entry");
    let cases = [
        (first.clone(), None),
        (map("u32 a; u32 c;", "HASH", 8), Some("another value type")),
        (map("u32 b; u32 a;", "HASH", 8), Some("another value type")),
        (map("u64 a;", "HASH", 8), Some("another value type")),
        (map("u32 a;", "HASH", 8), Some("another value size")),
        (map("u32 a; u32 b;", "HASH", 9), Some("another number of entries")),
        (map("u32 a; u32 b;", "PERCPU_HASH", 8), Some("another type")),
        (map("struct bpf_timer a;", "HASH", 8), Some("another value size")),
    ];
    for (index, (other, reason)) in cases.into_iter().enumerate() {
        let package = support::package(&source(index as u32 + 2, "", &other));
        if reason.is_some() {
            let mut strict = ReplaceOptions::default();
            strict.strict_maps = true;
            let error = vm.replace(&package, strict).expect_err("strict");
            assert_eq!(error.status(), Status::Type, "{error}");
            assert_eq!(vm.map_get_json("state", "1").expect("kept"), r#"{"a":5,"b":6}"#);
        }
        let report = vm.replace(&package, ReplaceOptions::default()).expect("the replace works").to_json();
        let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
        let maps = report["maps"].as_array().expect("maps");
        let state = maps.iter().find(|map| map["name"] == "state").expect("the map");
        assert_eq!(state["reason"].as_str(), reason, "{other}: {state}");
        assert_eq!(vm.map_get_json("state", "1").is_ok(), reason.is_none(), "{other}");
        let version: u32 = vm.var_get_json("version").expect("a variable").parse().expect("a number");
        assert_eq!(version, index as u32 + 2);
        assert_eq!(vm.var_get_json("wanted").expect("set again"), "1");
        if reason.is_some() {
            // Back to the first version, with a new entry.
            let again = support::package(&source(100 + index as u32, "", &first));
            vm.replace(&again, ReplaceOptions::default()).expect("back");
            vm.map_set_json("state", "1", r#"{"a":5,"b":6}"#, 0).expect("an entry");
        }
    }
    drop(vm);
    drop(group);
}

/// Whether the vm's descriptor becomes readable within `timeout_ms`.
fn is_readable(vm: &Vm, timeout_ms: i32) -> bool {
    let mut waited = libc::pollfd { fd: vm.epoll_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry.
    unsafe { libc::poll(&mut waited, 1, timeout_ms) == 1 }
}

#[test]
fn a_kept_record_of_the_old_version_keeps_its_type() {
    needs_root!();
    let group = Group::new();
    let [one, two] = versions();
    let vm = group.attached(&one);
    let socket = socket();
    call(socket, 0, 7);
    let read = vm.read(Some(Duration::ZERO), Format::Json, &mut [0; 4], &mut Batch::default());
    assert_eq!(read.expect_err("the record does not fit").status(), Status::TooSmall);
    vm.replace(&two, ReplaceOptions::default()).expect("a replace");
    call(socket, 0, 8);
    // SAFETY: opened above.
    unsafe { libc::close(socket) };
    let mut sizes = Vec::new();
    let mut take = |event: &Event<'_>| {
        sizes.push((event.data.len(), event.ty.expect("a type").size));
        Flow::Continue
    };
    // The source of the new version has one record; the kept one is from that of the old version.
    assert_eq!(vm.drain_to(0, u64::MAX, Format::Raw, &mut take).expect("a drain"), 1);
    assert_eq!(vm.poll(Some(Duration::ZERO), Format::Raw, &mut take).expect("a poll"), 1);
    assert_eq!(sizes, [(24, 24), (8, 8)]);
    drop(vm);
    drop(group);
}

#[test]
fn a_pause_covers_the_queue_of_the_old_version() {
    needs_root!();
    let group = Group::new();
    let [one, two] = versions();
    let vm = group.attached(&one);
    vm.queue_start(1 << 20).expect("a queue");
    let socket = socket();
    call(socket, 0, 7);
    // SAFETY: opened above.
    unsafe { libc::close(socket) };
    assert!(is_readable(&vm, 60_000), "the queue gets the event");
    vm.replace(&two, ReplaceOptions::default()).expect("a replace");
    // The new queue is empty and ends at once; that of the old version has the event.
    for _ in 0..2 {
        vm.queue_stop().expect("the queue ends");
        vm.pause(true).expect("a pause");
        assert!(!is_readable(&vm, 0));
        let paused = vm.poll(Some(Duration::ZERO), Format::Raw, |_| Flow::Continue);
        assert_eq!(paused.expect("a poll"), 0);
        vm.pause(false).expect("the end of the pause");
        vm.queue_start(1 << 20).expect("another queue");
        assert!(is_readable(&vm, 0));
    }
    let mut sizes = Vec::new();
    let count = vm.poll(Some(Duration::ZERO), Format::Raw, |event| {
        sizes.push(event.data.len());
        Flow::Continue
    });
    assert_eq!((count.expect("a poll"), sizes), (1, vec![8]));
    assert!(!is_readable(&vm, 0));
    drop(vm);
    drop(group);
}

#[test]
fn many_replaces_leave_nothing_behind() {
    needs_root!();
    let group = Group::new();
    let before = Watch::new();
    let [one, two] = versions();
    let vm = group.attached(&one);
    for package in [&two, &one] {
        vm.replace(package, ReplaceOptions::default()).expect("a replace");
    }
    let descriptors = || fs::read_dir("/proc/self/fd").expect("descriptors").count();
    let first = descriptors();
    for turn in 0..200 {
        vm.replace([&two, &one][turn % 2], ReplaceOptions::default()).expect("a replace");
        assert_eq!(one_event(&vm), (1, [24, 8][turn % 2]));
    }
    assert_eq!(descriptors(), first);
    drop(vm);
    before.is_clean();
    drop(group);
}
