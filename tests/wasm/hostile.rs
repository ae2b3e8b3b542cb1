//! Damaged and hostile modules are refused, or their calls fail. The host survives.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use eunomia::vm::WasmOptions;
use eunomia::{Kind, Status};

use crate::fixture::{call, calls, exit_code, guest, main_of, object, opened, refused, run, run_module, wat};
use crate::needs_root;
use crate::support;

/// Runs a guest. Stops it if it does not end by itself.
fn run_for_a_while(vm: &eunomia::Vm) -> Result<i32, eunomia::Error> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..200 {
                if over.load(SeqCst) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            vm.stop();
        });
        let result = run(vm).0;
        over.store(true, SeqCst);
        result
    })
}

/// Opens a module in a new vm.
fn open(module: &[u8]) -> Result<Kind, eunomia::Error> {
    support::vm().open(module, Kind::Wasm)
}

#[test]
fn damaged_headers_are_refused() {
    let module = main_of("", "(i32.const 0)");
    for at in 0..8 {
        for bit in 0..8 {
            let mut damaged = module.clone();
            damaged[at] ^= 1 << bit;
            // Without the first four bytes, the file is not recognised as a WASM module.
            let words: &[&str] = if at < 4 { &["not a WASM module"] } else { &["module", "header"] };
            refused(open(&damaged), Status::Package, words);
        }
    }
}

#[test]
fn truncated_modules_are_refused_or_still_valid() {
    let module = main_of(
        "(func $start) (start $start) (table 3 funcref) (elem (i32.const 0) $start)",
        "(i32.const 0)",
    );
    // The section with the names of functions is at the end and optional.
    let whole = (4..module.len()).filter(|&len| match open(&module[..len]) {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.status(), Status::Package, "{len}: {error}");
            assert!(error.message().starts_with("module: "), "{len}: {error}");
            false
        }
    });
    let whole: Vec<usize> = whole.collect();
    assert!(whole.len() == 1 && module[whole[0]] == 0, "{whole:?}");
    open(&module).unwrap();
}

#[test]
fn flipped_bits_do_not_crash_the_host() {
    let items = r#"(import "env" "puts" (func $puts (param i32) (result i32)))
        (func $start (drop (call $puts (i32.const 8)))) (start $start)
        (table (export "__indirect_function_table") 3 funcref) (elem (i32.const 0) $start)
        (global $g (mut i32) (i32.const 1)) (data (i32.const 8) "hello\00")"#;
    let module = main_of(items, "(local $i i32) (global.set $g (i32.load8_u (i32.const 9))) (global.get $g)");
    let (mut refused, mut ran) = (0, 0);
    for at in 8..module.len() {
        for bit in 0..8 {
            let mut damaged = module.clone();
            damaged[at] ^= 1 << bit;
            let vm = support::vm();
            if vm.open(&damaged, Kind::Wasm).is_err() {
                refused += 1;
                continue;
            }
            ran += 1;
            // The module may do anything except harm the host. A loop that the flip causes is ended.
            drop(run_for_a_while(&vm));
        }
    }
    assert!(refused > 0 && ran > 0, "{refused} refused, {ran} ran");
}

#[test]
fn garbage_after_the_header_is_refused() {
    let mut state = 1_u32;
    for len in 0..300 {
        let mut module = b"\0asm\x01\0\0\0".to_vec();
        for _ in 0..len {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            module.push((state >> 24) as u8);
        }
        assert_eq!(open(&module).expect_err("this is no module").status(), Status::Package);
    }
}

