//! Under load every event is accounted for: the number of produced events equals delivered plus lost events, for every way to
//! consume them and with a consumer that stalls.
//!
//! `make test` produces a million events; `EUNOMIA_EVENTS=10000000 cargo test --test accounting` produces more.
#![allow(missing_docs)]

mod support;

use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{process, thread};

use eunomia::vm::{Batch, LostKnown, Records};
use eunomia::{Event, EventKind, Flow, Format, Kind, Options, Status, Vm};
use support::child;
use support::guest::{Handler, guest};
use support::random::Random;

/// Events of one call of getpgid(2).
const BURST: u64 = 64;

/// A program that sends numbered events, as fast as the CPUs can, to a buffer of SIZE bytes.
fn source(buffer: &str) -> String {
    format!(
        r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

struct event {{ u64 number; char text[40]; }};
const volatile u32 only_tgid = 0;
u64 produced = 0;

struct {{ {buffer} }} events SEC(".maps");

SEC("tp/syscalls/sys_enter_getpgid")
int produce(void *ctx)
{{
    struct event event = {{}};
    if (bpf_get_current_pid_tgid() >> 32 != only_tgid)
        return 0;
    for (int i = 0; i < {BURST}; i++) {{
        event.number = __sync_fetch_and_add(&produced, 1);
        SEND;
    }}
    return 0;
}}
char LICENSE[] SEC("license") = "GPL";
"#
    )
}

fn ring(bytes: u32) -> Vec<u8> {
    let buffer = format!("__uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, {bytes});");
    let send = "bpf_ringbuf_output(&events, &event, sizeof(event), 0)";
    support::package(&source(&buffer).replace("SEND", send))
}

/// A ring buffer of 1 MiB that is pinned by name.
fn pinned() -> Vec<u8> {
    let buffer = "__uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 20); \
                  __uint(pinning, LIBBPF_PIN_BY_NAME);";
    let send = "bpf_ringbuf_output(&events, &event, sizeof(event), 0)";
    support::package(&source(buffer).replace("SEND", send))
}

fn perf() -> Vec<u8> {
    let buffer = "__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __uint(key_size, 4); __uint(value_size, 4);";
    let send = "bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, &event, sizeof(event))";
    support::package(&source(buffer).replace("SEND", send))
}

/// The ways in which a host receives events.
#[derive(Clone, Copy, Debug)]
enum Way {
    Callback,
    Batch,
    Json,
    Read,
    Queue,
}

/// The numbers of the delivered events.
struct Seen(Vec<bool>);

impl Seen {
    fn take(&mut self, number: u64) {
        let place = usize::try_from(number).unwrap();
        if place >= self.0.len() {
            self.0.resize(place + 1, false);
        }
        assert!(!std::mem::replace(&mut self.0[place], true), "event {number} was delivered twice");
    }

    fn take_raw(&mut self, record: &[u8]) {
        self.take(u64::from_ne_bytes(record[..8].try_into().unwrap()));
    }

    fn take_json(&mut self, record: &[u8]) {
        let value: serde_json::Value = serde_json::from_slice(record).unwrap();
        self.take(value["number"].as_u64().unwrap());
    }

    fn count(&self) -> u64 {
        self.0.iter().filter(|came| **came).count() as u64
    }
}

/// Delivers the pending events; returns whether there were any.
fn consume(vm: &Vm, way: Way, seen: &mut Seen) -> bool {
    let polled = match way {
        Way::Callback | Way::Queue => {
            vm.poll(Some(Duration::from_millis(1)), Format::Raw, |event: &Event| {
                if event.kind == EventKind::Sample {
                    seen.take_raw(event.data);
                }
                Flow::Continue
            })
        }
        Way::Json => vm.poll(Some(Duration::from_millis(1)), Format::Json, |event: &Event| {
            if event.kind == EventKind::Sample {
                seen.take_json(event.data);
            }
            Flow::Continue
        }),
        Way::Batch => vm.poll_batch(Some(Duration::from_millis(1)), |records| {
            if records.kind == EventKind::Sample {
                records.data.iter().for_each(|record| seen.take_raw(record));
            }
            Flow::Continue
        }),
        Way::Read => {
            let (mut batch, mut buffer) = (Batch::default(), vec![0; 64 << 10]);
            let read = vm.read(Some(Duration::from_millis(1)), Format::Raw, &mut buffer, &mut batch);
            if read.is_ok() {
                batch.records(&buffer).for_each(|record| seen.take_raw(record.data));
            }
            read
        }
    };
    match polled {
        Ok(count) => count > 0,
        Err(e) if e.status() == Status::Stopped => false,
        Err(e) => panic!("{way:?}: {e}"),
    }
}

