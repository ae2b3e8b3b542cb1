//! The options of `ecli run`, on events whose every field is known.

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use support::{Activity, compile, ecli, package, run};

/// Delivers the same record at each start of a program, and counts them.
const KNOWN: &str = r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

enum color { RED = 1, GREEN = 2 };

struct inner {
    unsigned short port;
    signed char delta;
};

struct event {
    unsigned char low : 3;
    unsigned char high : 5;
    long long negative;
    enum color color;
    struct inner in;
    char name[8];
};

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 1 << 16);
} events SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 16);
    __type(key, int);
    __type(value, struct inner);
} seen SEC(".maps");

SEC("tp/sched/sched_process_exec")
int known(void *ctx) {
    struct inner inner = {443, -3};
    int key = 7;
    struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
    if (!event)
        return 0;
    __builtin_memset(event, 0, sizeof(*event));
    event->low = 5;
    event->high = 17;
    event->negative = -7;
    event->color = GREEN;
    event->in = inner;
    __builtin_memcpy(event->name, "a,\"b", 5);
    bpf_ringbuf_submit(event, 0);
    bpf_map_update_elem(&seen, &key, &inner, 0);
    return 0;
}
"#;

struct Known {
    folder: tempfile::TempDir,
    _activity: Activity,
}

impl Known {
    fn new() -> Known {
        Known { folder: compile(KNOWN), _activity: Activity::start() }
    }

    fn run(&self, options: &[&str]) -> support::Ran {
        let path = self.folder.path().join("package.json");
        run(&[&["run"], options, &[path.to_str().expect("UTF-8")]].concat())
    }
}

#[test]
fn filters_know_every_kind_of_field() {
    needs_root!();
    let known = Known::new();
    let all = "low == 5 && high == 17 && negative < 0 && negative == -7 && color == GREEN && color >= 2 && \
               in.port == 0x1bb && in.delta == -3 && name =~ '^a,' && name == 'a,\"b' && name == \"a,\\\"b\" && name !~ z \
               && high && !(in.port != 443) && (low > 6 || low <= 5)";
    let ran = known.run(&["-j", "--count", "2", "--filter", all]);
    assert_eq!((ran.code, ran.out.lines().count()), (Some(0), 2), "{}", ran.err);
    for none in
        ["low != 5", "high > 17", "negative >= 0", "color == RED", "in.delta > -3", "name == x", "!high"]
    {
        let ran = known.run(&["-j", "--duration", "0.2", "--filter", none]);
        assert_eq!((ran.code, ran.out.as_str()), (Some(0), ""), "{none}: {}", ran.err);
        assert!(!ran.err.contains("ecli: 0 events"), "{none}: events came: {}", ran.err);
    }
    let deep = "(".repeat(100_000) + "low" + &")".repeat(20);
    for (bad, why) in [
        ("in == 1", "in.port"),
        ("color == BLUE", "BLUE"),
        ("low =~ a", "needs a string"),
        ("name =~ '('", "name =~"),
        ("low == 'x", "unterminated string 'x"),
        ("low == 1 low", "unexpected \"low\""),
        ("", "expected a field name"),
        (&deep, "nested"),
    ] {
        let ran = known.run(&["--filter", bad]);
        assert_eq!(ran.code, Some(2), "{bad:.20}: {}", ran.err);
        assert!(ran.err.contains(why), "{bad:.20}: {}", ran.err);
    }
}

#[test]
fn csv_quotes_special_characters() {
    needs_root!();
    let ran = Known::new().run(&[
        "--format",
        "csv",
        "--count",
        "2",
        "--columns",
        "low,high,negative,color,in.port,name",
    ]);
    let row = "5,17,-7,GREEN,443,\"a,\"\"b\"";
    assert_eq!(ran.out, format!("low,high,negative,color,in.port,name\n{row}\n{row}\n"), "{}", ran.err);
}

