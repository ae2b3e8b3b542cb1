//! Maps that hold stacks or maps, and iterators.

use serde_json::Value;

use crate::needs_root;
use crate::support::{Ran, compile, run};

/// Takes the stack of each process that starts a program.
const STACKS: &str = r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
struct {
    __uint(type, BPF_MAP_TYPE_STACK_TRACE);
    __uint(key_size, 4);
    __uint(value_size, 20 * 8);
    __uint(max_entries, 64);
} stacks SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(key_size, 4);
    __uint(value_size, 6);
    __uint(max_entries, 2);
} untyped SEC(".maps");
struct event { u32 pid; int kern_stack_id; long user_stack_id; };
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 65536); } events SEC(".maps");
SEC("tp/sched/sched_process_exec") int on_exec(void *ctx)
{
    struct event event = { .pid = bpf_get_current_pid_tgid() >> 32 };
    event.kern_stack_id = bpf_get_stackid(ctx, &stacks, 0);
    event.user_stack_id = -14;
    bpf_ringbuf_output(&events, &event, sizeof(event), 0);
    return 0;
}
char LICENSE[] SEC("license") = "GPL";
"#;

/// Counts starts of programs by kernel stack, in a stack map, as older profilers do.
const COUNTS: &str = r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
struct {
    __uint(type, BPF_MAP_TYPE_STACK_TRACE);
    __uint(key_size, 4);
    __uint(value_size, 20 * 8);
    __uint(max_entries, 64);
} stacks SEC(".maps");
struct caller { u32 pid; u32 kern_stack_id; };
/// @sample {"interval": 100}
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, struct caller);
    __type(value, u64);
    __uint(max_entries, 1024);
} counts SEC(".maps");
SEC("tp/sched/sched_process_exec") int on_exec(void *ctx)
{
    struct caller key = { .pid = 0, .kern_stack_id = bpf_get_stackid(ctx, &stacks, 0) };
    u64 one = 1, *count = bpf_map_lookup_elem(&counts, &key);
    if (count)
        __sync_fetch_and_add(count, 1);
    else
        bpf_map_update_elem(&counts, &key, &one, 0);
    return 0;
}
char LICENSE[] SEC("license") = "GPL";
"#;

/// Maps in a map, one of them a buffer.
const NESTED: &str = r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
struct point { int z; int a; };
struct inner {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __type(key, u32);
    __type(value, struct point);
    __uint(max_entries, 2);
} first SEC(".maps"), second SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
    __uint(max_entries, 3);
    __uint(key_size, 4);
    __array(values, struct inner);
} outer SEC(".maps") = { .values = { [0] = &first, [2] = &second } };
SEC("tp/sched/sched_process_exec") int on_exec(void *ctx)
{
    u32 key = 1;
    struct point *point = bpf_map_lookup_elem(&second, &key);
    if (point)
        point->z = 7;
    return 0;
}
char LICENSE[] SEC("license") = "GPL";
"#;

/// Iterators that write text and bytes.
const ITERATORS: &str = r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
SEC("iter/task") int text(struct bpf_iter__task *ctx)
{
    struct seq_file *seq = ctx->meta->seq;
    struct task_struct *task = ctx->task;
    if (task && ctx->meta->seq_num == 0)
        BPF_SEQ_PRINTF(seq, "task %d\tis \"%s\" \\\n\n", 1, "init\x01\xff");
    return 0;
}
"#;

const BYTES: &str = r#"
SEC("iter/task") int bytes(struct bpf_iter__task *ctx)
{
    struct task_struct *task = ctx->task;
    u32 record[2] = { 0x0a22005c, 0xffffffff };
    if (task && ctx->meta->seq_num == 0)
        bpf_seq_write(ctx->meta->seq, record, sizeof(record));
    return 0;
}
"#;

