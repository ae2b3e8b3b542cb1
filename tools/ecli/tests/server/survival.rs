//! Programs stay attached when the server ends, and no event is lost. With EUNOMIA_ENDURANCE, processes are killed many more times.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::{self, package, run, wait_for};
use crate::{Load, Marker, Server, counted, counted_of, end_loader, needs_root, package_value};

pub fn kill(pid: u32) {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a process")).expect("a process");
    kill_process(pid, Signal::KILL).expect("it runs");
}

/// The links of a process, by their numbers: what it keeps attached. A process that has ended keeps nothing.
pub fn links(pid: u32) -> Vec<u32> {
    let files = fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten();
    let texts = files.flatten().filter_map(|file| fs::read_to_string(file.path()).ok());
    let number =
        |text: String| text.lines().find_map(|line| line.strip_prefix("link_id:")?.trim().parse().ok());
    let mut links: Vec<u32> = texts.filter_map(number).collect();
    links.sort_unstable();
    links.dedup();
    links
}

/// Returns the number that `Load` has given to an event.
type Number = fn(&Value) -> Option<u64>;

/// All events of a task, over any number of servers.
#[derive(Default)]
struct Events {
    cursor: String,
    lines: Vec<Value>,
}

impl Events {
    fn read(&mut self, server: &Server) {
        let since = if self.cursor.is_empty() { String::new() } else { format!("&since={}", self.cursor) };
        let path = format!("/v1/tasks/1/events?follow=false{since}");
        let text = server.request("GET", &path, &Value::Null).1;
        for line in text.as_str().into_iter().flat_map(str::lines) {
            let line: Value = serde_json::from_str(line).expect("JSON");
            self.cursor = line["cursor"].as_str().expect("a cursor").to_owned();
            self.lines.push(line);
        }
    }

    /// Reads the new events, lets `load` cause more, and returns how many numbers there are.
    fn follow(&mut self, server: &Server, load: &Load, number: Number) -> u64 {
        self.read(server);
        let last = self.lines.iter().rev().find_map(|line| number(&line["event"]));
        let count = last.map_or(0, |last| last + 1);
        load.has_read(count);
        count
    }

    /// Stops `load`, waits for the last event, and checks that no number is missing, and that at most one for each kill occurs twice.
    fn check(&mut self, server: &Server, load: Load, number: Number) {
        let end = load.stop();
        wait_for("the last event", || {
            self.read(server);
            self.lines.iter().rev().any(|line| number(&line["event"]) == Some(end - 1))
        });
        let counts = self.numbers(number);
        let missing: Vec<u64> = (0..end).filter(|number| !counts.contains_key(number)).collect();
        assert!(missing.is_empty() && counts.len() as u64 == end, "of {end} are missing: {missing:?}");
        let repeated: u64 = counts.values().map(|count| count - 1).sum();
        assert!(repeated <= kills(), "{repeated} events are repeated after {} kills", kills());
        eprintln!("{end} events, {repeated} repeated, none lost, {} kills", kills());
    }

    /// Counts each number that `number` finds in the events. No line may report lost events.
    fn numbers(&self, number: Number) -> BTreeMap<u64, u64> {
        let mut counts = BTreeMap::new();
        for line in &self.lines {
            assert!(line.get("lost").is_none(), "{line}");
            if let Some(number) = number(&line["event"]) {
                *counts.entry(number).or_default() += 1;
            }
        }
        counts
    }
}

/// The number of repeats: few in the gate, all of them with EUNOMIA_ENDURANCE.
pub fn times(gate: u64, endurance: u64) -> u64 {
    if std::env::var_os("EUNOMIA_ENDURANCE").is_some() { endurance } else { gate }
}

/// The number of kills while events are read.
fn kills() -> u64 {
    times(2, 50)
}

/// The number in an event of the package that counts.
fn counter(event: &Value) -> Option<u64> {
    event["number"].as_u64()
}