#[test]
fn unknown_imports_are_named() {
    let cases = [
        (r#"(import "env" "launch_missiles" (func))"#, &["env.launch_missiles", "no such function"][..]),
        (r#"(import "elsewhere" "puts" (func (param i32) (result i32)))"#, &["elsewhere.puts"]),
        (r#"(import "env" "create_bpf" (func (param i32) (result i32)))"#, &["env.create_bpf", "(ii)i"]),
        (r#"(import "wasi_snapshot_preview1" "sock_open" (func (param i32)))"#, &["sock_open"]),
        (
            r#"(import "wasm_bpf" "wasm_close_bpf_object" (func (param i32)))"#,
            &["wasm_close_bpf_object", "(I)i"],
        ),
        (r#"(import "env" "two\nlines\1b" (func))"#, &[r"env.two\u000alines\u001b:"]),
        (r#"(import "env" "g" (global i32))"#, &["env.g", "functions"]),
        (r#"(import "env" "t" (table 1 funcref))"#, &["env.t", "functions"]),
    ];
    for (import, words) in cases {
        refused(open(&main_of(import, "(i32.const 0)")), Status::Package, words);
    }
    let memory = wat(r#"(module (import "env" "memory" (memory 1))
        (func (export "bpf_main") (param i32 i32) (result i32) (i32.const 0)))"#);
    refused(open(&memory), Status::Package, &["env.memory", "functions"]);
}

#[test]
fn missing_and_wrong_exports_are_named() {
    refused(open(&wat("(module)")), Status::Package, &["bpf_main", "_start"]);
    refused(open(&wat(r#"(module (memory (export "memory") 1))"#)), Status::Package, &["bpf_main"]);
    let cases = [
        ("bpf_main", "(result i32) (i32.const 0)", "()i"),
        ("_start", "(param i32)", "(i)"),
        ("process_event", "(param i32 i32)", "(ii)"),
        ("process_events", "(param i32 i32 i64) (result i32) (i32.const 0)", "(iiI)i"),
        ("eunomia_event_format", "(result i64) (i64.const 0)", "()I"),
        ("go-callback", "(param f32 f64 i32) (result i32) (i32.const 0)", "(fFi)i"),
        ("malloc", "(param i64) (result i64) (i64.const 0)", "(I)I"),
    ];
    for (name, function, ty) in cases {
        let main = if name == "bpf_main" {
            ""
        } else {
            r#"(func (export "bpf_main") (param i32 i32) (result i32) (i32.const 0))"#
        };
        let module = wat(&format!(r#"(module (memory 1) {main} (func (export "{name}") {function}))"#));
        refused(open(&module), Status::Package, &[name, &format!("type {ty},")]);
    }
}

#[test]
fn a_guest_without_memory_or_heap_cannot_harm_the_host() {
    let none = wat(r#"(module (func (export "bpf_main") (param i32 i32) (result i32) (i32.const 7)))"#);
    refused(run_module(&none).0, Status::Wasm, &[]);
    let start = wat(r#"(module (import "env" "puts" (func $puts (param i32) (result i32)))
        (func (export "_start") (drop (call $puts (i32.const 0)))))"#);
    assert_eq!(exit_code(&start), 0);
}

/// Addresses at the boundaries of two pages and 2 MiB of heap, and lengths up to the end, beyond it, and with overflow.
const EDGES: &str = "0 1 131071 131072 2228223 2228224 2228225 -1 -2 -2228224 2147483647 -2147483648";

/// A module that calls an import with every combination of these values in the parameters marked `e`, and returns how
/// many calls returned. Other parameters are passed as given.
fn edges(module: &str, name: &str, params: &[&str], result: &str) -> Vec<u8> {
    let edges: Vec<&str> = EDGES.split(' ').collect();
    let types: Vec<&str> =
        params.iter().map(|param| if param.starts_with("i64") { "i64" } else { "i32" }).collect();
    let result_type = if result.is_empty() { String::new() } else { format!("(result {result})") };
    let drop = if result.is_empty() { "" } else { "drop" };
    // The table of values is at 1024. Local variables iterate over it.
    let data: String = edges
        .iter()
        .flat_map(|edge| edge.parse::<i32>().unwrap().to_le_bytes())
        .map(|b| format!("\\{b:02x}"))
        .collect();
    let open: Vec<usize> = (0..params.len()).filter(|&i| params[i] == "e").collect();
    let args: String = params
        .iter()
        .enumerate()
        .map(|(i, param)| match *param {
            "e" => {
                format!("(i32.load (i32.add (i32.const 1024) (i32.shl (local.get $i{i}) (i32.const 2)))) ")
            }
            constant => format!("({}) ", constant),
        })
        .collect();
    let locals: String = open.iter().map(|i| format!("(local $i{i} i32) ")).collect();
    let mut body = format!("(call $f {args}) {drop} (local.set $n (i32.add (local.get $n) (i32.const 1)))");
    for i in open {
        body = format!(
            "(local.set $i{i} (i32.const 0)) (loop $l{i} {body}
               (local.set $i{i} (i32.add (local.get $i{i}) (i32.const 1)))
               (br_if $l{i} (i32.lt_u (local.get $i{i}) (i32.const {}))))",
            edges.len()
        );
    }
    let items = format!(
        r#"(import "{module}" "{name}" (func $f (param {}) {result_type})) (data (i32.const 1024) "{data}")"#,
        types.join(" ")
    );
    main_of(&items, &format!("{locals} (local $n i32) {body} (local.get $n)"))
}

#[test]
fn pointers_and_lengths_at_memory_boundaries_are_checked() {
    needs_root!();
    let wasi = "wasi_snapshot_preview1";
    let (zero, one) = ("i32.const 0", "i32.const 1");
    let (object, clock) = ("i64.const 1", "i64.const 0");
    let cases: &[(&str, &str, &[&str], &str)] = &[
        ("env", "create_bpf", &["e", "e"], "i32"),
        ("env", "run_bpf", &["e"], "i32"),
        ("env", "wait_and_poll_bpf", &["e"], "i32"),
        ("env", "puts", &["e"], "i32"),
        ("env", "putchar", &["e"], "i32"),
        ("env", "printf", &["e", "e"], "i32"),
        ("wasm_bpf", "wasm_load_bpf_object", &["e", "e"], "i64"),
        ("wasm_bpf", "wasm_attach_bpf_program", &[object, "e", "e"], "i32"),
        ("wasm_bpf", "wasm_bpf_map_fd_by_name", &[object, "e"], "i32"),
        ("wasm_bpf", "wasm_bpf_map_operate", &["e", "e", "e", "e", "e", clock], "i32"),
        ("wasm_bpf", "wasm_bpf_buffer_poll", &[object, "e", "e", zero, "e", "e", zero], "i32"),
        ("callback-wrapper", "wasm_bpf_buffer_poll", &[object, "e", zero, "e", "e", zero], "i32"),
        (wasi, "args_get", &["e", "e"], "i32"),
        (wasi, "args_sizes_get", &["e", "e"], "i32"),
        (wasi, "environ_get", &["e", "e"], "i32"),
        (wasi, "environ_sizes_get", &["e", "e"], "i32"),
        (wasi, "clock_res_get", &["e", "e"], "i32"),
        (wasi, "clock_time_get", &["e", clock, "e"], "i32"),
        (wasi, "random_get", &["e", "e"], "i32"),
        (wasi, "fd_write", &[one, "e", "e", "e"], "i32"),
        (wasi, "fd_read", &[zero, "e", "e", "e"], "i32"),
        (wasi, "fd_pread", &["e", "e", "e", clock, "e"], "i32"),
        (wasi, "fd_readdir", &["e", "e", "e", clock, "e"], "i32"),
        (wasi, "fd_seek", &["e", clock, "e", "e"], "i32"),
        (wasi, "fd_tell", &["e", "e"], "i32"),
        (wasi, "fd_close", &["e"], "i32"),
        (wasi, "fd_fdstat_get", &["e", "e"], "i32"),
        (wasi, "fd_filestat_get", &["e", "e"], "i32"),
        (wasi, "fd_prestat_get", &["e", "e"], "i32"),
        (wasi, "fd_prestat_dir_name", &["e", "e", "e"], "i32"),
        (wasi, "path_open", &["e", zero, "e", "e", zero, clock, clock, zero, "e"], "i32"),
        (wasi, "path_filestat_get", &["e", zero, "e", "e", "e"], "i32"),
        (wasi, "poll_oneoff", &["e", "e", "e", "e"], "i32"),
    ];
    let count = EDGES.split(' ').count();
    for (module, name, params, result) in cases {
        let all = count.pow(params.iter().filter(|param| **param == "e").count() as u32);
        let (result, _) = run_module(&edges(module, name, params, result));
        assert_eq!(
            result.unwrap_or_else(|e| panic!("{module}.{name}: {e}")) as usize,
            all,
            "{module}.{name}"
        );
    }
}

#[test]
fn map_operations_outside_the_memory_return_efault() {
    needs_root!();
    let object = object(1);
    let data: String = object.iter().map(|byte| format!("\\{byte:02x}")).collect();
    let items = format!(
        r#"(import "wasm_bpf" "wasm_load_bpf_object" (func $load (param i32 i32) (result i64)))
           (import "wasm_bpf" "wasm_bpf_map_fd_by_name" (func $map (param i64 i32) (result i32)))
           (import "wasm_bpf" "wasm_bpf_map_operate"
             (func $operate (param i32 i32 i32 i32 i32 i64) (result i32)))
           (import "env" "printf" (func $printf (param i32 i32) (result i32)))
           (func $show (param i32) (i32.store (i32.const 64) (local.get 0))
             (drop (call $printf (i32.const 80) (i32.const 64))))
           (data (i32.const 8) "counts\00") (data (i32.const 24) "per_cpu\00")
           (data (i32.const 80) "%d\0a\00") (data (i32.const 4096) "{data}")"#
    );
    // The memory consists of 2 pages and the heap of 2 MiB.
    let end = 2 * 65536 + (2 << 20);
    let operate = |map: &str, command: u32, key: u32, value: u32, next: u32| {
        format!(
            "(call $show (call $operate (local.get ${map}) (i32.const {command}) (i32.const {key})
               (i32.const {value}) (i32.const {next}) (i64.const 0)))"
        )
    };
    let number = |at: u32| format!("(call $map (local.get $o) (i32.const {at}))");
    let calls = [
        operate("counts", 2, end - 4, end - 8, 0), // the last bytes: valid
        operate("counts", 2, end - 3, 0, 0),
        operate("counts", 2, 0, end - 7, 0),
        operate("counts", 1, end - 4, end - 8, 0),
        operate("counts", 1, end - 4, end - 7, 0),
        operate("counts", 4, 0, 0, end - 4),
        operate("counts", 4, 0, 0, end - 3),
        operate("counts", 4, end - 3, 0, 0),
        operate("counts", 3, end - 3, 0, 0),
        operate("counts", 3, u32::MAX, 0, 0),
        operate("per_cpu", 1, 60, end - 8, 0), // there are more CPUs than fit
    ];
    let body = format!(
        "(local $o i64) (local $counts i32) (local $per_cpu i32)
         (local.set $o (call $load (i32.const 4096) (i32.const {})))
         (local.set $counts {}) (local.set $per_cpu {}) {} (i32.const 0)",
        object.len(),
        number(8),
        number(24),
        calls.concat()
    );
    let (result, seen) = run_module(&main_of(&items, &body));
    assert_eq!(result.unwrap(), 0);
    let per_cpu = if std::thread::available_parallelism().unwrap().get() > 1 { "-14" } else { "0" };
    let expected = ["0", "-14", "-14", "0", "-14", "0", "-14", "-14", "-14", "-14", per_cpu];
    assert_eq!(seen.lines, expected);
}

#[test]
fn a_handler_that_overwrites_its_memory_damages_only_its_events() {
    needs_root!();
    // The handler overwrites the whole memory with ones, including the data of WAMR's heap.
    let package = calls(1);
    let data: String = package.bytes().map(|byte| format!("\\{byte:02x}")).collect();
    let items = format!(
        r#"(import "env" "create_bpf" (func $create (param i32 i32) (result i32)))
           (import "env" "run_bpf" (func $run (param i32) (result i32)))
           (import "env" "wait_and_poll_bpf" (func $poll (param i32) (result i32)))
           (import "env" "puts" (func $puts (param i32) (result i32)))
           (data (i32.const 8) "ready\00") (data (i32.const 4096) "{data}\00")
           (func (export "process_event") (param i32 i32 i32) (result i32)
             (memory.fill (i32.const 0) (i32.const 1) (i32.shl (memory.size) (i32.const 16))) (i32.const 0))"#
    );
    let body = "(drop (call $create (i32.const 4096) (i32.const 0))) (drop (call $run (i32.const 0)))
        (drop (call $puts (i32.const 8))) (call $poll (i32.const 0))";
    let vm = opened(&main_of(&items, body), WasmOptions::new());
    let (result, seen) = crate::fixture::run_until(&vm, eunomia::Format::Json, 3, 3);
    assert_eq!(result.unwrap(), 0);
    assert!(seen.events.iter().all(|event| event.len() == 4096 && event.iter().all(|&byte| byte == 1)));
}

#[test]
fn the_number_of_programs_is_limited() {
    needs_root!();
    let module = guest("events", &["PROGRAMS=100"], calls(1).as_bytes());
    assert_eq!(run_module(&module).0.unwrap(), 9);
    call(1);
}
