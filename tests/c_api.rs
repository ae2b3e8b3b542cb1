//! The C interface from C: each program of tests/data/c is linked with the shared library and runs natively, under valgrind,
//! and with the address and undefined-behaviour sanitizers in its own code. The header and the layout must match the
//! committed ones; `cargo xtask symbols` compares the exports of the release build.

#[path = "support/sanitizer.rs"]
mod sanitizer;

use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::{env, fs};

use eunomia::package::Package;
use serde_json::json;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const HEADER: &str = include_str!(concat!(env!("OUT_DIR"), "/eunomia.h"));

/// The ways to run a program of tests/data/c.
#[derive(Clone, Copy)]
enum Way {
    Native,
    Valgrind,
    Sanitizers,
}

/// The programs of tests/data/c that need the kernel; each of them is three tests.
macro_rules! programs {
    ($($name:ident)*) => { $(
        mod $name {
            use super::{Way, run};

            #[test]
            fn hold() {
                run(stringify!($name), Way::Native);
            }

            #[test]
            fn hold_under_valgrind() {
                run(stringify!($name), Way::Valgrind);
            }

            #[test]
            fn hold_with_sanitizers() {
                run(stringify!($name), Way::Sanitizers);
            }
        }
    )* };
}

programs! { arguments batch callback cycles epoll events export group guest host phases poison replace run sizes state stop strings threads }

#[test]
fn a_rejected_program_sets_the_error_and_prints_nothing() {
    run("verifier", Way::Native);
    run("verifier", Way::Sanitizers);
}

/// The program overrides malloc, as the sanitizers and valgrind do.
#[test]
fn guests_run_and_end_while_small_allocations_by_c_fail() {
    run("spare", Way::Native);
}

#[test]
fn the_sanitizers_find_errors() {
    sanitizer::finds_errors(&sanitizer::MEMORY, &folder("bin"));
}

#[test]
fn hosts_that_are_killed_leave_nothing_in_the_kernel() {
    run("kill", Way::Native);
}

/// The functions of the program override those of the C library, and libeunomia must resolve to them.
#[test]
fn each_call_into_the_kernel_and_each_allocation_may_fail() {
    if !is_root() {
        return;
    }
    let program = folder("bin").join("faults");
    let flags = [&C_FLAGS[..], &["-rdynamic", "-ldl"]].concat();
    compile(&flags, &format!("{ROOT}/tests/data/c/faults.c"), Some((library(), &program)));
    output(&[utf8(&program), utf8(packages()), "1"]);
}

fn run(name: &str, way: Way) {
    if !is_root() {
        return;
    }
    // Loops run a thousand times; under valgrind, often enough for a leak to be visible.
    let (tag, repeats, runner, flags): (_, _, &[&str], &[&str]) = match way {
        Way::Native => ("native", "1000", &[], &[]),
        Way::Valgrind => ("valgrind", "10", &VALGRIND, &[]),
        Way::Sanitizers => ("sanitizers", "100", &[], &sanitizer::MEMORY),
    };
    let program = folder("bin").join(format!("{name}-{tag}"));
    let source = format!("{ROOT}/tests/data/c/{name}.c");
    compile(&[&C_FLAGS, flags].concat(), &source, Some((library(), &program)));
    output(&[runner, &[utf8(&program), utf8(packages()), repeats]].concat());
}

const C_FLAGS: [&str; 8] =
    ["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-g", "-O1"];

const VALGRIND: [&str; 6] = [
    "valgrind",
    "--quiet",
    "--error-exitcode=9",
    "--leak-check=full",
    "--errors-for-leak-kinds=definite,indirect",
    concat!("--suppressions=", env!("CARGO_MANIFEST_DIR"), "/tests/data/c/valgrind.supp"),
];

/// /proc/self belongs to the effective user.
fn is_root() -> bool {
    let root = fs::metadata("/proc/self").expect("/proc is mounted").uid() == 0;
    assert!(root || env::var("CI").as_deref() != Ok("true"), "needs root");
    if !root {
        eprintln!("SKIPPED: needs root");
    }
    root
}

