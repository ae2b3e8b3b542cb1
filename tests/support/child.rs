//! Runs a test again in a process of its own: in other namespaces, with fewer privileges or descriptors. Both processes use
//! the same directory for files.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const FOLDER: &str = "EUNOMIA_TEST_FOLDER";

/// The directory of the test, if this is the child process.
pub fn folder() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(PathBuf::from)
}

/// Runs the test `module::name` again, and returns how it ended.
#[allow(dead_code, reason = "few tests let their child end otherwise")]
pub fn output(test: &str, folder: &Path) -> std::process::Output {
    let exe = std::env::current_exe().expect("a test knows where it is");
    let mut child = Command::new(exe);
    child.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(FOLDER, folder);
    child.output().expect("the child starts")
}

/// Starts the test `module::name` again, without its output. The caller ends it.
#[allow(dead_code, reason = "few tests end their child")]
pub fn start(test: &str, folder: &Path) -> std::process::Child {
    let exe = std::env::current_exe().expect("a test knows where it is");
    let mut child = Command::new(exe);
    child.args(["--exact", test, "--include-ignored", "--test-threads=1"]).env(FOLDER, folder);
    child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the child starts")
}

/// Runs the test `module::name` again through `wrapper`, a command that runs another.
pub fn run(test: &str, wrapper: &[&str], folder: &Path) {
    let exe = std::env::current_exe().expect("a test knows where it is");
    let own = [exe.to_str().expect("a path in UTF-8"), "--exact", test, "--nocapture", "--test-threads=1"];
    let line: Vec<&str> = wrapper.iter().chain(&own).copied().collect();
    let run = Command::new(line[0]).args(&line[1..]).env(FOLDER, folder).output().expect("the child starts");
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    let ran = out.contains("1 passed");
    assert!(run.status.success() && ran, "{test} in its own process: {}\n{out}\n{err}", run.status);
}
