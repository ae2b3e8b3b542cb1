//! The interface wasm-bpf: objects, maps and programs by handle.

use eunomia::vm::WasmOptions;
use eunomia::{Event, EventKind, Flow, Format, Status};

use crate::fixture::{
    call, guest, object, opened, perf_object, refused, run, run_module, wat, with_patience,
};
use crate::needs_root;
use crate::support::kernel::Watch;

/// Runs the guest until it prints `until`. Calls getpgid `calls` times when it is ready.
fn lines(defines: &[&str], repeat: u32, calls: usize, until: &str) -> (Vec<String>, eunomia::vm::Stats) {
    lines_of(&guest("objects", defines, &object(repeat)), calls, until)
}

fn lines_of(module: &[u8], calls: usize, until: &str) -> (Vec<String>, eunomia::vm::Stats) {
    let vm = opened(module, WasmOptions::new());
    let mut lines = Vec::new();
    let result = with_patience(&vm, || {
        vm.wasm_run(&["guest"], Format::Raw, |event: &Event<'_>| {
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
fn events_of_a_perf_buffer_are_polled() {
    needs_root!();
    let (lines, stats) = lines_of(&guest("objects", &[], &perf_object()), 3, "poll 3");
    let seqs: Vec<_> = lines[3..6].iter().map(|line| line.split(' ').nth(1).unwrap()).collect();
    assert_eq!((seqs, stats.events), (vec!["0", "1", "2"], 3), "{lines:?}");
}

#[test]
fn a_large_event_is_cut_off_and_its_copied_size_is_passed() {
    needs_root!();
    let (lines, _) = lines(&["ROOM=12"], 1, 2, "poll 2");
    assert_eq!(lines[3..], ["event 0 size 12 ctx 42", "event 1 size 12 ctx 42", "poll 2"]);
}

#[test]
fn a_negative_result_ends_the_poll_and_no_event_is_lost() {
    needs_root!();
    let (lines, stats) = lines(&["REFUSE"], 3, 1, "poll -7");
    assert_eq!(lines[3..], ["event 0 size 32 ctx 42", "poll -7"]);
    assert_eq!(stats.events, 1);
}

#[test]
fn a_callback_cannot_close_or_poll_its_object() {
    needs_root!();
    let (lines, _) = lines(&["CLOSE_IN_CALLBACK", "POLL_IN_CALLBACK"], 1, 1, "poll 1");
    assert_eq!(lines[3..], ["event 0 size 32 ctx 42", "close -16", "poll -16", "poll 1"]);
}

/// A guest that polls with the element `index` of a table until the poll fails. Element 1 is `callback`, which can call
/// `$show` to print three numbers.
fn polling(callback: &str, table: &str, index: i32) -> Vec<u8> {
    wat(&polling_text(callback, table, index))
}

fn polling_text(callback: &str, table: &str, index: i32) -> String {
    let object = object(1);
    let data: String = object.iter().map(|byte| format!("\\{byte:02x}")).collect();
    format!(
        r#"(module
          (import "wasm_bpf" "wasm_load_bpf_object" (func $load (param i32 i32) (result i64)))
          (import "wasm_bpf" "wasm_attach_bpf_program" (func $attach (param i64 i32 i32) (result i32)))
          (import "wasm_bpf" "wasm_bpf_map_fd_by_name" (func $map (param i64 i32) (result i32)))
          (import "wasm_bpf" "wasm_bpf_buffer_poll"
            (func $poll (param i64 i32 i32 i32 i32 i32 i32) (result i32)))
          (import "env" "printf" (func $printf (param i32 i32) (result i32)))
          (import "env" "puts" (func $puts (param i32) (result i32)))
          (import "env" "exit" (func $exit (param i32)))
          (memory (export "memory") 2) {table} (elem (i32.const 1) $callback)
          (data (i32.const 8) "on_getpgid\00") (data (i32.const 24) "events\00") (data (i32.const 40) "ready\00")
          (data (i32.const 48) "%d %d %d\0a\00") (data (i32.const 64) "poll %d\0a\00")
          (data (i32.const 4096) "{data}")
          (func $show (param i32 i32 i32)
            (i32.store (i32.const 256) (local.get 0)) (i32.store (i32.const 260) (local.get 1))
            (i32.store (i32.const 264) (local.get 2)) (drop (call $printf (i32.const 48) (i32.const 256))))
          (func $callback {callback})
          (func (export "_start") (local $o i64) (local $events i32) (local $count i32)
            (local.set $o (call $load (i32.const 4096) (i32.const {})))
            (drop (call $attach (local.get $o) (i32.const 8) (i32.const 0)))
            (local.set $events (call $map (local.get $o) (i32.const 24)))
            (drop (call $puts (i32.const 40)))
            (loop
              (local.set $count (call $poll (local.get $o) (local.get $events) (i32.const {index})
                (i32.const -42) (i32.const 1024) (i32.const 20) (i32.const -1)))
              (i32.store (i32.const 256) (local.get $count))
              (drop (call $printf (i32.const 64) (i32.const 256)))
              (br_if 0 (i32.ge_s (local.get $count) (i32.const 0))))
            (call $exit (i32.const 3))))"#,
        object.len()
    )
}

const TABLE: &str = r#"(table (export "__indirect_function_table") 3 funcref)"#;

/// Prints the parameters of a callback, which have these types; -1 for those that it does not have.
fn showing(types: &[&str], result: &str) -> String {
    let arg = |at: usize| match types.get(at) {
        Some(&"i64") => format!("(i32.wrap_i64 (local.get {at}))"),
        Some(_) => format!("(local.get {at})"),
        None => "(i32.const -1)".into(),
    };
    format!("(param {}) {result} (call $show {} {} {})", types.join(" "), arg(0), arg(1), arg(2))
}

#[test]
fn callbacks_of_every_accepted_type_get_each_event() {
    needs_root!();
    let (i, wide) = ("i32", "i64");
    let cases = [
        (showing(&[i, i, i], ""), "-42 1024 20"),
        (showing(&[i, i, i], "(result i64)") + "(i64.const 4294967295)", "-42 1024 20"),
        (showing(&[i, i, i], "(result f64)") + "(f64.const -1)", "-42 1024 20"),
        (showing(&[i, i, i], "(result f32)") + "(f32.const -1)", "-42 1024 20"),
        (showing(&[wide, wide, wide], "(result i32)") + "(i32.const 0)", "-42 1024 20"),
        (showing(&[i, wide, i], "(result i64)") + "(i64.const 0)", "-42 1024 20"),
        (showing(&[i, i, wide], ""), "-42 1024 20"),
        (showing(&[i, i], "(result i32)") + "(i32.const 0)", "-42 1024 -1"),
        (showing(&[i], "(result i32)") + "(i32.const 0)", "-42 -1 -1"),
        (showing(&[], ""), "-1 -1 -1"),
    ];
    for (callback, shown) in cases {
        let (lines, stats) = lines_of(&polling(&callback, TABLE, 1), 3, "poll 3");
        assert_eq!(lines, ["ready", shown, shown, shown, "poll 3"], "{callback}");
        assert_eq!((stats.events, stats.bytes), (3, 96), "{callback}");
    }
}

#[test]
fn a_64_bit_context_is_zero_extended_and_a_64_bit_result_ends_the_poll() {
    needs_root!();
    let callback = "(param i64 i64 i64) (result i64)
        (call $show (i32.wrap_i64 (i64.shr_u (local.get 0) (i64.const 32)))
          (i32.wrap_i64 (i64.shr_u (local.get 1) (i64.const 32)))
          (i32.wrap_i64 (i64.shr_u (local.get 2) (i64.const 32))))
        (i64.const -9000000000)";
    let (lines, _) = lines_of(&polling(callback, TABLE, 1), 2, "none");
    assert_eq!(lines, ["ready", "0 0 0", "poll -2147483648"]);
}

#[test]
fn a_callback_of_another_type_ends_the_run_and_is_named() {
    needs_root!();
    let fine = "(param i32 i32 i32)";
    let cases = [
        ("(param f32 i32 i32)", TABLE, 1, "element 1 of __indirect_function_table has type (fii), "),
        ("(param i32 i32 i32 i32)", TABLE, 1, "has type (iiii), "),
        ("(param i64 i64 i64 i64) (result i32) (i32.const 0)", TABLE, 1, "has type (IIII)i, "),
        ("(result i32 i32) (i32.const 0) (i32.const 0)", TABLE, 1, "has type ()ii, "),
        ("(param i32 i32 externref)", TABLE, 1, "has type (iir), "),
        (fine, TABLE, 0, "element 0 of __indirect_function_table does not exist"),
        (fine, TABLE, 3, "element 3 of __indirect_function_table does not exist"),
        (fine, TABLE, -1, "element 4294967295 of __indirect_function_table does not exist"),
        (fine, "(table 3 funcref)", 1, "the module must export that table"),
    ];
    for (callback, table, index, words) in cases {
        let (result, seen) = run_module(&polling(callback, table, index));
        refused(result, Status::Wasm, &["wasm_bpf_buffer_poll", words]);
        assert_eq!(seen.lines, ["ready"], "{words}");
    }
}

#[test]
fn a_module_without_the_exported_callback_ends_with_an_error() {
    needs_root!();
    let text = polling_text("", TABLE, 1)
        .replace(r#""wasm_bpf" "wasm_bpf_buffer_poll""#, r#""callback-wrapper" "wasm_bpf_buffer_poll""#)
        .replace("$poll (param i64 i32 i32", "$poll (param i64 i32")
        .replace("(i32.const 1)\n                (i32.const -42)", "(i32.const -42)");
    let (result, seen) = run_module(&wat(&text));
    refused(result, Status::Wasm, &["does not export go-callback"]);
    assert_eq!(seen.lines, ["ready"]);
}

#[test]
fn maps_are_used_by_number_and_failures_are_errnos() {
    needs_root!();
    let watch = Watch::new();
    let vm = opened(&guest("objects", &["MAPS"], &object(1)), WasmOptions::new());
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
fn objects_can_be_loaded_and_closed_any_number_of_times() {
    needs_root!();
    let vm = opened(&guest("objects", &["REOPEN"], &object(1)), WasmOptions::new());
    let mut watch = None;
    let result = vm.wasm_run(&["guest"], Format::Raw, |event: &Event<'_>| {
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
fn loading_an_invalid_object_returns_0_and_logs_the_reason() {
    needs_root!();
    let vm = opened(&guest("objects", &[], b"no object"), WasmOptions::new());
    assert_eq!(run(&vm).0.unwrap(), 1);
}
