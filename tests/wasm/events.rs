//! The interface ewasm: programs by number, events through `process_event`.

use std::sync::Arc;
use std::time::Duration;

use eunomia::vm::WasmOptions;
use eunomia::{Event, EventKind, Flow, Format, Kind, Status};

use crate::fixture::{call, calls, guest, opened, perf_calls, refused, run_until, tid, with_patience};
use crate::needs_root;
use crate::support::kernel::Watch;

fn events_guest(defines: &[&str]) -> Vec<u8> {
    guest("events", defines, calls(1).as_bytes())
}

fn plain(module: &[u8]) -> eunomia::Vm {
    opened(module, WasmOptions::new())
}

#[test]
fn without_a_handler_events_go_to_the_host_in_its_format() {
    needs_root!();
    let vm = plain(&events_guest(&[]));
    let (result, seen) = run_until(&vm, Format::Json, 3, 3);
    assert_eq!(result.unwrap(), 0);
    assert_eq!(seen.lines, ["args [\"guest\"] 9", "ready"]);
    assert_eq!(seen.seqs(), [0, 1, 2]);
    assert_eq!(seen.json()[0]["tid"], tid());
    let (_, seen) = run_until(&vm, Format::Text, 1, 1);
    let line = String::from_utf8(seen.events[0].clone()).unwrap();
    assert_eq!(&line[2..3], ":", "{line}");
}

#[test]
fn events_of_a_perf_buffer_are_delivered() {
    needs_root!();
    let vm = plain(&guest("events", &[], perf_calls().as_bytes()));
    let (result, seen) = with_patience(&vm, || run_until(&vm, Format::Json, 3, 3));
    assert_eq!(result.unwrap(), 0);
    assert_eq!(seen.seqs(), [0, 1, 2]);
}

#[test]
fn a_handler_gets_each_event_as_json_and_its_output_is_in_order() {
    needs_root!();
    let vm = plain(&events_guest(&["COUNT"]));
    let (result, seen) = run_until(&vm, Format::Json, 3, 3);
    assert_eq!(result.unwrap(), 0);
    assert_eq!(seen.seqs(), [0, 1, 2]);
    let len = seen.events[0].len();
    assert_eq!(seen.lines[2], format!("event 1 has {len} bytes"));
    assert_eq!(seen.lines.len(), 5);
    let stats = vm.stats();
    assert_eq!((stats.events, stats.bytes, stats.guest_dropped, stats.lost_kernel), (3, 96, 0, 0));
}

#[test]
fn an_event_is_marked_if_the_handler_printed() {
    needs_root!();
    let vm = plain(&events_guest(&["PRINT_ODD"]));
    let mut printed = Vec::new();
    let result = vm.wasm_run(&["guest"], Format::Json, |event: &Event<'_>| {
        match event.kind {
            EventKind::Sample => printed.push(event.printed),
            _ => assert!(!event.printed),
        }
        call(if event.data == b"ready" { 4 } else { 0 });
        if printed.len() == 4 { Flow::End } else { Flow::Continue }
    });
    assert_eq!(result.unwrap(), 0);
    assert_eq!(printed, [false, true, false, true]);
}

#[test]
fn handlers_of_every_accepted_type_get_each_event() {
    needs_root!();
    let vm = plain(&events_guest(&["NO_RESULT"]));
    let (result, seen) = run_until(&vm, Format::Json, 2, 2);
    assert_eq!(result.unwrap(), 0);
    assert_eq!(seen.seqs(), [0, 1]);
    assert_eq!(seen.lines[2..], ["no result 0 1"; 2]);

    // The sign of a 64-bit result is in its upper half.
    let vm = plain(&events_guest(&["WIDE"]));
    let (result, seen) = run_until(&vm, Format::Json, 4, 2);
    assert_eq!(result.unwrap(), 0);
    assert_eq!(seen.seqs(), [0, 2]);
    assert_eq!(vm.stats().guest_dropped, 1);
    assert_eq!(seen.lines[2..], ["wide 0 1"; 3]);
}

#[test]
fn dropped_events_are_counted_and_not_delivered() {
    needs_root!();
    let vm = plain(&events_guest(&["ODD_ONLY"]));
    let (result, seen) = run_until(&vm, Format::Json, 10, 5);
    assert_eq!(result.unwrap(), 0);
    assert_eq!(seen.seqs(), [1, 3, 5, 7, 9]);
    assert_eq!(vm.stats().guest_dropped, 5);
    assert_eq!(vm.stats().events, 5);
}

#[test]
fn changes_that_the_handler_makes_are_delivered() {
    needs_root!();
    let (result, seen) = run_until(&plain(&events_guest(&["REWRITE"])), Format::Json, 2, 2);
    assert_eq!(result.unwrap(), 0);
    assert_eq!(seen.seqs(), [0, 1]);
    assert_eq!(seen.json()[1]["more"], true);
}

#[test]
fn a_guest_that_asks_for_bytes_gets_them_in_every_format() {
    needs_root!();
    let vm = plain(&events_guest(&["RAW", "FORMAT=0"]));
    let (result, seen) = run_until(&vm, Format::Json, 2, 2);
    assert_eq!(result.unwrap(), 0);
    assert_eq!(seen.seqs(), [1000, 1001]);
    let (_, seen) = run_until(&vm, Format::Raw, 1, 1);
    assert_eq!((seen.events[0].len(), &seen.events[0][..8]), (32, &1000_u64.to_le_bytes()[..]));
    let (_, seen) = run_until(&vm, Format::Text, 1, 1);
    let line = String::from_utf8(seen.events[0].clone()).unwrap();
    assert!(line.contains("1000"), "{line}");
}

