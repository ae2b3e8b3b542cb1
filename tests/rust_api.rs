//! Parts of the Rust API that the C interface does not have: events as an iterator and, with the feature `channel`, from a
//! channel; sets of package kinds; sources of errors.

mod support;

use std::error::Error;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use eunomia::vm::{Batch, ProgInput, SourceKind};
use eunomia::{Event, Flow, Format, Kind, Kinds, OwnedEvent, Status, Vm};
use support::random::Random;

/// The program counts the calls of the process, and all tests are one process, so one test at a time runs.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A vm that gets `burst` events for each call of getpgid.
fn running(burst: u32) -> Vm {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let package = dir.path().join("package.json");
    support::package_file("tests/conformance/bpf/calls.bpf.c", &package);
    let vm = support::opened(&std::fs::read(package).expect("ecc wrote a package"));
    vm.var_set_json("target", &std::process::id().to_string()).expect("a variable");
    vm.var_set_json("burst", &burst.to_string()).expect("a variable");
    vm.attach().expect("the package attaches");
    vm
}

/// Sends a burst.
fn trigger() {
    // SAFETY: no pointers.
    unsafe { libc::getpgid(0) };
}

fn seq(event: &OwnedEvent) -> u64 {
    let value: serde_json::Value = serde_json::from_slice(&event.data).expect("JSON");
    value["seq"].as_u64().expect("a number")
}

/// Sends records whose lengths are pseudorandom, each the beginning of `bytes`.
const LENGTHS: &str = r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
u8 bytes[1024];
u32 state = 1, mask = 0;
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 18); } events SEC(".maps");
SEC("syscall")
int produce(void *ctx)
{
    for (int i = 0; i < 200; i++) {
        state = state * 1664525 + 1013904223;
        if (bpf_ringbuf_output(&events, bytes, state >> 20 & mask & 1023, 0))
            return 1;
    }
    return 0;
}
char LICENSE[] SEC("license") = "GPL";
"#;

/// Reads into a part of `space` and returns the records with their padding. The bytes after that part must stay as they are.
fn read_some(vm: &Vm, space: &mut [u8; 8192], room: usize) -> Vec<(usize, Vec<u8>)> {
    space[room..].fill(0xee);
    let mut batch = Batch::default();
    match vm.read(Some(Duration::ZERO), Format::Raw, &mut space[..room], &mut batch) {
        Err(e) if e.status() == Status::TooSmall => assert!(batch.need > room, "{e}"),
        read => assert_eq!(read.expect("a read"), batch.count),
    }
    assert!(space[room..].iter().all(|byte| *byte == 0xee), "a read of {room} bytes writes more");
    let word = |at: usize| u32::from_ne_bytes(space[at..at + 4].try_into().expect("four bytes")) as usize;
    let (mut at, mut records) = (0, Vec::new());
    while at < batch.len {
        records.push((word(at + 4), space[at + 16..at + word(at)].to_vec()));
        at += word(at);
    }
    records
}

#[test]
fn records_of_any_length_are_read_whole_with_zeroed_padding() {
    needs_root!();
    let _turn = turn();
    let vm = support::opened(&support::package(LENGTHS));
    vm.load().expect("the package loads");
    let bytes: Vec<u8> = (0..1024u32).map(|i| (i * 7 % 255) as u8 + 1).collect();
    vm.var_set("bytes", &bytes).expect("a variable");
    let (mut random, mut state, mut space) = (Random(0x1e9), 1u32, [0; 8192]);
    for mask in [0, 7, 63, 127, 1023].repeat(20) {
        vm.var_set_json("mask", &mask.to_string()).expect("a variable");
        assert_eq!(vm.prog_run("produce", ProgInput::new()).expect("a run").return_value, 0);
        let mut expected: Vec<usize> = Vec::new();
        for _ in 0..200 {
            state = state.wrapping_mul(1664525).wrapping_add(1013904223);
            expected.push((state >> 20 & mask) as usize);
        }
        let mut read = Vec::new();
        while read.len() < expected.len() {
            let room = 8 * random.below(1024) as usize;
            read.extend(read_some(&vm, &mut space, room));
        }
        for (len, (found, data)) in expected.into_iter().zip(read) {
            let padded = [&bytes[..len], &[0; 7][..len.next_multiple_of(8) - len]].concat();
            assert_eq!((found, data), (len, padded));
        }
    }
}

