//! Guests that do not end by themselves, take too much, or trap: the vm ends them, says why, and goes on.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use eunomia::vm::WasmOptions;
use eunomia::{Event, EventKind, Flow, Format, Status, Vm};

use crate::fixture::{
    call, calls, exit_code, guest, main_of, object, opened, refused, run, run_module, run_until, wat,
    with_patience,
};
use crate::needs_root;
use crate::support::{child, kernel::Watch};

/// Runs a module that never ends and stops it, from another thread, when it has printed a line.
#[track_caller]
fn stopped(module: &[u8]) {
    let vm = opened(module, WasmOptions { budget_ms: 3_600_000, ..WasmOptions::default() });
    let (started, wait) = mpsc::channel();
    let result = thread::scope(|scope| {
        let vm: &Vm = &vm;
        scope.spawn(move || {
            wait.recv().expect("the guest printed");
            vm.stop();
        });
        vm.wasm_run(&["guest"], Format::Json, &mut |event: &Event<'_>| {
            if event.kind == EventKind::Output {
                // Nobody waits for a second one.
                let _ = started.send(());
            }
            Flow::Continue
        })
    });
    refused(result, Status::Stopped, &["stop"]);
    // The request has been reported; the guest can run again.
    vm.stop();
    refused(vm.wasm_run(&["guest"], Format::Json, &mut |_: &Event<'_>| Flow::Continue), Status::Stopped, &[]);
}

const PUTS: &str = r#"(import "env" "puts" (func $puts (param i32) (result i32)))
    (data (i32.const 16) "on\00")"#;

const PRINT: &str = "(drop (call $puts (i32.const 16)))";

/// In a process of its own, whose standard output is a pipe that is full. A signal of the host does not make it write.
#[test]
fn stop_ends_a_guest_whose_output_nobody_reads() {
    let test = "limits::stop_ends_a_guest_whose_output_nobody_reads";
    if child::folder().is_none() {
        let folder = tempfile::tempdir().unwrap();
        return child::run(test, &[], folder.path());
    }
    let mut pipe = [0; 2];
    // SAFETY: the array has room for two descriptors; else plain numbers.
    let kept = unsafe {
        let kept = libc::dup(1);
        assert!(kept >= 0 && libc::pipe(pipe.as_mut_ptr()) == 0 && libc::dup2(pipe[1], 1) == 1);
        kept
    };
    let module = main_of(PUTS, &format!("(loop {PRINT} (br 0)) (i32.const 0)"));
    let vm = opened(&module, WasmOptions { stdio: true, budget_ms: 3_600_000, ..WasmOptions::default() });
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: a handler that does nothing, and does not have calls go on behind it; the thread lives for the scope.
    let runner = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as *const () as usize;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()), 0);
        libc::pthread_self()
    };
    let result = thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(300));
            // SAFETY: as above.
            unsafe { libc::pthread_kill(runner, libc::SIGUSR1) };
            thread::sleep(Duration::from_millis(100));
            vm.stop();
        });
        vm.wasm_run(&["guest"], Format::Json, &mut |_: &Event<'_>| Flow::Continue)
    });
    // SAFETY: as above.
    unsafe { libc::dup2(kept, 1) };
    refused(result, Status::Stopped, &[]);
}

#[test]
fn stop_ends_a_loop_in_main() {
    stopped(&main_of(PUTS, &format!("{PRINT} (loop (br 0)) (i32.const 0)")));
}

#[test]
fn stop_ends_a_loop_of_calls_in_main() {
    let items = format!("{PUTS} (func $nothing)");
    stopped(&main_of(&items, &format!("{PRINT} (loop (call $nothing) (br 0)) (i32.const 0)")));
}

#[test]
fn stop_ends_a_loop_in_a_start_function_and_in_an_initializer() {
    let endless = format!("{PRINT} (loop (br 0))");
    stopped(&main_of(&format!("{PUTS} (func $start {endless}) (start $start)"), "(i32.const 0)"));
    for name in ["_initialize", "__wasm_call_ctors", "__post_instantiate"] {
        let items = format!(r#"{PUTS} (func (export "{name}") {endless})"#);
        stopped(&main_of(&items, "(i32.const 0)"));
    }
}

#[test]
fn stop_ends_a_sleep() {
    let items = format!(
        r#"(import "wasi_snapshot_preview1" "poll_oneoff"
             (func $poll (param i32 i32 i32 i32) (result i32))) {PUTS}
           (data (i32.const 256) "{}\00\00\00\00\00\00\00\40")"#,
        "\\00".repeat(24)
    );
    let sleep = "(call $poll (i32.const 256) (i32.const 512) (i32.const 1) (i32.const 1024))";
    stopped(&main_of(&items, &format!("{PRINT} {sleep}")));
}