#[test]
fn the_host_chooses_the_format_if_the_guest_does_not() {
    needs_root!();
    let module = events_guest(&["RAW"]);
    let vm = opened(&module, WasmOptions::new().raw_events(true));
    let (result, seen) = run_until(&vm, Format::Json, 1, 1);
    assert_eq!(result.unwrap(), 0);
    assert_eq!(seen.seqs(), [1000]);
    // A guest that requests JSON gets JSON.
    let module = events_guest(&["REWRITE", "FORMAT=1"]);
    let vm = opened(&module, WasmOptions::new().raw_events(true));
    let (_, seen) = run_until(&vm, Format::Json, 1, 1);
    assert_eq!(seen.json()[0]["more"], true);
}

#[test]
fn a_guest_that_gets_json_delivers_only_json() {
    needs_root!();
    let vm = plain(&events_guest(&["COUNT"]));
    for format in [Format::Raw, Format::Text] {
        let (result, seen) = run_until(&vm, format, 1, 1);
        refused(result, Status::Inval, &["format", "JSON"]);
        assert!(seen.lines.is_empty());
    }
    assert_eq!(run_until(&vm, Format::Json, 1, 1).0.unwrap(), 0);
}

#[test]
fn a_batch_is_one_call_and_each_record_can_be_dropped() {
    needs_root!();
    let vm = plain(&guest("events", &["BATCH"], calls(100).as_bytes()));
    let (result, seen) = run_until(&vm, Format::Json, 20, 1000);
    assert_eq!(result.unwrap(), 0);
    let expected: Vec<u64> = (0..2000).step_by(2).map(|seq| seq + 1000).collect();
    assert_eq!(seen.seqs(), expected);
    assert_eq!(seen.lines.last().unwrap(), "batch");
    assert!(vm.stats().guest_dropped >= 990, "{:?}", vm.stats());
}

#[test]
fn all_runs_share_their_event_types() {
    needs_root!();
    let vm = plain(&events_guest(&["RAW", "FORMAT=0"]));
    let mut types = Vec::new();
    for _ in 0..3 {
        let result = vm.wasm_run(&["guest"], Format::Raw, |event: &Event<'_>| {
            if event.kind == EventKind::Output {
                call(usize::from(event.data == b"ready"));
                return Flow::Continue;
            }
            let ty = event.ty.expect("the package tells");
            assert_eq!(ty.name, "struct event");
            types.push(Arc::as_ptr(ty));
            Flow::End
        });
        assert_eq!(result.unwrap(), 0);
    }
    assert_eq!(types, [types[0]; 3]);
}

#[test]
fn programs_are_numbered_from_0_in_each_run_and_the_last_one_can_be_polled() {
    needs_root!();
    let vm = plain(&events_guest(&["PROGRAMS=3"]));
    for _ in 0..2 {
        let (result, seen) = run_until(&vm, Format::Json, 2, 2);
        assert_eq!(result.unwrap(), 0);
        assert_eq!(seen.seqs(), [0, 1]);
    }
}

#[test]
fn all_programs_are_polled_together_as_minus_1_and_unknown_ones_are_refused() {
    needs_root!();
    let (_, seen) = run_until(&plain(&events_guest(&["PROGRAMS=2", "POLLED=-1"])), Format::Json, 2, 2);
    assert_eq!(seen.seqs(), [0, 1]);
    // Program 0 exists but does not run; program 7 does not exist. The guest keeps running.
    for polled in ["POLLED=0", "POLLED=7", "POLLED=-2"] {
        let (result, _) = run_until(&plain(&events_guest(&["PROGRAMS=2", polled])), Format::Json, 0, 0);
        assert_eq!(result.unwrap(), 12, "{polled}");
    }
}

#[test]
fn a_handler_cannot_poll() {
    needs_root!();
    let (result, seen) = run_until(&plain(&events_guest(&["POLL_AGAIN"])), Format::Json, 1, 1);
    assert_eq!(result.unwrap(), 0);
    assert_eq!(seen.lines[2], "again -1");
}

#[test]
fn a_callback_ends_a_run_and_everything_is_unloaded() {
    needs_root!();
    let watch = Watch::new();
    let vm = plain(&events_guest(&["COUNT"]));
    let mut count = 0;
    let result = vm.wasm_run(&["guest"], Format::Json, |event: &Event<'_>| {
        count += 1;
        if event.kind == EventKind::Output && event.data == b"ready" {
            Flow::Fail(-3)
        } else {
            Flow::Continue
        }
    });
    refused(result, Status::Callback, &["-3"]);
    assert_eq!(count, 2);
    watch.kernel_is_clean();
    drop(vm);
    watch.is_clean();
}

#[test]
fn calls_for_json_packages_fail_for_a_module() {
    needs_root!();
    let vm = plain(&events_guest(&[]));
    let words = ["WASM module"];
    refused(vm.load(), Status::State, &words);
    refused(vm.attach(), Status::State, &words);
    refused(vm.detach(), Status::State, &words);
    refused(
        vm.poll(Some(Duration::ZERO), Format::Json, |_: &Event<'_>| Flow::Continue),
        Status::State,
        &words,
    );
    refused(vm.var_get_json("only_tid"), Status::State, &words);
    refused(vm.open(&events_guest(&[]), Kind::Wasm), Status::State, &["already open"]);
    let json = crate::support::vm();
    json.open(calls(1).as_bytes(), Kind::Json).unwrap();
    let run = json.wasm_run(&["guest"], Format::Json, |_: &Event<'_>| Flow::Continue);
    refused(run, Status::State, &["no WASM module"]);
}
