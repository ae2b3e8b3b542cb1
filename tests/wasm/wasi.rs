//! WASI: arguments, clocks, random numbers, output, and files in the directories that the host gives.

use std::os::unix::fs::symlink;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

use eunomia::vm::WasmOptions;
use eunomia::{Event, EventKind, Flow, Format, Kind, Status};

use crate::fixture::{
    exit_code, guest, main_of, opened, refused, run, run_module, tid, wait_until_blocked, wasi_libc_guest,
};
use crate::support::{self, child};

fn wasi_guest(defines: &[&str]) -> Vec<u8> {
    guest("wasi", defines, b"")
}

#[test]
fn arguments_clocks_and_random_numbers() {
    let vm = opened(&wasi_guest(&["WORLD"]), WasmOptions::new());
    let mut lines = Vec::new();
    let result = vm.wasm_run(&["name", "", "zwei drei", "\u{e4}\""], Format::Json, |event: &Event<'_>| {
        assert_eq!((event.kind, event.format), (EventKind::Output, Format::Text));
        assert_eq!(event.source, c"stdout");
        lines.push(String::from_utf8(event.data.to_vec()).unwrap());
        Flow::Continue
    });
    assert_eq!(result.unwrap(), 0);
    assert_eq!(
        lines,
        [
            "4 arguments",
            "[name]",
            "[]",
            "[zwei drei]",
            "[\u{e4}\"]",
            "environment 0 0",
            "clocks 1 1",
            "random 1"
        ]
    );
}

#[test]
fn output_is_delivered_by_line_and_the_rest_at_the_end() {
    let module = wasi_guest(&["PRINT"]);
    let (vm, log) = support::vm_with(eunomia::Options::new());
    vm.open(&module, Kind::Wasm).unwrap();
    let (result, seen) = run(&vm);
    assert_eq!(result.unwrap(), 0);
    let long = "x".repeat(70_000);
    let lines = [
        "one two",
        "",
        "printf -7 4294967295 -5000000000 c text 1.50 ff %",
        &long[..65536],
        &long[65536..],
        "\u{fffd}",
        "rest",
    ];
    assert_eq!(seen.lines, lines);
    assert_eq!(*log.lock().unwrap(), ["guest: to stderr"]);
    assert_eq!(vm.stats().events, 0);
}

#[test]
fn without_directories_there_are_no_files_and_nothing_can_be_changed() {
    assert_eq!(exit_code(&wasi_guest(&["NO_FILES"])), 0);
}

#[test]
fn files_below_the_given_directories_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let (inside, outside) = (folder.path().join("inside"), folder.path().join("outside"));
    std::fs::create_dir_all(inside.join("sub")).unwrap();
    std::fs::write(inside.join("sub/file"), "content").unwrap();
    std::fs::write(&outside, "secret").unwrap();
    symlink("../outside", inside.join("relative")).unwrap();
    symlink(&outside, inside.join("absolute")).unwrap();
    symlink("sub/file", inside.join("good")).unwrap();
    assert!(Command::new("mkfifo").arg(inside.join("fifo")).status().unwrap().success());
    let vm = opened(&wasi_guest(&["FILES"]), WasmOptions::new().dirs([inside.clone()]));
    let (result, seen) = run(&vm);
    assert_eq!(result.unwrap(), 0);
    let name = format!("folder {}", inside.display());
    let lines = [
        name.as_str(),
        "sub/file: content at 7",
        "good: content at 7",
        "nothing: 44",
        "relative: 76",
        "absolute: 76",
        "../outside: 76",
        "sub/../../outside: 76",
        "/etc/passwd: 76",
        "fifo: 2",
        "make: 69",
        "write: 69",
    ];
    assert_eq!(seen.lines, lines);
}

#[test]
fn a_pipe_is_refused_without_being_opened() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (is_open, opener) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            opener.store(tid(), SeqCst);
            // Sleeps until somebody opens the other end.
            std::fs::File::create(&pipe).unwrap();
            is_open.store(true, SeqCst);
        });
        while opener.load(SeqCst) == 0 {
            std::thread::yield_now();
        }
        let wait = || wait_until_blocked(opener.load(SeqCst), &[libc::SYS_openat, libc::SYS_open], &is_open);
        assert!(wait().is_some());
        let wasm = WasmOptions::new().dirs([folder.path()]);
        let (result, seen) = run(&opened(&wasi_guest(&["FILES"]), wasm));
        assert!(result.is_ok() && seen.lines.contains(&"fifo: 2".into()), "{result:?} {seen:?}");
        let is_still_waiting = wait().is_some();
        std::fs::File::open(&pipe).unwrap();
        assert!(is_still_waiting);
    });
}