/// Runs a program while others start.
fn ran(source: &str, args: &[&str]) -> Ran {
    let folder = compile(source);
    let package = folder.path().join("package.json");
    let _activity = crate::support::Activity::start();
    let args = [&["run", "-q"][..], args, &[package.to_str().expect("UTF-8")]].concat();
    let ran = run(&args);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    ran
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

#[test]
fn maps_of_stacks_show_ids_and_frames() {
    needs_root!();
    let shown = ran(STACKS, &["-j", "--count", "1", "--map", "stacks", "--map", "untyped"]);
    let lines = lines(&shown.out);
    let id = &lines[0]["kern_stack_id"];
    let stack = lines.iter().find(|line| line["key"] == *id).unwrap_or_else(|| panic!("{}", shown.out));
    let frames = stack["value"].as_array().expect("frames");
    assert!(!frames.is_empty() && frames.len() <= 20, "{stack}");
    assert!(frames.iter().all(|frame| frame.as_str().is_some_and(|text| text.starts_with("0x"))), "{stack}");
    // An index is shown as a number, and a value without a type as bytes.
    let untyped = lines.iter().find(|line| line["value"]["data"].is_string()).expect("an entry");
    assert_eq!(*untyped, serde_json::json!({"key": 0, "value": {"data": "000000000000"}}));
}

#[test]
fn functions_are_named_in_maps_of_stacks_as_in_events() {
    needs_root!();
    let shown = ran(STACKS, &["-j", "--symbols", "--count", "1", "--map", "stacks"]);
    assert!(shown.out.contains("bprm_execve") || shown.out.contains("exec_binprm"), "{}", shown.out);
    lines(&shown.out);
    // The stack of an event is shown below it. An id that is an error number has no stack.
    let event = &lines(&shown.out)[0];
    assert!(event["kern_stack"].to_string().contains("exec") && event["kern_stack_id"].is_u64(), "{event}");
    assert_eq!((&event["user_stack"], &event["user_stack_id"]), (&serde_json::json!([]), &Value::from(-14)));
    let table = ran(STACKS, &["--count", "1", "--map", "stacks"]);
    let (events, _) = table.out.split_once("stacks:\n").expect("the map");
    assert!(
        events.contains("KERN_STACK_ID") && events.contains("\n    ") && events.contains("exec"),
        "{events}"
    );
    let chosen = ran(STACKS, &["-j", "--symbols", "--count", "1", "--columns", "pid,kern_stack"]);
    assert!(chosen.out.contains("exec") && !chosen.out.contains("_id"), "{}", chosen.out);
    let (_, map) = table.out.split_once("stacks:\n").expect("the map");
    assert!(map.starts_with("TIME") && map.contains("\n    ") && map.contains("exec"), "{}", table.out);
}

#[test]
fn ids_of_stacks_in_keys_of_maps_lead_to_their_functions() {
    needs_root!();
    let shown = ran(COUNTS, &["-j", "--symbols", "--count", "1"]);
    let entry = &lines(&shown.out)[0];
    assert!(entry["kern_stack"].to_string().contains("exec"), "{entry}");
    assert!(entry["key"]["kern_stack_id"].is_u64() && entry["value"].is_u64(), "{entry}");
    let table = ran(COUNTS, &["--count", "1"]).out;
    assert!(table.contains("KEY.KERN_STACK_ID") && table.contains("exec"), "{table}");
}

#[test]
fn maps_of_maps_show_nested_entries() {
    needs_root!();
    let shown = ran(NESTED, &["-j", "--duration", "0.5", "--map", "outer"]);
    let lines = lines(&shown.out);
    let names: Vec<&Value> = lines.iter().map(|line| &line["value"]["name"]).collect();
    assert_eq!(names, ["first", "second"], "{}", shown.out);
    assert!(lines.iter().all(|line| line["value"]["id"].as_u64().is_some_and(|id| id > 0)), "{}", shown.out);
    assert!(
        shown.out.contains(r#""entries":[{"key":0,"value":{"z":0,"a":0}},{"key":1,"value":{"z":7,"a":0}}]"#)
    );
    assert_eq!((&lines[0]["key"], &lines[1]["key"]), (&Value::from(0), &Value::from(2)));
    let text = ran(NESTED, &["--duration", "0.5", "--map", "outer"]).out;
    assert!(text.contains("\n2 second (map ") && text.contains("  1 {\"z\":7,\"a\":0}\n"), "{text}");
}

#[test]
fn iterators_write_json_where_json_is_asked_for() {
    needs_root!();
    let source = format!("{ITERATORS}{BYTES}char LICENSE[] SEC(\"license\") = \"GPL\";");
    let json = ran(&source, &["-j"]);
    assert_eq!(
        lines(&json.out),
        [
            "task 1\tis \"init\u{1}\u{fffd}\" \\".into(),
            "".into(),
            serde_json::json!({"data": "5c00220affffffff"})
        ]
    );
    let text = ran(&format!("{ITERATORS}char LICENSE[] SEC(\"license\") = \"GPL\";"), &[]);
    assert!(text.out.starts_with("task 1\tis \"init"), "{}", text.out);
}
