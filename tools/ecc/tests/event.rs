//! Structs that are recognised as events, and how they are added to the BTF.

mod support;

use serde_json::{Value, json};
use support::{Loaded, Project, may_load, named};

const RING: &str = r#"
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } ring SEC(".maps");
"#;

/// A program that sends `struct event`, which only a local variable uses.
fn sending(declarations: &str) -> String {
    format!(
        r#"{declarations}{RING}
        SEC("xdp") int send(void *ctx) {{
            struct event *event = bpf_ringbuf_reserve(&ring, sizeof(*event), 0);
            if (event) {{
                __builtin_memset(event, 0, sizeof(*event));
                bpf_ringbuf_submit(event, 0);
            }}
            return XDP_PASS;
        }}"#
    )
}

fn exports(meta: &Value) -> Vec<&str> {
    support::names(&meta["export_types"])
}

/// Every kind of member that an event can have.
const ALL_KINDS: &str = r#"
typedef unsigned int u32;
typedef struct { int low, high; } pair_t;
enum color { RED, GREEN = -5 };
enum wide { HUGE_VALUE = 0x123456789abcULL };
struct other;
struct inner { short a; union { int b; float c; }; struct { char d; } e; };
struct event {
    struct event *next;
    struct other *other;
    void (*call)(int);
    const char *text;
    u32 plain;
    unsigned bits:3, more:7;
    _Bool yes;
    enum color color;
    enum wide wide;
    pair_t pair;
    struct inner inner[2];
    int cube[2][3][4];
    char comm[16];
    double ratio;
    __int128 large;
    volatile const long qualified;
    char rest[];
};
"#;

#[test]
fn a_struct_that_only_a_local_variable_uses_is_added_to_the_btf() {
    let project = Project::new("local").source("local.bpf.c", &sending(ALL_KINDS));
    assert_eq!(project.compile(&["local.bpf.c"]), "");
    let meta = project.meta("local");
    assert_eq!(exports(&meta), ["event"]);
    let event = &meta["export_types"][0];
    let member = |name: &str| named(&event["members"], name)["type"].as_str().unwrap().to_string();
    let expected = [
        ("next", "struct event *"),
        ("other", "struct other *"),
        ("call", "void *"),
        ("text", "char *"),
        ("plain", "u32"),
        ("bits", "unsigned int"),
        ("yes", "bool"),
        ("color", "enum color"),
        ("wide", "enum wide"),
        ("pair", "pair_t"),
        ("inner", "struct inner[2]"),
        ("cube", "int[2][3][4]"),
        ("comm", "char[16]"),
        ("ratio", "double"),
        ("large", "__int128"),
        ("qualified", "long"),
        ("rest", "char[0]"),
    ];
    for (name, text) in expected {
        assert_eq!(member(name), text, "{name}");
    }
    let btf = project.btf("local");
    let id = event["type_id"].as_u64().unwrap();
    assert!(btf.contains(&format!("[{id}] STRUCT 'event' size={}", event["size"])), "{btf}");
    assert!(btf.contains("'more' type_id="), "{btf}");
    assert!(btf.contains("bitfield_size=7"), "{btf}");
    assert_eq!(btf.matches("STRUCT 'inner'").count(), 1, "{btf}");
}

#[test]
fn the_kernel_accepts_the_appended_types() {
    let project = Project::new("accepted").source("accepted.bpf.c", &sending(ALL_KINDS));
    project.compile(&["accepted.bpf.c"]);
    if may_load("the_kernel_accepts_the_appended_types") {
        let loaded = Loaded::load(&project, "accepted");
        loaded.run("send", 10, &project);
        assert_eq!(loaded.map("__eunomia_lost")[0]["values"][0]["cpu"], 0);
    }
}

