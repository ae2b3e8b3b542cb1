//! Member formats on the running kernel: in events, in keys and values of maps, and in variables. Also invalid formats in a
//! package.
#![allow(missing_docs)]

mod support;

use std::process::Command;
use std::time::Duration;

use eunomia::{Event, EventKind, Flow, Format, Kind, Options, Status, Vm};
use serde_json::{Value, json};
use support::{opened, package, vm_with};

/// Delivers an event, and counts it, per call of getpgid(2) of this thread.
const CALLS: &str = r#"
#include "vmlinux.h"
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct event {
    u64 at; ///< @format ktime
    u64 took; ///< @format duration
    long nr; ///< @format syscall
    int ret; ///< @format errno
    struct in_addr from;
    u64 stack[4]; ///< @format stack
};

struct flow_key {
    u32 daddr; ///< @format ipv4
    u32 sig; ///< @format signal
};

struct flow_value {
    u64 first; ///< @format ktime
    u64 count;
};

const volatile u32 only_tid = 0;
const volatile struct in_addr source = {};

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 64 * 1024);
} events SEC(".maps");

/// @sample {"interval": 10}
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 16);
    __type(key, struct flow_key);
    __type(value, struct flow_value);
} counts SEC(".maps");

SEC("tp/syscalls/sys_enter_getpgid")
int on_getpgid(struct trace_event_raw_sys_enter *ctx)
{
    struct flow_key key = {.daddr = bpf_htonl(0x0a000001), .sig = 15};
    struct flow_value value = {.first = bpf_ktime_get_ns(), .count = 1};
    struct event *event;

    if ((u32)bpf_get_current_pid_tgid() != only_tid)
        return 0;
    event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
    if (!event)
        return 0;
    event->at = bpf_ktime_get_ns();
    event->took = 1500000;
    // The kernel sets only the lower half.
    event->nr = (int)ctx->id;
    event->ret = -13;
    event->from.s_addr = source.s_addr;
    event->stack[0] = 0xffffffff81000000;
    event->stack[1] = 0;
    bpf_ringbuf_submit(event, 0);
    bpf_map_update_elem(&counts, &key, &value, BPF_ANY);
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
"#;

/// The current time in UTC in the form of `ktime`. Such strings sort by time.
fn now() -> String {
    let output = Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%S.%NZ"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}

/// Attaches for this thread, calls getpgid once and returns the vm, with the times before and after the call.
fn called() -> (Vm, String, String) {
    let vm = opened(&package(CALLS));
    // SAFETY: no arguments.
    let tid = unsafe { libc::gettid() };
    vm.var_set_json("only_tid", &tid.to_string()).unwrap();
    vm.var_set_json("source", "\"192.0.2.7\"").unwrap();
    assert_eq!(vm.var_get_json("source").unwrap(), "\"192.0.2.7\"");
    vm.attach().unwrap();
    let before = now();
    // SAFETY: no pointers.
    unsafe { libc::getpgid(0) };
    (vm, before, now())
}

fn next(vm: &Vm, format: Format, source: &std::ffi::CStr) -> String {
    let mut text = String::new();
    while text.is_empty() {
        let mut keep = |event: &Event| {
            let is_wanted = event.source == source && event.kind != EventKind::Round;
            let is_head = event.kind == EventKind::Header;
            if is_wanted && !is_head && text.is_empty() {
                text = String::from_utf8(event.data.to_vec()).unwrap();
            }
            Flow::Continue
        };
        assert!(vm.poll(Some(Duration::from_secs(5)), format, &mut keep).unwrap() > 0, "no event arrived");
    }
    text
}

#[test]
fn events_use_their_formats_in_json() {
    needs_root!();
    let (vm, before, after) = called();
    let event: Value = serde_json::from_str(&next(&vm, Format::Json, c"events")).unwrap();
    let at = event["at"].as_str().unwrap();
    assert!(*before <= *at && *at <= *after, "{before} {at} {after}");
    let expected = json!({
        "at": at, "took": 1_500_000, "nr": "getpgid", "ret": -13, "from": "192.0.2.7",
        "stack": ["0xffffffff81000000"],
    });
    assert_eq!(event, expected);
}

#[test]
fn events_use_their_formats_in_text() {
    needs_root!();
    let (vm, before, after) = called();
    let row = next(&vm, Format::Text, c"events");
    let columns: Vec<&str> = row.split_whitespace().collect();
    assert!(*before <= *columns[1] && *columns[1] <= *after, "{row}");
    assert_eq!(columns[2..], ["1.500ms", "getpgid", "EACCES", "192.0.2.7", "[\"0xffffffff81000000\"]"]);
}

#[test]
fn maps_use_their_formats_for_values_and_keys() {
    needs_root!();
    let (vm, before, after) = called();
    let entry: Value = serde_json::from_str(&next(&vm, Format::Json, c"counts")).unwrap();
    assert_eq!(entry["key"], json!({"daddr": "10.0.0.1", "sig": "SIGTERM"}));
    let first = entry["value"]["first"].as_str().unwrap();
    assert!(*before <= *first && *first <= *after, "{before} {first} {after}");
    let value: Value =
        serde_json::from_str(&vm.map_get_json("counts", &entry["key"].to_string()).unwrap()).unwrap();
    assert_eq!(value["count"], 1);
    vm.map_set_json("counts", r#"{"daddr": "127.0.0.1", "sig": 9}"#, r#"{"count": 7}"#, 0).unwrap();
    let value = vm.map_get_json("counts", r#"{"daddr": 16777343, "sig": "SIGKILL"}"#).unwrap();
    assert!(value.ends_with("\"count\":7}"), "{value}");
    let error = vm.map_get_json("counts", r#"{"daddr": "127.0.0.256"}"#).unwrap_err();
    assert_eq!(error.status(), Status::Type);
    assert!(
        error
            .message()
            .contains("member \"daddr\": \"127.0.0.256\" is not a value of u32 in the format ipv4"),
        "{error}"
    );
}

#[test]
fn formats_that_do_not_fit_are_logged_and_ignored() {
    needs_root!();
    let mut document: Value = serde_json::from_slice(&package(CALLS)).unwrap();
    document["meta"]["formats"] = json!({
        "event": {"at": "ipv4", "nr": "of later versions", "gone": "hex", "ret": "errno"},
        "nothing": {"a": "hex"},
    });
    let (vm, log) = vm_with(Options::new());
    vm.open(document.to_string().as_bytes(), Kind::Json).unwrap();
    vm.load().unwrap();
    let log = log.lock().unwrap();
    let said: Vec<&String> = log.iter().filter(|line| line.contains(" left out: ")).collect();
    assert_eq!(said.len(), 4, "{log:?}");
    for line in [
        "format \"ipv4\" of event.at left out: the format requires 4 bytes",
        "format \"of later versions\" of event.nr left out: there is no such format",
        "format \"hex\" of event.gone left out: there is no such member",
        "format \"hex\" of nothing.a left out: the object has no such struct",
    ] {
        assert!(said.iter().any(|said| said.contains(line)), "{line}: {said:?}");
    }
}