#[test]
fn csv_tells_a_line_end_from_a_backslash_and_an_n() {
    needs_root!();
    let folder = compile(&KNOWN.replace("a,\\\"b\", 5", "a\\n\\\\n\\\"\\\\\\x01\", 8"));
    let _activity = Activity::start();
    let path = folder.path().join("package.json");
    let path = path.to_str().expect("UTF-8");
    let ran = run(&["run", "--format", "csv", "--count", "1", "--columns", "name,low", path]);
    assert_eq!(ran.out, "name,low\n\"a\\n\\\\n\"\"\\\\\\u0001\",5\n", "{}", ran.err);
}

#[test]
fn raw_is_the_record_and_nothing_else() {
    needs_root!();
    let ran = Known::new().run(&["--format", "raw", "--count", "3"]);
    assert_eq!((ran.code, ran.out.matches("a,\"b\0").count()), (Some(0), 3), "{}", ran.err);
}

#[test]
fn columns_come_in_their_order_under_their_names() {
    needs_root!();
    let known = Known::new();
    let ran = known.run(&["-j", "--count", "1", "--columns", "in.delta,low,name"]);
    assert_eq!(ran.out, "{\"in.delta\":-3,\"low\":5,\"name\":\"a,\\\"b\"}\n", "{}", ran.err);
    let ran = known.run(&["--count", "1", "--columns", "color,high"]);
    let lines: Vec<Vec<&str>> = ran.out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        (&lines[0][..], &lines[1][1..]),
        (&["TIME", "COLOR", "HIGH"][..], &["GREEN", "17"][..]),
        "{}",
        ran.out
    );
    let ran = known.run(&["--columns", "colour"]);
    assert!(ran.code == Some(2) && ran.err.contains("there are: low, high, negative"), "{}", ran.err);
}

#[test]
fn timestamps_come_first() {
    needs_root!();
    let known = Known::new();
    let is_time = |text: &str| humantime::parse_rfc3339(text).is_ok() && text.len() == 27;
    let ran = known.run(&["-j", "--count", "1", "--timestamps"]);
    let event: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
    assert!(is_time(event["time"].as_str().unwrap_or_default()) && event["low"] == 5, "{}", ran.out);
    for format in ["csv", "text"] {
        let ran = known.run(&["--format", format, "--count", "1", "--timestamps"]);
        let row = ran.out.lines().nth(1).unwrap_or_default();
        assert!(is_time(row.split([',', ' ']).next().unwrap_or_default()), "{}", ran.out);
    }
}

#[test]
fn maps_are_printed_at_the_end() {
    needs_root!();
    let known = Known::new();
    let ran = known.run(&["-j", "--count", "1", "--columns", "low", "--map", "seen", "--stats"]);
    assert_eq!(ran.out, "{\"low\":5}\n{\"key\":7,\"value\":{\"port\":443,\"delta\":-3}}\n", "{}", ran.err);
    assert!(ran.err.contains("source events: ") && ran.err.contains("program known: "), "{}", ran.err);
    let ran = known.run(&["--map", "nosuch"]);
    assert!(ran.code == Some(2) && ran.err.contains("nosuch") && ran.err.contains("seen"), "{}", ran.err);
    let ran = known.run(&["-j", "--count", "1", "--map", "events"]);
    assert_eq!(
        (ran.code, &*ran.out),
        (Some(2), ""),
        "a buffer has no entries, as is said at once: {}",
        ran.err
    );
    assert!(ran.err.contains("--map: map \"events\": "), "{}", ran.err);
}

#[test]
fn maps_are_printed_at_intervals() {
    needs_root!();
    let ran = Known::new().run(&[
        "-j",
        "--filter",
        "low == 0",
        "--map",
        "seen",
        "--interval",
        "0.1",
        "--duration",
        "0.6",
    ]);
    assert!(ran.out.lines().count() > 1, "more than once: {} {}", ran.out, ran.err);
}

