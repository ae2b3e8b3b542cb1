//! What the server does when something runs out: connections, descriptors, disk space, a clock that can be trusted. With
//! EUNOMIA_ENDURANCE, there are more connections and tasks.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};

use crate::support::{package, run, wait_for};
use crate::survival::times;
use crate::{Marker, Server, counted, folder, needs_root, package_value};

/// A number in the status of a process, such as `VmHWM:`, its peak memory in KiB.
fn status(pid: u32, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// The memory of a process that no other process shares, in KiB.
fn own_memory(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("a process");
    let lines = text.lines().filter_map(|line| line.strip_prefix("Private_Dirty:"));
    lines.map(|line| line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number")).sum()
}

fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).expect("a process").count()
}

/// Allows this test process to open `count` files.
fn allow_files(count: u64) {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < count) {
        limit.current = Some(count);
        limit.maximum = limit.maximum.map(|most| most.max(count));
        setrlimit(Resource::Nofile, limit).expect("root may raise it");
    }
}

#[test]
fn many_connections_do_not_shut_root_out_or_take_memory() {
    needs_root!();
    let count = times(1000, 10_000);
    allow_files(2 * count + 1000);
    let server = Server::start(&["-p", "0", "--insecure-no-auth"]);
    let address = server.address.clone().expect("an address");
    server.ok(&["start", &package("bootstrap")]);
    let before = status(server.child.id(), "VmHWM:");
    // Each connection sends a part of a request and then nothing.
    let open = |_| {
        let mut stream = TcpStream::connect(&address).expect("a connection");
        // The server may have closed the connection already.
        let _ = stream.write_all(b"GET /task HTTP/1.1\r\nHost: loc");
        stream
    };
    let streams: Vec<TcpStream> = (0..count).map(open).collect();
    assert_eq!(server.ok(&["list"]), "1 bootstrap Running\n");
    // The open connections are those that one caller may have, and those that are being refused.
    let open = descriptors(server.child.id());
    assert!(open < 200, "{open} descriptors");
    let used = status(server.child.id(), "VmHWM:") - before;
    assert!(used < 8 << 10, "{used} KiB for {count} connections");
    drop(streams);
    wait_for("a request over TCP", || {
        let Ok(mut stream) = TcpStream::connect(&address) else { return false };
        let mut text = String::new();
        let _ = stream.write_all(format!("GET /task HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes());
        stream.read_to_string(&mut text).is_ok() && text.starts_with("HTTP/1.1 200 ")
    });
}

#[test]
fn a_server_without_descriptors_goes_on_when_there_are_some_again() {
    needs_root!();
    let mut server =
        Server::start_as(folder(), &["prlimit", "--nofile=96"], &["-p", "0", "--insecure-no-auth"]);
    let address = server.address.clone().expect("an address");
    server.ok(&["start", "-j", "-n", "one", &package("bootstrap")]);
    let streams: Vec<TcpStream> =
        (0..160).map(|_| TcpStream::connect(&address).expect("a connection")).collect();
    wait_for("the last descriptor", || descriptors(server.child.id()) >= 96);
    // The server waits between two attempts to accept a connection, and still reads events.
    let spent = || {
        let text = fs::read_to_string(format!("/proc/{}/schedstat", server.child.id())).expect("a process");
        text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).expect("a number")
    };
    let before = spent();
    std::thread::sleep(Duration::from_millis(500));
    let spent = spent() - before;
    assert!(spent < 250_000_000, "{spent} ns of processor time in half a second");
    Marker::new().run("marker-none-left");
    assert!(server.child.try_wait().expect("a child").is_none(), "{}", server.log());
    drop(streams);
    let has_marker = |text: String| text.contains("marker-none-left");
    wait_for("the event", || has_marker(server.client(&["log", "1"]).out));
    // Packages are started until no descriptor is left. The next one is refused, and leaves nothing behind.
    let mut refused = None;
    let mut started = Vec::new();
    for number in 0..96 {
        let ran = server.client(&["start", "-n", &format!("task-{number}"), &package("bootstrap")]);
        match ran.code {
            Some(0) => started.push(ran.out.trim().to_owned()),
            _ => {
                refused = Some(ran);
                break;
            }
        }
    }
    let refused = refused.expect("there are fewer descriptors than that");
    assert!(refused.err.contains("Too many open files"), "{}", refused.err);
    assert!(!started.is_empty(), "{}", refused.err);
    assert_eq!(server.ok(&["list"]).lines().count(), 1 + started.len(), "{}", server.log());
    assert_eq!(fs::read_dir(server.path("state/tasks")).expect("a folder").count(), 1 + started.len());
    for id in &started {
        server.ok(&["stop", id]);
    }
    server.ok(&["start", "-n", "again", &package("bootstrap")]);
}

/// A server whose state is in a file system of its own, which has this size in KiB.
fn on_small_disk(folder: tempfile::TempDir, size: u32) -> Server {
    let state = folder.path().join("state");
    fs::create_dir_all(&state).expect("a folder");
    let mount = format!("mount -t tmpfs -o size={size}k,mode=700 state {} && exec \"$@\"", state.display());
    Server::start_as(folder, &["unshare", "--mount", "sh", "-c", &mount, "sh"], &[])
}

/// Runs a command where the server sees its files.
fn inside(server: &Server, command: &[&str]) -> String {
    let pid = server.child.id().to_string();
    let ran =
        Command::new("nsenter").args(["--mount", "--target", &pid]).args(command).output().expect("nsenter");
    assert!(ran.status.success(), "{command:?}: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).expect("UTF-8")
}

fn remount(server: &Server, options: &str) {
    inside(
        server,
        &["mount", "-o", &format!("remount,{options}"), server.path("state").to_str().expect("UTF-8")],
    );
}

fn files(server: &Server, folder: &str) -> String {
    inside(server, &["ls", server.path(folder).to_str().expect("UTF-8")])
}

#[test]
fn a_full_disk_changes_nothing_that_runs() {
    needs_root!();
    let server = on_small_disk(folder(), 256);
    let packages = [counted(1), counted(2)];
    server.ok(&["start", "-j", "-n", "one", &packages[0]]);
    let fill = format!("dd if=/dev/zero of={}/fill bs=1k 2>/dev/null; true", server.path("state").display());
    inside(&server, &["sh", "-c", &fill]);
    let before = (files(&server, "state/tasks"), files(&server, "state/packages"));
    let body = json!({"package": package_value(&packages[1])});
    for (method, path) in [("POST", "/v1/tasks"), ("PUT", "/v1/tasks/1/package")] {
        let (code, error) = server.request(method, path, &body);
        assert_eq!((code, &error["status"]), (507, &json!("state")), "{method}: {error}");
        assert!(error["message"].as_str().unwrap().contains("No space left on device"), "{error}");
    }
    assert_eq!((files(&server, "state/tasks"), files(&server, "state/packages")), before);
    assert_eq!(server.ok(&["list"]), "1 one Running\n");
    Marker::new().run("marker-full");
    wait_for("an event of the old version", || {
        server.events("1").iter().any(|event| event["comm"] == "marker-full" && event["version"] == 1)
    });
    // A task can be stopped without space.
    server.ok(&["stop", "1"]);
    assert_eq!((files(&server, "state/tasks"), files(&server, "state/packages")), Default::default());
    inside(&server, &["rm", &format!("{}/fill", server.path("state").display())]);
    server.ok(&["start", "-j", "-n", "two", &packages[1]]);
}

#[test]
fn a_read_only_state_starts_nothing_and_stops_what_runs() {
    needs_root!();
    let server = on_small_disk(folder(), 1024);
    server.ok(&["start", "-n", "one", &package("bootstrap")]);
    remount(&server, "ro");
    // The next server runs the tasks of the state. It needs the mount namespace of the loader, in which the file system is mounted.
    let loader = server.loader();
    let inside = ["nsenter", "--mount", "--target", &loader.to_string()];
    let server = Server::start_as(server.kill(), &inside, &[]);
    assert_eq!((server.loader(), server.ok(&["list"]).as_str()), (loader, "1 one Running\n"));
    let (code, error) =
        server.request("POST", "/v1/tasks", &json!({"package": package_value(&package("hello"))}));
    assert_eq!((code, &error["status"]), (507, &json!("state")), "{error}");
    assert!(error["message"].as_str().unwrap().contains("Read-only file system"), "{error}");
    // The task is stopped nevertheless, because stopping it may be urgent. The response reports that the next server starts it again.
    let (code, error) = server.request("DELETE", "/v1/tasks/1", &Value::Null);
    assert_eq!((code, &error["status"]), (507, &json!("state")), "{error}");
    let message = error["message"].as_str().unwrap();
    assert!(
        message.starts_with("task 1 is stopped, but the next server starts it again, because "),
        "{message}"
    );
    assert_eq!(server.ok(&["list"]), "");
    remount(&server, "rw");
    server.ok(&["start", "-n", "one", &package("bootstrap")]);
}

#[test]
fn a_server_does_not_start_with_a_state_that_it_cannot_lock() {
    needs_root!();
    let folder = folder();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::create_dir(path("state")).unwrap();
    let mount = format!("mount -t tmpfs -o ro state {} && exec \"$@\"", path("state"));
    let ran = Command::new("unshare")
        .args(["--mount", "sh", "-c", &mount, "sh", env!("CARGO_BIN_EXE_ecli"), "server"])
        .args(["--socket", &path("socket"), "--state", &path("state")])
        .output()
        .unwrap();
    let text = String::from_utf8(ran.stderr).unwrap();
    assert_eq!((ran.status.code(), text.lines().count()), (Some(1), 1), "{text}");
    assert!(text.contains("state/tasks: Read-only file system"), "{text}");
}

/// Moves CLOCK_REALTIME of a process by the number of seconds in the file CLOCK_JUMP. The processes of a machine share that clock.
const JUMP: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *time)
{
    static int (*real)(clockid_t, struct timespec *);
    static int file = -1;
    char text[32] = "";
    int result;

    if (!real) {
        file = open(getenv("CLOCK_JUMP"), O_RDONLY | O_CLOEXEC);
        real = dlsym(RTLD_NEXT, "clock_gettime");
    }
    result = real(clock, time);
    if (clock == CLOCK_REALTIME && file >= 0 && pread(file, text, sizeof(text) - 1, 0) > 0)
        time->tv_sec += atoll(text);
    return result;
}
"#;

#[test]
fn a_clock_that_jumps_stops_nothing() {
    needs_root!();
    let folder = folder();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("jump.c"), JUMP).unwrap();
    fs::write(path("jump"), "0").unwrap();
    let (library, source, jump) = (path("jump.so"), path("jump.c"), path("jump"));
    let made =
        Command::new("cc").args(["-shared", "-fPIC", "-o", &library, &source, "-ldl"]).status().unwrap();
    assert!(made.success());
    let preload = [format!("LD_PRELOAD={library}"), format!("CLOCK_JUMP={jump}")];
    let server = Server::start_as(folder, &["env", &preload[0], &preload[1]], &[]);
    let path = counted(1);
    server.ok(&["start", "-j", "-n", "first", &path]);
    let year = 365 * 24 * 3600;
    for (number, seconds) in [0, 100 * year, -100 * year, -20 * year, 0].into_iter().enumerate() {
        fs::write(&jump, format!("{seconds:<31}")).unwrap();
        let marker = format!("marker-{number}");
        Marker::new().run(&marker);
        wait_for("an event", || server.events("1").iter().any(|event| event["comm"] == marker));
        let id = server.ok(&["start", "-n", &marker, &package("bootstrap")]);
        let created =
            server.request("GET", &format!("/v1/tasks/{}", id.trim()), &Value::Null).1["created"].clone();
        let created = created.as_u64().unwrap() as i64;
        let now =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
        // Times before 1970 are 1970.
        let expected = (now + seconds).max(0);
        assert!((created - expected).abs() < 60, "{created} after a jump of {seconds} s: {expected}");
        server.ok(&["pause", id.trim()]);
        server.ok(&["resume", id.trim()]);
        server.ok(&["stop", id.trim()]);
    }
    // The server records that the task is healthy after ten seconds on the clock that does not jump.
    let file = server.path("state/tasks/1.json");
    wait_for("health", || {
        let record: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        record["attaching"].is_null()
    });
}

