//! The life cycle of a task.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::{ecli, package, wait_for};
use crate::{Load, Marker, Server, counted, counted_of, needs_root, package_value};

#[test]
fn a_task_is_started_followed_paused_and_stopped() {
    needs_root!();
    let (server, marker) = (Server::start(&[]), Marker::new());
    let path = counted(1);
    assert_eq!(server.ok(&["start", "-j", "-n", "one", &path, "--extra", "7"]), "1\n");
    assert_eq!(server.ok(&["start", "-n", "two", &package("bootstrap")]), "2\n");
    assert_eq!(server.ok(&["list"]), "1 one Running\n2 two Running\n");
    let has =
        |name: &str| server.events("1").iter().any(|event| event["comm"] == name && event["extra"] == 7);
    marker.run("marker-before");
    wait_for("the first marker", || has("marker-before"));
    // The members are in the order of the struct, as `ecli run -j` prints them.
    assert!(server.ok(&["log", "1"]).starts_with("{\"number\":0,\"version\":1,\"extra\":7,\"comm\":"));
    assert!(server.ok(&["log", "2"]).starts_with("TIME "), "the header of the table");
    server.ok(&["pause", "1"]);
    assert_eq!(server.ok(&["list"]), "1 one Paused\n2 two Running\n");
    marker.run("marker-paused");
    server.ok(&["resume", "1"]);
    marker.run("marker-after");
    wait_for("the last marker", || has("marker-after"));
    assert!(!has("marker-paused"), "its programs were detached");
    let numbers: Vec<_> = server.events("1").iter().map(|event| event["number"].as_u64().unwrap()).collect();
    assert!(numbers.iter().copied().eq(0..numbers.len() as u64), "the maps have kept their content");
    server.ok(&["stop", "1"]);
    assert_eq!(server.ok(&["list"]), "2 two Running\n");
    let ran = server.client(&["log", "1"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(3), "ecli: there is no task 1\n"));
}

#[test]
fn a_new_version_takes_over_without_losing_or_repeating_an_event() {
    needs_root!();
    let server = Server::start(&[]);
    let packages = [1, 2].map(|version| counted_of(version, "load-versions"));
    server.ok(&["start", "-j", &packages[0]]);
    let load = Load::start("load-versions");
    let wait_for_version = |version: u64| {
        wait_for("events of this version", || {
            let events = server.events("1");
            load.has_read(events.len() as u64);
            events.last().is_some_and(|event| event["version"] == version)
        });
    };
    for round in 0..4 {
        wait_for_version(1 + round % 2);
        let report = server.ok(&["update", "1", &packages[(round as usize + 1) % 2]]);
        let report: Value = serde_json::from_str(&report).unwrap();
        assert_eq!(report["unchanged"], false, "{report}");
        let (code, task) = server.request("GET", "/v1/tasks/1", &Value::Null);
        assert_eq!((code, &task["replaced"]), (200, &json!(round + 1)));
    }
    wait_for_version(1);
    let end = load.stop();
    wait_for("the last event", || server.events("1").len() as u64 >= end);
    let events = server.events("1");
    // Each version has its own buffer, so events around a switch may be read in another order than they were sent.
    let mut numbers: Vec<u64> = events.iter().map(|event| event["number"].as_u64().unwrap()).collect();
    numbers.sort_unstable();
    assert!(numbers.iter().copied().eq(0..end), "each event once over all versions");
    let stats = server.request("GET", "/v1/tasks/1/stats", &Value::Null).1;
    assert!(stats["events"].as_u64().unwrap() >= events.len() as u64 && stats["lost"] == 0, "{stats}");
}

