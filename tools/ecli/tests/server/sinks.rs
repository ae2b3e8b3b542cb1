//! Events of tasks in files.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Activity, compile, package, wait_for};
use crate::{Server, folder, needs_root, package_value, policy};

/// Sends 64 events with consecutive numbers at each start of a program.
const MANY: &str = r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
char LICENSE[] SEC("license") = "GPL";
struct event { unsigned long long number; };
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 20); } events SEC(".maps");
unsigned long long next = 0;
SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *task)
{
    for (int i = 0; i < 64; i++) {
        struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
        if (!event)
            return 0;
        event->number = __sync_fetch_and_add(&next, 1);
        bpf_ringbuf_submit(event, 0);
    }
    return 0;
}
"#;

/// The lines of a file and of those before it, the oldest one first.
fn lines(path: &Path) -> Vec<Value> {
    let earlier = |number: u32| path.with_extension(format!("jsonl.{number}"));
    let files = (1..).map(earlier).take_while(|file| file.exists());
    let mut files: Vec<_> = std::iter::once(path.to_owned()).chain(files).collect();
    files.reverse();
    let text: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
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
    let compiled = compile(MANY);
    let many = compiled.path().join("package.json").to_str().unwrap().to_owned();
    let path = logs.path().join("a.jsonl");
    let file = path.to_str().unwrap();
    let limits = ["--sink", file, "--sink-max-mib", "1", "--sink-keep", "100"];
    server.ok(&[&["start", "-j"], &limits[..], &[&many]].concat());
    let activity = Activity::start();
    let full =
        |number: u32| wait_for("a full file", || path.with_extension(format!("jsonl.{number}")).exists());
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
    drop(activity);
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
    let missing = (0..).zip(&numbers).find(|(expected, found)| expected != *found);
    // A server that is killed may leave one event twice.
    assert!(missing.is_none_or(|(expected, found)| *found + 1 == expected), "{missing:?}");
    assert!(numbers.len() > 10_000, "{}", numbers.len());
    server.ok(&["stop", "1"]);
    let (code, task) = server.request("POST", "/v1/tasks", &body("b", file));
    assert_eq!((code, &task["sink"]["file"]), (201, &json!(file)), "the file is free again");
}