#[test]
fn no_event_of_a_ring_buffer_is_lost_when_the_server_is_killed() {
    needs_root!();
    let mut server = Server::start(&[]);
    server.ok(&["start", "-j", &counted_of(1, "load-ring")]);
    let loader = server.loader();
    let before = links(loader);
    assert_eq!(before.len(), 1);
    let load = Load::start("load-ring");
    let mut events = Events::default();
    for _ in 0..kills() {
        let before_kill = events.follow(&server, &load, counter);
        wait_for("events", || events.follow(&server, &load, counter) > before_kill + 20);
        server = Server::start_in(server.kill(), &[]);
        assert_eq!((server.loader(), links(loader)), (loader, before.clone()), "nothing was detached");
    }
    events.check(&server, load, counter);
}

#[test]
fn no_event_of_a_perf_buffer_is_lost_when_the_server_is_killed() {
    needs_root!();
    let mut server = Server::start(&[]);
    server.ok(&["start", "-j", &package("opensnoop"), "--pid", &std::process::id().to_string(), "--failed"]);
    let loader = server.loader();
    let load = Load::of(200, |number| {
        assert!(File::open(format!("/nonexistent/{number}")).is_err(), "it does not exist")
    });
    let number: Number = |event| event["fname"].as_str()?.strip_prefix("/nonexistent/")?.parse().ok();
    let mut events = Events::default();
    for _ in 0..kills() {
        let before = events.follow(&server, &load, number);
        wait_for("events", || events.follow(&server, &load, number) > before + 20);
        server = Server::start_in(server.kill(), &[]);
        assert_eq!(
            server.loader(),
            loader,
            "the buffers are written only while their opener has them mapped"
        );
    }
    events.check(&server, load, number);
}

#[test]
fn no_event_is_lost_when_the_server_is_killed_while_a_version_is_replaced() {
    needs_root!();
    let mut server = Server::start(&[]);
    let packages = [1, 2].map(|version| counted_of(version, "load-replace"));
    server.ok(&["start", "-j", &packages[0]]);
    let loader = server.loader();
    let load = Load::start("load-replace");
    let mut events = Events::default();
    for _ in 0..kills() {
        let (endpoint, packages) = (server.endpoint(), packages.clone());
        let (count, is_over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (done, ends) = (Arc::clone(&count), Arc::clone(&is_over));
        let updates = std::thread::spawn(move || {
            // An update fails when the server is killed. The next one could reach the next server.
            let update = |path: &&String| {
                !ends.load(Relaxed) && run(&["client", "-e", &endpoint, "update", "1", path]).code == Some(0)
            };
            packages.iter().rev().cycle().take_while(update).for_each(|_| {
                done.fetch_add(1, Relaxed);
            });
        });
        wait_for("both updates", || {
            events.follow(&server, &load, counter);
            count.load(Relaxed) >= 2
        });
        is_over.store(true, Relaxed);
        server = Server::start_in(server.kill(), &[]);
        assert_eq!(server.loader(), loader);
        updates.join().unwrap();
        eprintln!("{} updates", count.load(Relaxed));
    }
    events.check(&server, load, counter);
}

/// The pins of a task: the directories of its versions.
fn pins(server: &Server, task: &str) -> Vec<std::path::PathBuf> {
    let socket = fs::canonicalize(server.path("loader.sock")).expect("the socket of the loader");
    let loader = support::sha256(socket.as_os_str().as_encoded_bytes());
    let folder = Path::new("/sys/fs/bpf/eunomia").join(&loader[..16]).join(task);
    fs::read_dir(folder).into_iter().flatten().map(|entry| entry.expect("an entry").path()).collect()
}

/// Kills the loader, and waits until the next one runs the tasks.
fn kill_loader(server: &Server) {
    const REPORT: &str = "server: there is another loader, which runs the tasks again\n";
    let count = || server.log().matches(REPORT).count();
    let (loader, before) = (server.loader(), count());
    kill(loader);
    wait_for("the report", || count() > before);
    assert_ne!(server.loader(), loader);
}

/// A package on the USDT probe of this executable.
fn usdt() -> (tempfile::TempDir, String) {
    crate::probe::beat(0);
    let own = std::env::current_exe().expect("a test knows where it is");
    let folder = support::compile(&format!(
        r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/usdt.bpf.h>
char LICENSE[] SEC("license") = "GPL";
struct event {{ unsigned int pid; }};
struct {{ __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); }} events SEC(".maps");
SEC("usdt/{}:eunomia:beat")
int BPF_USDT(on_beat)
{{
    struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
    if (!event)
        return 0;
    event->pid = bpf_get_current_pid_tgid() >> 32;
    bpf_ringbuf_submit(event, 0);
    return 0;
}}
"#,
        own.display()
    ));
    let path = folder.path().join("package.json").to_str().expect("UTF-8").to_owned();
    (folder, path)
}