#[test]
fn a_target_on_the_command_line_counts() {
    needs_root!();
    let xdp = package("xdp");
    let ran = run(&["--attach", "xdp_pass=interface:lo", "--duration", "0.1", &xdp]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    for (target, code, why) in [
        ("xdp_pass={\"interface\":\"nosuch0\"}", 2, "nosuch0"),
        ("xdp_pass=interface", 2, "KEY:VALUE"),
        ("xdp_pass", 2, "PROG="),
        ("nosuch=interface:lo", 2, "nosuch"),
        ("xdp_pass={", 2, "EOF"),
    ] {
        let ran = run(&["--attach", target, "--duration", "0.1", &xdp]);
        assert_eq!(ran.code, Some(code), "{target}: {}", ran.err);
        assert!(ran.err.contains(why), "{target}: {}", ran.err);
    }
}

/// A module of eunomia-bpf whose main function is `body`.
fn module(body: &str) -> (tempfile::TempDir, String) {
    let text = format!(
        r#"(module
            (import "env" "puts" (func $puts (param i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 16) "\ff\fe bytes\00")
            (func (export "bpf_main") (param i32 i32) (result i32) {body}))"#
    );
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("app");
    std::fs::write(&path, wat::parse_str(text).expect("a module")).expect("a file");
    let path = path.to_str().expect("UTF-8").to_owned();
    (folder, path)
}

#[test]
fn a_module_ends_ecli_with_its_code_and_its_bytes_pass_through() {
    for code in [0, 7, 255] {
        let (_folder, path) = module(&format!("(drop (call $puts (i32.const 16))) (i32.const {code})"));
        let output = ecli(&["run", &path]).output().expect("ecli runs");
        assert_eq!(output.status.code(), Some(code));
        assert_eq!(output.stdout, b"\xff\xfe bytes\n");
    }
    let (_folder, path) = module("unreachable");
    let ran = run(&["run", &path]);
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    assert!(ran.err.contains("unreachable"), "{}", ran.err);
    let ran = run(&["run", "--filter", "a == 1", &path]);
    assert!(ran.code == Some(2) && ran.err.contains("--filter"), "{}", ran.err);
}

#[test]
fn a_wasi_program_has_stdin_and_arguments() {
    let text = r#"(module
        (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (func (export "_start")
            (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 100))
            (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
            (i32.store (i32.const 4) (i32.load (i32.const 8)))
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
            (drop (call $sizes (i32.const 0) (i32.const 4)))
            (call $exit (i32.load (i32.const 0)))))"#;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("app.wasm");
    std::fs::write(&path, wat::parse_str(text).expect("a module")).expect("a file");
    let ran = support::run_with_input(&["run", path.to_str().expect("UTF-8"), "-h", "--x"], b"in\xffput");
    assert_eq!((ran.code, ran.out.as_str()), (Some(3), "in\u{fffd}put"), "{}", ran.err);
}

#[test]
fn stdout_on_a_full_disk_is_a_clear_error() {
    needs_root!();
    let _activity = Activity::start();
    let full = std::fs::File::create("/dev/full").expect("/dev/full");
    let output = ecli(&["run", "-j", &package("bootstrap")]).stdout(full).stderr(Stdio::piped()).output();
    let ran: support::Ran = output.expect("ecli runs").into();
    assert_eq!(ran.code, Some(6));
    assert!(ran.err.ends_with("ecli: standard output: No space left on device\n"), "{}", ran.err);
}

#[test]
fn a_file_that_may_not_be_read_is_named() {
    needs_root!();
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("readable");
    let path = folder.path().join("secret.json");
    std::fs::write(&path, "{}").expect("a file");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o000)).expect("unreadable");
    let ran = support::without_privileges(&["run", path.to_str().expect("UTF-8")], "");
    assert!(ran.code == Some(3) && ran.err.contains("secret.json: Permission denied"), "{}", ran.err);
}