/// A lock that each test takes, because the programs of all tests see the calls of the whole process.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One burst.
fn produce() {
    // SAFETY: plain numbers.
    unsafe { libc::getpgid(0) };
    BURSTS.fetch_add(1, Relaxed);
}

/// The number of produced events.
static BURSTS: AtomicU64 = AtomicU64::new(0);

fn produce_from_two_threads<'a>(scope: &'a thread::Scope<'a, '_>, over: &'a AtomicBool) {
    for _ in 0..2 {
        scope.spawn(|| {
            while !over.load(Relaxed) {
                produce();
                thread::yield_now();
            }
        });
    }
}

fn produce_on_each_cpu() {
    for cpu in 0..thread::available_parallelism().unwrap().get() {
        thread::spawn(move || {
            // SAFETY: a CPU set is plain bits; its size is passed.
            unsafe {
                let mut set: libc::cpu_set_t = std::mem::zeroed();
                libc::CPU_SET(cpu, &mut set);
                assert_eq!(libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set), 0);
            }
            produce();
        })
        .join()
        .unwrap();
    }
}

/// Produces `wanted` events, consumes them with stalls, and compares the counts.
fn balances(package: &[u8], options: Options, way: Way, wanted: u64, random: &mut Random) -> u64 {
    let vm = Vm::new(options).unwrap();
    vm.open(package, Kind::Json).unwrap();
    vm.var_set_json("only_tgid", &process::id().to_string()).unwrap();
    vm.attach().unwrap();
    if let Way::Queue = way {
        vm.queue_start(256 << 10).unwrap();
    }
    let mut seen = Seen(Vec::new());
    let over = AtomicBool::new(false);
    let produced = || vm.var_get_json("produced").unwrap().parse::<u64>().unwrap();
    thread::scope(|scope| {
        produce_from_two_threads(scope, &over);
        while produced() < wanted {
            consume(&vm, way, &mut seen);
            if random.below(4) == 0 {
                thread::sleep(Duration::from_micros(random.below(3000)));
            }
        }
        over.store(true, Relaxed);
    });
    // Pending events are delivered or counted. Before Linux 6.0 the kernel reports losses of a perf buffer with the next record
    // that fits, so there each CPU produces a few more.
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        while consume(&vm, way, &mut seen) {}
        if vm.stats().lost_known != LostKnown::All {
            produce_on_each_cpu();
            while consume(&vm, way, &mut seen) {}
        }
        let (stats, produced) = (vm.stats(), produced());
        let accounted = stats.events + stats.lost_kernel + stats.lost_queue;
        if accounted == produced && seen.count() == stats.events {
            assert_eq!(stats.malformed + stats.guest_dropped, 0);
            return produced;
        }
        let told =
            format!("produced {produced}, accounted for {accounted}, seen {}: {stats:?}", seen.count());
        assert!(accounted <= produced && Instant::now() < deadline, "{way:?}: {told}");
    }
}