#[test]
fn a_start_is_idempotent_and_a_name_is_used_once() {
    needs_root!();
    let server = Server::start(&[]);
    let body = json!({"package": package_value(&package("bootstrap")), "name": "a", "args": []});
    let (code, first) = server.request("POST", "/v1/tasks", &body);
    assert_eq!(code, 201, "{first}");
    assert_eq!(server.request("POST", "/v1/tasks", &body), (200, first.clone()));
    let (code, error) = server.request(
        "POST",
        "/v1/tasks",
        &json!({"package": package_value(&package("bootstrap")), "name": "a", "format": "text"}),
    );
    assert_eq!((code, &error["status"]), (409, &json!("conflict")), "{error}");
    // A replace by the same package changes nothing. A replace of a package that the task does not run is refused.
    let (code, same) = server.request(
        "PUT",
        "/v1/tasks/1/package",
        &json!({"package": package_value(&package("bootstrap"))}),
    );
    assert_eq!((code, &same["report"]["unchanged"]), (200, &json!(true)), "{same}");
    let ran = server.client(&[
        "update",
        "1",
        &package("bootstrap"),
        "--if-digest",
        &format!("sha256:{}", "0".repeat(64)),
    ]);
    assert!(ran.code == Some(1) && ran.err.contains("task 1 runs sha256:"), "{}", ran.err);
    let digest = first["digest"].as_str().unwrap();
    server.ok(&["update", "1", &package("bootstrap"), "--if-digest", digest]);
    // Another file with the same content is as unchanged as the file itself.
    let folder = crate::folder();
    let path = folder.path().join("other.json");
    let value: Value = serde_json::from_slice(&std::fs::read(package("bootstrap")).unwrap()).unwrap();
    std::fs::write(&path, serde_json::to_vec_pretty(&value).unwrap()).unwrap();
    for _ in 0..2 {
        assert_eq!(server.ok(&["update", "1", path.to_str().unwrap()]), "{\"unchanged\":true}\n");
    }
    let task = server.request("GET", "/v1/tasks/1", &Value::Null).1;
    assert_eq!((&task["digest"], &task["replaced"]), (&first["digest"], &first["replaced"]), "{task}");
}

#[test]
fn an_archive_and_a_stored_package_are_started() {
    needs_root!();
    let server = Server::start(&[]);
    let folder = crate::folder();
    let packages = [counted(1), counted(2)];
    let archive = |index: usize| {
        let path = folder.path().join(format!("{index}.tar"));
        let mut builder = tar::Builder::new(std::fs::File::create(&path).unwrap());
        builder.append_path_with_name(&packages[index], "package.json").unwrap();
        builder.append_path_with_name("/etc/hostname", "btfhub-archive/a/b/c/d.btf").unwrap();
        builder.finish().unwrap();
        path.to_str().unwrap().to_owned()
    };
    assert_eq!(server.ok(&["start", "-n", "one", &archive(0)]), "1\n");
    let task = server.request("GET", "/v1/tasks/1", &Value::Null).1;
    // The same package with other arguments; it is not sent again.
    let body = json!({"name": "two", "digest": task["digest"], "args": ["--extra", "5"]});
    let (code, second) = server.request("POST", "/v1/tasks", &body);
    assert_eq!((code, &second["digest"]), (201, &task["digest"]), "{second}");
    server.ok(&["stop", "1"]);
    assert!(server.ok(&["plan", &archive(0)]).contains("on_exec"));
    let server = Server::start_in(server.kill(), &[]);
    assert_eq!(server.ok(&["list"]), "2 two Running\n");
    let has = |version: u32, name: &str| {
        let is_it =
            |event: &Value| event["version"] == version && event["comm"] == name && event["extra"] == 5;
        server.events("2").iter().any(is_it)
    };
    let marker = Marker::new();
    marker.run("marker-first");
    wait_for("the first marker", || has(1, "marker-first"));
    server.ok(&["update", "2", &archive(1)]);
    marker.run("marker-second");
    wait_for("the second marker", || has(2, "marker-second"));
    let none = json!({"digest": format!("sha256:{}", "0".repeat(64))});
    let (code, error) = server.request("POST", "/v1/tasks", &none);
    assert_eq!((code, &error["status"]), (404, &json!("not_found")), "{error}");
    let (code, error) = server.request("POST", "/v1/tasks", &json!({"digest": "0"}));
    assert_eq!(
        (code, &error["message"]),
        (400, &json!("digest: expected \"sha256:\" and 64 hexadecimal digits, found \"0\""))
    );
}

