//! Functions for tests that run the library: packages compiled from sources, and vms that print their log.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod binding;
pub mod cgroup;
pub mod child;
pub mod elf;
pub mod example;
pub mod guest;
pub mod host;
pub mod kernel;
pub mod passing;
pub mod probe;
pub mod random;
pub mod resources;
pub mod sanitizer;
pub mod seen;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use eunomia::{Kind, Level, Options, Vm};

/// Skips a test that needs root, with a message. With CI set, that is a failure.
#[macro_export]
macro_rules! needs_root {
    () => {
        if !$crate::support::is_root() {
            assert!(std::env::var_os("CI").is_none(), "this test needs root, and CI must not skip it");
            eprintln!("SKIPPED: {} needs root", module_path!());
            return;
        }
    };
}

pub fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| status.contains("\nUid:\t0\t"))
}

/// The compiler of this workspace. `make test` builds it first; `cargo build --workspace` does so by hand.
fn ecc() -> PathBuf {
    let exe = std::env::current_exe().expect("the path of the test is known");
    let target = exe.ancestors().nth(2).expect("tests are in target/PROFILE/deps");
    let ecc = target.join("ecc");
    assert!(ecc.exists(), "{} is missing: run `cargo build --workspace` first", ecc.display());
    ecc
}

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Compiles C source code and returns the directory with `package.json`, `test.bpf.o` and `test.skel.json`.
pub fn compile(source: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("test.bpf.c");
    std::fs::write(&file, source).expect("the source is written");
    run_ecc(&[&file], dir.path());
    dir
}

/// Compiles sources to packages in `out`.
pub fn run_ecc(sources: &[&Path], out: &Path) {
    let made = Command::new(ecc()).args(sources).arg("-o").arg(out).output().expect("ecc runs");
    assert!(made.status.success(), "ecc: {}", String::from_utf8_lossy(&made.stderr));
}

/// Compiles C source code to a package.
pub fn package(source: &str) -> Vec<u8> {
    let dir = compile(source);
    std::fs::read(dir.path().join("package.json")).expect("ecc wrote a package")
}

/// Compiles a source of the repository to the file `package`.
pub fn package_file(source: &str, package: &Path) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    run_ecc(&[&root().join(source)], dir.path());
    std::fs::copy(dir.path().join("package.json"), package).expect("ecc wrote a package");
}

/// The package of an example under examples/bpf.
pub fn example(name: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let folder = root().join("examples/bpf").join(name);
    let (source, header) = (folder.join(format!("{name}.bpf.c")), folder.join(format!("{name}.h")));
    let files: Vec<&Path> = [source.as_path(), header.as_path()].into_iter().filter(|f| f.exists()).collect();
    run_ecc(&files, dir.path());
    std::fs::read(dir.path().join("package.json")).expect("ecc wrote a package")
}

/// The path of a file for the virtual machine, which has no compiler. Tests named `pack_…` write it.
pub fn packed(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("vm");
    std::fs::create_dir_all(&folder).expect("the directory can be created");
    folder.join(name)
}

/// Whether this is one of the virtual machines of tests/kernels.
pub fn is_vm() -> bool {
    Path::new("/vm").exists()
}

/// A vm that prints its log, so that a failing test shows it.
pub fn vm() -> Vm {
    vm_with(Options::new()).0
}

/// A vm with these options, and its log, which is printed as well.
pub fn vm_with(options: Options) -> (Vm, Arc<Mutex<Vec<String>>>) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&lines);
    let log = move |level: Level, line: &str| {
        eprintln!("[{level:?}] {line}");
        kept.lock().unwrap().push(line.to_owned());
    };
    let options = if uses_libbpf_sections() { options.libbpf_sections(true) } else { options };
    let vm = Vm::new(options.log(log)).expect("a new vm");
    (vm, lines)
}

/// Whether this run of the tests leaves libbpf's section handlers in place (`Options::libbpf_sections`), as `.ci/run` does
/// for the tests that load programs.
pub fn uses_libbpf_sections() -> bool {
    std::env::var_os("EUNOMIA_TEST_LIBBPF_SECTIONS").is_some()
}

/// A vm with this package open.
pub fn opened(package: &[u8]) -> Vm {
    let vm = vm();
    assert_eq!(vm.open(package, Kind::Json).expect("the package opens"), Kind::Json);
    vm
}

/// A vm with this package attached.
pub fn attached(package: &[u8]) -> Vm {
    let vm = opened(package);
    vm.attach().expect("the package attaches");
    vm
}