/// Runs a command to its end and returns what it printed; it must succeed.
fn output(command: &[&str]) -> String {
    let mut process = Command::new(command[0]);
    // malloc's per-thread caches would look like memory in use.
    process.args(&command[1..]).env("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0");
    let output = process.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    out
}

fn utf8(path: &Path) -> &str {
    path.to_str().expect("the path is UTF-8")
}

/// A directory for the output of a test.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("c_api").join(name);
    fs::create_dir_all(&folder).expect("the directory can be created");
    folder
}

// ---- building -------------------------------------------------------------------------------------------------

/// Returns the directory with the shared library under the names that programs look for. It is a separate build, because it has
/// fault injection, which must not be in a release, and because other builds of the workspace omit the C interface.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let target = concat!(env!("CARGO_MANIFEST_DIR"), "/target/faults");
        let build =
            [env!("CARGO"), "rustc", "--offline", "--manifest-path", manifest, "--target-dir", target];
        output(&[build.as_slice(), &["--lib", "--crate-type", "cdylib", "--features", "faults"]].concat());
        let (library, folder) = (Path::new(target).join("debug/libeunomia.so"), folder("lib"));
        for name in ["libeunomia.so", &soname(&library)] {
            let link = folder.join(name);
            drop(fs::remove_file(&link)); // of an earlier run
            symlink(&library, link).expect("the link can be created");
        }
        folder
    })
}

fn soname(library: &Path) -> String {
    let line = dynamic(library, "(SONAME)");
    line.split(['[', ']']).nth(1).expect("the name is in brackets").to_owned()
}

/// A line of the library's dynamic section.
fn dynamic(library: &Path, tag: &str) -> String {
    let section = output(&["readelf", "-dW", utf8(library)]);
    section.lines().find(|line| line.contains(tag)).unwrap_or_else(|| panic!("no {tag}")).to_owned()
}

/// Returns the directory with the header of this build.
fn include() -> &'static Path {
    static INCLUDE: OnceLock<PathBuf> = OnceLock::new();
    INCLUDE.get_or_init(|| {
        let folder = folder("include");
        fs::write(folder.join("eunomia.h"), HEADER).expect("the header can be written");
        folder
    })
}

/// Compiles, and links if a library and a program are given.
fn compile(flags: &[&str], source: &str, link: Option<(&Path, &Path)>) {
    let compiler = if source.ends_with(".cpp") { "clang++" } else { "cc" };
    let command = [&[compiler, source, "-I", utf8(include())], flags].concat();
    let Some((library, program)) = link else {
        output(&[command.as_slice(), &["-fsyntax-only"]].concat());
        return;
    };
    let rpath = format!("-Wl,-rpath,{}", utf8(library));
    let link = ["-L", utf8(library), "-leunomia", &rpath, "-o", utf8(program)];
    output(&[command.as_slice(), &link].concat());
}

/// Returns the directory with the objects of tests/data/bpf, and calls.json, a package with every kind of metadata.
fn packages() -> &'static Path {
    static PACKAGES: OnceLock<PathBuf> = OnceLock::new();
    PACKAGES.get_or_init(|| {
        let folder = folder("packages");
        ["calls", "killed", "perf", "rejected", "runs", "tasks", "two"]
            .iter()
            .for_each(|name| compile_bpf(name, name, &[], &folder));
        ["1", "2"].iter().for_each(|version| write_version(version, &folder));
        fs::write(folder.join("calls.json"), calls_package(&folder)).expect("the package can be written");
        GUESTS.iter().for_each(|(name, main)| write_guest(&folder.join(name), main));
        write_guest_that_loads(&folder);
        folder
    })
}

/// WASM packages and their main functions.
const GUESTS: [(&str, &str); 3] = [
    ("hello.wasm", "(drop (call $printf (i32.const 8) (local.get 2))) (i32.const 5)"),
    ("trap.wasm", "(unreachable)"),
    ("loop.wasm", "(loop (br 0)) (i32.const 0)"),
];