#[test]
fn layouts_match_the_compiler() {
    // As a map value, the same struct is in clang's own BTF. Both descriptions must agree.
    let value = "struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, int);
                 __type(value, struct event); } array SEC(\".maps\");";
    let local = Project::new("layout-dwarf").source("l.bpf.c", &sending(ALL_KINDS));
    let stored = Project::new("layout-btf").source("l.bpf.c", &sending(&format!("{ALL_KINDS}{value}")));
    local.compile(&["l.bpf.c"]);
    stored.compile(&["l.bpf.c"]);
    let layout = |project: &Project, tag: &str| {
        let btf = project.btf("l");
        let lines = btf.lines().skip_while(|line| !line.contains(&format!("STRUCT '{tag}'"))).skip(1);
        let members = lines.take_while(|line| line.starts_with('\t'));
        let without_ids = members.map(|line| {
            let (name, rest) = line.split_once(" type_id=").unwrap();
            let place = rest.split_once(' ').unwrap().1;
            format!("{name} {place}")
        });
        without_ids.collect::<Vec<_>>()
    };
    for tag in ["event", "inner"] {
        let expected = layout(&stored, tag);
        assert!(!expected.is_empty());
        assert_eq!(layout(&local, tag), expected);
    }
    assert_eq!(local.meta("l")["export_types"][0]["size"], stored.meta("l")["export_types"][0]["size"]);
}

#[test]
fn types_that_are_already_in_the_btf_are_reused() {
    let value =
        "struct event { unsigned int a; }; struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1);
                 __type(key, int); __type(value, struct event); } scratch SEC(\".maps\");";
    let project = Project::new("known").source("k.bpf.c", &sending(value));
    project.compile(&["k.bpf.c"]);
    assert_eq!(exports(&project.meta("k")), ["event"]);
    assert_eq!(project.btf("k").matches("'event'").count(), 1);
    assert_eq!(project.btf("k").matches("INT 'unsigned int'").count(), 1);
}

const TWO: &str = "struct first { int a; char text[12]; };\nstruct event { int b; char text[12]; };";

/// A program with both structs of [`TWO`] that hides which one it sends.
fn hiding(declarations: &str) -> String {
    format!(
        r#"{declarations}{RING}
        SEC("xdp") int send(struct xdp_md *ctx) {{
            struct first *first = (void *)(long)ctx->data;
            if ((void *)(first + 1) > (void *)(long)ctx->data_end)
                return XDP_PASS;
            struct event event = {{ .b = first->a }};
            void *record = bpf_ringbuf_reserve(&ring, sizeof(event), 0);
            if (record) {{
                __builtin_memcpy(record, &event, sizeof(event));
                bpf_ringbuf_submit(record, 0);
            }}
            return XDP_PASS;
        }}"#
    )
}

#[test]
fn ambiguous_event_types_are_reported_and_not_guessed() {
    let project = Project::new("several").source("s.bpf.c", &hiding(TWO));
    let messages = project.compile(&["s.bpf.c"]);
    assert_eq!(messages.lines().count(), 1, "{messages}");
    assert!(
        messages.starts_with("ecc: warning: map \"ring\": ambiguous event type, candidates: "),
        "{messages}"
    );
    assert!(messages.contains("first (s.bpf.c:3)") && messages.contains("event (s.bpf.c:4)"), "{messages}");
    assert!(messages.contains("add the line /// @export ring above the right one"), "{messages}");
    assert_eq!(project.meta("s")["export_types"], json!([]));
}

#[test]
fn the_suggested_annotation_selects_the_event_type() {
    for (name, line) in [("export", "/// @export"), ("export-map", "/** What is sent.\n * @export ring */")] {
        let declarations = TWO.replace("struct event {", &format!("{line}\nstruct event {{"));
        let project = Project::new(name).source("s.bpf.c", &hiding(&declarations));
        assert_eq!(project.compile(&["s.bpf.c"]), "", "{line}");
        assert_eq!(exports(&project.meta("s")), ["event"], "{line}");
    }
}

#[test]
fn export_config_selects_the_event_type_of_a_map() {
    let config =
        |name: &str| hiding(TWO).replace("\nstruct {", &format!("\n/// @export_config {name}\nstruct {{"));
    let project = Project::new("export-config").source("s.bpf.c", &config("struct first"));
    assert_eq!(project.compile(&["s.bpf.c"]), "");
    assert_eq!(exports(&project.meta("s")), ["first"]);
    assert!(named(&project.meta("s")["bpf_skel"]["maps"], "ring")["export_config"].is_null());
    let wrong = Project::new("export-nothing").source("s.bpf.c", &config("frist"));
    let error = wrong.error(&["s.bpf.c"]);
    assert!(
        error.ends_with("ring: @export_config \"frist\": the program uses no struct with this name"),
        "{error}"
    );
    assert!(error.contains("s.bpf.c:"), "{error}");
}

