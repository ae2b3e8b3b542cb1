//! Creates and destroys packages and guests in a loop while another package stays attached. Memory, descriptors and threads
//! must not grow.
//!
//! `make test` runs it for 15 seconds, `make soak` for an hour, `make soak DURATION=600` for ten minutes.
#![allow(missing_docs)]

mod support;

use std::fs;
use std::process;
use std::time::{Duration, Instant};

use eunomia::vm::Batch;
use eunomia::{Event, EventKind, Flow, Format, Kind, Options, Status, Vm};
use serde_json::{Value, json};
use support::guest::{Handler, guest};
use support::kernel::Watch;
use support::resources::Resources;

fn package(source: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("package.json");
    support::package_file(source, &path);
    fs::read(path).unwrap()
}

/// A package that sends `burst` events per getpgid(2) of this process.
fn calls(burst: u32) -> Vec<u8> {
    let mut package: Value = serde_json::from_slice(&package("tests/data/bpf/calls.bpf.c")).unwrap();
    package["runtime_args"] = json!({ "target": process::id(), "burst": burst });
    package.to_string().into_bytes()
}

fn trigger() {
    // SAFETY: plain numbers.
    unsafe { libc::getpgid(0) };
}

fn poll(vm: &Vm, format: Format) -> usize {
    vm.poll(Some(Duration::ZERO), format, |_: &Event| Flow::Continue).unwrap()
}

/// A life cycle with all calls of a typical host.
fn package_life(package: &[u8], queue: bool) -> u64 {
    let vm = Vm::new(Options::new()).unwrap();
    vm.open(package, Kind::Json).unwrap();
    vm.describe().unwrap();
    for _ in 0..2 {
        vm.attach().unwrap();
        if queue {
            vm.queue_start(1 << 20).unwrap();
        }
        trigger();
        for format in [Format::Json, Format::Text] {
            vm.poll(Some(Duration::from_millis(100)), format, |_: &Event| Flow::Continue).unwrap();
            trigger();
        }
        let _ = vm.read(
            Some(Duration::from_millis(100)),
            Format::Raw,
            &mut vec![0; 64 << 10],
            &mut Batch::default(),
        );
        vm.var_get_json("calls").unwrap();
        if queue {
            vm.queue_stop().unwrap();
        }
        vm.detach().unwrap();
    }
    vm.stats().events
}

fn guest_life(module: &[u8]) -> u64 {
    let vm = Vm::new(Options::new()).unwrap();
    vm.open(module, Kind::Wasm).unwrap();
    let mut count = 0;
    let ended = vm.wasm_run(&["guest"], Format::Json, |event: &Event| {
        count += u32::from(event.kind == EventKind::Sample);
        if count > 20 {
            vm.stop();
        } else {
            trigger();
        }
        Flow::Continue
    });
    assert_eq!(ended.unwrap_err().status(), Status::Stopped);
    vm.stats().events
}

fn refused_lives(rejected: &[u8], package: &[u8]) {
    let vm = Vm::new(Options::new()).unwrap();
    vm.open(rejected, Kind::Json).unwrap();
    assert_eq!(vm.load().unwrap_err().status(), Status::Verifier);
    let vm = Vm::new(Options::new()).unwrap();
    assert!(vm.open(&package[..package.len() / 2], Kind::Json).is_err());
    vm.open(package, Kind::Json).unwrap();
    assert_eq!(vm.var_set_json("burst", "-1").unwrap_err().status(), Status::Type);
}

#[test]
fn memory_descriptors_and_threads_do_not_grow() {
    needs_root!();
    let seconds = std::env::var("EUNOMIA_SOAK").map_or(15, |text| text.parse().unwrap());
    let (calls, rejected) = (calls(50), package("tests/data/bpf/rejected.bpf.c"));
    let guests = [Handler::Single, Handler::Batch].map(|handler| guest(&calls, handler));
    let watch = Watch::new();
    let steady = Vm::new(Options::new()).unwrap();
    steady.open(&calls, Kind::Json).unwrap();
    steady.attach().unwrap();
    let (start, mut samples, mut lives, mut events) = (Instant::now(), Vec::new(), 0u64, 0);
    let length = Duration::from_secs(seconds);
    while start.elapsed() < length || samples.len() < 2 {
        events += package_life(&calls, lives % 2 == 0);
        events += guest_life(&guests[lives as usize % 2]);
        refused_lives(&rejected, &calls);
        while poll(&steady, Format::Json) > 0 {}
        lives += 1;
        // 40 samples; the first one after caches have been filled.
        if lives > 40 && start.elapsed() >= length * (samples.len() as u32 + 10) / 50 {
            samples.push(Resources::now());
            println!(
                "{:6} s {lives:8} lives {events:12} events {:?}",
                start.elapsed().as_secs(),
                samples[samples.len() - 1]
            );
        }
    }
    let stats = steady.stats();
    assert!(stats.events > 0 && stats.malformed == 0, "{stats:?}");
    drop(steady);
    watch.is_clean();
    let middle = |samples: &[Resources]| {
        let of = |value: fn(&Resources) -> usize| {
            let mut values: Vec<usize> = samples.iter().map(value).collect();
            values.sort_unstable();
            values[values.len() / 2]
        };
        Resources {
            heap: of(|s| s.heap),
            resident: of(|s| s.resident),
            descriptors: of(|s| s.descriptors),
            threads: of(|s| s.threads),
        }
    };
    let (first, second) = samples.split_at(samples.len() / 2);
    let (first, second) = (middle(first), middle(second));
    println!(
        "{lives} lives, {events} events; in the middle of the first half {first:?}, of the second {second:?}"
    );
    assert_eq!((first.descriptors, first.threads), (second.descriptors, second.threads));
    assert!(
        second.heap <= first.heap + 64 && second.resident <= first.resident + 512,
        "{first:?}, then {second:?}"
    );
}