#[test]
fn stop_ends_a_guest_that_waits_for_events() {
    needs_root!();
    let watch = Watch::new();
    stopped(&guest("events", &["COUNT"], calls(1).as_bytes()));
    watch.is_clean();
}

#[test]
fn stop_ends_a_loop_in_a_handler_and_programs_are_detached() {
    needs_root!();
    let watch = Watch::new();
    let module = guest("events", &["LOOP"], calls(1).as_bytes());
    let vm = opened(&module, WasmOptions { budget_ms: 3_600_000, ..WasmOptions::default() });
    let result = thread::scope(|scope| {
        vm.wasm_run(&["guest"], Format::Json, &mut |event: &Event<'_>| {
            if event.data == b"ready" {
                call(1);
                // There is no telling when the guest is in its loop; stop ends it before and after.
                scope.spawn(|| {
                    thread::sleep(Duration::from_millis(50));
                    vm.stop();
                });
            }
            Flow::Continue
        })
    });
    refused(result, Status::Stopped, &[]);
    watch.kernel_is_clean();
}

#[test]
fn a_handler_that_takes_too_long_is_ended() {
    needs_root!();
    let watch = Watch::new();
    let module = guest("events", &["LOOP"], calls(1).as_bytes());
    let vm = opened(&module, WasmOptions { budget_ms: 100, ..WasmOptions::default() });
    let error = refused(run_until(&vm, Format::Json, 1, 0).0, Status::Wasm, &["100 ms", "process_event"]);
    assert!(error.detail.contains("process_event"), "{}", error.detail);
    watch.kernel_is_clean();
}

#[test]
fn a_start_function_that_takes_too_long_is_ended() {
    let module = main_of("(func $start (loop (br 0))) (start $start)", "(i32.const 0)");
    let vm = opened(&module, WasmOptions { budget_ms: 50, ..WasmOptions::default() });
    refused(run(&vm).0, Status::Wasm, &["50 ms", "start function"]);
}

/// A sleep of an hour.
const SLEEP: &str = r#"(import "wasi_snapshot_preview1" "poll_oneoff"
      (func $poll (param i32 i32 i32 i32) (result i32)))
    (data (i32.const 272) "\01") (data (i32.const 280) "\00\a0\b8\30\46\03")"#;

