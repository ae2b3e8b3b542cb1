//! Programs count the events that are dropped because a ring buffer is full.

mod support;

use serde_json::Value;
use support::{Loaded, Project, may_load, names};

/// Sends 1 event of 56 bytes (64 with its header) per packet, into a ring of 4096 bytes.
const RESERVE: &str = r#"
struct event { char text[56]; };
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } ring SEC(".maps");
unsigned long long sent;
SEC("xdp") int send(void *ctx) {
    struct event *event = bpf_ringbuf_reserve(&ring, sizeof(*event), 0);
    if (!event)
        return XDP_PASS;
    event->text[0] = 1;
    sent++;
    bpf_ringbuf_submit(event, 0);
    return XDP_PASS;
}
"#;

const OUTPUT: &str = r#"
struct event { char text[56]; };
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } ring SEC(".maps");
unsigned long long sent;
SEC("xdp") int send(void *ctx) {
    if (bpf_ringbuf_output(&ring, &(struct event){{1, 2}}, sizeof(struct event), 0) == 0)
        sent++;
    return XDP_PASS;
}
"#;

const DYNPTR: &str = r#"
struct event { char text[56]; };
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } ring SEC(".maps");
unsigned long long sent;
SEC("xdp") int send(void *ctx) {
    struct event event = { .text = "a" };
    struct bpf_dynptr record;
    if (bpf_ringbuf_reserve_dynptr(&ring, sizeof(event), 0, &record) == 0) {
        bpf_dynptr_write(&record, 0, &event, sizeof(event), 0);
        sent++;
    }
    bpf_ringbuf_submit_dynptr(&record, 0);
    return XDP_PASS;
}
"#;

/// The sum over all CPUs.
fn lost(map: &Value) -> u64 {
    let values = map[0]["formatted"]["values"].as_array().expect("bpftool knows the type from BTF");
    values.iter().map(|cpu| cpu["value"].as_u64().unwrap()).sum()
}

fn counts(name: &str, source: &str) {
    let project = Project::new(name).source(&format!("{name}.bpf.c"), source);
    project.compile(&[&format!("{name}.bpf.c")]);
    if !may_load(name) {
        return;
    }
    let loaded = Loaded::load(&project, name);
    loaded.run("send", 1000, &project);
    let sent = loaded.map(&format!("{name}_bss"));
    let sent = sent[0]["formatted"]["value"][".bss"][0]["sent"].as_u64().unwrap();
    assert!(sent > 0 && sent < 1000, "{sent}");
    assert_eq!(lost(&loaded.map("__eunomia_lost")), 1000 - sent);
}

#[test]
fn a_failed_reservation_is_counted() {
    counts("reserve", RESERVE);
}

#[test]
fn a_failed_output_is_counted() {
    counts("outputs", OUTPUT);
}

#[test]
fn a_failed_reservation_of_a_dynptr_is_counted() {
    counts("dynptr", DYNPTR);
}

#[test]
fn only_programs_with_a_ring_buffer_count() {
    let perf = r#"
        struct event { int a; };
        struct { __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __uint(key_size, 4); __uint(value_size, 4); }
        events SEC(".maps");
        SEC("tp/sched/sched_switch") int send(void *ctx) {
            struct event event = { 1 };
            return bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, &event, sizeof(event));
        }"#;
    let project = Project::new("no-ring").source("perf.bpf.c", perf).source("ring.bpf.c", RESERVE);
    project.compile(&["perf.bpf.c"]);
    assert_eq!(names(&project.meta("perf")["bpf_skel"]["maps"]), ["events"]);
    assert!(!project.object("perf").windows(13).any(|bytes| bytes == b"_eunomia_lost"));
    project.compile(&["ring.bpf.c", "--no-count-lost"]);
    assert_eq!(names(&project.meta("ring")["bpf_skel"]["maps"]), ["ring", "ring_bpf.bss"]);
}

#[test]
fn counting_adds_little_to_an_object() {
    let project = Project::new("small").source("ring.bpf.c", RESERVE);
    project.compile(&["ring.bpf.c", "--no-count-lost"]);
    let without = project.object("ring").len();
    project.compile(&["ring.bpf.c"]);
    let with = project.object("ring").len();
    assert!(with > without && with - without < 1500, "{without} and {with} bytes");
}

#[test]
fn other_uses_of_the_helper_names_are_unchanged() {
    let source = r#"
        struct event { int a; };
        struct ops { int (*bpf_ringbuf_output)(void *ring, int a); };
        struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } ring SEC(".maps");
        static const void *address = (void *)&bpf_ringbuf_reserve;
        SEC("xdp") int send(void *ctx) {
            void *(*reserve)(void *, __u64, __u64) = bpf_ringbuf_reserve;
            struct event *bpf_ringbuf_reserved = reserve(&ring, sizeof(struct event), 0);
            if (bpf_ringbuf_reserved)
                bpf_ringbuf_discard(bpf_ringbuf_reserved, 0);
            return XDP_PASS;
        }"#;
    let project = Project::new("names").source("names.bpf.c", source);
    assert_eq!(project.compile(&["names.bpf.c", "-a", "-Wno-unused"]), "");
    let with_wall =
        project.compile(&["names.bpf.c", "-a", "-Wall -Wextra -Wno-unused-parameter -Werror -Wno-unused"]);
    assert_eq!(with_wall, "");
}
