//! The second interface: objects, maps and programs by handle.

use eunomia::vm::WasmOptions;
use eunomia::{Event, EventKind, Flow, Format};

use crate::fixture::{call, guest, object, opened, perf_object, run, with_patience};
use crate::needs_root;
use crate::support::kernel::Watch;

/// Runs the guest until it has printed `until`; calls getpgid `calls` times when it is ready.
fn lines(defines: &[&str], repeat: u32, calls: usize, until: &str) -> (Vec<String>, eunomia::vm::Stats) {
    lines_of(&guest("objects", defines, &object(repeat)), calls, until)
}

fn lines_of(module: &[u8], calls: usize, until: &str) -> (Vec<String>, eunomia::vm::Stats) {
    let vm = opened(module, WasmOptions::default());
    let mut lines = Vec::new();
    let result = with_patience(&vm, || {
        vm.wasm_run(&["guest"], Format::Raw, &mut |event: &Event<'_>| {
            assert_eq!(event.kind, EventKind::Output, "events are the guest's alone");
            lines.push(String::from_utf8(event.data.to_vec()).unwrap());
            match &*lines[lines.len() - 1] {
                "ready" => call(calls),
                line if line == until => return Flow::End,
                _ => {}
            }
            Flow::Continue
        })
    });
    assert!(matches!(result, Ok(0 | 3)), "{result:?} {lines:?}");
    (lines, vm.stats())
}

#[test]
fn every_event_of_a_poll_is_delivered_in_order_with_its_size() {
    needs_root!();
    for defines in [&[][..], &["GO"], &["MODULE=\"env\""]] {
        let watch = Watch::new();
        let (lines, stats) = lines(defines, 100, 2, "poll 200");
        assert_eq!(lines[..3], ["attach -2", "nothing 0", "ready"], "{defines:?}");
        let expected: Vec<String> = (0..200).map(|seq| format!("event {seq} size 32 ctx 42")).collect();
        assert_eq!(lines[3..203], expected, "{defines:?}");
        assert_eq!((stats.events, stats.bytes, stats.guest_dropped), (200, 6400, 0));
        watch.is_clean();
    }
}

#[test]
fn events_that_wait_in_a_perf_buffer_are_polled() {
    needs_root!();
    let (lines, stats) = lines_of(&guest("objects", &[], &perf_object()), 3, "poll 3");
    let seqs: Vec<_> = lines[3..6].iter().map(|line| line.split(' ').nth(1).unwrap()).collect();
    assert_eq!((seqs, stats.events), (vec!["0", "1", "2"], 3), "{lines:?}");
}

#[test]
fn a_large_event_is_cut_and_the_guest_told_what_it_got() {
    needs_root!();
    let (lines, _) = lines(&["ROOM=12"], 1, 2, "poll 2");
    assert_eq!(lines[3..], ["event 0 size 12 ctx 42", "event 1 size 12 ctx 42", "poll 2"]);
}

#[test]
fn a_callback_that_refuses_ends_the_poll_with_its_answer_and_loses_nothing() {
    needs_root!();
    let (lines, stats) = lines(&["REFUSE"], 3, 1, "poll -7");
    assert_eq!(lines[3..], ["event 0 size 32 ctx 42", "poll -7"]);
    assert_eq!(stats.events, 1);
}

#[test]
fn a_guest_cannot_close_or_poll_what_delivers_to_it() {
    needs_root!();
    let (lines, _) = lines(&["CLOSE_IN_CALLBACK", "POLL_IN_CALLBACK"], 1, 1, "poll 1");
    assert_eq!(lines[3..], ["event 0 size 32 ctx 42", "close -16", "poll -16", "poll 1"]);
}

#[test]
fn maps_are_used_by_number_and_answer_with_errnos() {
    needs_root!();
    let watch = Watch::new();
    let vm = opened(&guest("objects", &["MAPS"], &object(1)), WasmOptions::default());
    let (result, seen) = run(&vm);
    assert_eq!(result.unwrap(), 0);
    let cpus = std::fs::read_to_string("/sys/devices/system/cpu/possible").unwrap();
    let cpus: usize = cpus.trim().rsplit(['-', ',']).next().unwrap().parse::<usize>().unwrap() + 1;
    let expected = [
        "same number 1",
        "look up -2",
        "update 0",
        "once more -17",
        "look up 0 77",
        "first 0",
        "next 5 -2",
        "delete 0",
        "delete -2",
        "command -22 -22",
        "per CPU 0",
        &format!("cpus {cpus}"),
        "per CPU 0",
        "per CPU 0 1",
        "programs -1",
        "no map -9 -9 -9",
        "no name -2 -22",
        "close 0",
        "closed -22 -22",
        "closed map -9",
    ];
    assert_eq!(seen.lines, expected);
    watch.kernel_is_clean();
    drop(vm);
    watch.is_clean();
}

#[test]
fn objects_come_and_go_any_number_of_times_and_nothing_stays_of_them() {
    needs_root!();
    let vm = opened(&guest("objects", &["REOPEN"], &object(1)), WasmOptions::default());
    let mut watch = None;
    let result = vm.wasm_run(&["guest"], Format::Raw, &mut |event: &Event<'_>| {
        match event.data {
            b"loaded" => watch = Some(Watch::new()),
            b"closed" => watch.take().expect("it was loaded before").kernel_is_clean(),
            other => panic!("{other:?}"),
        }
        Flow::Continue
    });
    assert_eq!(result.unwrap(), 6);
    assert!(watch.is_none());
}

#[test]
fn an_object_that_cannot_be_loaded_is_handle_0_and_the_log_says_why() {
    needs_root!();
    let vm = opened(&guest("objects", &[], b"no object"), WasmOptions::default());
    assert_eq!(run(&vm).0.unwrap(), 1);
}