fn write_guest(path: &Path, main: &str) {
    // The third local is the address of the first argument, as printf expects it.
    let text = format!(
        r#"(module (import "env" "printf" (func $printf (param i32 i32) (result i32)))
           (memory (export "memory") 1) (data (i32.const 8) "hello %s\0a\00")
           (func (export "bpf_main") (param i32 i32) (result i32) (local i32)
             (i32.store (i32.const 64) (local.get 0)) (local.set 2 (i32.const 64)) {main}))"#
    );
    fs::write(path, wat::parse_str(text).expect("the module is valid")).expect("the file can be written");
}

/// Writes loads.wasm, which loads, attaches and releases calls.o. Its exit code is the number of completed steps; 5 is all.
fn write_guest_that_loads(folder: &Path) {
    let object = fs::read(folder.join("calls.o")).expect("the object was compiled");
    let data: String = object.iter().map(|byte| format!("\\{byte:02x}")).collect();
    let text = format!(
        r#"(module (import "wasm_bpf" "wasm_load_bpf_object" (func $load (param i32 i32) (result i64)))
           (import "wasm_bpf" "wasm_attach_bpf_program" (func $attach (param i64 i32 i32) (result i32)))
           (import "wasm_bpf" "wasm_close_bpf_object" (func $close (param i64) (result i32)))
           (memory (export "memory") 2) (data (i32.const 8) "on_call\00") (data (i32.const 4096) "{data}")
           (func (export "bpf_main") (param i32 i32) (result i32) (local $object i64)
             (local.set $object (call $load (i32.const 4096) (i32.const {})))
             (if (i64.eqz (local.get $object)) (then (return (i32.const 1))))
             (if (i32.lt_s (call $attach (local.get $object) (i32.const 8) (i32.const 0)) (i32.const 0))
               (then (return (i32.const 2))))
             (if (i32.lt_s (call $close (local.get $object)) (i32.const 0)) (then (return (i32.const 3))))
             (i32.const 5)))"#,
        object.len()
    );
    fs::write(folder.join("loads.wasm"), wat::parse_str(text).expect("the module is valid"))
        .expect("the file can be written");
}

/// Writes a version of replaced.bpf.c as a package.
fn write_version(version: &str, folder: &Path) {
    let name = format!("replaced{version}");
    compile_bpf("replaced", &name, &[&format!("-DVERSION={version}")], folder);
    let object = fs::read(folder.join(format!("{name}.o"))).expect("the object was compiled");
    let package = Package::from_object(&object, None).expect("the package is valid").to_json();
    fs::write(folder.join(format!("{name}.json")), package).expect("the package can be written");
}

fn compile_bpf(name: &str, object: &str, flags: &[&str], folder: &Path) {
    let (source, object) =
        (format!("{ROOT}/tests/data/bpf/{name}.bpf.c"), folder.join(format!("{object}.o")));
    let include = ["-I", env!("EUNOMIA_BPF_INCLUDE"), "-I", "/usr/include/x86_64-linux-gnu"];
    let clang =
        ["clang", "-target", "bpf", "-g", "-O2", "-Wall", "-Werror", "-c", &source, "-o", utf8(&object)];
    output(&[clang.as_slice(), &include, flags].concat());
}

fn calls_package(folder: &Path) -> Vec<u8> {
    let meta = json!({
        "bpf_skel": {
            "obj_name": "calls_bpf",
            "maps": [{ "name": "events", "ident": "events" }],
            "progs": [{ "name": "on_call", "attach": "raw_tp/sys_enter", "link": true }],
            "data_sections": [
                { "name": ".data", "variables": [{ "name": "burst", "type": "__u32", "cmdarg": {} }] },
            ],
        },
        "export_types": [{ "name": "event", "size": 32, "type_id": 0, "members": [] }],
    });
    let object = fs::read(folder.join("calls.o")).expect("the object was compiled");
    Package::build(&object, meta).expect("the package is valid").to_json()
}

// ---- the example host -----------------------------------------------------------------------------------------

/// Compiles a program of examples/c, once.
fn example(name: &'static str) -> PathBuf {
    static COMPILED: Mutex<Vec<&str>> = Mutex::new(Vec::new());
    let program = folder("bin").join(name);
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if !compiled.contains(&name) {
        let strict = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror"];
        compile(&strict, &format!("{ROOT}/examples/c/{name}.c"), Some((library(), &program)));
        compiled.push(name);
    }
    program
}