/// Does the same through a guest. The package belongs to the guest, so only the host knows how many events were produced.
fn guest_balances(
    package: &[u8],
    options: Options,
    handler: Handler,
    wanted: u64,
    random: &mut Random,
) -> u64 {
    let mut package: serde_json::Value = serde_json::from_slice(package).unwrap();
    package["runtime_args"] = serde_json::json!({ "only_tgid": process::id() });
    let vm = Vm::new(options).unwrap();
    vm.open(&guest(package.to_string().as_bytes(), handler), Kind::Wasm).unwrap();
    let (runs, over) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut seen = Seen(Vec::new());
    let first = BURSTS.load(Relaxed);
    let produced = || BURST * (BURSTS.load(Relaxed) - first);
    let accounted = || {
        let stats = vm.stats();
        assert_eq!(stats.malformed + stats.lost_queue, 0);
        stats.events + stats.guest_dropped + stats.lost_kernel
    };
    thread::scope(|scope| {
        let consumer = scope.spawn(|| {
            vm.wasm_run(&["guest"], Format::Json, |event: &Event| {
                match event.kind {
                    EventKind::Output => runs.store(true, Relaxed),
                    EventKind::Sample => seen.take_json(event.data),
                    _ => {}
                }
                if random.below(20_000) == 0 {
                    thread::sleep(Duration::from_micros(random.below(3000)));
                }
                Flow::Continue
            })
        });
        let pause = || thread::sleep(Duration::from_millis(1));
        let deadline = Instant::now() + Duration::from_secs(60);
        while !runs.load(Relaxed) {
            assert!(!consumer.is_finished() && Instant::now() < deadline, "the guest does not run");
            pause();
        }
        thread::scope(|scope| {
            produce_from_two_threads(scope, &over);
            while produced() < wanted {
                pause();
            }
            over.store(true, Relaxed);
        });
        while accounted() < produced() && Instant::now() < deadline {
            pause();
            if vm.stats().lost_known != LostKnown::All {
                produce_on_each_cpu();
            }
        }
        vm.stop();
        assert_eq!(consumer.join().unwrap().unwrap_err().status(), Status::Stopped);
    });
    let (stats, produced) = (vm.stats(), produced());
    assert_eq!((accounted(), seen.count()), (produced, stats.events), "{handler:?}: {stats:?}");
    assert!(stats.guest_dropped > 0, "{handler:?}: {stats:?}");
    produced
}

#[test]
fn every_event_is_delivered_or_counted_as_lost() {
    needs_root!();
    let _alone = alone();
    let all: u64 = std::env::var("EUNOMIA_EVENTS").map_or(1_000_000, |text| text.parse().unwrap());
    let mut random = Random(0x1ed9e7);
    let (small, large) = (ring(4096), ring(1 << 20));
    let sizes = [ring(16 << 10), small, ring(256 << 10), large];
    let ways = [Way::Callback, Way::Batch, Way::Json, Way::Read, Way::Queue];
    let perf = perf();
    let handlers = [Handler::Single, Handler::Batch];
    let share = all / ((ways.len() + handlers.len()) as u64 * (sizes.len() as u64 + 2)) + 1;
    let mut produced = 0;
    let buffers = sizes.iter().map(|ring| (ring, 0)).chain([2, 16].map(|pages| (&perf, pages)));
    for (package, perf_pages) in buffers {
        let options = || Options::new().perf_pages(perf_pages);
        for way in ways {
            produced += balances(package, options(), way, share, &mut random);
        }
        for handler in handlers {
            produced += guest_balances(package, options(), handler, share, &mut random);
        }
    }
    assert!(produced >= all, "{produced} of {all}");
    println!("{produced} events, each delivered or accounted for");
}

/// Whether the kernel is Linux 6.0 or newer, whose perf events count what they lose.
fn counts_lost() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    release.split('.').next().unwrap().parse::<u32>().unwrap() >= 6
}

/// Attaches a package and overflows its buffer; returns the vm and the number of events.
fn flooded(package: &[u8], perf_pages: u32) -> (Vm, u64) {
    let vm = Vm::new(Options::new().perf_pages(perf_pages)).unwrap();
    vm.open(package, Kind::Json).unwrap();
    vm.var_set_json("only_tgid", &process::id().to_string()).unwrap();
    vm.attach().unwrap();
    (0..200).for_each(|_| produce());
    let produced = vm.var_get_json("produced").unwrap().parse().unwrap();
    (vm, produced)
}

#[test]
fn losses_of_a_perf_buffer_are_known_without_another_record() {
    needs_root!();
    let _alone = alone();
    if !counts_lost() {
        return;
    }
    let (vm, produced) = flooded(&perf(), 2);
    // The counts are right even before any event is consumed.
    let lost = vm.stats().lost_kernel;
    assert!(lost > 0 && vm.source_at(0).unwrap().lost == lost, "{:?}", vm.stats());
    let mut seen = Seen(Vec::new());
    while consume(&vm, Way::Callback, &mut seen) {}
    let stats = vm.stats();
    assert_eq!((stats.events + stats.lost_kernel, stats.lost_known), (produced, LostKnown::All));

    // The next records report the same losses, which are not counted again; the callback still gets them.
    let mut told = 0;
    produce_on_each_cpu();
    vm.detach().unwrap();
    while vm
        .poll(Some(Duration::from_millis(1)), Format::Json, |event: &Event| {
            told += event.lost;
            Flow::Continue
        })
        .unwrap()
        > 0
    {}
    let (stats, info) = (vm.stats(), vm.source_at(0).unwrap());
    let produced: u64 = vm.var_get_json("produced").unwrap().parse().unwrap();
    assert_eq!(stats.events + stats.lost_kernel, produced, "{stats:?}");
    assert!(told > 0 && told <= stats.lost_kernel, "{told}: {stats:?}");
    assert_eq!((info.lost, info.lost_known), (stats.lost_kernel, LostKnown::All));
}

