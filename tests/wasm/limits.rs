//! Guests that do not end by themselves, exceed a limit, or trap. The vm ends them, reports the reason, and stays usable.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use eunomia::vm::WasmOptions;
use eunomia::{Event, EventKind, Flow, Format, Kind, Status, Vm};

use crate::fixture::{
    WAITS, call, calls, exit_code, guest, main_of, object, opened, refused, run, run_module, run_until, tid,
    wait_until_blocked, wat, with_patience,
};
use crate::needs_root;
use crate::support::{child, kernel::Watch};

/// Runs a module that does not end, and stops it from another thread after it has printed a line.
#[track_caller]
fn stopped(module: &[u8]) {
    let vm = opened(module, WasmOptions::new().budget(Duration::from_millis(3_600_000)));
    let (started, wait) = mpsc::channel();
    let result = thread::scope(|scope| {
        let vm: &Vm = &vm;
        scope.spawn(move || {
            wait.recv().expect("the guest printed");
            vm.stop();
        });
        vm.wasm_run(&["guest"], Format::Json, |event: &Event<'_>| {
            if event.kind == EventKind::Output {
                // Only the first message is received.
                let _ = started.send(());
            }
            Flow::Continue
        })
    });
    refused(result, Status::Stopped, &["stop"]);
    // The request has been reported; the guest can run again.
    vm.stop();
    refused(vm.wasm_run(&["guest"], Format::Json, |_: &Event<'_>| Flow::Continue), Status::Stopped, &[]);
}

const PUTS: &str = r#"(import "env" "puts" (func $puts (param i32) (result i32)))
    (data (i32.const 16) "on\00")"#;

const PRINT: &str = "(drop (call $puts (i32.const 16)))";

/// Runs in a process of its own, whose standard output becomes a full pipe. A signal of the host does not end the wait.
#[test]
fn stop_ends_a_guest_that_writes_to_a_full_pipe() {
    let test = "limits::stop_ends_a_guest_that_writes_to_a_full_pipe";
    if child::folder().is_none() {
        let folder = tempfile::tempdir().unwrap();
        return child::run(test, &[], folder.path());
    }
    let mut pipe = [0; 2];
    // SAFETY: the array has two elements for the descriptors; the other arguments are numbers.
    let kept = unsafe {
        let kept = libc::dup(1);
        assert!(kept >= 0 && libc::pipe(pipe.as_mut_ptr()) == 0 && libc::dup2(pipe[1], 1) == 1);
        kept
    };
    let module = main_of(PUTS, &format!("(loop {PRINT} (br 0)) (i32.const 0)"));
    let vm = opened(&module, WasmOptions::new().stdio(true).budget(Duration::from_millis(3_600_000)));
    static IS_HANDLED: AtomicBool = AtomicBool::new(false);
    extern "C" fn handle(_: libc::c_int) {
        IS_HANDLED.store(true, SeqCst);
    }
    // SAFETY: the handler is async-signal-safe and interrupts system calls; the thread lives for the scope.
    let runner = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handle as *const () as usize;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()), 0);
        libc::pthread_self()
    };
    let (runner_tid, is_over) = (tid(), AtomicBool::new(false));
    let wait_for_pipe = || wait_until_blocked(runner_tid, &[libc::SYS_poll, libc::SYS_ppoll], &is_over);
    let result = thread::scope(|scope| {
        scope.spawn(|| {
            wait_for_pipe();
            // SAFETY: as above.
            unsafe { libc::pthread_kill(runner, libc::SIGUSR1) };
            while !IS_HANDLED.load(SeqCst) && !is_over.load(SeqCst) {
                thread::yield_now();
            }
            wait_for_pipe();
            vm.stop();
        });
        let result = vm.wasm_run(&["guest"], Format::Json, |_: &Event<'_>| Flow::Continue);
        is_over.store(true, SeqCst);
        result
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
    let vm = opened(&module, WasmOptions::new().budget(Duration::from_millis(3_600_000)));
    let result = thread::scope(|scope| {
        vm.wasm_run(&["guest"], Format::Json, |event: &Event<'_>| {
            match event.data {
                b"ready" => call(1),
                b"loop" => drop(scope.spawn(|| vm.stop())),
                _ => {}
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
    let vm = opened(&module, WasmOptions::new().budget(Duration::from_millis(100)));
    let error = refused(run_until(&vm, Format::Json, 1, 0).0, Status::Wasm, &["100 ms", "process_event"]);
    assert!(error.detail().contains("process_event"), "{}", error.detail());
    watch.kernel_is_clean();
}

#[test]
fn a_start_function_that_takes_too_long_is_ended() {
    let module = main_of("(func $start (loop (br 0))) (start $start)", "(i32.const 0)");
    let vm = opened(&module, WasmOptions::new().budget(Duration::from_millis(50)));
    refused(run(&vm).0, Status::Wasm, &["50 ms", "start function"]);
}

/// A sleep of an hour.
const SLEEP: &str = r#"(import "wasi_snapshot_preview1" "poll_oneoff"
      (func $poll (param i32 i32 i32 i32) (result i32)))
    (data (i32.const 272) "\01") (data (i32.const 280) "\00\a0\b8\30\46\03")"#;

#[test]
fn sleeping_counts_towards_the_time_limit() {
    let sleep = "(drop (call $poll (i32.const 256) (i32.const 512) (i32.const 1) (i32.const 1024)))";
    let module = main_of(&format!(r#"{SLEEP} (func (export "_initialize") {sleep})"#), "(i32.const 0)");
    let vm = opened(&module, WasmOptions::new().budget(Duration::from_millis(50)));
    refused(with_patience(&vm, || run(&vm)).0, Status::Wasm, &["50 ms", "_initialize"]);
}

/// An initializer that polls the buffer of an object with the callback `callback`, and then runs `after`.
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
fn nested_calls_have_the_same_time_limit() {
    needs_root!();
    let endless = "(loop (br 0))";
    for (callback, after, place) in
        [(endless, "", "callback of wasm_bpf_buffer_poll"), ("", endless, "_initialize")]
    {
        let module = polling_initializer(callback, after);
        let vm = opened(&module, WasmOptions::new().budget(Duration::from_millis(100)));
        let (result, _) = with_patience(&vm, || run_until(&vm, Format::Raw, 1, 0));
        refused(result, Status::Wasm, &["100 ms", place]);
    }
}

#[test]
fn a_paused_vm_keeps_events_from_its_guest() {
    needs_root!();
    let vm = opened(&guest("events", &["COUNT"], calls(1).as_bytes()), WasmOptions::new());
    let runner = tid();
    for is_resumed in [false, true] {
        let (delivered, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
        let result = with_patience(&vm, || {
            thread::scope(|scope| {
                let result = vm.wasm_run(&["guest"], Format::Json, |event: &Event<'_>| {
                    if event.data == b"ready" {
                        vm.pause(true).unwrap();
                        call(3);
                        scope.spawn(|| {
                            // The events are in the buffer. A vm that waited for them would deliver them, not sleep.
                            wait_until_blocked(runner, &WAITS, &is_over);
                            assert_eq!(delivered.load(SeqCst), 0);
                            if is_resumed { vm.pause(false).unwrap() } else { vm.stop() }
                        });
                    }
                    let is_event = event.kind == EventKind::Sample;
                    let count = delivered.fetch_add(is_event.into(), SeqCst) + usize::from(is_event);
                    if count == 3 { Flow::End } else { Flow::Continue }
                });
                is_over.store(true, SeqCst);
                result
            })
        });
        let count = delivered.load(SeqCst);
        if is_resumed {
            assert_eq!((result.unwrap(), count), (0, 3));
        } else {
            refused(result, Status::Stopped, &[]);
            assert_eq!(count, 0);
            vm.pause(false).unwrap();
        }
    }
}

#[test]
fn the_size_of_tables_is_limited() {
    let many = "(table 100000 funcref)".repeat(20);
    for (tables, sum) in [("(table 4000000000 funcref)", "4000000000"), (&*many, "2000000")] {
        let error = support_open(&main_of(tables, "(i32.const 0)")).expect_err("the module is refused");
        assert_eq!(error.status(), Status::Package);
        assert!(error.message().contains("tables") && error.message().contains(sum), "{}", error.message());
    }
    assert_eq!(exit_code(&main_of("(table 100000 200000 funcref)", "(i32.const 0)")), 0);
    // Grows by 1000 elements until that fails.
    let grow = "(loop (br_if 0 (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1))))
        (i32.gt_u (table.size $t) (i32.const 10000000))";
    assert_eq!(exit_code(&main_of("(table $t 1 funcref)", grow)), 0);
}

fn support_open(module: &[u8]) -> Result<Vm, eunomia::Error> {
    let vm = crate::support::vm();
    vm.open(module, eunomia::Kind::Wasm).map(|_| vm)
}

#[test]
fn main_and_callbacks_of_the_host_have_no_time_limit() {
    let long = "(local $i i32) (loop (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if 0 (i32.lt_u (local.get $i) (i32.const 20000000))))";
    let vm = opened(
        &main_of(PUTS, &format!("{long} {PRINT} (i32.const 0)")),
        WasmOptions::new().budget(Duration::from_millis(1)),
    );
    assert_eq!(run(&vm).0.unwrap(), 0);
    // A constructor prints, and the callback takes longer than the time limit.
    let module =
        main_of(&format!(r#"{PUTS} (func (export "_initialize") {PRINT} {PRINT})"#), "(i32.const 0)");
    let vm = opened(&module, WasmOptions::new().budget(Duration::from_millis(20)));
    let mut lines = 0;
    let result = vm.wasm_run(&["guest"], Format::Json, |_: &Event<'_>| {
        lines += 1;
        thread::sleep(Duration::from_millis(100)); // beyond the time limit
        Flow::Continue
    });
    assert_eq!((result.unwrap(), lines), (0, 2));
}

#[test]
fn a_trap_names_the_functions_of_the_guest() {
    let items = r#"(func $inner (unreachable)) (func $outer (call $inner))"#;
    let vm = opened(&main_of(items, "(call $outer) (i32.const 0)"), WasmOptions::new());
    for _ in 0..2 {
        let error = refused(run(&vm).0, Status::Wasm, &["bpf_main", "unreachable"]);
        let places: Vec<_> =
            ["inner", "outer", "bpf_main"].iter().map(|name| error.detail().find(name)).collect();
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{}", error.detail());
    }
}

#[test]
fn a_trap_in_a_handler_is_reported_like_one_in_main() {
    needs_root!();
    let watch = Watch::new();
    let vm = opened(&guest("events", &["TRAP"], calls(1).as_bytes()), WasmOptions::new());
    let error =
        refused(run_until(&vm, Format::Json, 1, 0).0, Status::Wasm, &["process_event", "unreachable"]);
    let places: Vec<_> =
        ["deeper", "process_event", "bpf_main"].iter().map(|name| error.detail().find(name)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{}", error.detail());
    watch.kernel_is_clean();
}

#[test]
fn each_kind_of_trap_is_reported() {
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
fn endless_recursion_ends_with_a_stack_overflow() {
    let items = "(func $f (param i32) (result i32) (call $f (i32.add (local.get 0) (i32.const 1))))";
    let module = main_of(items, "(call $f (i32.const 0))");
    for stack in [0, 16 << 10, 4 << 20] {
        let vm = opened(&module, WasmOptions::new().stack(stack));
        refused(run(&vm).0, Status::Wasm, &["out of stack", "wasm_stack"]);
    }
}

#[test]
fn memory_does_not_grow_beyond_the_limit() {
    // Grows by a page until that fails, and returns the number of pages.
    let module =
        main_of("", "(loop (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) (memory.size)");
    let pages = |memory: u32| run(&opened(&module, WasmOptions::new().memory(memory))).0.unwrap();
    assert_eq!(pages(0) - 32, 256, "16 MiB and 2 MiB of heap");
    assert_eq!(pages(1 << 20) - 32, 16);
    // Grows by all pages at once.
    assert_eq!(exit_code(&main_of("", "(memory.grow (i32.const 65000))")), -1);
}

#[test]
fn a_trap_after_failed_growth_names_the_memory_limit() {
    let module = main_of(
        "",
        "(if (i32.eq (memory.grow (i32.const 9999)) (i32.const -1)) (then unreachable)) (i32.const 0)",
    );
    refused(run_module(&module).0, Status::Wasm, &["out of memory", "wasm_memory", "bpf_main"]);
}

#[test]
fn a_guest_with_too_much_initial_memory_is_refused() {
    let module = wat(r#"(module (memory (export "memory") 257)
        (func (export "bpf_main") (param i32 i32) (result i32) (i32.const 7)))"#);
    let vm = opened(&module, WasmOptions::new());
    refused(run(&vm).0, Status::Wasm, &["wasm_memory", "16777216"]);
    let vm = opened(&module, WasmOptions::new().memory(32 << 20));
    assert_eq!(run(&vm).0.unwrap(), 7);
}

#[test]
fn arguments_that_do_not_fit_into_the_heap_are_refused() {
    let vm = opened(&main_of("", "(local.get 1)"), WasmOptions::new());
    let long = "x".repeat(3 << 20);
    let run = |arg: &str| vm.wasm_run(&["guest", arg], Format::Json, |_: &Event<'_>| Flow::Continue);
    refused(run(&long), Status::Wasm, &["arguments", "wasm_heap"]);
    assert_eq!(run(&long[..1 << 20]).unwrap() as usize, (1 << 20) + "[\"guest\",\"\"]".len());
}

#[test]
fn a_failed_malloc_and_a_full_heap_are_different_errors() {
    let malloc = r#"(func (export "malloc") (param i32) (result i32) (i32.const 0))"#;
    refused(run_module(&main_of(malloc, "(i32.const 0)")).0, Status::Wasm, &["arguments", "its malloc"]);
}

#[test]
fn exit_codes_are_returned_however_the_guest_ends() {
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
        let vm = opened(&module, WasmOptions::new());
        let (result, seen) = run_until(&vm, Format::Json, 30, 3000);
        assert_eq!(result.unwrap(), 0);
        assert_eq!(seen.seqs(), (0..3000).collect::<Vec<_>>());
        assert_eq!((vm.stats().lost_kernel, vm.stats().guest_dropped), (0, 0));
        other.join().unwrap();
    });
}

#[test]
fn the_vm_is_busy_while_a_guest_runs() {
    let vm = opened(&main_of(PUTS, &format!("{PRINT} (i32.const 0)")), WasmOptions::new());
    let mut calls = 0;
    let result = vm.wasm_run(&["guest"], Format::Json, |_: &Event<'_>| {
        calls += 1;
        let inner = vm.wasm_run(&["guest"], Format::Json, |_: &Event<'_>| Flow::Continue);
        refused(inner, Status::Busy, &[]);
        refused(vm.open(b"{}", Kind::Json), Status::Busy, &[]);
        Flow::Continue
    });
    assert_eq!((result.unwrap(), calls), (0, 1));
}

/// Whether a timer of this process is running.
fn has_running_timer() -> bool {
    let files = std::fs::read_dir("/proc/self/fdinfo").unwrap();
    let mut infos = files.filter_map(|file| std::fs::read_to_string(file.ok()?.path()).ok());
    infos.any(|info| info.lines().any(|line| line.starts_with("it_value:") && line != "it_value: (0, 0)"))
}

/// The id of the thread of this process with that name.
fn thread_named(name: &str) -> u32 {
    let threads = std::fs::read_dir("/proc/self/task").unwrap().map(|thread| thread.unwrap().path());
    let found = threads.filter(|thread| std::fs::read_to_string(thread.join("comm")).unwrap().trim() == name);
    let [thread] = &*found.collect::<Vec<_>>() else { panic!("not one thread {name}") };
    thread.file_name().unwrap().to_str().unwrap().parse().unwrap()
}

#[test]
fn a_waiting_guest_causes_no_wakeups() {
    needs_root!();
    // The test runs in a process of its own, because one watchdog thread serves the guests of all tests of a process.
    let test = "limits::a_waiting_guest_causes_no_wakeups";
    if child::folder().is_none() {
        let folder = tempfile::tempdir().unwrap();
        return child::run(test, &[], folder.path());
    }
    let (vm_sender, vm_receiver) = mpsc::channel();
    let (event_sender, event_receiver) = mpsc::channel();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let is_over = &is_over;
        let guest_thread = scope.spawn(move || {
            let package = calls(1);
            let module = guest("events", &["COUNT"], package.as_bytes());
            let vm = std::sync::Arc::new(opened(&module, WasmOptions::new()));
            vm_sender.send((std::sync::Arc::clone(&vm), tid())).unwrap();
            let result = vm.wasm_run(&["guest"], Format::Json, |event: &Event<'_>| {
                if event.data == b"ready" {
                    call(5);
                }
                if event.kind == EventKind::Sample {
                    event_sender.send(has_running_timer()).unwrap();
                }
                Flow::Continue
            });
            is_over.store(true, SeqCst);
            result.map_err(|e| e.status())
        });
        let (vm, guest_tid) = vm_receiver.recv().unwrap();
        // The time limit applies while events are passed to the guest, and needs a timer.
        assert_eq!(event_receiver.iter().take(5).collect::<Vec<_>>(), [true; 5]);
        let timeouts = [guest_tid, thread_named("eunomia-watch")].map(|tid| {
            let args = wait_until_blocked(tid, &WAITS, is_over).expect("the guest waits");
            args[3] as i32
        });
        let is_timer_running = has_running_timer();
        vm.stop();
        assert_eq!(guest_thread.join().unwrap(), Err(Status::Stopped));
        assert_eq!((timeouts, is_timer_running), ([-1, -1], false));
    });
}
