//! One process loads a package, and another one without any privilege reads its events. Each event is delivered once or
//! counted as lost, and nothing is left when both have ended.

mod support;

use std::collections::{BTreeMap, HashSet};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use eunomia::vm::{Exported, FdRole, ReplaceOptions};
use eunomia::{Event, EventKind, Flow, Format, Kind, Options, Status, Vm};
use support::kernel::Watch;
use support::passing::{drop_privileges, receive, receive_fds, send, send_fds};

/// Each call sends an event to a ring buffer and one to a perf buffer, and counts in a map that is sampled.
fn source(version: u32, more: &str) -> String {
    format!(
        r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
struct event {{ u32 version; u32 tag; u64 number; {more} }};
const volatile u32 wanted = 0;
const volatile u32 tag = 0;
u32 version = {version};
struct {{ __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, u32); __type(value, u64); }} produced SEC(".maps");
struct {{ __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 16); __type(value, struct event); }} ring SEC(".maps");
/// @export_type event
struct {{ __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __uint(key_size, 4); __uint(value_size, 4); }} perf SEC(".maps");
/// @sample {{"interval":50}}
struct {{ __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 1024); __type(key, u32); __type(value, u64); }} counts SEC(".maps");
SEC("tp/syscalls/sys_enter_getpgid")
int on_call(struct trace_event_raw_sys_enter *ctx)
{{
    u32 zero = 0, cpu = bpf_get_smp_processor_id();
    u64 *next = bpf_map_lookup_elem(&produced, &zero);
    if (bpf_get_current_pid_tgid() >> 32 != wanted || !next)
        return 0;
    struct event event = {{ .version = {version}, .tag = tag, .number = __sync_fetch_and_add(next, 1) }};
    u64 one = 1, *count = bpf_map_lookup_elem(&counts, &cpu);
    if (count)
        __sync_fetch_and_add(count, 1);
    else
        bpf_map_update_elem(&counts, &cpu, &one, BPF_ANY);
    bpf_ringbuf_output(&ring, &event, sizeof(event), 0);
    bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, &event, sizeof(event));
    return 0;
}}
char LICENSE[] SEC("license") = "GPL";
"#
    )
}

fn package() -> Vec<u8> {
    support::package(&source(1, ""))
}

const TAG: u32 = 77;

/// A child that runs the same test as a reader. Its standard input is the socket.
struct Reader {
    process: Child,
    socket: UnixStream,
}

/// The counts of a reader, by name.
type Counts = BTreeMap<String, u64>;

impl Reader {
    fn start(test: &str, package: &[u8], exported: &Exported) -> Reader {
        let (mut socket, theirs) = UnixStream::pair().expect("a pair of sockets");
        let mut child = Command::new(std::env::current_exe().expect("a test knows where it is"));
        child.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(READER, "1");
        child.stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)));
        let process = child.spawn().expect("the child starts");
        send(&mut socket, package);
        pass(&mut socket, exported);
        assert_eq!(receive(&mut socket), b"ready");
        Reader { process, socket }
    }

    /// Makes the reader call `commit` or `rollback`.
    fn tell(&mut self, what: &str) {
        send(&mut self.socket, what.as_bytes());
        assert_eq!(receive(&mut self.socket), b"done", "{what}");
    }

    /// Makes the reader adopt a version.
    fn adopts(&mut self, package: &[u8], exported: &Exported) {
        send(&mut self.socket, b"adopt");
        send(&mut self.socket, package);
        pass(&mut self.socket, exported);
        assert_eq!(receive(&mut self.socket), b"done", "adopt");
    }

    /// Ends the reader, when it has delivered everything or at once, and returns its counts.
    fn end(mut self, how: &str) -> Counts {
        send(&mut self.socket, how.as_bytes());
        let counts = serde_json::from_slice(&receive(&mut self.socket)).expect("counts");
        assert!(self.process.wait().expect("the child ends").success(), "the reader");
        counts
    }
}

const READER: &str = "EUNOMIA_TEST_READER";