#[test]
fn a_sleep_takes_up_the_time_of_a_call_like_anything_else() {
    let sleep = "(drop (call $poll (i32.const 256) (i32.const 512) (i32.const 1) (i32.const 1024)))";
    let module = main_of(&format!(r#"{SLEEP} (func (export "_initialize") {sleep})"#), "(i32.const 0)");
    let vm = opened(&module, WasmOptions { budget_ms: 50, ..WasmOptions::default() });
    refused(with_patience(&vm, || run(&vm)).0, Status::Wasm, &["50 ms", "_initialize"]);
}

/// An initializer that polls the buffer of an object, whose callback is `callback`, and then does `after`.
fn polling_initializer(callback: &str, after: &str) -> Vec<u8> {
    let object = object(1);
    let data: String = object.iter().map(|byte| format!("\\{byte:02x}")).collect();
    let items = format!(
        r#"(import "wasm_bpf" "wasm_load_bpf_object" (func $load (param i32 i32) (result i64)))
           (import "wasm_bpf" "wasm_attach_bpf_program" (func $attach (param i64 i32 i32) (result i32)))
           (import "wasm_bpf" "wasm_bpf_map_fd_by_name" (func $map (param i64 i32) (result i32)))
           (import "wasm_bpf" "wasm_bpf_buffer_poll"
             (func $poll (param i64 i32 i32 i32 i32 i32 i32) (result i32)))
           (import "env" "puts" (func $puts (param i32) (result i32)))
           (func $callback (param i32 i32 i32) (result i32) {callback} (i32.const 0))
           (table (export "__indirect_function_table") 2 funcref) (elem (i32.const 1) $callback)
           (data (i32.const 8) "events\00") (data (i32.const 24) "on_getpgid\00") (data (i32.const 40) "ready\00")
           (data (i32.const 4096) "{data}")
           (func (export "_initialize") (local $o i64)
             (local.set $o (call $load (i32.const 4096) (i32.const {})))
             (drop (call $attach (local.get $o) (i32.const 24) (i32.const 0)))
             (drop (call $puts (i32.const 40)))
             (drop (call $poll (local.get $o) (call $map (local.get $o) (i32.const 8)) (i32.const 1) (i32.const 0)
               (i32.const 1024) (i32.const 64) (i32.const -1))) {after})"#,
        object.len()
    );
    main_of(&items, "(i32.const 0)")
}

#[test]
fn calls_inside_calls_have_the_same_limit() {
    needs_root!();
    let endless = "(loop (br 0))";
    for (callback, after, place) in
        [(endless, "", "callback of wasm_bpf_buffer_poll"), ("", endless, "_initialize")]
    {
        let module = polling_initializer(callback, after);
        let vm = opened(&module, WasmOptions { budget_ms: 100, ..WasmOptions::default() });
        let (result, _) = with_patience(&vm, || run_until(&vm, Format::Raw, 1, 0));
        refused(result, Status::Wasm, &["100 ms", place]);
    }
}

#[test]
fn a_paused_vm_keeps_events_from_its_guest() {
    needs_root!();
    let vm = opened(&guest("events", &["COUNT"], calls(1).as_bytes()), WasmOptions::default());
    let mut seen = Vec::new();
    let result = with_patience(&vm, || {
        thread::scope(|scope| {
            vm.wasm_run(&["guest"], Format::Json, &mut |event: &Event<'_>| {
                if event.data == b"ready" {
                    vm.pause(true).unwrap();
                    call(3);
                    scope.spawn(|| {
                        thread::sleep(Duration::from_millis(100));
                        vm.stop();
                    });
                }
                seen.push(event.kind);
                Flow::Continue
            })
        })
    });
    refused(result, Status::Stopped, &[]);
    assert!(!seen.contains(&EventKind::Sample), "{seen:?}");
    vm.pause(false).unwrap();
    assert_eq!(run_until(&vm, Format::Json, 1, 1).0.unwrap(), 0);
}

#[test]
fn tables_have_an_end() {
    let many = "(table 100000 funcref)".repeat(20);
    for (tables, sum) in [("(table 4000000000 funcref)", "4000000000"), (&*many, "2000000")] {
        let error = support_open(&main_of(tables, "(i32.const 0)")).err().expect("the module is refused");
        assert_eq!(error.status, Status::Package);
        assert!(error.message.contains("tables") && error.message.contains(sum), "{}", error.message);
    }
    assert_eq!(exit_code(&main_of("(table 100000 200000 funcref)", "(i32.const 0)")), 0);
    // Grows by 1000 until that fails.
    let grow = "(loop (br_if 0 (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1))))
        (i32.gt_u (table.size $t) (i32.const 10000000))";
    assert_eq!(exit_code(&main_of("(table $t 1 funcref)", grow)), 0);
}

fn support_open(module: &[u8]) -> Result<Vm, eunomia::Error> {
    let vm = crate::support::vm();
    vm.open(module, eunomia::Kind::Wasm as u32).map(|_| vm)
}

#[test]
fn main_may_take_as_long_as_it_likes_and_so_may_the_host_in_a_callback() {
    let long = "(local $i i32) (loop (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if 0 (i32.lt_u (local.get $i) (i32.const 20000000))))";
    let vm = opened(
        &main_of(PUTS, &format!("{long} {PRINT} (i32.const 0)")),
        WasmOptions { budget_ms: 1, ..WasmOptions::default() },
    );
    assert_eq!(run(&vm).0.unwrap(), 0);
    // A constructor prints; the host takes its time.
    let module =
        main_of(&format!(r#"{PUTS} (func (export "_initialize") {PRINT} {PRINT})"#), "(i32.const 0)");
    let vm = opened(&module, WasmOptions { budget_ms: 20, ..WasmOptions::default() });
    let mut lines = 0;
    let result = vm.wasm_run(&["guest"], Format::Json, &mut |_: &Event<'_>| {
        lines += 1;
        thread::sleep(Duration::from_millis(100));
        Flow::Continue
    });
    assert_eq!((result.unwrap(), lines), (0, 2));
}

#[test]
fn a_trap_names_the_functions_of_the_guest() {
    let items = r#"(func $inner (unreachable)) (func $outer (call $inner))"#;
    let vm = opened(&main_of(items, "(call $outer) (i32.const 0)"), WasmOptions::default());
    for _ in 0..2 {
        let error = refused(run(&vm).0, Status::Wasm, &["bpf_main", "unreachable"]);
        let places: Vec<_> =
            ["inner", "outer", "bpf_main"].iter().map(|name| error.detail.find(name)).collect();
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{}", error.detail);
    }
}

#[test]
fn a_trap_in_a_handler_is_told_like_one_in_main() {
    needs_root!();
    let watch = Watch::new();
    let vm = opened(&guest("events", &["TRAP"], calls(1).as_bytes()), WasmOptions::default());
    let error =
        refused(run_until(&vm, Format::Json, 1, 0).0, Status::Wasm, &["process_event", "unreachable"]);
    let places: Vec<_> =
        ["deeper", "process_event", "bpf_main"].iter().map(|name| error.detail.find(name)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{}", error.detail);
    watch.kernel_is_clean();
}

#[test]
fn traps_of_all_kinds_are_told_apart() {
    let traps = [
        ("(i32.div_s (i32.const 1) (i32.const 0))", "divide by zero"),
        ("(i32.load (i32.const -1))", "out of bounds memory access"),
        ("(i32.trunc_f32_s (f32.const nan))", "conversion"),
        ("(call_indirect (result i32) (i32.const 5))", "undefined element"),
    ];
    for (body, words) in traps {
        refused(run_module(&main_of("(table 1 funcref)", body)).0, Status::Wasm, &["bpf_main", words]);
    }
}

#[test]
fn recursion_ends_with_the_stack() {
    let items = "(func $f (param i32) (result i32) (call $f (i32.add (local.get 0) (i32.const 1))))";
    let module = main_of(items, "(call $f (i32.const 0))");
    for stack in [0, 16 << 10, 4 << 20] {
        let vm = opened(&module, WasmOptions { stack, ..WasmOptions::default() });
        refused(run(&vm).0, Status::Wasm, &["out of stack", "wasm_stack"]);
    }
}

#[test]
fn memory_grows_to_the_limit_and_no_further() {
    // Grows by a page until that fails, and returns the pages.
    let module =
        main_of("", "(loop (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) (memory.size)");
    let pages =
        |memory: u32| run(&opened(&module, WasmOptions { memory, ..WasmOptions::default() })).0.unwrap();
    assert_eq!(pages(0) - 32, 256, "16 MiB and 2 MiB of heap");
    assert_eq!(pages(1 << 20) - 32, 16);
    // All at once.
    assert_eq!(exit_code(&main_of("", "(memory.grow (i32.const 65000))")), -1);
}

#[test]
fn a_guest_that_traps_for_want_of_memory_is_told_so() {
    let module = main_of(
        "",
        "(if (i32.eq (memory.grow (i32.const 9999)) (i32.const -1)) (then unreachable)) (i32.const 0)",
    );
    refused(run_module(&module).0, Status::Wasm, &["out of memory", "wasm_memory", "bpf_main"]);
}

#[test]
fn a_guest_that_begins_with_too_much_memory_is_refused() {
    let module = wat(r#"(module (memory (export "memory") 257)
        (func (export "bpf_main") (param i32 i32) (result i32) (i32.const 7)))"#);
    let vm = opened(&module, WasmOptions::default());
    refused(run(&vm).0, Status::Wasm, &["wasm_memory", "16777216"]);
    let vm = opened(&module, WasmOptions { memory: 32 << 20, ..WasmOptions::default() });
    assert_eq!(run(&vm).0.unwrap(), 7);
}

#[test]
fn arguments_that_do_not_fit_into_the_heap_are_refused() {
    let vm = opened(&main_of("", "(local.get 1)"), WasmOptions::default());
    let long = "x".repeat(3 << 20);
    let run = |arg: &str| vm.wasm_run(&["guest", arg], Format::Json, &mut |_: &Event<'_>| Flow::Continue);
    refused(run(&long), Status::Wasm, &["arguments", "wasm_heap"]);
    assert_eq!(run(&long[..1 << 20]).unwrap() as usize, (1 << 20) + "[\"guest\",\"\"]".len());
}

#[test]
fn a_malloc_that_gives_nothing_is_told_from_a_heap_that_is_full() {
    let malloc = r#"(func (export "malloc") (param i32) (result i32) (i32.const 0))"#;
    refused(run_module(&main_of(malloc, "(i32.const 0)")).0, Status::Wasm, &["arguments", "its malloc"]);
}

#[test]
fn exit_codes_are_told_however_the_guest_ends() {
    assert_eq!(exit_code(&main_of("", "(i32.const -5)")), -5);
    let exit = r#"(import "env" "exit" (func $exit (param i32)))"#;
    assert_eq!(exit_code(&main_of(exit, "(call $exit (i32.const 3)) (unreachable)")), 3);
    let exit = r#"(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))"#;
    assert_eq!(exit_code(&main_of(exit, "(call $exit (i32.const 4)) (unreachable)")), 4);
    let start = format!(
        r#"(module {exit} (memory (export "memory") 1)
        (func (export "_start") (call $exit (i32.const 5)) (unreachable)))"#
    );
    assert_eq!(exit_code(&wat(&start)), 5);
    assert_eq!(exit_code(&wat(r#"(module (memory (export "memory") 1) (func (export "_start")))"#)), 0);
}

#[test]
fn guests_on_two_threads_do_not_disturb_each_other() {
    needs_root!();
    let trapping = main_of("(func $f (unreachable))", "(call $f) (i32.const 0)");
    thread::scope(|scope| {
        let other = scope.spawn(|| {
            for _ in 0..200 {
                refused(run_module(&trapping).0, Status::Wasm, &["unreachable"]);
            }
        });
        let module = guest("events", &["COUNT"], calls(100).as_bytes());
        let vm = opened(&module, WasmOptions::default());
        let (result, seen) = run_until(&vm, Format::Json, 30, 3000);
        assert_eq!(result.unwrap(), 0);
        assert_eq!(seen.seqs(), (0..3000).collect::<Vec<_>>());
        assert_eq!((vm.stats().lost_kernel, vm.stats().guest_dropped), (0, 0));
        other.join().unwrap();
    });
}

#[test]
fn while_a_guest_runs_the_vm_is_busy_for_all_others() {
    let vm = opened(&main_of(PUTS, &format!("{PRINT} (i32.const 0)")), WasmOptions::default());
    let mut calls = 0;
    let result = vm.wasm_run(&["guest"], Format::Json, &mut |_: &Event<'_>| {
        calls += 1;
        let inner = vm.wasm_run(&["guest"], Format::Json, &mut |_: &Event<'_>| Flow::Continue);
        refused(inner, Status::Busy, &[]);
        refused(vm.open(b"{}", 1), Status::Busy, &[]);
        Flow::Continue
    });
    assert_eq!((result.unwrap(), calls), (0, 1));
}

/// How often each thread of this process has gone to sleep.
fn sleeps() -> Vec<(String, String)> {
    let threads = std::fs::read_dir("/proc/self/task").unwrap().map(|thread| thread.unwrap().path());
    let mut all: Vec<_> = threads
        .filter_map(|thread| {
            let status = std::fs::read_to_string(thread.join("status")).ok()?;
            let line = status.lines().find(|line| line.starts_with("voluntary"))?;
            Some((std::fs::read_to_string(thread.join("comm")).ok()?, line.to_owned()))
        })
        .collect();
    all.sort();
    all
}

#[test]
fn a_guest_that_waits_wakes_nobody() {
    needs_root!();
    // In a process of its own: the thread that watches serves the guests of all tests.
    let test = "limits::a_guest_that_waits_wakes_nobody";
    if child::folder().is_none() {
        let folder = tempfile::tempdir().unwrap();
        return child::run(test, &[], folder.path());
    }
    let (waits, wait) = mpsc::channel();
    let (tell, told) = mpsc::channel();
    thread::scope(|scope| {
        let vm = std::sync::Arc::new(std::sync::Mutex::new(None::<std::sync::Arc<Vm>>));
        let shared = std::sync::Arc::clone(&vm);
        let guest_thread = scope.spawn(move || {
            let package = calls(1);
            let module = guest("events", &["COUNT"], package.as_bytes());
            let made = std::sync::Arc::new(opened(&module, WasmOptions::default()));
            *shared.lock().unwrap() = Some(std::sync::Arc::clone(&made));
            let result = made.wasm_run(&["guest"], Format::Json, &mut |event: &Event<'_>| {
                if event.data == b"ready" {
                    // Some events first, so that the timer has been in use.
                    call(5);
                }
                if event.kind == EventKind::Sample {
                    waits.send(()).unwrap();
                }
                Flow::Continue
            });
            tell.send(result.map_err(|e| e.status)).unwrap();
        });
        (0..5).for_each(|_| wait.recv().unwrap());
        thread::sleep(Duration::from_millis(200));
        let before = sleeps();
        thread::sleep(Duration::from_millis(500));
        let changed: Vec<_> =
            sleeps().into_iter().filter(|now| !before.contains(now)).map(|(name, _)| name).collect();
        vm.lock().unwrap().take().unwrap().stop();
        assert_eq!(told.recv().unwrap(), Err(Status::Stopped));
        guest_thread.join().unwrap();
        // This thread itself sleeps.
        assert!(before.iter().any(|(name, _)| name == "eunomia-watch\n"), "{before:?}");
        assert!(changed.len() <= 1 && !changed.contains(&"eunomia-watch\n".to_owned()), "{changed:?}");
    });
}
