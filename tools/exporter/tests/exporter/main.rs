//! The exporter with the real kernel: a package counts calls of prctl, with numbers and names that the tests choose.

mod examples;
mod import;
mod kernel;
mod load;
mod otlp;
mod packages;
mod prometheus;
mod reload;
mod web;

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

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

/// The package, compiled once.
fn package() -> PathBuf {
    static COMPILED: OnceLock<Mutex<Option<PathBuf>>> = OnceLock::new();
    let mut compiled = COMPILED.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    compiled.get_or_insert_with(compile).clone()
}

fn compile() -> PathBuf {
    compiled("calls.bpf.c", "").join("package.json")
}

/// Compiles a program of these tests. Returns the folder with the package and the object.
fn compiled(source: &str, name: &str) -> PathBuf {
    let ecc = built("ecc");
    let folder = ecc.with_file_name("exporter-test").join(name);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/exporter").join(source);
    let compiled = Command::new(ecc).arg(source).arg("-o").arg(&folder).output().expect("ecc runs");
    assert!(compiled.status.success(), "ecc: {}", String::from_utf8_lossy(&compiled.stderr));
    folder
}

/// A program of the workspace.
fn built(name: &str) -> PathBuf {
    let exe = std::env::current_exe().expect("a test knows where it is");
    let program = exe.ancestors().nth(2).expect("tests are in target/PROFILE/deps").join(name);
    assert!(program.exists(), "{} is missing: run `cargo build --workspace` first", program.display());
    program
}

/// Options of prctl that no kernel has, one for each test.
fn option() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0x7e00_0000);
    NEXT.fetch_add(1, Relaxed) ^ std::process::id() << 8
}

/// A program of a configuration, with these metrics.
fn program(option: u32, metrics: &str) -> String {
    let package = package();
    format!(
        "programs:\n- name: calls\n  compiled_ebpf_filename: {}\n  variables: {{option: {option}}}\n  metrics:\n{metrics}",
        package.display()
    )
}

/// Calls prctl with these numbers and names.
fn call(option: u32, calls: &[(u64, &[u8])]) {
    let mut script = String::from("import ctypes, sys\nprctl = ctypes.CDLL(None).prctl\n");
    script += "for line in sys.stdin.read().split():\n";
    script += "    value, name = line.split(':')\n";
    script += &format!(
        "    prctl(ctypes.c_int({}), ctypes.c_ulong(int(value)), ctypes.c_char_p(bytes.fromhex(name)), 0, 0)\n",
        option as i32
    );
    let mut command = Command::new("python3");
    let mut child = command.args(["-c", &script]).stdin(Stdio::piped()).spawn().expect("python3 starts");
    let hex = |name: &[u8]| name.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let lines: String = calls.iter().map(|(value, name)| format!("{value}:{}\n", hex(name))).collect();
    child.stdin.take().expect("a pipe").write_all(lines.as_bytes()).expect("python3 reads");
    assert!(child.wait().expect("a child").success());
}

/// An exporter that runs.
struct Exporter {
    child: Child,
    folder: tempfile::TempDir,
    /// Its address.
    address: String,
}

impl Exporter {
    fn start(config: &str) -> Exporter {
        Exporter::start_with(config, &[])
    }

    fn start_with(config: &str, options: &[&str]) -> Exporter {
        let folder = folder();
        std::fs::write(folder.path().join("config.yaml"), config).expect("a file");
        Exporter::run(folder, |command| command.args(options))
    }

    /// Runs an exporter with the configuration in `folder`.
    fn run(folder: tempfile::TempDir, change: impl FnOnce(&mut Command) -> &mut Command) -> Exporter {
        let log = File::create(folder.path().join("log")).expect("a log");
        let mut command = exporter(folder.path());
        let mut child = change(&mut command).stderr(log).spawn().expect("the exporter starts");
        let text = || std::fs::read_to_string(folder.path().join("log")).expect("a log");
        wait_for("the exporter", || {
            assert!(child.try_wait().expect("a child").is_none(), "the exporter has ended: {}", text());
            text().contains("Listening on ")
        });
        let text = text();
        let address = text.split_once("Listening on http").expect("an address").1;
        let address =
            address.split_once("://").expect("an address").1.lines().next().expect("an address").to_owned();
        Exporter { child, folder, address }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).expect("a log")
    }

    /// Sends a request; the status and the body of the response.
    fn request(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        let len = body.len();
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {len}\r\n\r\n");
        stream.write_all((head + body).as_bytes()).expect("it reads");
        let mut response = String::new();
        stream.read_to_string(&mut response).expect("it responds");
        let (head, body) = response.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        (status, body.to_owned())
    }

    fn metrics(&self) -> String {
        loop {
            let (status, body) = self.request("GET", "/metrics", "", "");
            match status {
                200 => return body,
                // Too many requests per second.
                429 => std::thread::sleep(Duration::from_millis(100)),
                other => panic!("{other}: {body}"),
            }
        }
    }

    fn open_metrics(&self) -> String {
        self.request("GET", "/metrics", "Accept: application/openmetrics-text; version=1.0.0\r\n", "").1
    }

    /// The metrics, once as many events have been counted as `expected`.
    #[track_caller]
    fn metrics_after(&self, expected: u64) -> String {
        for _ in 0..600 {
            let text = self.metrics();
            let counted = value(&text, "eunomia_events_total{program=\"calls\",outcome=\"counted\"}");
            if counted == Some(expected as f64) {
                return text;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("{expected} events were not counted:\n{}", self.metrics());
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        // After the end of the child, another process can have its number.
        if let Ok(None) = self.child.try_wait() {
            let child = rustix::process::Pid::from_child(&self.child);
            let _ = rustix::process::kill_process(child, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}

/// An exporter with the configuration in `folder`.
fn exporter(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eunomia-exporter"));
    command.arg("--config").arg(folder.join("config.yaml")).args(["--listen", "127.0.0.1:0", "--loader"]);
    command.arg(folder.join("loader.sock")).stdin(Stdio::null());
    command
}

/// The error of an exporter that cannot start.
fn refused(config: &str) -> String {
    let folder = folder();
    std::fs::write(folder.path().join("config.yaml"), config).expect("a file");
    let output = exporter(folder.path()).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    text
}

/// A folder that other users can enter.
fn folder() -> tempfile::TempDir {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    tempfile::Builder::new().permissions(mode).tempdir().expect("a folder")
}

/// The value of a series.
fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

/// Waits until a condition holds, for at most a minute, which is more than a slow machine needs.
#[track_caller]
fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("timed out waiting for {what}");
}