#[test]
fn directories_and_files_are_read_in_parts_and_nothing_outside() {
    let folder = tempfile::tempdir().unwrap();
    let (inside, outside) = (folder.path().join("inside"), folder.path().join("outside"));
    std::fs::create_dir_all(inside.join("many")).unwrap();
    std::fs::create_dir(&outside).unwrap();
    for number in 0..1000 {
        std::fs::write(inside.join(format!("many/{number:04}{}", "x".repeat(number % 200))), "").unwrap();
    }
    std::fs::write(inside.join("file"), "0123456789ab").unwrap();
    std::fs::write(outside.join("secret"), "secret").unwrap();
    symlink("file", inside.join("good")).unwrap();
    symlink("../outside", inside.join("out")).unwrap();
    symlink(&outside, inside.join("absolute")).unwrap();
    assert!(Command::new("mkfifo").arg(inside.join("pipe")).status().unwrap().success());
    let module = wasi_libc_guest("folders", &[&format!("FOLDER=\"{}\"", inside.display())]);
    let vm = opened(&module, WasmOptions::new().dirs([inside]));
    let (result, seen) = run(&vm);
    assert_eq!(result.unwrap(), 0);
    let last = format!("many: 1000, 0000 to 0999{}", "x".repeat(199));
    let lines = [
        ".: absolute@ file good@ many/ out@ pipe",
        &last,
        "file: Not a directory",
        "nothing: No such file or directory",
        "out: Capabilities insufficient",
        "absolute: Capabilities insufficient",
        "..: Capabilities insufficient",
        "many/../..: Capabilities insufficient",
        "/etc: Capabilities insufficient",
        "file: 4 89ab 3 234 behind 0, at 0",
        "good: 4 89ab 3 234 behind 0, at 0",
        "many: -1  -1  behind -1, at 0",
        "out/secret: Capabilities insufficient",
        "../outside/secret: Capabilities insufficient",
        "file:  1,  0",
        "good:  1,  1",
        "out: Capabilities insufficient 0,  1",
        "pipe:  0,  0",
    ];
    assert_eq!(seen.lines, lines);
}

#[test]
fn a_missing_directory_is_named() {
    let vm = opened(&main_of("", "(i32.const 0)"), WasmOptions::new().dirs(["/nothing/here"]));
    refused(run(&vm).0, Status::NotFound, &["wasm_dirs", "/nothing/here"]);
}

/// A guest that calls every function that prints, and traps.
const NOISE: &str = r#"
    (import "env" "printf" (func $printf (param i32 i32) (result i32)))
    (import "env" "vprintf" (func $vprintf (param i32 i32) (result i32)))
    (import "env" "puts" (func $puts (param i32) (result i32)))
    (import "env" "putchar" (func $putchar (param i32) (result i32)))
    (import "env" "memset" (func $memset (param i32 i32 i32) (result i32)))
    (data (i32.const 8) "noise\0a\00")"#;

#[test]
fn guests_do_not_write_to_the_hosts_stdout_or_stderr() {
    let test = "wasi::guests_do_not_write_to_the_hosts_stdout_or_stderr";
    if child::folder().is_none() {
        let folder = tempfile::tempdir().unwrap();
        return child::run(test, &[], folder.path());
    }
    let folder = child::folder().unwrap();
    let (out, err) = (folder.join("out"), folder.join("err"));
    let body = "(drop (call $printf (i32.const 8) (i32.const 64))) (drop (call $vprintf (i32.const 8) (i32.const 64)))
        (drop (call $puts (i32.const 8))) (drop (call $putchar (i32.const 65)))
        (drop (call $memset (i32.const -9) (i32.const 1) (i32.const 100))) (unreachable)";
    let module = main_of(NOISE, body);
    let before = of_the_host();
    let lines = redirected(&out, &err, || {
        let vm = eunomia::Vm::new(eunomia::Options::new()).unwrap();
        vm.open(&module, Kind::Wasm).unwrap();
        let (result, seen) = run(&vm);
        (seen.lines, result.expect_err("it traps").status())
    });
    assert_eq!(
        lines,
        (vec!["noise".into(), "noise".into(), "noise".into(), "".into(), "A".into()], Status::Wasm)
    );
    assert_eq!([out, err].map(|file| std::fs::read_to_string(file).unwrap()), ["", ""]);
    assert_eq!(of_the_host(), before);
}

/// Returns the state of the process that belongs to the host: signal handlers, signal masks and the GS register.
fn of_the_host() -> String {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let signals: Vec<_> = status
        .lines()
        .filter(|line| ["SigBlk", "SigIgn", "SigCgt"].iter().any(|name| line.starts_with(name)))
        .collect();
    const ARCH_GET_GS: i32 = 0x1004;
    let mut register = 0_u64;
    // SAFETY: the kernel writes 8 bytes, or none if it does not know the call.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_GET_GS, &mut register) };
    format!("{}\nGS: {register:#x}", signals.join("\n"))
}