#[test]
fn a_vm_and_its_errors_can_be_sent_and_shared() {
    fn is_shared<T: Send + Sync + 'static>() {}
    is_shared::<Vm>();
    is_shared::<eunomia::Error>();
    is_shared::<OwnedEvent>();
    is_shared::<eunomia::vm::MapInfo>();
    is_shared::<eunomia::vm::SourceInfo>();
}

#[test]
fn the_source_of_an_error_is_that_of_the_system_call() {
    needs_root!();
    let error = support::vm().open_file("/nothing/here", Kind::Json).expect_err("there is no such file");
    let source = error.source().and_then(|source| source.downcast_ref::<std::io::Error>());
    assert_eq!(source.map(std::io::Error::kind), Some(std::io::ErrorKind::NotFound));
    assert_eq!((error.errno(), error.status()), (Some(libc::ENOENT), Status::NotFound));
    assert_eq!(error.clone().errno(), error.errno());
    let malformed = support::vm().open(b"{}", Kind::Json).expect_err("this is not a package");
    assert!(malformed.source().is_none() && malformed.errno().is_none());
}

#[test]
fn each_failure_to_open_a_file_begins_with_its_path() {
    needs_root!();
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| dir.path().join(name);
    std::fs::create_dir(path("a_directory")).expect("a directory");
    let files: [(&str, &[u8], &str); 8] = [
        ("gzip", b"\x1f\x8b\x08\0", "this is a gzip file; unpack it first"),
        ("text", b"404: Not Found", "not a package: expected a JSON object, which begins with {"),
        ("empty", b"", "the package is empty"),
        ("syntax", b"{\"a\":1", "line 1, column 6: the JSON is truncated"),
        ("member", br#"{"bpf_object":"eJw="}"#, "meta: missing"),
        ("module", b"\0asm", "module: it does not begin with the header of WASM version 1"),
        ("a_directory", b"", "Is a directory"),
        ("missing", b"", "No such file or directory"),
    ];
    for (name, content, reason) in files {
        if !["a_directory", "missing"].contains(&name) {
            std::fs::write(path(name), content).expect("a file");
        }
        let error = support::vm().open_file(path(name), Kinds::ALL).expect_err(name);
        let shown = path(name).display().to_string();
        assert_eq!(error.to_string(), format!("{shown}: {reason}"));
        assert!(reason.ends_with(error.reason()), "{error:?}");
        // The member of the package that is at fault remains the subject.
        let subject = if name == "member" { "meta" } else { &*shown };
        assert_eq!(error.subject().map(|subject| subject.name()), Some(subject), "{name}");
    }
    let error = support::vm().open_file(path("module"), Kind::Json).expect_err("another kind is accepted");
    assert!(error.message().starts_with(&format!("{}: the package is a WASM", path("module").display())));
}

#[test]
fn only_kinds_that_the_caller_accepts_are_opened() {
    needs_root!();
    let module = b"\0asm\x01\0\0\0";
    for (data, kinds, words) in [
        (&module[..], Kinds::from(Kind::Json), "the package is a WASM module"),
        (b"{}", Kind::Wasm.into(), "the package is not a WASM module"),
    ] {
        let error = support::vm().open(data, kinds).expect_err("another kind is accepted");
        assert_eq!(error.status(), Status::Package);
        assert!(error.message().starts_with(words), "{error}");
    }
    let error = support::vm().open(module, Kind::Json | Kind::Wasm).expect_err("the module is empty");
    assert!(!error.message().contains("accept"), "{error}");
    assert_eq!(
        [0, 1, 2, 3, 4].map(|bits| Kinds::from_bits(bits).map(Kinds::bits)),
        [None, Some(1), Some(2), Some(3), None]
    );
    assert_eq!(format!("{:?}", Kinds::ALL), "{Json, Wasm}");
}

#[test]
fn a_timeout_beyond_the_clock_waits_until_there_are_events() {
    needs_root!();
    let _turn = turn();
    let vm = running(1);
    trigger();
    assert_eq!(vm.poll(Some(Duration::MAX), Format::Raw, |_| Flow::Continue).expect("an event"), 1);
    assert_eq!(vm.poll(Some(Duration::ZERO), Format::Raw, |_| Flow::Continue).expect("no event"), 0);
}

#[test]
fn a_source_describes_how_it_is_sampled() {
    needs_root!();
    let dir = tempfile::tempdir().expect("a temporary folder");
    let package = dir.path().join("package.json");
    support::package_file("tests/conformance/bpf/sampled.bpf.c", &package);
    let vm = support::opened(&std::fs::read(package).expect("ecc wrote a package"));
    vm.load().expect("the package loads");
    let source = vm.source_at(0).expect("a source");
    assert_eq!(source.kind, SourceKind::Map);
    assert!(source.sample.expect("it is sampled").interval_ms > 0);
}

#[test]
fn an_iterator_gives_each_event_once_and_ends_with_stop() {
    needs_root!();
    let _turn = turn();
    let vm = running(2);
    trigger();
    let mut events = vm.events(Format::Json);
    let mut next = || events.next().expect("not the end").expect("an event");
    let (first, second) = (next(), next());
    assert_eq!((seq(&first), seq(&second)), (0, 1));
    assert_eq!(first.text(), r#"{"seq":0,"mode":"MODE_ON","value":7,"text":"hello"}"#);
    assert_eq!((first.source.as_str(), first.cpu, first.key.len()), ("events", -1, 0));
    vm.stop();
    assert!(events.next().is_none());
    trigger();
    assert!(events.next().is_some(), "after the end the vm goes on");
}

#[test]
fn an_iterator_over_nothing_gives_the_error() {
    needs_root!();
    let vm = support::vm();
    let error = vm.events(Format::Json).next().expect("not the end").expect_err("nothing is open");
    assert_eq!(error.status(), Status::State);
}

#[test]
fn a_raw_batch_is_walked_and_a_torn_one_ends_early() {
    needs_root!();
    let _turn = turn();
    let vm = running(3);
    trigger();
    let (mut batch, mut buf) = (Batch::default(), vec![0; 4096]);
    vm.read(None, Format::Raw, &mut buf, &mut batch).expect("records");
    let seqs: Vec<u8> = batch.records(&buf).map(|record| record.data[0]).collect();
    assert_eq!(seqs, [0, 1, 2]);
    assert!(batch.records(&buf).all(|record| record.data.len() == 24 && record.key.is_empty()));
    assert_eq!(batch.records(&buf[..10]).count(), 0);
    buf[0] = 0xff; // a size that leads out of the buffer
    assert_eq!(batch.records(&buf).count(), 0);
}

#[test]
fn a_panic_in_a_callback_arrives_at_the_caller_of_poll() {
    needs_root!();
    let _turn = turn();
    let vm = running(2);
    trigger();
    let poll = || vm.poll(None, Format::Json, |_: &Event| panic!("seven"));
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(poll)).expect_err("it panics");
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"seven"));
    let after =
        vm.poll(Some(Duration::ZERO), Format::Json, |_: &Event| Flow::Continue).expect_err("the vm is dead");
    assert_eq!(after.status(), Status::Internal);
}