#[test]
fn changes_at_the_same_time_end_in_one_of_them() {
    needs_root!();
    let server = Server::start(&[]);
    let packages = [counted(1), counted(2), counted(3)];
    server.ok(&["start", &packages[0]]);
    let values = packages.each_ref().map(|path| json!({"package": package_value(path)}));
    let codes: Vec<u16> = std::thread::scope(|scope| {
        let server = &server;
        let put = |value| scope.spawn(move || server.request("PUT", "/v1/tasks/1/package", value));
        let threads: Vec<_> = values.iter().cycle().take(9).map(put).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).map(|(code, _)| code).collect()
    });
    assert!(codes.iter().all(|code| [200, 409].contains(code)) && codes.contains(&200), "{codes:?}");
    let (_, task) = server.request("GET", "/v1/tasks/1", &Value::Null);
    assert_eq!(task["status"], "running");
    let files = std::fs::read_dir(server.path("state/packages")).unwrap();
    let names: Vec<_> = files.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(
        names,
        [task["digest"].as_str().unwrap().trim_start_matches("sha256:")],
        "only the one that runs"
    );
}

#[test]
fn every_reader_gets_all_events_and_a_slow_one_is_told_what_it_has_lost() {
    needs_root!();
    let server = Server::start(&[]);
    let folder = crate::support::compile(
        r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
char LICENSE[] SEC("license") = "GPL";
struct event { unsigned long long number; char text[200]; };
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 24); } events SEC(".maps");
unsigned long long number = 0;
static long send(unsigned int index, void *context)
{
    struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
    if (!event)
        return 1;
    event->number = number++;
    __builtin_memset(event->text, 'x', 199);
    event->text[199] = 0;
    bpf_ringbuf_submit(event, 0);
    return 0;
}
SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *task)
{
    char comm[16];
    bpf_get_current_comm(comm, sizeof(comm));
    if (comm[0] == 'm' && comm[7] == 'm' && comm[8] == 'a' && comm[9] == 'n' && comm[10] == 'y')
        bpf_loop(20000, send, 0, 0);
    return 0;
}
"#,
    );
    let (path, marker) = (folder.path().join("package.json"), Marker::new());
    server.ok(&["start", "-j", path.to_str().unwrap()]);
    // This reader reads nothing until all events have been written.
    let mut slow = follow(&server, "1", "now");
    marker.run("marker-many");
    let total = || server.request("GET", "/v1/tasks/1/stats", &Value::Null).1["events"].as_u64().unwrap();
    wait_for("all events", || total() == 20000);
    let (mut read, mut lost, mut next) = (0, 0, 0);
    while next < 20000 {
        let line: Value = serde_json::from_str(&slow.next().unwrap()).unwrap();
        if let Some(count) = line["lost"].as_u64() {
            assert_eq!(line["by"], "reader");
            lost += count;
            next += count;
            continue;
        }
        assert_eq!(line["event"]["number"], next, "in order");
        (read, next) = (read + 1, next + 1);
    }
    assert!(lost > 0 && read + lost == 20000, "{read} + {lost}");
    // A stream begins after its cursor. With a cursor of another server it begins with a line that reports this.
    let kept = server.ok(&["log", "1"]);
    let last = follow(&server, "1", &(20000 - 3).to_string()).next().unwrap();
    let last: Value = serde_json::from_str(&last).unwrap();
    assert_eq!(last["event"]["number"], 20000 - 3);
    let cursor = last["cursor"].as_str().unwrap();
    assert_eq!(server.ok(&["log", "1", "--cursor", cursor]).lines().count(), 2);
    let other = server.client(&["log", "1", "--cursor", "00000000.5"]);
    assert!(other.out == kept && other.err.contains("earlier events may be missing"), "{}", other.err);
}

#[test]
fn a_reader_ends_with_the_task() {
    needs_root!();
    let server = Server::start(&[]);
    server.ok(&["start", "-j", &package("bootstrap")]);
    let lines = follow(&server, "1", "now");
    let sse = "GET /v1/tasks/1/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n";
    let stream = std::os::unix::net::UnixStream::connect(server.path("socket")).unwrap();
    let reader = std::thread::spawn(move || crate::exchange(stream, sse));
    let readers = || server.request("GET", "/v1/tasks/1/stats", &Value::Null).1["readers"].as_u64();
    wait_for("both readers", || readers() == Some(2));
    Marker::new().run("marker");
    server.ok(&["stop", "1"]);
    let last = lines.last().unwrap();
    assert!(last.contains("\"end\":\"stopped\""), "{last}");
    let (code, text) = reader.join().unwrap();
    let text = text.as_str().unwrap();
    assert!(code == 200 && text.contains("\ndata: {\"cursor\":\"") && text.contains("id: "), "{text}");
}

