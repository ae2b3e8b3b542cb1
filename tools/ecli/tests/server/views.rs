//! Filters of events, maps, plans and messages of tasks, and requests to several servers.

use serde_json::{Value, json};

use crate::support::{self, package, run, wait_for};
use crate::{Marker, Server, counted, counted_of, needs_root, package_value};

#[test]
fn a_filter_shows_the_events_that_match() {
    needs_root!();
    let (server, marker) = (Server::start(&[]), Marker::new());
    let packages = [1, 2].map(|version| counted_of(version, "viewed-"));
    server.ok(&["start", "-j", "-n", "one", &packages[0]]);
    let shown = |filter: &str| -> Vec<Value> {
        let text = server.ok(&["log", "one", "--filter", filter]);
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    marker.run("viewed-a");
    marker.run("viewed-b");
    wait_for("the first markers", || shown("comm == \"viewed-b\"").len() == 1);
    assert_eq!(shown("comm =~ '^viewed-'").len(), 2);
    assert!(shown("number > 100000 || comm == nothing").is_empty());
    // The next version has the same type, so the filter still applies.
    server.ok(&["update", "one", &packages[1]]);
    marker.run("viewed-a");
    wait_for("the new version", || !shown("version == 2 && comm == \"viewed-a\"").is_empty());
    assert_eq!(shown("version == 1 && comm == \"viewed-a\"").len(), 1);
    let ran = server.client(&["events", "one", "--filter", "none == 1"]);
    let text = "ecli: filter: field \"none\": struct event has no \"none\"; there are: number, version, extra, comm\n";
    assert_eq!((ran.code, ran.err.as_str()), (Some(2), text));
}

const ENTRIES: &str = r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
char LICENSE[] SEC("license") = "GPL";
struct map_key { unsigned int index; char name[4]; };
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 4096); __type(key, struct map_key); __type(value, long); } entries SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 2); __type(key, unsigned int); __type(value, unsigned int); } cpus SEC(".maps");
struct event { unsigned int done; };
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } events SEC(".maps");
static long change(unsigned int index, void *is_removed)
{
    struct map_key key = { .index = index, .name = "key" };
    long value = -(long)index;
    if (*(int *)is_removed)
        bpf_map_delete_elem(&entries, &key);
    else
        bpf_map_update_elem(&entries, &key, &value, 0);
    return 0;
}
SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *task)
{
    char comm[16];
    bpf_get_current_comm(comm, sizeof(comm));
    if (comm[0] != 'm' || comm[6] != '-' || comm[7] != 'e')
        return 0;
    int is_removed = comm[8] == 'r';
    bpf_loop(2500, change, &is_removed, 0);
    struct event event = { 1 };
    bpf_ringbuf_output(&events, &event, sizeof(event), 0);
    return 0;
}
"#;

#[test]
fn the_entries_of_a_map_are_read_page_by_page() {
    needs_root!();
    let (server, marker) = (Server::start(&[]), Marker::new());
    let folder = support::compile(ENTRIES);
    server.ok(&["start", "-j", "-n", "maps", folder.path().join("package.json").to_str().unwrap()]);
    marker.run("marker-ef");
    wait_for("the entries", || server.events("maps").len() == 1);
    let text = server.ok(&["maps", "maps", "entries"]);
    let mut seen: Vec<u64> = Vec::new();
    for line in text.lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        let index = entry["key"]["index"].as_u64().unwrap();
        assert_eq!(entry, json!({"key": {"index": index, "name": "key"}, "value": -(index as i64)}));
        seen.push(index);
    }
    seen.sort_unstable();
    assert!(seen.iter().copied().eq(0..2500), "each entry once: {}", seen.len());
    let cpus = server.ok(&["maps", "maps", "cpus"]);
    assert!(cpus.starts_with("{\"key\":0,\"value\":[0"), "{cpus}");
    let list = server.ok(&["maps", "maps"]);
    assert!(list.contains("entries: struct map_key -> long, 4096 entries, "), "{list}");
    let get = |query: &str| server.request("GET", &format!("/v1/tasks/1/maps/entries{query}"), &Value::Null);
    let (code, page) = get("?limit=10");
    assert_eq!((code, page["entries"].as_array().unwrap().len()), (200, 10));
    let next = page["next"].as_str().unwrap();
    let (_, second) = get(&format!("?limit=10&after={next}"));
    assert!(!page["entries"].as_array().unwrap().contains(&second["entries"][0]));
    marker.run("marker-er");
    wait_for("the removal", || server.events("maps").len() == 2);
    let (code, error) = get(&format!("?after={next}"));
    assert_eq!((code, &error["status"]), (409, &json!("conflict")), "{error}");
    assert_eq!(get("").1, json!({"map": "entries", "entries": [], "next": null}));
}