#[test]
fn the_example_host_ends_after_a_time_and_on_ctrl_c() {
    if !is_root() {
        return;
    }
    let (host, package) = (example("events"), packages().join("calls.json"));
    assert_eq!(output(&[utf8(&host), utf8(&package), "1"]), "");
    let mut host = Command::new(host).arg(&package).spawn().expect("the host starts");
    let pid = host.id().to_string();
    while !attached(&pid) {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    output(&["kill", "-INT", &pid]);
    assert!(host.wait().expect("the host ends").success());
}

/// Whether a process has attached its programs, which means that it has a descriptor of a link.
fn attached(pid: &str) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let targets = descriptors.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    targets.into_iter().any(|target| target.to_string_lossy() == "anon_inode:bpf_link")
}

#[test]
fn the_example_host_reports_errors() {
    let program = example("events");
    let host = |args: &[&str]| Command::new(&program).args(args).output().expect("the host runs");
    let usage = host(&[]);
    assert_eq!(usage.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&usage.stderr).starts_with("usage: "));
    let missing = host(&["/nothing/here"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/nothing/here"), "{missing:?}");
    let lines = committed("examples/c/events.c").lines().count();
    assert!(lines <= 50, "examples/c/events.c has {lines} lines");
}

// ---- the header and the exports -------------------------------------------------------------------------------

fn committed(path: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

#[test]
fn the_committed_header_is_the_generated_one() {
    assert!(committed("include/eunomia.h") == HEADER, "include/eunomia.h is old; run `make header`");
}

#[test]
fn the_header_is_valid_in_every_c_and_cpp() {
    const STRICT: [&str; 5] = ["-Wall", "-Wextra", "-Wpedantic", "-Wundef", "-Werror"];
    for standard in ["-std=c99", "-std=c11", "-std=c17", "-std=c2x"] {
        let flags = [STRICT.as_slice(), &["-Wc++-compat", standard]].concat();
        compile(&flags, concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/c/header.c"), None);
    }
    for standard in ["-std=c++11", "-std=c++14", "-std=c++17", "-std=c++20"] {
        let flags = [STRICT.as_slice(), &[standard]].concat();
        compile(&flags, concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/c/header.cpp"), None);
    }
}

#[test]
fn the_layout_is_the_recorded_one() {
    let program = folder("bin").join("layout");
    compile(&C_FLAGS, &format!("{ROOT}/tests/data/c/layout.c"), Some((library(), &program)));
    let found = output(&[utf8(&program)]);
    assert!(found == committed("tests/data/abi/layout.txt"), "the layout has changed:\n{found}");
}

#[test]
fn the_soname_changes_with_every_minor_version() {
    let version = env!("CARGO_PKG_VERSION");
    let (minor, _) = version.rsplit_once('.').expect("a version has three parts");
    assert_eq!(soname(&library().join("libeunomia.so")), format!("libeunomia.so.{minor}"));
}

#[test]
fn the_library_stays_mapped_and_is_bound_at_load() {
    let line = dynamic(&library().join("libeunomia.so"), "(FLAGS_1)");
    assert!(line.contains("NODELETE") && line.contains("NOW"), "{line}");
}

#[test]
fn the_example_host_of_guests_passes_arguments_and_exit_codes() {
    let (program, module) = (example("guest"), format!("{ROOT}/target/packages/sigsnoop/app.wasm"));
    let host = |args: &[&str]| Command::new(&program).args(args).output().expect("the host runs");
    assert_eq!(host(&[]).status.code(), Some(2));
    let help = host(&[&module, "-h"]);
    assert!(help.status.success(), "`make packages` comes first: {help:?}");
    assert!(String::from_utf8_lossy(&help.stdout).contains("-k, --killed"), "{help:?}");
    let wrong = host(&[&module, "--wrong"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("--wrong"), "{wrong:?}");
    let package = host(&[concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")]);
    assert!(String::from_utf8_lossy(&package.stderr).contains("not a WASM module"), "{package:?}");
}