#[test]
fn a_package_that_loops_is_stopped_by_a_signal() {
    let (_folder, path) =
        module("(drop (call $puts (i32.const 16))) (loop $again (br $again)) (i32.const 0)");
    let mut child = ecli(&["run", &path]).stdout(Stdio::piped()).spawn().expect("ecli starts");
    let mut line = Vec::new();
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    out.read_until(b'\n', &mut line).expect("the module prints a line before it loops");
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill runs");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn a_pipe_with_a_name_is_a_file() {
    let script = format!(
        "mkfifo pipe; cat {} >pipe & {} run ./pipe -h",
        package("opensnoop"),
        env!("CARGO_BIN_EXE_ecli")
    );
    let folder = tempfile::tempdir().expect("a folder");
    let mut sh = Command::new("timeout");
    let ran: support::Ran =
        sh.args(["10", "sh", "-c", &script]).current_dir(folder.path()).output().expect("sh runs").into();
    assert!(ran.code == Some(0) && ran.out.contains("--pid"), "{}", ran.err);
    let empty = run(&["run", ""]);
    assert!(empty.code == Some(2) && empty.err.contains("empty"), "{}", empty.err);
}

#[test]
fn conflicting_options_are_refused() {
    let package = package("opensnoop");
    for (args, what) in [
        (&["--map", "started", "--format", "csv"][..], "--map"),
        (&["--map", "started", "--format", "raw"], "--map"),
        (&["--symbols", "--format", "csv"], "--symbols"),
        (&["--columns", "pid,comm,pid", "-j"], "\"pid\" is listed twice"),
        (&["--pid", "1"], "ecli run PROG --pid"),
        (&["-x"], "ecli run PROG -x"),
    ] {
        let ran = run(&[&["run"], args, &[&package]].concat());
        assert_eq!(ran.code, Some(2), "{args:?}: {}", ran.err);
        assert!(ran.err.contains(what) && ran.err.lines().count() == 1, "{args:?}: {}", ran.err);
    }
}

#[test]
fn control_characters_of_packages_are_escaped() {
    let json = std::fs::read_to_string(package("opensnoop")).expect("a package");
    let evil = json.replace("trace only failed events", "x\\u001b]0;title\\u0007\\u009b2J\\u202e\\u00ad");
    assert_ne!(json, evil);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("evil\u{1b}[31m.json");
    std::fs::write(&path, evil).expect("a file");
    let path = path.to_str().expect("UTF-8");
    let is_order = |c: char| c.is_control() && c != '\n';
    for (args, shown) in [
        (&["run", path, "-h"][..], "x\\u001b]0;title\\u0007\\u009b2J\\u202e\\u00ad"),
        (&["run", path, "--no\u{1b}sense"], "--pid"),
        (
            &["run", "--require-signed", "--trust", folder.path().to_str().expect("UTF-8"), path],
            "evil\\u001b[31m",
        ),
    ] {
        let ran = run(args);
        let said = ran.out + &ran.err;
        assert!(said.contains(shown) && !said.contains(is_order), "{said:?}");
    }
}

#[test]
fn a_closed_pipe_or_a_full_disk_does_not_crash() {
    let home = tempfile::tempdir().expect("a folder");
    let home = home.path().display();
    let ecli = env!("CARGO_BIN_EXE_ecli");
    for (command, code) in [
        (format!("{ecli} list >/dev/full"), 6),
        (format!("{ecli} list --json >/dev/full"), 6),
        (format!("{ecli} keygen --no-password -p {home}/1.pub -s {home}/1.key >/dev/full"), 6),
        (format!("{ecli} logout localhost:1 >/dev/full 2>/dev/full"), 6),
        (format!("{ecli} run {} -h 2>/dev/full >/dev/full", package("opensnoop")), 6),
        (format!("exec 3> >(exec true); wait $!; {ecli} list --json >&3"), 0),
    ] {
        let script = format!(
            "export HOME={home} EUNOMIA_HOME={home}; mkdir -p {home}/cache; echo '{{\"url\":\"x\",\"len\":1}}' >{home}/cache/x.json; {command}"
        );
        let ran: support::Ran =
            std::process::Command::new("bash").args(["-c", &script]).output().expect("bash").into();
        assert_eq!(ran.code, Some(code), "{command}: {}", ran.err);
        assert!(!ran.err.contains("panicked"), "{command}: {}", ran.err);
    }
}