fn pass(socket: &mut UnixStream, exported: &Exported) {
    send(socket, exported.description().as_bytes());
    send(socket, &(exported.fds().len() as u64).to_ne_bytes());
    send_fds(socket, &exported.fds());
}

fn take(socket: &mut UnixStream) -> Exported {
    let description = String::from_utf8(receive(socket)).expect("text");
    let count = u64::from_ne_bytes(receive(socket).try_into().expect("a number"));
    Exported::from_parts(&description, receive_fds(socket, count as usize)).expect("descriptors")
}

/// Calls getpgid(2) in two threads until the end.
struct Load {
    over: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    fn start() -> Load {
        let (over, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let run = || {
            let (over, calls) = (Arc::clone(&over), Arc::clone(&calls));
            std::thread::spawn(move || {
                while !over.load(SeqCst) {
                    // SAFETY: a number only.
                    unsafe { libc::getpgid(0) };
                    // Without the pause nearly all events would be lost.
                    if calls.fetch_add(1, SeqCst) % 512 == 0 {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
            })
        };
        let threads = (0..2).map(|_| run()).collect();
        Load { over, calls, threads }
    }

    fn reaches(&self, calls: u64) {
        while self.calls.load(SeqCst) < calls {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Ends the threads and returns the number of calls.
    fn end(self) -> u64 {
        self.over.store(true, SeqCst);
        self.threads.into_iter().for_each(|thread| thread.join().expect("the load ends"));
        self.calls.load(SeqCst)
    }
}

fn socket_of_the_reader() -> Option<UnixStream> {
    std::env::var_os(READER)?;
    // SAFETY: the parent has made it the standard input, which nothing else uses.
    Some(unsafe { std::os::fd::FromRawFd::from_raw_fd(0) })
}

/// Checks what a reader may and may not do.
fn check_reader(vm: &Vm, package: &[u8]) {
    let refused = [
        vm.load(),
        vm.attach(),
        vm.detach(),
        vm.var_set_json("version", "1"),
        vm.prog_set_target_json("on_call", "{}"),
        vm.map_set_max_entries("ring", 4096),
        vm.replace(package, Default::default()).map(drop),
    ];
    for result in refused {
        let error = result.expect_err("a reader changes nothing");
        assert_eq!(error.status(), Status::State, "{error}");
        assert!(error.to_string().contains("imported"), "{error}");
    }
    assert_eq!(vm.export().map(drop).expect_err("not its own").status(), Status::State);
    assert_eq!(vm.var_get_json("tag").expect("a constant of the loader"), TAG.to_string());
    let description: serde_json::Value =
        serde_json::from_str(&vm.describe().expect("a description")).expect("JSON");
    assert_eq!(description["state"], "imported");
    let own = support::opened(package);
    assert_eq!(own.load().expect_err("no privilege").status(), Status::Perm);
}

/// Reads until the parent ends the reader. `is_queued`: through a queue.
fn read(mut socket: UnixStream, is_queued: bool) {
    drop_privileges();
    let package = receive(&mut socket);
    let exported = take(&mut socket);
    let vm = Arc::new(Vm::import(&package, exported, Options::new()).expect("the import"));
    check_reader(&vm, &package);
    let mut counts = Counts::new();
    let mut seen = HashSet::new();
    if is_queued {
        // The queue is so large that no entry of the sampled map is dropped, which would be counted as a loss too.
        vm.queue_start(64 << 20).expect("a queue");
    }
    send(&mut socket, b"ready");
    let asked = Arc::clone(&vm);
    let waiter = std::thread::spawn(move || {
        loop {
            let told = receive(&mut socket);
            match &*told {
                b"adopt" => {
                    let package = receive(&mut socket);
                    asked.adopt(&package, take(&mut socket)).expect("the vm adopts the next version");
                    assert!(!asked.drained().expect("an answer"), "the old version is not committed");
                }
                b"commit" => asked.commit().expect("the old version ends"),
                b"commit_is_refused" => {
                    let error = asked.commit().expect_err("nothing is kept");
                    assert_eq!(error.status(), Status::State, "{error}");
                }
                b"rollback" => drop(asked.rollback().expect("the old version goes on")),
                _ => {
                    asked.stop();
                    return (socket, told);
                }
            }
            send(&mut socket, b"done");
        }
    });
    let mut count = |event: &Event<'_>| {
        if event.kind != EventKind::Sample {
            *counts.entry(format!("{:?}", event.kind)).or_default() += 1;
            return Flow::Continue;
        }
        let (name, ty) = (event.source.to_string_lossy().into_owned(), event.ty.expect("a type"));
        assert_eq!((&*ty.name, ty.size), ("struct event", event.data.len()));
        let number = u64::from_ne_bytes(event.data[8..16].try_into().expect("a number"));
        let word = |at: usize| u32::from_ne_bytes(event.data[at..at + 4].try_into().expect("a number"));
        assert_eq!((word(0) == 2, word(4)), (event.data.len() > 16, TAG));
        *counts.entry(format!("of version {}", word(0))).or_default() += 1;
        assert!(seen.insert((name.clone(), number)), "{name}: {number} came twice");
        *counts.entry(name).or_default() += 1;
        Flow::Continue
    };
    vm.run(Format::Raw, &mut count).expect("the polls");
    let (mut socket, how) = waiter.join().expect("the parent");
    if is_queued {
        vm.queue_stop().expect("the queue ends");
    }
    while how == b"all" && vm.poll(Some(Duration::ZERO), Format::Raw, &mut count).expect("the rest") > 0 {}
    let stats = vm.stats();
    counts.insert("delivered".into(), stats.events);
    counts.insert("lost".into(), stats.lost_kernel + stats.lost_queue);
    let produced = vm.map_get_json("produced", "0").expect("an entry").parse().expect("a number");
    if how == b"all" {
        assert!(vm.drained().expect("an answer"), "nothing of older versions is left");
    }
    counts.insert("produced".into(), produced);
    let entries = vm.map_each("counts", Format::Json, |_| Flow::Continue).expect("entries");
    counts.insert("entries".into(), entries as u64);
    send(&mut socket, &serde_json::to_vec(&counts).expect("JSON"));
}

/// One test at a time: the programs of all count the calls of this process.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn attached(package: &[u8]) -> Vm {
    let vm = support::vm_with(Options::new().perf_pages(8).replaceable(true)).0;
    vm.open(package, Kind::Json).expect("the package opens");
    vm.var_set_json("wanted", &std::process::id().to_string()).expect("a variable");
    vm.var_set_json("tag", &TAG.to_string()).expect("a variable");
    vm.attach().expect("the package attaches");
    vm
}

/// Checks that the loader does not read any more.
fn check_loader(vm: &Vm) {
    let refused = [
        vm.poll(Some(Duration::ZERO), Format::Raw, |_| Flow::Continue).map(drop),
        vm.read(Some(Duration::ZERO), Format::Raw, &mut [0; 64], &mut Default::default()).map(drop),
        vm.drain_to(0, 0, Format::Raw, |_| Flow::Continue).map(drop),
        vm.queue_start(1 << 20),
    ];
    for result in refused {
        let error = result.expect_err("a loader that has exported reads nothing");
        assert_eq!(error.status(), Status::State, "{error}");
        assert!(error.to_string().contains("exported"), "{error}");
    }
}

#[test]
fn a_loader_leaves_unread_records_to_the_reader() {
    needs_root!();
    let _turn = turn();
    let vm = attached(&package());
    // SAFETY: a plain number.
    unsafe { libc::getpgid(0) };
    let _exported = vm.export().expect("the export");
    check_loader(&vm);
}

/// If a reader is killed in a callback, the next one gets that record.
#[test]
fn a_record_is_released_after_its_callback() {
    needs_root!();
    let _turn = turn();
    let package = package();
    let vm = attached(&package);
    let import = || {
        let exported = vm.export().expect("the export").for_reader();
        Vm::import(&package, exported, Options::new()).expect("the import")
    };
    for kind in ["ring", "perf"] {
        let (killed, next) = (import(), import());
        // SAFETY: a plain number.
        unsafe { libc::getpgid(0) };
        let is_of_kind = |event: &Event| event.source.to_bytes() == kind.as_bytes();
        let mut is_there = None;
        let polled = killed.poll(None, Format::Json, |event| {
            if is_of_kind(event) && is_there.is_none() {
                let mut same = false;
                let again = next.poll(Some(Duration::ZERO), Format::Json, |other| {
                    same |= is_of_kind(other) && other.data == event.data;
                    Flow::Continue
                });
                is_there = Some(same && again.is_ok());
            }
            Flow::Continue
        });
        polled.expect("the poll");
        assert_eq!(is_there, Some(true), "{kind}");
    }
}

fn one_reader(test: &str, is_queued: bool) {
    if let Some(socket) = socket_of_the_reader() {
        return read(socket, is_queued);
    }
    needs_root!();
    let _turn = turn();
    let watch = Watch::new();
    let package = package();
    let vm = attached(&package);
    let exported = vm.export().expect("the export");
    let roles: Vec<FdRole> = exported.items().map(|(role, _)| role).collect();
    assert!(
        roles.iter().any(|role| matches!(role, FdRole::Link { program } if program == "on_call")),
        "{roles:?}"
    );
    assert!(roles.contains(&FdRole::Generation), "{roles:?}");
    check_loader(&vm);
    let reader = Reader::start(test, &package, &exported.for_reader());
    let load = Load::start();
    load.reaches(200_000);
    let calls = load.end();
    let counts = reader.end("all");
    println!("{calls} calls: {counts:?}");
    let of = |name: &str| counts.get(name).copied().unwrap_or(0);
    assert_eq!(of("produced"), calls);
    assert_eq!(of("ring") + of("perf") + of("lost") + of("MapEntry"), 2 * calls + of("MapEntry"));
    assert!(of("ring") > 0 && of("perf") > 0 && of("MapEntry") > 0 && of("entries") > 0, "{counts:?}");
    assert_eq!(vm.stats().events, 0);
    drop(vm);
    watch.is_clean();
}

#[test]
fn a_process_without_privileges_reads_what_another_has_loaded() {
    one_reader("a_process_without_privileges_reads_what_another_has_loaded", false);
}

#[test]
fn a_reader_may_use_a_queue() {
    one_reader("a_reader_may_use_a_queue", true);
}

#[test]
fn a_second_reader_goes_on_where_the_first_one_stopped() {
    if let Some(socket) = socket_of_the_reader() {
        return read(socket, false);
    }
    needs_root!();
    let _turn = turn();
    let test = "a_second_reader_goes_on_where_the_first_one_stopped";
    let watch = Watch::new();
    let package = package();
    let vm = attached(&package);
    let load = Load::start();
    let mut sum = 0;
    let mut counts = Counts::new();
    for (turn, how) in ["now", "now", "all"].into_iter().enumerate() {
        let exported = vm.export().expect("the export").for_reader();
        let reader = Reader::start(test, &package, &exported);
        load.reaches(50_000 * (turn as u64 + 1));
        if how == "all" {
            load.over.store(true, SeqCst);
            while Arc::strong_count(&load.over) > 1 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        counts = reader.end(how);
        println!("{counts:?}");
        sum += counts["ring"] + counts["perf"];
    }
    // Losses are counted in the kernel, so the last reader has those of all.
    assert_eq!(sum + counts["lost"], 2 * load.end());
    drop(vm);
    watch.is_clean();
}

#[test]
fn descriptors_of_something_else_are_refused() {
    needs_root!();
    let _turn = turn();
    let package = package();
    let other = support::package(&source(1, "u64 more;"));
    let watch = Watch::new();
    let vm = attached(&package);
    let refused = |data: &[u8], exported: Exported, text: &str| {
        let error = Vm::import(data, exported, Options::new()).map(drop).expect_err(text);
        println!("{error}");
        assert!(error.to_string().contains(text), "{text}: {error}");
    };
    refused(&other, vm.export().expect("the export"), "another package");
    let parts = |change: &dyn Fn(&str) -> String| {
        let exported = vm.export().expect("the export").for_reader();
        let fds = exported.fds().iter().map(|fd| fd.try_clone_to_owned().expect("a copy")).collect();
        Exported::from_parts(&change(&exported.description()), fds).expect("a description")
    };
    // The map `ring` and the map `counts` change places.
    refused(
        &package,
        parts(&|text| {
            text.replace("map ring", "%").replace("map counts", "map ring").replace('%', "map counts")
        }),
        "another type",
    );
    refused(&package, parts(&|text| text.replace("map ring", "map rong")), "rong");
    refused(&package, parts(&|text| text.replace(" 8 perf", " 8 ring")), "perf events");
    refused(&package, parts(&|text| text.replace(" 8 perf", " 16 perf")), "perf");
    drop(vm);
    watch.is_clean();
}

/// Waits until the reader has emptied the buffers of older versions.
fn wait_until_drained(vm: &Vm) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !vm.drained().expect("an answer") {
        assert!(Instant::now() < deadline, "the old buffers are not emptied");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_replace_goes_through_two_processes() {
    if let Some(socket) = socket_of_the_reader() {
        return read(socket, false);
    }
    needs_root!();
    let _turn = turn();
    let watch = Watch::new();
    let [one, two] = [package(), support::package(&source(2, "u64 more;"))];
    let vm = attached(&one);
    let mut reader = Reader::start(
        "a_replace_goes_through_two_processes",
        &one,
        &vm.export().expect("the export").for_reader(),
    );
    let load = Load::start();
    let mut keeps = ReplaceOptions::default();
    keeps.keep_old = true;
    for turn in 0..4 {
        let next = [&two, &one][turn % 2];
        // Without its descriptors the reader would miss the events.
        let error = vm.replace(next, ReplaceOptions::default()).map(drop).expect_err("nobody would read");
        assert_eq!(error.status(), Status::State, "{error}");
        // This version is prepared and aborted.
        let mut prepared = vm.prepare(next, ReplaceOptions::default()).expect("the version is prepared");
        reader.adopts(next, &prepared.export().expect("its descriptors").for_reader());
        prepared.abort();
        reader.tell("rollback");
        // This one is flipped and rolled back.
        let mut prepared = vm.prepare(next, keeps).expect("the version is prepared");
        assert_eq!(vm.commit().expect_err("a version is prepared").status(), Status::Busy);
        reader.adopts(next, &prepared.export().expect("its descriptors").for_reader());
        prepared.flip().expect("the flip");
        load.reaches(load.calls.load(SeqCst) + 1000);
        vm.rollback().expect("the rollback");
        reader.tell("rollback");
        reader.tell("commit_is_refused");
        wait_until_drained(&vm);
        // This one stays flipped.
        let mut prepared = vm.prepare(next, ReplaceOptions::default()).expect("the version is prepared");
        reader.adopts(next, &prepared.export().expect("its descriptors").for_reader());
        let report = prepared.flip().expect("the flip");
        assert!(report.to_json().contains("swapped"), "{}", report.to_json());
        load.reaches(load.calls.load(SeqCst) + 1000);
        reader.tell("commit");
        wait_until_drained(&vm);
    }
    let calls = load.end();
    let counts = reader.end("all");
    println!("{calls} calls: {counts:?}");
    let of = |name: &str| counts.get(name).copied().unwrap_or(0);
    assert_eq!(of("produced"), calls);
    assert_eq!(of("ring") + of("perf") + of("lost"), 2 * calls);
    assert!(of("of version 1") > 0 && of("of version 2") > 0, "{counts:?}");
    drop(vm);
    watch.is_clean();
}