#[test]
fn uncounted_losses_of_ring_buffers_are_not_reported() {
    needs_root!();
    let _alone = alone();
    let package = ring(4096);
    let (vm, produced) = flooded(&package, 0);
    let mut seen = Seen(Vec::new());
    while consume(&vm, Way::Callback, &mut seen) {}
    let (stats, info) = (vm.stats(), vm.source_at(0).unwrap());
    assert_eq!((stats.events + stats.lost_kernel, stats.lost_known), (produced, LostKnown::All));
    assert_eq!((info.lost, info.lost_known), (0, LostKnown::NotCounted));
    assert!(vm.describe().unwrap().contains("\"lost_kernel\":\"perf buffers and ring buffers\""));

    // A program that calls the helper directly has no map that counts losses.
    let plain = source("__uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096);")
        .replace("SEND", "(bpf_ringbuf_output)(&events, &event, sizeof(event), 0)");
    let (vm, produced) = flooded(&support::package(&plain), 0);
    while consume(&vm, Way::Callback, &mut Seen(Vec::new())) {}
    let stats = vm.stats();
    assert!(stats.events < produced, "{stats:?}");
    assert_eq!((stats.lost_kernel, stats.lost_known), (0, LostKnown::NotCounted));
    assert_eq!(Vm::new(Options::new()).unwrap().stats().lost_known, LostKnown::All);
}

/// The directory in which maps are pinned; it is removed at the end.
struct Pins(PathBuf);

impl Drop for Pins {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Opens and loads a package, with the ring buffer that is pinned in `pins`.
fn reader(package: &[u8], pins: &Path) -> Vm {
    let vm = Vm::new(Options::new().pin_path(pins)).unwrap();
    vm.open(package, Kind::Json).unwrap();
    vm.var_set_json("only_tgid", &process::id().to_string()).unwrap();
    vm.load().unwrap();
    vm
}

fn positions(vm: &Vm) -> (u64, u64) {
    let found = vm.source_at(0).unwrap().positions.expect("a ring buffer has positions");
    (found.consumed, found.produced)
}

/// Bytes of a record with its header.
const RECORD: u64 = 8 + 48;

#[test]
fn what_a_killed_reader_had_not_released_is_read_by_the_next_one() {
    needs_root!();
    const BATCH: u64 = 256;
    if let Some(folder) = child::folder() {
        let vm = reader(&std::fs::read(folder.join("package")).unwrap(), &folder.join("pins"));
        let mut batches = 0;
        let polled = vm.poll_batch(None, |records| {
            assert_eq!(records.data.len() as u64, BATCH);
            batches += 1;
            if batches == 3 {
                // SAFETY: ends this process, in the middle of its third batch.
                unsafe { libc::kill(process::id() as i32, libc::SIGKILL) };
            }
            Flow::Continue
        });
        panic!("the process still runs: {polled:?}");
    }
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let pins = Pins(format!("/sys/fs/bpf/eunomia-reader-{}", process::id()).into());
    std::fs::create_dir(&pins.0).unwrap();
    std::os::unix::fs::symlink(&pins.0, folder.path().join("pins")).unwrap();
    let package = pinned();
    std::fs::write(folder.path().join("package"), &package).unwrap();

    let producer = reader(&package, &pins.0);
    producer.attach().unwrap();
    (0..20).for_each(|_| produce());
    let produced = 20 * BURST;
    assert_eq!(positions(&producer), (0, produced * RECORD));
    drop(producer);

    let test = "what_a_killed_reader_had_not_released_is_read_by_the_next_one";
    let killed = child::output(test, folder.path());
    assert_eq!(killed.status.signal(), Some(libc::SIGKILL), "{}", String::from_utf8_lossy(&killed.stderr));

    let vm = reader(&package, &pins.0);
    let first = 2 * BATCH;
    assert_eq!(positions(&vm), (first * RECORD, produced * RECORD));
    let mut seen = Vec::new();
    let mut take = |event: &Event<'_>| {
        seen.push(u64::from_ne_bytes(event.data[..8].try_into().unwrap()));
        Flow::Continue
    };
    // The first hundred, up to a position in the middle of the next record, which belongs to the next reader.
    assert_eq!(vm.drain_to(0, (first + 100) * RECORD, Format::Raw, &mut take).unwrap(), 100);
    assert_eq!(positions(&vm), ((first + 100) * RECORD, produced * RECORD));
    assert_eq!(vm.drain_to(0, (first + 100) * RECORD, Format::Raw, &mut take).unwrap(), 0);
    drop(vm);