#[test]
fn with_stdio_a_guest_writes_to_the_hosts_stdout_and_stderr() {
    let test = "wasi::with_stdio_a_guest_writes_to_the_hosts_stdout_and_stderr";
    if child::folder().is_none() {
        let folder = tempfile::tempdir().unwrap();
        return child::run(test, &[], folder.path());
    }
    let folder = child::folder().unwrap();
    let (out, err) = (folder.join("out"), folder.join("err"));
    let module = wasi_guest(&["PRINT"]);
    redirected(&out, &err, || {
        let wasm = WasmOptions::new().stdio(true);
        let vm = eunomia::Vm::new(eunomia::Options::new().wasm(wasm)).unwrap();
        vm.open(&module, Kind::Wasm).unwrap();
        let (result, seen) = run(&vm);
        assert_eq!((result.unwrap(), seen.lines.len()), (0, 0));
    });
    let out = std::fs::read(out).unwrap();
    assert!(out.starts_with(b"one two\n\nprintf -7 ") && out.ends_with(b"\nrest"));
    assert_eq!(std::fs::read(err).unwrap(), b"to stderr\n");
}

/// Runs in a process of its own, whose standard input is an open pipe. Bytes that were not requested stay in the pipe.
#[test]
fn stdin_is_read_only_as_far_as_requested() {
    let test = "wasi::stdin_is_read_only_as_far_as_requested";
    if child::folder().is_none() {
        let folder = tempfile::tempdir().unwrap();
        return child::run(test, &[], folder.path());
    }
    let mut pipe = [0; 2];
    // SAFETY: the array has two elements for the descriptors, and the string has two bytes.
    unsafe {
        assert!(libc::pipe(pipe.as_mut_ptr()) == 0 && libc::dup2(pipe[0], 0) == 0);
        assert_eq!(libc::write(pipe[1], c"ab".as_ptr().cast(), 2), 2);
    }
    let items = r#"(import "wasi_snapshot_preview1" "fd_read"
            (func $read (param i32 i32 i32 i32) (result i32)))
        (data (i32.const 16) "\20\00\00\00\01\00\00\00")"#;
    let read = "(drop (call $read (i32.const 0) (i32.const 16) (i32.const 1) (i32.const 8)))";
    let module = main_of(items, &format!("{read} {read} (i32.load8_u (i32.const 32))"));
    let vm = opened(&module, WasmOptions::new().stdio(true));
    assert_eq!(run(&vm).0.unwrap(), i32::from(b'b'));
}

/// Runs `work` with descriptors 1 and 2 as files.
fn redirected<T>(out: &std::path::Path, err: &std::path::Path, work: impl FnOnce() -> T) -> T {
    use std::os::fd::AsRawFd;
    let files = [out, err].map(|path| std::fs::File::create(path).unwrap());
    // SAFETY: the numbers are open descriptors.
    let kept = unsafe {
        let kept = [libc::dup(1), libc::dup(2)];
        libc::dup2(files[0].as_raw_fd(), 1);
        libc::dup2(files[1].as_raw_fd(), 2);
        kept
    };
    let result = work();
    // SAFETY: as above.
    unsafe {
        libc::dup2(kept[0], 1);
        libc::dup2(kept[1], 2);
    }
    result
}

#[test]
fn sockets_are_not_implemented() {
    let items = r#"(import "wasi_snapshot_preview1" "sock_recv"
        (func $recv (param i32 i32 i32 i32 i32 i32) (result i32)))"#;
    let body =
        "(call $recv (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))";
    assert_eq!(run_module(&main_of(items, body)).0.unwrap(), 52);
}

#[test]
fn a_sleep_ends_at_its_time() {
    // A clock of 2 ms and one of 3600 s: the first one is reported, with its user data.
    let items = r#"(import "wasi_snapshot_preview1" "poll_oneoff"
          (func $poll (param i32 i32 i32 i32) (result i32)))
        (data (i32.const 256) "\07") (data (i32.const 272) "\01") (data (i32.const 280) "\80\84\1e")
        (data (i32.const 304) "\08") (data (i32.const 320) "\01") (data (i32.const 328) "\00\a0\b8\30\46\03")"#;
    let body = "(drop (call $poll (i32.const 256) (i32.const 1024) (i32.const 2) (i32.const 2048)))
        (i32.add (i32.load (i32.const 1024)) (i32.mul (i32.load (i32.const 2048)) (i32.const 100)))";
    assert_eq!(exit_code(&main_of(items, body)), 107);
}