#[test]
fn a_killed_loader_is_followed_by_one_that_takes_its_programs_over() {
    needs_root!();
    let mut server = Server::start(&[]);
    let packages = [1, 2].map(|version| counted_of(version, "load-pins"));
    server.ok(&["start", "-j", "-n", "one", &packages[0], "--extra", "3"]);
    let load = Load::start("load-pins");
    let mut events = Events::default();
    for round in 0..kills() {
        if round == 1 {
            server.ok(&["update", "1", &packages[1]]);
        }
        let (before, kept) = (pins(&server, "1"), links(server.loader()));
        assert_eq!((before.len(), kept.len()), (1, 1));
        kill_loader(&server);
        wait_for("the links", || links(server.loader()) == kept);
        assert_eq!(pins(&server, "1"), before, "nothing was attached again");
        let count = events.follow(&server, &load, counter);
        wait_for("events", || events.follow(&server, &load, counter) > count + 20);
    }
    events.check(&server, load, counter);
    assert!(events.lines.iter().all(|line| line["event"]["extra"] == 3), "with the arguments of the start");
    assert!(events.lines.iter().any(|line| line["event"]["version"] == 2));
    // What was taken over can be paused and updated.
    let read = events.lines.len();
    server.ok(&["pause", "1"]);
    assert_eq!(pins(&server, "1").len(), 1, "it is suspended");
    Marker::new().run("load-pins");
    server.ok(&["resume", "1"]);
    server.ok(&["update", "1", &packages[0]]);
    Marker::new().run("load-pins");
    wait_for("an event", || {
        events.read(&server);
        events.lines.len() > read
    });
    let new = &events.lines[read..];
    assert!(new.len() == 1 && new[0]["event"]["version"] == 1, "{new:?}");
    server.ok(&["stop", "1"]);
    assert_eq!(pins(&server, "1").len(), 0);
    support::signal(&server.child, Signal::INT);
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}

