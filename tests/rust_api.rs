//! What the crate offers to hosts in Rust beyond what the C interface has: events as an iterator and, with the feature
//! `channel`, from a channel.

mod support;

use std::sync::{Mutex, MutexGuard, PoisonError};

use eunomia::vm::Batch;
use eunomia::{Event, Flow, Format, OwnedEvent, Status, Vm};

/// All tests are one process to the program that counts its calls, so one at a time has its events.
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
    assert_eq!(error.status, Status::State);
}

#[test]
fn a_raw_batch_is_walked_and_a_torn_one_ends_early() {
    needs_root!();
    let _turn = turn();
    let vm = running(3);
    trigger();
    let (mut batch, mut buf) = (Batch::default(), vec![0; 4096]);
    vm.read(-1, Format::Raw, &mut buf, &mut batch).expect("records");
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
    let poll = || vm.poll(-1, Format::Json, &mut |_: &Event| panic!("seven"));
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(poll)).expect_err("it panics");
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"seven"));
    let after = vm.poll(0, Format::Json, &mut |_: &Event| Flow::Continue).expect_err("the vm is dead");
    assert_eq!(after.status, Status::Internal);
}

#[cfg(feature = "channel")]
mod channel {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    /// Far beyond what an event takes.
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
        assert_eq!(error.status, Status::State);
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
