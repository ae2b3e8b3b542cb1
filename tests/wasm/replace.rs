//! A guest is replaced while it runs: it ends, the new one begins, and maps keep their content.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use eunomia::vm::WasmOptions;
use eunomia::{Event, EventKind, Flow, Format, Kind, Options, Status, Vm};
use serde_json::Value;

use crate::fixture::{CALLS, call, guest, main_of, opened, refused, run, tid, wat, with_patience};
use crate::needs_root;
use crate::support::{self, kernel::Watch};

/// `CALLS` with `repeat` events for each call, which are numbered by an entry of its hash map.
fn counting(repeat: u32) -> String {
    let head = "SEC(\"raw_tp/sys_enter\")";
    let next = "static u64 next(void)\n{\n    u32 key = 0;\n    u64 first = 1, *count = bpf_map_lookup_elem(&counts, \
                &key);\n    if (count)\n        return __sync_fetch_and_add(count, 1);\n    \
                bpf_map_update_elem(&counts, &key, &first, BPF_ANY);\n    return 0;\n}\n";
    CALLS
        .replace(head, &format!("{next}{head}"))
        .replace("__sync_fetch_and_add(&seen, 1)", "next()")
        .replace("only_tid = 0", &format!("only_tid = {}", tid()))
        .replace("repeat = 1", &format!("repeat = {repeat}"))
}

/// Runs `first`. Another thread replaces it with `second` after `before` lines or events, and this run ends after `all`. Each
/// guest that is ready sees one call.
fn replaced(vm: &Vm, second: &[u8], before: usize, all: usize) -> Vec<String> {
    let (mut seen, is_due, is_over) = (Vec::new(), AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let replacing = scope.spawn(|| {
            while !is_due.load(SeqCst) && !is_over.load(SeqCst) {
                thread::yield_now();
            }
            vm.replace(second, Default::default())
        });
        let result = with_patience(vm, || {
            vm.wasm_run(&["guest", "argument"], Format::Json, |event: &Event<'_>| {
                let text = std::str::from_utf8(event.data).expect("UTF-8");
                seen.push(match event.kind {
                    EventKind::Output => text.to_owned(),
                    _ => serde_json::from_str::<Value>(text).expect("JSON")["seq"].to_string(),
                });
                call(usize::from(text == "ready"));
                is_due.fetch_or(seen.len() == before, SeqCst);
                if seen.len() == all { Flow::End } else { Flow::Continue }
            })
        });
        is_over.store(true, SeqCst);
        assert_eq!(result.expect("the second guest runs"), 0, "{seen:?}");
        let report = replacing.join().unwrap().expect("it is replaced");
        assert!(report.load_ns > 0 && !report.unchanged, "{report:?}");
    });
    assert_eq!(vm.stats().replaces, 1);
    seen
}

#[test]
fn a_guest_with_packages_is_replaced_and_its_maps_keep_their_content() {
    needs_root!();
    let watch = Watch::new();
    let [one, two] = [1, 2].map(|repeat| guest("events", &[], &support::package(&counting(repeat))));
    let vm = opened(&one, WasmOptions::new());
    let seen = replaced(&vm, &two, 3, 7);
    let args = "args [\"guest\",\"argument\"] 20";
    assert_eq!(seen, [args, "ready", "0", args, "ready", "1", "2"]);
    drop(vm);
    watch.is_clean();
}

#[test]
fn a_guest_with_objects_is_replaced_and_its_maps_keep_their_content() {
    needs_root!();
    let watch = Watch::new();
    let [one, two] = [1, 2].map(|repeat| {
        let folder = support::compile(&counting(repeat));
        guest("objects", &[], &std::fs::read(folder.path().join("test.bpf.o")).expect("an object"))
    });
    let vm = opened(&one, WasmOptions::new());
    let seen = replaced(&vm, &two, 5, 11);
    let event = |number: u32| format!("event {number} size 32 ctx 42");
    let of_each = ["attach -2", "nothing 0", "ready"].map(String::from);
    let expected =
        [&of_each[..], &[event(0), "poll 1".into()], &of_each, &[event(1), event(2), "poll 2".into()]]
            .concat();
    assert_eq!(seen, expected);
    drop(vm);
    watch.is_clean();
}

#[test]
fn a_map_of_another_type_starts_empty() {
    needs_root!();
    let other = counting(1).replace("max_entries, 64", "max_entries, 65");
    let [one, two] = [counting(1), other].map(|source| guest("events", &[], &support::package(&source)));
    let seen = replaced(&opened(&one, WasmOptions::new()), &two, 3, 6);
    assert_eq!((&*seen[2], &*seen[5]), ("0", "0"));
}

