//! `ecli server` and `ecli client`, with the real kernel.

#[path = "../support/mod.rs"]
mod support;

#[allow(dead_code, reason = "each test binary uses a part of it")]
#[path = "../../../../tests/support/cgroup.rs"]
mod cgroup;

#[path = "../../../../tests/support/probe.rs"]
mod probe;

mod access;
mod bad_input;
mod bounds;
mod budget;
mod causes;
mod former;
mod openapi;
mod packages;
mod policy;
mod restart;
mod service;
mod sinks;
mod survival;
mod tasks;
mod tls;
mod views;

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use causes::{Load, Marker, counted, counted_of};
use serde_json::Value;
use support::{Ran, Watchdog, wait_for};

/// The package of a file as a JSON value.
fn package_value(path: &str) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("a package")).expect("JSON")
}

/// A server with its own socket and state.
struct Server {
    child: Child,
    folder: tempfile::TempDir,
    /// The address, if it listens on one.
    address: Option<String>,
    _watchdog: Watchdog,
}

impl Server {
    fn start(options: &[&str]) -> Server {
        Server::start_in(folder(), options)
    }

    /// Starts a server with the state of an earlier one.
    fn start_in(folder: tempfile::TempDir, options: &[&str]) -> Server {
        Server::start_as(folder, &[], options)
    }

    /// Starts a server with these words before the command.
    fn start_as(folder: tempfile::TempDir, before: &[&str], options: &[&str]) -> Server {
        Server::start_with(folder, env!("CARGO_BIN_EXE_ecli"), before, options)
    }

    /// Starts a server with this program instead of the ecli of this build.
    fn start_with(folder: tempfile::TempDir, program: &str, before: &[&str], options: &[&str]) -> Server {
        let log = folder.path().join("log");
        let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
        let (socket, state) = (path("socket"), path("state"));
        let words = [before, &[program, "server", "--socket", &socket, "--state", &state], options].concat();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stderr(File::create(&log).expect("a log"));
        let mut child = command.spawn().expect("ecli starts");
        let text = || std::fs::read_to_string(&log).expect("a log");
        wait_for("the server", || {
            let ended = child.try_wait().expect("a child");
            assert!(ended.is_none(), "the server has ended: {}", text());
            text().contains("server: ready\n")
        });
        let address = text()
            .lines()
            .find_map(|line| Some(line.split_once("server: http")?.1.split_once("://")?.1.to_owned()));
        let watchdog = Watchdog::new(&child, program, Path::new(&socket), Path::new(&state));
        Server { child, folder, address, _watchdog: watchdog }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).expect("a log")
    }

    fn endpoint(&self) -> String {
        format!("unix:{}", self.path("socket").display())
    }

    /// Runs `ecli client`.
    fn client(&self, args: &[&str]) -> Ran {
        let endpoint = self.endpoint();
        support::run(&[&["client", "-e", &endpoint], args].concat())
    }

    /// Runs `ecli client`, which must succeed, and returns what it prints.
    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        let ran = self.client(args);
        assert_eq!(ran.code, Some(0), "{args:?}: {}", ran.err);
        ran.out
    }

    /// Sends a request over the unix socket.
    fn request(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let stream = UnixStream::connect(self.path("socket")).expect("the server listens");
        let body = if body.is_null() { String::new() } else { body.to_string() };
        exchange(stream, &message(method, path, "Content-Type: application/json\r\n", &body))
    }

    /// Sends a request over TCP, with headers.
    fn request_over_tcp(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, Value) {
        let stream = TcpStream::connect(self.address.as_ref().expect("an address")).expect("it listens");
        exchange(
            stream,
            &message(method, path, &format!("Content-Type: application/json\r\n{headers}"), body),
        )
    }

    /// The lines of a task that its log has now.
    fn events(&self, id: &str) -> Vec<Value> {
        let text = self.ok(&["log", id]);
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// Kills the server and returns its folder. The loader keeps running.
    fn kill(mut self) -> tempfile::TempDir {
        let _ = self.child.kill();
        let _ = self.child.wait();
        std::mem::replace(&mut self.folder, folder())
    }

    /// Kills the server and ends the loader, as a crash of the machine would. Returns the folder.
    fn crash(self) -> tempfile::TempDir {
        let folder = self.kill();
        end_loader(folder.path());
        folder
    }

    /// The process of the loader.
    fn loader(&self) -> u32 {
        let version = self.request("GET", "/v1/version", &Value::Null).1;
        version["loader"]["process"].as_u64().and_then(|pid| pid.try_into().ok()).expect("a loader")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        end_loader(self.folder.path());
    }
}

/// Ends the loader of a server that has ended, if there is one.
fn end_loader(folder: &std::path::Path) {
    let _ = eunomia_agent::loader::end(&folder.join("loader.sock"));
}

/// A policy in a file.
fn policy(text: &str) -> (tempfile::TempDir, String) {
    let folder = folder();
    let path = folder.path().join("policy.toml");
    std::fs::write(&path, text).expect("a policy");
    let path = path.to_str().expect("UTF-8").to_owned();
    (folder, path)
}

/// A folder that other users can enter.
fn folder() -> tempfile::TempDir {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    tempfile::Builder::new().permissions(mode).tempdir().expect("a folder")
}

fn message(method: &str, path: &str, headers: &str, body: &str) -> String {
    let len = body.len();
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {len}\r\n\r\n{body}")
}

/// Sends a request and reads the response. A stream is returned as a string.
fn exchange(mut stream: impl Read + Write, request: &str) -> (u16, Value) {
    stream.write_all(request.as_bytes()).expect("the request is sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("a response");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no response: {text:?}"));
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    let body = match head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        true => Value::from(without_chunks(body)),
        false => serde_json::from_str(body).unwrap_or_else(|_| Value::from(body)),
    };
    (code, body)
}

/// The content of a chunked body.
fn without_chunks(mut body: &str) -> String {
    let mut content = String::new();
    loop {
        let (len, rest) = body.split_once("\r\n").expect("the length of a chunk");
        let len = usize::from_str_radix(len, 16).expect("a number in hexadecimal digits");
        if len == 0 {
            return content;
        }
        content += &rest[..len];
        body = &rest[len + 2..];
    }
}
