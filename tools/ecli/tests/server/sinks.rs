//! Events of tasks in files.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::causes::package_of;
use crate::support::{package, wait_for};
use crate::{Load, Marker, Server, folder, needs_root, package_value, policy};

/// Sends 512 events with consecutive numbers at each start of a program.
const MANY: &str = r#"
struct event { unsigned long long number; };
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 20); } events SEC(".maps");
unsigned long long next = 0;
SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *task)
{
    char comm[16];
    bpf_get_current_comm(comm, sizeof(comm));
    if (!is_named(comm))
        return 0;
    for (int i = 0; i < 512; i++) {
        struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
        if (!event)
            return 0;
        event->number = __sync_fetch_and_add(&next, 1);
        bpf_ringbuf_submit(event, 0);
    }
    return 0;
}
"#;

/// The text of a file and of those before it, the oldest one first.
fn text(path: &Path) -> String {
    let earlier = |number: u32| path.with_extension(format!("jsonl.{number}"));
    let files = (1..).map(earlier).take_while(|file| file.exists());
    let mut files: Vec<_> = std::iter::once(path.to_owned()).chain(files).collect();
    files.reverse();
    // Between two files there is none for a moment.
    files.iter().map(|file| fs::read_to_string(file).unwrap_or_default()).collect()
}

/// The number of lines so far, from the cursor of the last line.
fn count(path: &Path) -> u64 {
    let text = fs::read(path).unwrap_or_default();
    let end = String::from_utf8_lossy(&text[text.len().saturating_sub(400)..]).into_owned();
    let cursor = end.rsplit_once("\"cursor\":\"").and_then(|(_, rest)| rest.split('"').next());
    cursor.and_then(|cursor| cursor.split_once('.')?.1.parse().ok()).unwrap_or(0)
}

/// The lines of these files.
fn lines(path: &Path) -> Vec<Value> {
    let text = text(path);
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_file_has_each_event_once_over_full_files_and_killed_servers() {
    needs_root!();
    let logs = folder();
    let (_policy, policy) = policy(&format!("sink_folders = [{:?}]\n", logs.path()));
    let options = ["--policy", policy.as_str()];
    let mut server = Server::start(&options);
    let many = package_of("load-sink", MANY);
    let path = logs.path().join("a.jsonl");
    let file = path.to_str().unwrap();
    let limits = ["--sink", file, "--sink-max-mib", "1", "--sink-keep", "100"];
    server.ok(&[&["start", "-j"], &limits[..], &[&many]].concat());
    let marker = Marker::new();
    let load = Load::of(8, move |_| marker.run("load-sink"));
    // Few events wait to be written, so none is dropped from the log before.
    let full = |number: u32| {
        wait_for("a full file", || {
            load.has_read(count(&path) / 512);
            path.with_extension(format!("jsonl.{number}")).exists()
        });
    };
    full(1);
    server = Server::start_in(server.kill(), &options);
    full(2);
    // Another task cannot write to the same file, and no task writes to a file outside of the allowed directories.
    let body = |name: &str, file: &str| json!({"package": package_value(&package("bootstrap")), "name": name, "sink": {"file": file}});
    let (_, error) = server.request("POST", "/v1/tasks", &body("b", file));
    assert!(error["message"].as_str().unwrap().ends_with("another task writes it"), "{error}");
    let (code, error) = server.request("POST", "/v1/tasks", &body("b", "/var/lib/a"));
    assert!(
        code == 403 && error["message"].as_str().unwrap().starts_with("refused by rule sink_folders"),
        "{error}"
    );
    let end = 512 * load.stop();
    server.ok(&["pause", "1"]);
    // The last event of the task is in the file.
    let cursor = || server.request("GET", "/v1/tasks/1/events?follow=false", &Value::Null).1;
    wait_for("the last line", || {
        let text = cursor();
        let last: Value = serde_json::from_str(text.as_str().unwrap().lines().last().unwrap()).unwrap();
        lines(&path).last().is_some_and(|line| line["cursor"] == last["cursor"])
    });
    let lines = lines(&path);
    assert!(lines.iter().all(|line| line["lost"].is_null() && line["map"] == "events"));
    let mut numbers: Vec<u64> = lines.iter().map(|line| line["event"]["number"].as_u64().unwrap()).collect();
    // Programs take a number before they send the event, so events of several CPUs can be out of order.
    numbers.sort_unstable();
    let found = numbers.len() as u64;
    numbers.dedup();
    assert!(numbers.iter().copied().eq(0..end), "{} of {end}", numbers.len());
    assert!(found <= end + 1, "a server that is killed may leave one event twice: {found} of {end}");
    server.ok(&["stop", "1"]);
    let (code, task) = server.request("POST", "/v1/tasks", &body("b", file));
    assert_eq!((code, &task["sink"]["file"]), (201, &json!(file)), "the file is free again");
}