#[test]
fn if_the_new_guest_fails_at_its_start_nothing_is_left() {
    needs_root!();
    let watch = Watch::new();
    let rejected = CALLS.replace("if (", "if (!*(volatile int *)0 && ");
    assert_ne!(rejected, CALLS);
    let first = guest("events", &[], &support::package(&counting(1)));
    let trap = main_of("", "unreachable");
    // The guest gets no package, and ends with an exit code of its own.
    let without_package = guest("events", &[], &support::package(&rejected));
    for (second, expected) in [(trap, Err("unreachable")), (without_package, Ok(11))] {
        let vm = opened(&first, WasmOptions::new());
        let is_ready = AtomicBool::new(false);
        let result = thread::scope(|scope| {
            scope.spawn(|| {
                while !is_ready.load(SeqCst) {
                    thread::yield_now();
                }
                vm.replace(&second, Default::default()).expect("the module itself is valid");
            });
            with_patience(&vm, || {
                vm.wasm_run(&["guest"], Format::Json, |event: &Event<'_>| {
                    is_ready.fetch_or(event.data == b"ready", SeqCst);
                    Flow::Continue
                })
            })
        });
        match expected {
            Ok(code) => assert_eq!(result.expect("it ends by itself"), code),
            Err(why) => drop(refused(result, Status::Wasm, &[why])),
        }
        // The vm is still open.
        watch.kernel_is_clean();
        assert_eq!(vm.stats().replaces, 1);
        vm.replace(&main_of("", "(i32.const 5)"), Default::default()).expect("another one");
        assert_eq!(run(&vm).0.expect("it runs"), 5);
    }
}

#[test]
fn a_guest_that_computes_is_ended() {
    let loops = main_of("", "(loop (br 0)) (i32.const 0)");
    let vm = opened(&loops, WasmOptions::new());
    let code = thread::scope(|scope| {
        scope
            .spawn(|| vm.replace(&main_of("", "(i32.const 7)"), Default::default()).expect("it is replaced"));
        with_patience(&vm, || vm.wasm_run(&["guest"], Format::Json, |_| Flow::Continue))
    });
    assert_eq!(code.unwrap(), 7);
}

#[test]
fn without_a_run_the_next_one_has_the_new_guest() {
    let vm = opened(&main_of("", "(i32.const 1)"), WasmOptions::new());
    assert_eq!(run(&vm).0.unwrap(), 1);
    vm.replace(&main_of("", "(i32.const 2)"), Default::default()).unwrap();
    assert_eq!(run(&vm).0.unwrap(), 2);
}

#[test]
fn a_module_that_cannot_be_opened_changes_nothing() {
    let vm = opened(&main_of("", "(i32.const 1)"), WasmOptions::new());
    let replace = |bytes: &[u8]| vm.replace(bytes, Default::default());
    refused(replace(b"\0asm garbage"), Status::Package, &[]);
    refused(replace(b"{}"), Status::Package, &["not a WASM module"]);
    refused(replace(&wat("(module)")), Status::Package, &[]);
    refused(vm.prepare(b"{}", Default::default()).map(drop), Status::Unsupported, &["in one call"]);
    assert_eq!((run(&vm).0.unwrap(), vm.stats().replaces), (1, 0));
}

#[test]
fn a_callback_cannot_replace_its_guest() {
    let print =
        r#"(import "env" "puts" (func $puts (param i32) (result i32))) (data (i32.const 8) "here\00")"#;
    let vm = opened(&main_of(print, "(call $puts (i32.const 8))"), WasmOptions::new());
    let mut tried = 0;
    let result = vm.wasm_run(&["guest"], Format::Json, |_| {
        refused(vm.replace(&main_of("", "(i32.const 2)"), Default::default()), Status::Busy, &["callback"]);
        tried += 1;
        Flow::Continue
    });
    assert!(result.is_ok_and(|code| code != 2));
    assert_eq!(tried, 1);
}

#[test]
fn a_stop_during_a_replace_is_not_lost() {
    let loops = main_of("", "(loop (br 0)) (i32.const 0)");
    for turn in 0..20 {
        let vm = Vm::new(Options::new()).unwrap();
        vm.open(&loops, Kind::Wasm).unwrap();
        let result = thread::scope(|scope| {
            scope.spawn(|| {
                if turn % 2 == 0 {
                    vm.stop();
                }
                vm.replace(&loops, Default::default()).expect("it is replaced");
                if turn % 2 == 1 {
                    vm.stop();
                }
            });
            vm.wasm_run(&["guest"], Format::Json, |_| Flow::Continue)
        });
        refused(result, Status::Stopped, &[]);
    }
}