#[test]
fn what_cannot_be_pinned_is_loaded_again_after_the_end_of_the_loader() {
    needs_root!();
    let server = Server::start(&[]);
    let (_folder, path) = usdt();
    server.ok(&["start", "-j", "-n", "usdt", &path]);
    let pid = std::process::id().to_string();
    server.ok(&["start", "-j", "-n", "perf", &package("opensnoop"), "--pid", &pid, "--failed"]);
    let path = counted(1);
    server.ok(&["start", "-j", "-n", "detached", "--on-agent-death", "detach", &path]);
    server.ok(&["start", "-j", "-n", "paused", &path]);
    server.ok(&["pause", "4"]);
    assert_eq!(["1", "2", "3", "4"].map(|task| pins(&server, task).len()), [0, 1, 0, 0]);
    let why = "loader: if the loader is killed, this task is detached and loaded again: ";
    assert!(server.log().contains(why) && server.log().contains("on_beat"), "{}", server.log());
    let has = |task: &str, is: &dyn Fn(&Value) -> bool| {
        let path = format!("/v1/tasks/{task}/events?follow=false");
        let text = server.request("GET", &path, &Value::Null).1;
        let mut lines = text.as_str().unwrap_or_default().lines();
        lines.any(|line| is(&serde_json::from_str(line).expect("JSON")))
    };
    let open = |name: &str| assert!(File::open(format!("/nonexistent/{name}")).is_err());
    open("before");
    wait_for("an event", || has("2", &|line| line["event"]["fname"] == "/nonexistent/before"));
    Marker::new().run("marker");
    wait_for("an event", || has("3", &|line| line["event"]["comm"] == "marker"));
    let kept = pins(&server, "2");
    kill_loader(&server);
    // The number of events that were lost is not known.
    let is_gap = |line: &Value| line["by"] == "loader" && line["lost"].is_null();
    wait_for("both tasks", || has("2", &is_gap) && has("3", &is_gap));
    assert_eq!(pins(&server, "2"), kept);
    open("after");
    wait_for("an event", || has("2", &|line| line["event"]["fname"] == "/nonexistent/after"));
    let tasks = "1 usdt Running\n2 perf Running\n3 detached Running\n4 paused Paused\n";
    assert_eq!(server.ok(&["list"]), tasks);
}

#[test]
fn a_terminated_loader_leaves_nothing_and_uninstall_removes_pins() {
    needs_root!();
    let server = Server::start(&[]);
    let path = counted(1);
    server.ok(&["start", "-j", &path]);
    assert_eq!(pins(&server, "1").len(), 1);
    let (loader, folder) = (server.loader(), server.kill());
    let process = Pid::from_raw(i32::try_from(loader).expect("a process")).expect("a process");
    kill_process(process, Signal::TERM).expect("it runs");
    wait_for("the end of the loader", || !Path::new(&format!("/proc/{loader}/exe")).exists());
    let server = Server::start_in(folder, &[]);
    assert_eq!(server.ok(&["list"]), "1 test Running\n");
    let pinned = pins(&server, "1");
    let loader = server.loader();
    let keeper = parent(loader);
    let folder = server.kill();
    kill(keeper);
    kill(loader);
    wait_for("the end of the loader", || !Path::new(&format!("/proc/{loader}/exe")).exists());
    assert!(pinned.len() == 1 && pinned[0].exists(), "nobody has removed the pins");
    let paths = ["socket", "state"].map(|name| folder.path().join(name).to_str().unwrap().to_owned());
    let uninstall = || run(&["server", "--uninstall", "--socket", &paths[0], "--state", &paths[1]]);
    assert_eq!(uninstall().out, "everything is detached\n");
    assert!(!pinned[0].exists());
    assert_eq!(uninstall().out, "nothing is attached\n");
}

/// The parent of a process.
fn parent(pid: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok()).expect("a parent")
}

/// Not a test of its own: the next test runs this one in another process, and kills that process.
#[test]
#[ignore = "it waits for its end"]
fn part_that_is_killed() {
    let server = Server::start(&[]);
    server.ok(&["start", &package("bootstrap")]);
    println!("loader {}", server.loader());
    std::thread::sleep(Duration::from_secs(3600));
}