    let vm = reader(&package, &pins.0);
    assert_eq!(vm.poll(None, Format::Raw, &mut take).unwrap() as u64, produced - first - 100);
    assert_eq!(positions(&vm), (produced * RECORD, produced * RECORD));
    assert_eq!(vm.poll(Some(Duration::ZERO), Format::Raw, &mut take).unwrap(), 0);
    assert_eq!(seen, (first..produced).collect::<Vec<u64>>());
}

#[test]
fn a_drain_to_a_position_stops_at_it_at_end_and_at_what_is_no_ring_buffer() {
    needs_root!();
    let _alone = alone();
    let (vm, produced) = flooded(&ring(1 << 20), 0);
    let end = positions(&vm).1;
    assert_eq!(end, produced * RECORD);
    assert_eq!(vm.drain_to(0, 1, Format::Json, |_| Flow::Continue).unwrap(), 1);
    assert_eq!(vm.drain_to(0, end, Format::Raw, |_| Flow::End).unwrap(), 1);
    let failed = vm.drain_to(0, end, Format::Raw, |_| Flow::Fail(-1)).unwrap_err();
    assert_eq!((failed.status(), positions(&vm).0), (Status::Callback, 3 * RECORD));
    assert_eq!(vm.drain_to(1, end, Format::Raw, |_| Flow::Continue).unwrap_err().status(), Status::Inval);
    vm.queue_start(0).unwrap();
    let queued = vm.drain_to(0, end, Format::Raw, |_| Flow::Continue);
    assert!(matches!(&queued, Ok(0)) || queued.unwrap_err().status() == Status::State);
    let (perf, _) = flooded(&perf(), 1);
    let refused = perf.drain_to(0, 1, Format::Raw, |_| Flow::Continue).unwrap_err();
    assert_eq!(refused.status(), Status::Inval, "{refused}");
    assert_eq!(perf.source_at(0).unwrap().positions, None);
}

#[test]
fn a_panic_in_a_batch_releases_that_batch_and_no_other() {
    needs_root!();
    let _alone = alone();
    let pins = Pins(format!("/sys/fs/bpf/eunomia-panic-{}", process::id()).into());
    std::fs::create_dir(&pins.0).unwrap();
    let package = pinned();
    let vm = reader(&package, &pins.0);
    vm.attach().unwrap();
    (0..20).for_each(|_| produce());
    let mut seen = Seen(Vec::new());
    let mut batches = 0;
    let poll = || {
        vm.poll_batch(None, |records| {
            records.data.iter().for_each(|record| seen.take_raw(record));
            batches += 1;
            assert_ne!(batches, 2, "the callback");
            Flow::Continue
        })
    };
    assert!(catch_unwind(AssertUnwindSafe(poll)).is_err());
    assert_eq!(seen.count(), 512);
    // This vm is unusable now, but its ring buffer can be read by another one.
    assert_eq!(vm.poll_batch(None, |_| Flow::Continue).unwrap_err().status(), Status::Internal);
    drop(vm);
    let vm = reader(&package, &pins.0);
    assert_eq!(positions(&vm), (512 * RECORD, 20 * BURST * RECORD));
    let mut take_rest = |records: &Records<'_>| {
        records.data.iter().for_each(|record| seen.take_raw(record));
        Flow::Continue
    };
    while vm.poll_batch(Some(Duration::ZERO), &mut take_rest).unwrap() > 0 {}
    assert_eq!(seen.count(), 20 * BURST);
}