#[test]
fn the_server_has_no_privileges_and_the_loader_only_those_for_loading() {
    needs_root!();
    let server = Server::start(&[]);
    server.ok(&["start", &package("bootstrap")]);
    let status = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = |pid: u32, name: &str| {
        let text = status(pid);
        let found = text.lines().find_map(|line| line.strip_prefix(name));
        found.unwrap().trim().to_owned()
    };
    let own = server.child.id();
    let loader = server.loader();
    for name in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(line(own, name), "0000000000000000", "{name}");
    }
    // CAP_DAC_READ_SEARCH, CAP_NET_ADMIN, CAP_PERFMON, CAP_BPF.
    assert_eq!(line(loader, "CapEff:"), "000000c000001004");
    assert_eq!([line(own, "NoNewPrivs:"), line(loader, "NoNewPrivs:")], ["1", "1"]);
}

/// Iterates over the lines of a running `ecli client events`.
fn follow(server: &Server, id: &str, since: &str) -> impl Iterator<Item = String> {
    let endpoint = server.endpoint();
    let mut child = ecli(&["client", "-e", &endpoint, "events", id, "--since", since])
        .stdout(Stdio::piped())
        .spawn()
        .expect("ecli starts");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let readers =
        || server.request("GET", &format!("/v1/tasks/{id}/stats"), &Value::Null).1["readers"].clone();
    wait_for("the reader", || readers().as_u64().is_some_and(|count| count > 0));
    Lines { child, lines }
}

struct Lines<L> {
    child: std::process::Child,
    lines: L,
}

impl<L: Iterator<Item = std::io::Result<String>>> Iterator for Lines<L> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        self.lines.next().map(|line| line.expect("a line"))
    }
}

impl<L> Drop for Lines<L> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves a file to a number of requests, and 404 to those for other paths.
fn serve(listener: &std::net::TcpListener, path: &str, body: &[u8], requests: usize) {
    use std::io::{Read, Write};
    for _ in 0..requests {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = [0; 4096];
        let count = stream.read(&mut head).unwrap();
        let is_it = head[..count].starts_with(format!("GET {path} ").as_bytes());
        let (status, body) = if is_it { ("200 OK", body) } else { ("404 Not Found", &b""[..]) };
        let head =
            format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    }
}

#[test]
fn the_server_downloads_what_the_policy_allows() {
    needs_root!();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let (_policy, path) = crate::policy(&format!("sources = [\"{base}/tools/\"]\n"));
    let server = Server::start(&["--policy", &path]);
    let body = std::fs::read(package("bootstrap")).unwrap();
    std::thread::scope(|scope| {
        // The package, and the signature that is missing.
        scope.spawn(|| serve(&listener, "/tools/bootstrap.json", &body, 2));
        let ran = server.client(&["start", "--remote", &format!("{base}/tools/bootstrap.json")]);
        assert_eq!((ran.code, ran.out.as_str()), (Some(0), "1\n"), "{}", ran.err);
    });
    assert_eq!(server.ok(&["list"]), "1 bootstrap Running\n");
    let refused = |source: &str| {
        let (code, error) = server.request("POST", "/v1/tasks", &json!({"source": source}));
        (code, error["message"].as_str().unwrap().to_owned())
    };
    for source in [format!("{base}/other/x.json"), format!("{base}/tools/../x.json"), "/etc/passwd".into()] {
        let (code, text) = refused(&source);
        assert!(code == 403 && text.starts_with("refused by rule sources of the policy"), "{code} {text}");
    }
    drop(listener);
    let (code, text) = refused(&format!("{base}/tools/x.json"));
    assert!(code == 422 && text.contains("Connection refused"), "{code} {text}");
    let without = Server::start(&[]);
    let (code, error) = without.request("POST", "/v1/tasks", &json!({"source": "https://a.example/x"}));
    assert_eq!(
        (code, &error["message"]),
        (403, &json!("refused by rule sources of the policy: the server downloads nothing"))
    );
}