#[test]
fn a_killed_test_leaves_nothing_running_and_a_loader_gets_no_foreign_descriptors() {
    needs_root!();
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    let (foreign, _writer) = std::io::pipe().unwrap();
    let foreign_name =
        fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&foreign))).unwrap();
    // A shell passes the pipe on as descriptor 7.
    let mut test = Command::new("sh");
    test.args(["-c", "exec 7<&0 \"$@\" </dev/null", "sh"]).arg(std::env::current_exe().unwrap());
    test.args(["survival::part_that_is_killed", "--exact", "--ignored", "--nocapture"]);
    let mut test = support::Process(test.stdin(foreign).stdout(Stdio::piped()).spawn().unwrap());
    let lines = BufReader::new(test.stdout.take().unwrap()).lines().map_while(Result::ok);
    let loader: u32 =
        lines.filter_map(|line| line.strip_prefix("loader ")?.parse().ok()).next().expect("a loader");
    let keeper = parent(loader);
    let has_foreign = |pid: u32| {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
        files.filter_map(|file| fs::read_link(file.path()).ok()).any(|name| name == foreign_name)
    };
    assert!(has_foreign(test.id()) && !has_foreign(keeper) && !has_foreign(loader));
    test.kill().unwrap();
    test.wait().unwrap();
    let is_gone = |pid: u32| !Path::new(&format!("/proc/{pid}/exe")).exists();
    wait_for("the end of the loader", || is_gone(loader) && is_gone(keeper));
}

#[test]
fn a_killed_server_and_loader_are_followed_by_others_that_run_the_same() {
    needs_root!();
    let server = Server::start(&[]);
    let path = counted(1);
    server.ok(&["start", "-j", &path]);
    let mut events = Events::default();
    Marker::new().run("marker");
    wait_for("events", || {
        events.read(&server);
        !events.lines.is_empty()
    });
    // In this order: another loader would get the log of a server that still runs.
    let (loader, folder) = (server.loader(), server.kill());
    kill(loader);
    let server = Server::start_in(folder, &[]);
    assert_eq!((server.ok(&["list"]).as_str(), links(server.loader()).len()), ("1 test Running\n", 1));
    let (read, cursor) = (events.lines.len(), events.cursor.clone());
    events.read(&server);
    let first = &events.lines[read];
    assert!(first["lost"].is_null() && first["by"] == "server", "{first} after {cursor}");
}

#[test]
fn state_and_kernel_agree_after_kills_at_random_moments() {
    needs_root!();
    let mut server = Server::start(&[]);
    let values = [1, 2].map(|version| package_value(&counted_of(version, "load-state")));
    let load = Load::start("load-state");
    load.has_read(u64::MAX);
    // A seed that differs between runs, and is printed.
    let mut random = u64::from(std::process::id());
    eprintln!("seed {random}");
    let mut next = |limit: u64| {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (random >> 33) % limit
    };
    for round in 0..times(6, 200) {
        let victim = next(4);
        let socket = server.path("socket");
        let changes = std::thread::spawn({
            let values = values.clone();
            move || change_until_it_fails(&socket, &values)
        });
        std::thread::sleep(Duration::from_millis(next(150)));
        if victim == 0 {
            kill(server.loader());
        }
        if victim != 1 {
            server = Server::start_in(server.kill(), &[]);
        } else {
            kill(server.loader());
            std::thread::sleep(Duration::from_millis(next(50)));
            server = Server::start_in(server.kill(), &[]);
        }
        changes.join().unwrap();
        check_state(&server, round);
    }
}

/// Starts, updates, pauses and stops tasks until a request fails, because the server was killed.
fn change_until_it_fails(socket: &Path, packages: &[Value; 2]) {
    let send = |method: &str, path: &str, body: &Value| {
        use std::io::{Read, Write};
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = crate::message(method, path, "Content-Type: application/json\r\n", &body);
        let mut stream = UnixStream::connect(socket).ok()?;
        stream.write_all(request.as_bytes()).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let body = text.split_once("\r\n\r\n")?.1;
        serde_json::from_str::<Value>(body).ok()
    };
    let round = |number: usize| {
        let body = json!({"name": format!("task-{}", number % 3), "package": packages[0]});
        let started = send("POST", "/v1/tasks", &body)?;
        let Some(id) = started["id"].as_u64() else { return Some(()) };
        send("PUT", &format!("/v1/tasks/{id}/package"), &json!({"package": packages[1]}))?;
        send("POST", &format!("/v1/tasks/{id}/pause"), &Value::Null)?;
        send("POST", &format!("/v1/tasks/{id}/resume"), &Value::Null)?;
        if number % 2 == 0 {
            send("DELETE", &format!("/v1/tasks/{id}"), &Value::Null)?;
        }
        Some(())
    };
    let _ = (0..).try_for_each(round);
}