#[test]
fn a_plan_says_what_would_happen_and_changes_nothing() {
    needs_root!();
    let server = Server::start(&[]);
    let packages = [counted(1), counted(2)];
    let text = server.ok(&["plan", &packages[0], "--extra", "5"]);
    assert!(text.starts_with("on_exec (tp_btf/sched_process_exec): accepted\n"), "{text}");
    assert!(text.contains("\nkernel memory: "), "{text}");
    assert_eq!(server.ok(&["list"]), "");
    server.ok(&["start", "-j", &packages[0]]);
    let inspect = || server.request("GET", "/v1/tasks/1/inspect", &Value::Null).1["programs"].clone();
    let before = inspect();
    let body = json!({"task": 1, "package": package_value(&packages[1])});
    let (code, plan) = server.request("POST", "/v1/plan", &body);
    assert_eq!((code, &plan["refused"], &plan["replace"]["unchanged"]), (200, &Value::Null, &json!(false)));
    let carried = |map: &Value| map["name"] == "counter";
    assert!(plan["replace"]["maps"].as_array().unwrap().iter().any(carried), "{plan}");
    let (_, same) =
        server.request("POST", "/v1/plan", &json!({"task": 1, "package": package_value(&packages[0])}));
    assert_eq!(same["replace"]["unchanged"], true, "{same}");
    assert_eq!(
        (inspect(), server.request("GET", "/v1/tasks/1", &Value::Null).1["replaced"].clone()),
        (before, json!(0))
    );
    // A plan can be carried out.
    server.ok(&["update", "1", &packages[1]]);
    let refused = support::compile(
        r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
char LICENSE[] SEC("license") = "GPL";
SEC("raw_tp/sys_enter")
int unsafe_read(unsigned long *context) { return *(int *)context[0]; }
SEC("raw_tp/sys_exit")
int kills(unsigned long *context) { return bpf_send_signal(0); }
"#,
    );
    let body = json!({"package": package_value(refused.path().join("package.json").to_str().unwrap())});
    let (code, plan) = server.request("POST", "/v1/plan", &body);
    let by_name = |name: &str| {
        plan["programs"].as_array().unwrap().iter().find(|program| program["name"] == name).unwrap().clone()
    };
    let (bad, kills) = (by_name("unsafe_read"), by_name("kills"));
    assert_eq!((code, &bad["ok"], &kills["ok"]), (200, &json!(false), &json!(true)), "{plan}");
    assert!(bad["log"].as_str().unwrap().contains("invalid mem access"), "{bad}");
    assert_eq!(kills["effects"], json!(["sends signals to processes"]));
    assert!(plan["refused"]["message"].as_str().unwrap().contains("unsafe_read"), "{plan}");
}

#[test]
fn one_request_reaches_several_servers() {
    needs_root!();
    let servers = [Server::start(&[]), Server::start(&[])];
    let endpoints = servers.each_ref().map(Server::endpoint);
    let both = |args: &[&str]| run(&[&["client", "-e", &endpoints[0], "-e", &endpoints[1]], args].concat());
    assert_eq!(both(&["start", &package("bootstrap")]).code, Some(0));
    let listed = both(&["list"]).out;
    let mut lines: Vec<&str> = listed.lines().collect();
    lines.sort_unstable();
    let mut expected = endpoints.each_ref().map(|endpoint| format!("{endpoint}: 1 bootstrap Running"));
    expected.sort_unstable();
    assert_eq!(lines, expected);
    servers[1].ok(&["stop", "bootstrap"]);
    let ran = both(&["stop", "bootstrap"]);
    let text = format!("ecli: {}: there is no task \"bootstrap\"\n", endpoints[1]);
    assert_eq!((ran.code, ran.err), (Some(3), text));
    assert_eq!(servers[0].ok(&["list"]), "");
}

#[test]
fn warnings_about_a_task_are_kept() {
    needs_root!();
    let server = Server::start(&[]);
    server.ok(&["start", "-n", "one", &package("bootstrap")]);
    assert_eq!(
        server.request("GET", "/v1/tasks/1/logs", &Value::Null),
        (200, json!({"lines": [], "dropped": 0}))
    );
    assert_eq!(server.ok(&["messages", "one"]), "");
    assert!(server.ok(&["inspect", "one"]).contains("handle_exec (tp/sched/sched_process_exec): attached\n"));
}
