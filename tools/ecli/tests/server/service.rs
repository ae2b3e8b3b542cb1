//! The server under a service manager: its socket, its messages, its units.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::support::{ecli, package};
use crate::{exchange, folder, message, needs_root};

/// Starts a server as a service manager does, and waits until it reports that it is ready.
fn start(folder: &Path, listener: &UnixListener, messages: &UnixDatagram) -> Child {
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let mut command = ecli(&["server", "--state", &path("state"), "--loader", &path("loader.sock")]);
    command.env("NOTIFY_SOCKET", path("notify")).stderr(Stdio::null());
    command.stdin(OwnedFd::from(listener.try_clone().unwrap()));
    let child = command.spawn().unwrap();
    let mut buffer = [0; 64];
    let len = messages.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..len], b"READY=1");
    child
}

#[test]
fn a_service_manager_passes_the_socket_and_is_told_when_the_server_is_ready() {
    needs_root!();
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    let listener = UnixListener::bind(path("socket")).unwrap();
    let messages = UnixDatagram::bind(path("notify")).unwrap();
    messages.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let request = |method: &str, target: &str, body: &str| {
        let stream = UnixStream::connect(path("socket")).unwrap();
        exchange(stream, &message(method, target, "Content-Type: application/json\r\n", body))
    };
    let mut server = start(folder.path(), &listener, &messages);
    let body = json!({"package": crate::package_value(&package("bootstrap"))}).to_string();
    assert_eq!(request("POST", "/v1/tasks", &body).0, 201);
    server.kill().unwrap();
    server.wait().unwrap();
    // A request that arrives while there is no server waits for the next server.
    let waiting = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| request("GET", "/v1/tasks/1", ""));
        server = start(folder.path(), &listener, &messages);
        waiting.join().unwrap()
    });
    assert_eq!((waiting.0, &waiting.1["status"]), (200, &json!("running")));
    assert_eq!(request("DELETE", "/v1/tasks/1", "").0, 200);
    let pid = rustix::process::Pid::from_child(&server);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let mut buffer = [0; 64];
    let len = messages.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..len], b"STOPPING=1");
    assert_eq!(server.wait().unwrap().code(), Some(0));
}

/// Copies the units, with a program that exists.
fn units() -> (tempfile::TempDir, Vec<PathBuf>) {
    let (folder, mut paths) = (folder(), Vec::new());
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../agent/systemd");
    for entry in fs::read_dir(sources).unwrap() {
        let source = entry.unwrap().path();
        if !source.extension().is_some_and(|kind| kind == "service" || kind == "socket") {
            continue;
        }
        let path = folder.path().join(source.file_name().unwrap());
        let text = fs::read_to_string(source).unwrap();
        fs::write(&path, text.replace("@PREFIX@/bin/ecli", "/bin/true")).unwrap();
        paths.push(path);
    }
    (folder, paths)
}

#[test]
fn systemd_accepts_the_units() {
    let (_folder, paths) = units();
    assert_eq!(paths.len(), 4);
    let mut verify = Command::new("systemd-analyze");
    let Ok(output) = verify.args(["verify", "--man=no"]).args(&paths).output() else {
        assert!(std::env::var_os("CI").is_none(), "this test needs systemd-analyze, and CI must not skip it");
        return eprintln!("SKIPPED: there is no systemd-analyze");
    };
    let problems = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && problems.is_empty(), "{problems}");
    for service in paths.iter().filter(|path| path.extension().is_some_and(|kind| kind == "service")) {
        let mut rate = Command::new("systemd-analyze");
        // An exposure of 10 means no protection; most services of a fresh system have more than 9.
        let output =
            rate.args(["security", "--offline=true", "--threshold=30"]).arg(service).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn the_units_run_under_systemd() {
    needs_root!();
    if !Path::new("/lib/systemd/systemd").exists() {
        assert!(std::env::var_os("CI").is_none(), "this test needs systemd, and CI must not skip it");
        return eprintln!("SKIPPED: there is no systemd");
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../agent/systemd/test.sh");
    let output =
        Command::new(script).args([env!("CARGO_BIN_EXE_ecli"), &package("bootstrap")]).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
}