#[test]
fn memory_and_descriptors_do_not_grow_with_the_number_of_tasks_started() {
    needs_root!();
    let server = Server::start(&[]);
    let processes = [server.child.id(), server.loader()];
    let body = json!({"name": "one", "package": package_value(&package("bootstrap"))});
    let rounds = |count: u64| {
        for _ in 0..count {
            let (code, task) = server.request("POST", "/v1/tasks", &body);
            assert_eq!(code, 201, "{task}");
            let path = format!("/v1/tasks/{}", task["id"]);
            assert_eq!(server.request("DELETE", &path, &Value::Null).0, 200);
        }
        processes.map(|pid| (own_memory(pid), descriptors(pid)))
    };
    // Each thread of the server that runs for the first time takes some memory, so it settles after a while. A connection may still
    // be open.
    let half = times(25, 500);
    let mut before = rounds(half);
    let settles = (0..4).any(|_| {
        let after = rounds(half);
        eprintln!("KiB and descriptors of server and loader after {half} tasks: {before:?}, then {after:?}");
        let mut pairs = before.iter().zip(&after);
        let settled = pairs.all(|(old, new)| new.0 < old.0 + 512 && new.1 <= old.1 + 8);
        before = after;
        settled
    });
    assert!(settles, "memory or descriptors grow with each {half} tasks: {before:?}");
    // The kernel frees programs and maps a moment later.
    assert_eq!(server.ok(&["list"]), "");
}