/// Calls that send events in various ways; all structs have the same size.
#[test]
fn event_types_are_found_from_calls() {
    let source = r#"
        struct start { long at[4]; };
        struct opened { long a[4]; };
        struct closed { long b[4]; };
        struct line { unsigned int len; char text[60]; };
        struct { __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __uint(key_size, 4); __uint(value_size, 4); } opens SEC(".maps");
        struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } closes SEC(".maps");
        struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } lines SEC(".maps");
        struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 1); __type(key, int); __type(value, struct line); } heap SEC(".maps");
        struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 9); __type(key, int); __type(value, struct start); } starts SEC(".maps");

        #define SEND(map, what) bpf_perf_event_output(ctx, &map, BPF_F_CURRENT_CPU, what, sizeof(*(what)))
        static inline void submit(void *ctx, struct opened *opened) { SEND(opens, opened); }

        SEC("xdp") int send(struct xdp_md *ctx) {
            struct opened opened[1] = {};
            struct start start = {};
            int key = 0;
            bpf_map_update_elem(&starts, &key, &start, 0);
            submit(ctx, opened);
            struct closed *closed = bpf_ringbuf_reserve(&closes, sizeof(*closed), 0);
            if (closed) {
                closed->b[0] = 1;
                bpf_ringbuf_submit(closed, 0);
            }
            struct line *line = bpf_map_lookup_elem(&heap, &key);
            if (line) {
                line->len = ctx->rx_queue_index & 63;
                bpf_ringbuf_output(&lines, line, __builtin_offsetof(struct line, text) + (line->len & 31), 0);
            }
            return XDP_PASS;
        }"#;
    let project = Project::new("calls").source("c.bpf.c", source);
    for flags in [&["c.bpf.c"][..], &["c.bpf.c", "--no-count-lost"]] {
        assert_eq!(project.compile(flags), "");
        let meta = project.meta("c");
        let event = |map: &str| {
            let id = &named(&meta["bpf_skel"]["maps"], map)["export_config"]["btf_type_id"];
            let types = meta["export_types"].as_array().unwrap();
            types
                .iter()
                .find(|ty| ty["type_id"] == *id)
                .map(|ty| ty["name"].as_str().unwrap())
                .unwrap()
                .to_owned()
        };
        assert_eq!([event("opens"), event("closes"), event("lines")], ["opened", "closed", "line"]);
    }
    if may_load("event_types_are_found_from_calls") {
        Loaded::load(&project, "c").run("send", 3, &project);
    }
}

#[test]
fn an_unused_buffer_needs_no_event_type() {
    let source = format!("struct one {{ int a; }}; struct two {{ int a; }};{RING}")
        + r#"
        SEC("xdp") int use(void *ctx) {
            struct one one = {}; struct two two = {};
            bpf_trace_printk((void *)&one, sizeof(one), bpf_ringbuf_query(&ring, 0));
            bpf_trace_printk((void *)&two, sizeof(two));
            return 2;
        }"#;
    let project = Project::new("unsent").source("u.bpf.c", &source);
    assert_eq!(project.compile(&["u.bpf.c"]), "");
}

#[test]
fn the_header_defines_the_event_structs() {
    let source = format!("#include \"event.h\"\nstruct first {{ int a; char text[12]; }};\n{}", sending(""))
        + "SEC(\"xdp\") int two(struct first *first) { return first->a; }";
    let project = Project::new("header").source("h.bpf.c", &source).file(
        "event.h",
        "// struct ghost { int a; };\nstruct part { int c; };\nstruct event { struct part b; char text[12]; };\n",
    );
    assert_eq!(project.compile(&["h.bpf.c", "event.h"]), "");
    let meta = project.meta("h");
    // The type that is sent comes first, independent of the order in the header.
    assert_eq!(exports(&meta), ["event", "part"]);
    let ring = named(&meta["bpf_skel"]["maps"], "ring");
    assert_eq!(ring["export_config"]["btf_type_id"], meta["export_types"][0]["type_id"]);
    assert_eq!(named(&meta["export_types"][0]["members"], "b")["type"], "composite");
}

