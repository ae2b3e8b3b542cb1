//! Shared by the tests: the binary, packages that `make packages` has compiled, and processes that cause events.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::io::Write;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use sha2::{Digest, Sha256};

/// Skips a test that needs root, with a message. In CI, where no test may be skipped, the test fails.
#[macro_export]
macro_rules! needs_root {
    () => {
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none(), "this test needs root, and CI must not skip it");
            eprintln!("SKIPPED: {} needs root", module_path!());
            return;
        }
    };
}

/// A package of an example.
pub fn package(name: &str) -> String {
    packaged(&format!("{name}/package.json"))
}

/// The WASM module of an example.
pub fn module(name: &str) -> String {
    packaged(&format!("{name}/app.wasm"))
}

fn packaged(file: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/packages").join(file);
    assert!(path.exists(), "{} is missing: run `make packages` first", path.display());
    path.to_str().expect("a path in UTF-8").to_owned()
}

/// ecli with these arguments and without input.
pub fn ecli(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ecli"));
    command.args(args).stdin(Stdio::null());
    command
}

/// How a run of ecli ended.
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// Runs ecli to its end.
pub fn run(args: &[&str]) -> Ran {
    ecli(args).output().expect("ecli runs").into()
}

/// Runs ecli to its end, with `input` on stdin.
pub fn run_with_input(args: &[&str], input: &[u8]) -> Ran {
    let mut child = ecli(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("ecli starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().expect("ecli ends");
    // ecli may stop reading before the end.
    let _ = writer.join().expect("the writer does not panic");
    output.into()
}

/// A process that is killed when this is dropped.
pub struct Process(pub Child);

impl Deref for Process {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Process {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Ends a server, and the loader that it has started, if the test is killed. It is a process that waits until the test closes a pipe.
pub struct Watchdog(Child);

impl Watchdog {
    pub fn new(server: &Child, program: &str, socket: &Path, state: &Path) -> Watchdog {
        // A test that ends as usual sends a line.
        let script = "read -r _ && exit; kill -9 \"$1\"; exec \"$2\" server --uninstall --socket \"$3\" --state \"$4\"";
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh", &server.id().to_string(), program]).args([socket, state]);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Watchdog(child.expect("sh starts"))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        let _ = self.0.stdin.take().map(|mut pipe| pipe.write_all(b"\n"));
        let _ = self.0.wait();
    }
}

/// Starts programs until it is dropped, which causes events.
pub struct Activity {
    _process: Process,
}

impl Activity {
    pub fn start() -> Activity {
        let child = Command::new("sh").args(["-c", "while :; do /bin/true; done"]).spawn();
        Activity { _process: Process(child.expect("sh starts")) }
    }
}

/// The ecc of this build.
pub fn ecc() -> Command {
    let exe = std::env::current_exe().expect("a test knows where it is");
    let ecc = exe.ancestors().nth(2).expect("tests are in target/PROFILE/deps").join("ecc");
    assert!(ecc.exists(), "{} is missing: run `cargo build --workspace` first", ecc.display());
    Command::new(ecc)
}

/// Runs ecc in a directory; it must succeed.
#[track_caller]
pub fn run_ecc(folder: &Path, args: &[&str]) {
    let made = ecc().args(args).current_dir(folder).output().expect("ecc runs");
    assert!(made.status.success(), "ecc {args:?}: {}", String::from_utf8_lossy(&made.stderr));
}

/// Compiles C source text to `package.json` and `test.bpf.o` in a directory of its own.
pub fn compile(source: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("test.bpf.c"), source).expect("the source is written");
    run_ecc(folder.path(), &["test.bpf.c"]);
    folder
}

/// The SHA-256 of these bytes in hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Runs ecli as the user nobody, with these capabilities only: `+bpf,+perfmon`.
pub fn without_privileges(args: &[&str], capabilities: &str) -> Ran {
    // The user nobody cannot read the build directory.
    let folder =
        tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755)).tempdir();
    let ecli = folder.as_ref().expect("a folder").path().join("ecli");
    // Another process makes the copy: a child that a test starts at this moment could keep it open for writing, and it would not run.
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_ecli")).arg(&ecli).status().expect("cp runs");
    assert!(copied.success(), "the binary is copied");
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    if !capabilities.is_empty() {
        command.args([format!("--inh-caps={capabilities}"), format!("--ambient-caps={capabilities}")]);
    }
    command.arg(ecli).args(args).stdin(Stdio::null()).output().expect("setpriv runs").into()
}

/// Sends a signal to a process of the test.
pub fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, signal).expect("the process is there");
}

/// Whether SIGINT is in a set of signals in the status of a process: `SigCgt`, handled, or `ShdPnd`, pending.
pub fn has_interrupt(child: &Child, set: &str) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(set)).unwrap_or_default();
    let mask = line.split_whitespace().nth(1).and_then(|mask| u64::from_str_radix(mask, 16).ok());
    mask.is_some_and(|mask| mask >> 1 & 1 == 1)
}

/// Waits until a run has attached its programs and installed its signal handlers.
pub fn wait_for_handlers(child: &Child) {
    wait_for("the signal handlers", || has_interrupt(child, "SigCgt:"));
}

/// Waits until a condition holds, for at most five minutes, which is more than a slow machine needs.
#[track_caller]
pub fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..30_000 {
        if is_so() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("timed out waiting for {what}");
}