/// Checks that the tasks of the server, the files of the state and the links of the loader agree.
#[track_caller]
fn check_state(server: &Server, round: u64) {
    let tasks = server.request("GET", "/v1/tasks", &Value::Null).1;
    let tasks = tasks["tasks"].as_array().expect("tasks");
    let names = |folder: &str, end: &str| {
        let files = fs::read_dir(server.path(folder)).expect("a folder").flatten();
        let names = files
            .filter_map(|file| file.file_name().into_string().ok()?.strip_suffix(end).map(str::to_owned));
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    };
    let sorted = |member: &str| {
        let text = |task: &Value| {
            task[member].to_string().trim_matches('"').trim_start_matches("sha256:").to_owned()
        };
        let mut all: Vec<String> = tasks.iter().map(text).collect();
        all.sort();
        all
    };
    assert_eq!(sorted("id"), names("state/tasks", ".json"), "round {round}: {}", server.log());
    let mut digests = sorted("digest");
    digests.dedup();
    assert_eq!(digests, names("state/packages", ""), "round {round}: {}", server.log());
    let failed: Vec<_> = tasks.iter().filter(|task| task["status"] == "failed").collect();
    assert!(failed.is_empty(), "round {round}: {failed:?}");
    let running = tasks.iter().filter(|task| task["status"] == "running").count();
    assert_eq!(links(server.loader()).len(), running, "round {round}: {}", server.log());
}

#[test]
fn programs_go_on_after_sigterm_and_end_with_sigint_or_uninstall() {
    needs_root!();
    let mut server = Server::start(&[]);
    let path = counted(1);
    server.ok(&["start", "-j", &path]);
    let loader = server.loader();
    let before = links(loader);
    let (socket, state) = (server.path("socket"), server.path("state"));
    let uninstall = || {
        let paths = [&socket, &state].map(|path| path.to_str().unwrap());
        run(&["server", "--uninstall", "--socket", paths[0], "--state", paths[1]])
    };
    let ran = uninstall();
    assert!(ran.code == Some(1) && ran.err.contains("another server uses this directory"), "{}", ran.err);
    support::signal(&server.child, Signal::TERM);
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    assert_eq!(links(loader), before, "it stays attached");
    server = Server::start_in(server.kill(), &[]);
    assert_eq!((server.loader(), links(loader)), (loader, before));
    support::signal(&server.child, Signal::INT);
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    wait_for("the end of the loader", || links(loader).is_empty());
    assert_eq!(uninstall().out, "nothing is attached\n");
    server = Server::start_in(server.kill(), &[]);
    assert_eq!(server.ok(&["list"]), "1 test Running\n", "the task is still wanted");
    let loader = server.loader();
    support::signal(&server.child, Signal::TERM);
    server.child.wait().unwrap();
    let paths = [server.path("socket"), server.path("state")];
    let paths = paths.each_ref().map(|path| path.to_str().unwrap());
    let ran = run(&["server", "--uninstall", "--socket", paths[0], "--state", paths[1]]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "everything is detached\n"), "{}", ran.err);
    wait_for("the end of the loader", || !Path::new(&format!("/proc/{loader}/exe")).exists());
}

