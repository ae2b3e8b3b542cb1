//! Budgets: limits on what programs may use.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{self, Activity, compile, wait_for};
use crate::{Load, Server, counted, counted_of, needs_root, package_value, policy};

/// Returns the use of the task with this number.
fn usage(server: &Server, id: u64) -> Value {
    server.request("GET", &format!("/v1/tasks/{id}/stats"), &Value::Null).1["usage"].take()
}

#[test]
fn a_task_with_too_many_events_runs_for_a_part_of_each_second() {
    needs_root!();
    let (_policy, path) = policy("events_per_second = 100000\n");
    let server = Server::start(&["--policy", &path]);
    let [first, second] = [1, 2].map(|version| counted_of(version, "load-budget"));
    server.ok(&["start", "-j", "-n", "a", "--limit", "events_per_second=10", &first]);
    server.ok(&["start", "-j", "-n", "b", &first]);
    let load = Load::start("load-budget");
    load.has_read(u64::MAX);
    let is_throttled = || usage(&server, 1)["skipped_ms"].as_u64() > Some(500);
    wait_for("the throttle", is_throttled);
    let text = server.ok(&["messages", "1"]);
    assert!(
        text.contains("throttled: its programs use ")
            && text.contains("limits.events_per_second allows 10\n"),
        "{text}"
    );
    let other = usage(&server, 2);
    assert_eq!((&other["share_percent"], &other["skipped_ms"]), (&json!(100), &json!(0)), "{other}");
    // Both programs count in the kernel while they run. The first one has missed many events, and none is counted as lost.
    let number = |id| server.events(id).last().map_or(0, |event| event["number"].as_u64().unwrap());
    wait_for("the difference", || number("1") > 0 && number("2") > number("1") + 100);
    assert_eq!(server.request("GET", "/v1/tasks/1/stats", &Value::Null).1["lost"], 0);
    // It is throttled in the same way after a replace.
    server.ok(&["update", "1", &second]);
    let skipped = usage(&server, 1)["skipped_ms"].as_u64();
    wait_for("the throttle of the new version", || usage(&server, 1)["skipped_ms"].as_u64() > skipped);
    drop(load);
    wait_for("the end of the throttle", || usage(&server, 1)["share_percent"] == 100);
}

/// A program that takes much time at each run.
fn heavy(hook: &str) -> String {
    format!(
        r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
char LICENSE[] SEC("license") = "GPL";
struct {{ __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); }} events SEC(".maps");
static int work(u32 index, void *context) {{ return 0; }}
/// @ifindex 1
SEC("{hook}")
int on_hook(void *ctx) {{ bpf_loop(1 << 18, work, 0, 0); return {}; }}
"#,
        if hook == "xdp" { "XDP_PASS" } else { "0" }
    )
}

#[test]
fn processor_time_is_limited_without_a_server_too() {
    needs_root!();
    let (_policy, path) = policy("total_cpu_percent = 5\n");
    let server = Server::start(&["--policy", &path]);
    let folder = compile(&heavy("tp_btf/sched_process_exec"));
    let package = folder.path().join("package.json");
    server.ok(&["start", "-n", "a", package.to_str().unwrap()]);
    let _activity = Activity::start();
    wait_for("the throttle", || usage(&server, 1)["skipped_ms"].as_u64() > Some(500));
    let why = usage(&server, 1)["throttled_by"].to_string();
    assert!(why.contains(" % of one CPU; total_cpu_percent of the policy allows 5"), "{why}");
    let skipped = usage(&server, 1)["skipped_ms"].as_u64();
    let server = Server::start_in(server.kill(), &["--policy", &path]);
    wait_for("the same counter", || usage(&server, 1)["skipped_ms"].as_u64() > skipped);
}

#[test]
fn programs_that_cannot_be_throttled_are_stopped() {
    needs_root!();
    let (_policy, path) = policy("cpu_percent = 1\n");
    let server = Server::start(&["--policy", &path]);
    let folder = compile(&heavy("xdp"));
    let package = package_value(folder.path().join("package.json").to_str().unwrap());
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let own = socket.local_addr().unwrap();
            while !is_over.load(Relaxed) {
                socket.send_to(b"x", own).unwrap();
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let (code, task) = server.request(
            "POST",
            "/v1/tasks",
            &json!({"package": package, "name": "a", "restart": "on-failure"}),
        );
        if code == 201 {
            let mut waited = 0;
            while server.ok(&["list"]) != "1 a Failed\n" && waited < 6000 {
                waited += 1;
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        is_over.store(true, Relaxed);
        assert_eq!(code, 201, "{task}");
    });
    let task = server.request("GET", "/v1/tasks/1", &Value::Null).1;
    let why = task["error"].as_str().unwrap();
    assert!(why.ends_with(" % of one CPU; cpu_percent of the policy allows 1"), "{task}");
    assert_eq!(task["attempts"], 0, "only restart always starts it again");
    server.ok(&["resume", "1"]);
    assert_eq!(server.ok(&["list"]), "1 a Running\n");
}

#[test]
fn limits_of_a_request_are_checked() {
    needs_root!();
    let server = Server::start(&[]);
    let path = counted(1);
    let ran = server.client(&["start", "--limit", "memory_mib=1", &path]);
    assert!(ran.code != Some(0) && ran.err.contains("limits.memory_mib allows 1 MiB"), "{}", ran.err);
    let ran = server.client(&["start", "--limit", "cpu_percent=1", &path]);
    if std::fs::read_to_string("/proc/sys/kernel/bpf_stats_enabled").unwrap().trim() == "0" {
        assert!(
            ran.err.contains("limits.cpu_percent: the kernel does not count the time of programs"),
            "{}",
            ran.err
        );
    }
    for (limits, text) in [
        (
            json!({"memory": 1}),
            "limits: unknown member \"memory\"; known are memory_mib, cpu_percent, events_per_second",
        ),
        (json!({"memory_mib": 0}), "limits.memory_mib: expected a number from 1 on, found 0"),
        (json!(5), "limits: expected an object, found 5"),
    ] {
        let body = json!({"package": package_value(&support::package("bootstrap")), "limits": limits});
        let (code, error) = server.request("POST", "/v1/tasks", &body);
        assert_eq!((code, &error["message"]), (400, &json!(text)));
    }
}