#[test]
fn structs_in_other_roles_are_not_events() {
    let source = r#"
        struct key { int a; char text[12]; };
        struct part { int c[4]; };
        struct event { struct part part; };
        struct task_struct___old { int a[4]; } __attribute__((preserve_access_index));
        struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 9); __type(key, struct key); __type(value, int); }
        seen SEC(".maps");
        static void fill(struct event *event) { __builtin_memset(event, 1, sizeof(*event)); }
    "#
    .to_string()
        + RING
        + r#"
        SEC("tp_btf/sched_switch") int send(struct task_struct___old *task) {
            struct event event;
            struct key key = {};
            fill(&event);
            bpf_map_lookup_elem(&seen, &key);
            event.part.c[0] = task->a[0];
            void *hidden = &event;
            bpf_ringbuf_output(&ring, hidden, sizeof(event), 0);
            return 0;
        }"#;
    let project = Project::new("roles").source("r.bpf.c", &source);
    assert_eq!(project.compile(&["r.bpf.c"]), "");
    assert_eq!(exports(&project.meta("r")), ["event"]);
}

#[test]
fn each_map_has_its_own_event_type() {
    let source = r#"
        struct small { int a; };
        typedef struct { long a, b; } large_t;
        struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } one SEC(".maps");
        struct { __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __uint(key_size, 4); __uint(value_size, 4); }
        two SEC(".maps");
        SEC("xdp") int send(struct xdp_md *ctx) {
            struct small small = { 1 };
            large_t large = { 2, 3 };
            bpf_ringbuf_output(&one, &small, sizeof(small), 0);
            bpf_perf_event_output(ctx, &two, BPF_F_CURRENT_CPU, &large, sizeof(large));
            return XDP_PASS;
        }"#;
    let project = Project::new("two-maps").source("t.bpf.c", source);
    assert_eq!(project.compile(&["t.bpf.c"]), "");
    let meta = project.meta("t");
    assert_eq!(exports(&meta), ["small", "large_t"]);
    let maps = &meta["bpf_skel"]["maps"];
    assert_eq!(named(maps, "one")["export_config"]["btf_type_id"], meta["export_types"][0]["type_id"]);
    assert_eq!(named(maps, "two")["export_config"]["btf_type_id"], meta["export_types"][1]["type_id"]);
    assert!(named(maps, "__eunomia_lost").get("export_config").is_none());
}

#[test]
fn events_of_unknown_size_have_the_type_of_the_argument() {
    let source = r#"
        struct event { int len; char text[64]; };
        struct { __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __uint(key_size, 4); __uint(value_size, 4); }
        events SEC(".maps");
        SEC("xdp") int send(struct xdp_md *ctx) {
            struct event event = {};
            event.len = bpf_get_prandom_u32() & 63;
            bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, &event, 4 + event.len);
            return XDP_PASS;
        }"#;
    let project = Project::new("variable").source("v.bpf.c", source);
    assert_eq!(project.compile(&["v.bpf.c"]), "");
    assert_eq!(exports(&project.meta("v")), ["event"]);
}

#[test]
fn bytes_are_reported_as_an_unknown_type() {
    let source = RING.to_string()
        + "SEC(\"xdp\") int send(void *ctx) {
            char text[8] = {}; bpf_get_current_comm(text, sizeof(text));
            bpf_ringbuf_output(&ring, text, sizeof(text), 0); return 2; }";
    let project = Project::new("no-struct").source("n.bpf.c", &source);
    let messages = project.compile(&["n.bpf.c"]);
    assert_eq!(
        messages,
        "ecc: warning: map \"ring\": no struct in the program's own files fits its events\n"
    );
    let ring = &project.meta("n")["bpf_skel"]["maps"][0];
    assert_eq!(ring["export_config"], json!({"btf_type_id": 0}), "nobody is to guess");
}