#[test]
fn a_task_is_detached_without_a_server_if_it_should_be() {
    needs_root!();
    let server = Server::start(&["--detach-after", "0"]);
    let packages = [counted(1), counted(2)];
    server.ok(&["start", "-j", "-n", "default", &packages[0]]);
    server.ok(&["start", "-j", "-n", "keep", "--on-agent-death", "keep", &packages[0]]);
    server.ok(&["start", "-j", "-n", "detach", "--on-agent-death", "detach", &packages[1]]);
    Marker::new().run("marker");
    wait_for("an event", || !server.events("3").is_empty());
    let loader = server.loader();
    assert_eq!(links(loader).len(), 3);
    let folder = server.kill();
    wait_for("the end of one", || links(loader).len() == 2);
    let server = Server::start_in(folder, &[]);
    assert_eq!(server.ok(&["list"]), "1 default Running\n2 keep Running\n3 detach Running\n");
    assert_eq!((server.loader(), links(loader).len()), (loader, 3));
    let kept = server.request("GET", "/v1/tasks/3/events?follow=false", &Value::Null).1;
    assert!(kept.as_str().unwrap().contains("\"lost\":null,\"by\":\"loader\""), "{kept}");
}

#[test]
fn a_loader_of_another_version_or_of_another_server_is_refused() {
    needs_root!();
    use eunomia_agent::loader::protocol::{PROTOCOL, Reply, Request};
    use std::io::{Read, Write};
    let server = Server::start(&[]);
    server.ok(&["start", &package("bootstrap")]);
    let (loader, folder) = (server.loader(), server.kill());
    let path = folder.path().join("loader.sock");
    let ask = |socket: &mut UnixStream, request: Request| {
        let body = request.encode();
        let header = [body.len() as u32, 0].map(u32::to_le_bytes).concat();
        socket.write_all(&[header, body].concat()).unwrap();
        let mut header = [0; 8];
        socket.read_exact(&mut header).unwrap();
        let mut body = vec![0; u32::from_le_bytes(header[..4].try_into().unwrap()) as usize];
        socket.read_exact(&mut body).unwrap();
        Reply::decode(&body).unwrap()
    };
    let message = |reply: Reply| match reply {
        Reply::Failed(failure) => failure.message,
        other => panic!("{other:?}"),
    };
    let mut newer = UnixStream::connect(&path).unwrap();
    let hello = Request::Hello { lowest: PROTOCOL + 1, highest: PROTOCOL + 2 };
    let text = message(ask(&mut newer, hello));
    let expected = format!("speaks protocol {PROTOCOL}, and the server {} to {}", PROTOCOL + 1, PROTOCOL + 2);
    assert!(text.contains(&expected), "{text}");
    assert_eq!(message(ask(&mut newer, Request::List)), "the first request must be hello");
    // A second server connects while the first is connected.
    let mut second = UnixStream::connect(&path).unwrap();
    let hello = || Request::Hello { lowest: 0, highest: PROTOCOL + 1 };
    assert_eq!(message(ask(&mut second, hello())), "another server uses this loader");
    drop(newer);
    // The next version, which still speaks this protocol, takes over.
    let mut next = UnixStream::connect(&path).unwrap();
    assert!(matches!(ask(&mut next, hello()), Reply::Hello { protocol: PROTOCOL, .. }));
    let Reply::Tasks(tasks) = ask(&mut next, Request::List) else { panic!("no list") };
    assert!(tasks.len() == 1 && tasks[0].is_loaded && !tasks[0].is_paused, "{tasks:?}");
    // Garbage ends the connection, not the loader.
    next.write_all(&[3, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3]).unwrap();
    assert_eq!(next.read(&mut [0; 8]).unwrap(), 0);
    let server = Server::start_in(folder, &[]);
    assert_eq!((server.loader(), server.ok(&["list"]).as_str()), (loader, "1 bootstrap Running\n"));
    let other = crate::folder();
    let path = |name: &str| other.path().join(name).to_str().unwrap().to_owned();
    let used = server.path("loader.sock");
    let ran = run(&[
        "server",
        "--socket",
        &path("s"),
        "--state",
        &path("state"),
        "--loader",
        used.to_str().unwrap(),
    ]);
    assert!(ran.code == Some(1) && ran.err.contains("another server uses this loader"), "{}", ran.err);
    end_loader(other.path());
}