#[test]
fn the_next_version_takes_over_the_tasks() {
    needs_root!();
    let folder = folder();
    let own = fs::read(env!("CARGO_BIN_EXE_ecli")).unwrap();
    let [old, new] = ["0.1.0", "0.1.9"];
    assert_eq!(env!("CARGO_PKG_VERSION"), old, "change this test with the version");
    let program = folder.path().join("ecli");
    let path = program.to_str().unwrap().to_owned();
    install(&program, &own);
    let start = |folder| Server::start_with(folder, &path, &[], &[]);
    let server = start(folder);
    let packages = [counted(1), counted(2)];
    server.ok(&["start", "-j", "-n", "one", &packages[0]]);
    let loader = server.loader();
    // As a package manager does: the file is replaced, and the old one stays in use until its processes have ended.
    let mut next = own.clone();
    let at: Vec<usize> = (0..own.len() - 5).filter(|at| own[*at..].starts_with(old.as_bytes())).collect();
    at.iter().for_each(|at| next[*at..at + 5].copy_from_slice(new.as_bytes()));
    install(&program, &next);
    let server = start(server.kill());
    let about = server.request("GET", "/v1/version", &Value::Null).1;
    assert_eq!((&about["version"], &about["loader"]["version"]), (&json!(new), &json!(old)), "{about}");
    assert_eq!((server.loader(), server.ok(&["list"]).as_str()), (loader, "1 one Running\n"));
    server.ok(&["update", "1", &packages[1]]);
    Marker::new().run("marker");
    wait_for("an event", || {
        server.events("1").iter().any(|event| event["comm"] == "marker" && event["version"] == 2)
    });
    // The new version ends the old loader. Its own loader runs the same tasks.
    let folder = server.kill();
    let paths = ["socket", "state"].map(|name| folder.path().join(name).to_str().unwrap().to_owned());
    let ran = run(&["server", "--uninstall", "--socket", &paths[0], "--state", &paths[1]]);
    assert_eq!(ran.out, "everything is detached\n", "{}", ran.err);
    let server = start(folder);
    let about = server.request("GET", "/v1/version", &Value::Null).1;
    assert_eq!(
        (&about["loader"]["version"], server.ok(&["list"]).as_str()),
        (&json!(new), "1 one Running\n")
    );
}

/// Replaces a program as package managers do.
fn install(path: &Path, bytes: &[u8]) {
    let draft = path.with_extension("new");
    // Another process makes the copy: a child that another test starts at this moment could keep it open for writing, and then it
    // could not be executed.
    let mut writer = Command::new("sh")
        .args(["-c", "cat >\"$0\" && chmod 755 \"$0\""])
        .arg(&draft)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    writer.stdin.take().unwrap().write_all(bytes).unwrap();
    assert!(writer.wait().unwrap().success());
    fs::rename(draft, path).unwrap();
}