#[cfg(feature = "channel")]
mod channel {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    /// Much longer than an event takes.
    const PATIENCE: Duration = Duration::from_secs(30);

    #[test]
    fn a_channel_brings_events_until_stop() {
        needs_root!();
        let _turn = turn();
        let vm = Arc::new(running(2));
        let events = vm.channel(Format::Json, 10).expect("a channel");
        trigger();
        for expected in [0, 1] {
            let event = events.recv_timeout(PATIENCE).expect("in time").expect("an event");
            assert_eq!(seq(&event), expected);
        }
        vm.stop();
        assert!(events.recv_timeout(PATIENCE).expect_err("the end").is_disconnected());
    }

    #[test]
    fn a_full_channel_makes_the_kernel_keep_what_follows() {
        needs_root!();
        let _turn = turn();
        let vm = Arc::new(running(50));
        let events = vm.channel(Format::Json, 1).expect("a channel");
        trigger();
        let seqs = (0..50).map(|_| seq(&events.recv_timeout(PATIENCE).expect("in time").expect("an event")));
        assert!(seqs.eq(0..50));
        assert_eq!(vm.stats().lost_kernel, 0);
        vm.stop();
    }

    #[test]
    fn a_channel_ends_with_the_error_of_its_poll() {
        needs_root!();
        let events = Arc::new(support::vm()).channel(Format::Json, 1).expect("a channel");
        let error = events.recv_timeout(PATIENCE).expect("in time").expect_err("nothing is open");
        assert_eq!(error.status(), Status::State);
        assert!(events.recv_timeout(PATIENCE).is_err());
    }

    #[test]
    fn who_drops_the_receiver_ends_the_thread_with_the_next_event() {
        needs_root!();
        let _turn = turn();
        let vm = Arc::new(running(1));
        drop(vm.channel(Format::Json, 0).expect("a channel"));
        while Arc::strong_count(&vm) > 1 {
            trigger();
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(vm.map_count().is_ok());
    }
}
