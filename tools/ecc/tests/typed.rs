//! Records that are not tagged structs, as hosts receive them.

mod support;

use std::process::Command;
use std::time::Duration;

use eunomia::{Event, Flow, Format, Kind, Options, Vm};
use rustix::process::getpgid;
use serde_json::{Value, json};
use support::{LICENSE, Project, may_load, names};

/// Sends one record of each type, each through its own buffer.
fn source() -> String {
    let send = |ring: &str, declared: &str| {
        format!("{declared}; bpf_ringbuf_output(&{ring}, &record_{ring}, sizeof(record_{ring}), 0);")
    };
    let sends = [
        send("tagged", "struct tagged record_tagged = { 1, 2 }"),
        send("untagged", "untagged_t record_untagged = { 0x0100007f, 4 }"),
        send("either", "union either record_either = { .number = 5 }"),
        send("nameless", "nameless_t record_nameless = { .number = 6 }"),
        send("number", "stamp_t record_number = 18446744073709551615ULL"),
        send("negative", "int record_negative = -7"),
        send("color", "enum color record_color = GREEN"),
        send("animal", "animal_t record_animal = DOG"),
        send("array", "u32 record_array[3] = { 1, 2, 3 }"),
    ];
    format!(
        r#"#include <linux/bpf.h>
        #include <bpf/bpf_helpers.h>
        typedef unsigned int u32; typedef unsigned long long u64;
        #define RING(name) struct {{ __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); }} name SEC(".maps")
        RING(tagged); RING(untagged); RING(either); RING(nameless); RING(number); RING(negative); RING(color);
        RING(animal); RING(array);
        struct tagged {{ u32 a, b; }};
        typedef struct {{
            u32 address; ///< @format ipv4
            u32 count;
        }} untagged_t;
        union either {{ u32 number; unsigned char bytes[4]; }};
        typedef union {{ u32 number; unsigned char bytes[5]; }} nameless_t;
        typedef u64 stamp_t;
        enum color {{ RED, GREEN }};
        typedef enum {{ CAT = 3, DOG }} animal_t;
        int pid;
        SEC("tracepoint/syscalls/sys_enter_getpgid") int called(void *ctx) {{
            if (bpf_get_current_pid_tgid() >> 32 != pid) return 0;
            {}
            return 0;
        }}
        {LICENSE}"#,
        sends.join("\n")
    )
}

/// The event that each buffer delivers for a system call of this process.
fn delivered(vm: &Vm, format: Format, count: usize) -> Vec<(String, String)> {
    vm.var_set_json("pid", &std::process::id().to_string()).unwrap();
    vm.attach().unwrap();
    getpgid(None).unwrap();
    let mut events = Vec::new();
    while events.len() < count {
        let mut keep = |event: &Event| {
            if event.kind == eunomia::EventKind::Sample {
                let text = String::from_utf8_lossy(event.data).into_owned();
                events.push((event.source.to_string_lossy().into_owned(), text));
            }
            Flow::Continue
        };
        assert!(vm.poll(Some(Duration::from_secs(5)), format, &mut keep).unwrap() > 0);
    }
    events.sort();
    events
}

fn values(events: &[(String, String)]) -> Value {
    events.iter().map(|(name, text)| (name.clone(), serde_json::from_str::<Value>(text).unwrap())).collect()
}

#[test]
fn untagged_structs_unions_numbers_and_enums_are_decoded() {
    let project = Project::new("typed").file("t.bpf.c", &source());
    assert_eq!(project.compile(&["t.bpf.c", "--event-header"]), "");
    let types = &project.meta("t")["export_types"];
    let expected =
        ["tagged", "untagged_t", "either", "nameless_t", "stamp_t", "int", "color", "animal_t", "u32[3]"];
    assert_eq!(names(types), expected);
    let sizes: Vec<_> = types.as_array().unwrap().iter().map(|ty| ty["size"].as_u64().unwrap()).collect();
    assert_eq!(sizes, [8, 8, 4, 8, 8, 4, 4, 4, 12]);
    if !may_load("untagged_structs_unions_numbers_and_enums_are_decoded") {
        return;
    }
    let open = || {
        let vm = Vm::new(Options::new()).unwrap();
        vm.open(&std::fs::read(project.path("package.json")).unwrap(), Kind::Json).unwrap();
        vm
    };
    let expected = json!({
        "tagged": {"a": 1, "b": 2}, "untagged": {"address": "127.0.0.1", "count": 4},
        "either": {"number": 5, "bytes": [5, 0, 0, 0]}, "nameless": {"number": 6, "bytes": [6, 0, 0, 0, 0]},
        "number": 18446744073709551615u64, "negative": -7, "color": "GREEN", "animal": "DOG", "array": [1, 2, 3],
    });
    assert_eq!(values(&delivered(&open(), Format::Json, 9)), expected);
    let rows = delivered(&open(), Format::Text, 9);
    let cells = |name: &str| {
        let row = &rows.iter().find(|(source, _)| source == name).unwrap().1;
        row.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(cells("untagged"), "127.0.0.1 4");
    assert_eq!([cells("number"), cells("negative"), cells("color")], ["18446744073709551615", "-7", "GREEN"]);
}

#[test]
fn a_single_record_type_needs_no_tag_either() {
    let only = source().replace("RING(tagged); RING(untagged)", "RING(untagged)");
    let only = only.replace("RING(either); RING(nameless); RING(number); RING(negative); RING(color);", "");
    let only = only.replace("RING(animal); RING(array);", "");
    let lines =
        only.lines().filter(|line| !line.contains("bpf_ringbuf_output") || line.contains("&untagged"));
    let project = Project::new("typed-one").file("t.bpf.c", &lines.collect::<Vec<_>>().join("\n"));
    assert_eq!(project.compile(&["t.bpf.c"]), "");
    let meta = project.meta("t");
    assert_eq!(names(&meta["export_types"]), ["untagged_t"]);
    if may_load("a_single_record_type_needs_no_tag_either") {
        let vm = Vm::new(Options::new()).unwrap();
        vm.open(&std::fs::read(project.path("package.json")).unwrap(), Kind::Json).unwrap();
        let events = values(&delivered(&vm, Format::Json, 1));
        assert_eq!(events, json!({"untagged": {"address": "127.0.0.1", "count": 4}}));
    }
}

#[test]
fn without_metadata_types_come_from_the_definitions_of_buffers() {
    let mut source = source().replace("#define RING(name)", "#define NONE(name)").replace(
        "struct tagged {",
        r#"#define RING(name, T) struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); __type(value, T); } \
            name SEC(".maps")
        struct tagged {"#,
    );
    let rings = "RING(tagged); RING(untagged); RING(either); RING(nameless); RING(number); RING(negative); RING(color);
        RING(animal); RING(array);";
    assert!(source.contains(rings));
    source = source.replace(rings, "").replace(
        "int pid;",
        "RING(tagged, struct tagged); RING(untagged, untagged_t); RING(either, union either); RING(nameless, nameless_t);
        RING(number, stamp_t); RING(negative, int); RING(color, enum color); RING(animal, animal_t); RING(array, u32[3]);
        int pid;",
    );
    let project = Project::new("typed-object").file("t.bpf.c", &source);
    assert_eq!(project.compile(&["t.bpf.c"]), "");
    if may_load("without_metadata_types_come_from_the_definitions_of_buffers") {
        let vm = Vm::new(Options::new()).unwrap();
        vm.open_object(&project.object("t"), None).unwrap();
        let expected = json!({
            "tagged": {"a": 1, "b": 2}, "untagged": {"address": 16777343, "count": 4},
            "either": {"number": 5, "bytes": [5, 0, 0, 0]}, "nameless": {"number": 6, "bytes": [6, 0, 0, 0, 0]},
            "number": 18446744073709551615u64, "negative": -7, "color": "GREEN", "animal": "DOG", "array": [1, 2, 3],
        });
        assert_eq!(values(&delivered(&vm, Format::Json, 9)), expected);
    }
}

#[test]
fn untyped_records_are_delivered_raw_even_if_the_package_has_types() {
    // The only struct of the package belongs to the other buffer.
    let source = format!(
        r#"#include <linux/bpf.h>
        #include <bpf/bpf_helpers.h>
        #define RING(name) struct {{ __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); }} name SEC(".maps")
        RING(known); RING(bytes);
        struct event {{ int a; char text[12]; }};
        int pid;
        SEC("tracepoint/syscalls/sys_enter_getpgid") int called(void *ctx) {{
            if (bpf_get_current_pid_tgid() >> 32 != pid) return 0;
            struct event event = {{ 1 }};
            char text[16] = "bytes";
            bpf_ringbuf_output(&known, &event, sizeof(event), 0);
            bpf_ringbuf_output(&bytes, text, sizeof(text), 0);
            return 0;
        }}
        {LICENSE}"#
    );
    let project = Project::new("typed-raw").file("t.bpf.c", &source);
    let messages = project.compile(&["t.bpf.c"]);
    assert!(
        messages.contains("map \"bytes\": ambiguous event type, candidates: event (t.bpf.c:5)"),
        "{messages}"
    );
    if may_load("untyped_records_are_delivered_raw_even_if_the_package_has_types") {
        let vm = Vm::new(Options::new()).unwrap();
        vm.open(&std::fs::read(project.path("package.json")).unwrap(), Kind::Json).unwrap();
        let expected =
            json!({"known": {"a": 1, "text": ""}, "bytes": {"data": "62797465730000000000000000000000"}});
        assert_eq!(values(&delivered(&vm, Format::Json, 2)), expected);
    }
}

#[test]
fn the_event_header_defines_unions_and_describes_other_events() {
    let project = Project::new("typed-header").file("t.bpf.c", &source());
    project.compile(&["t.bpf.c", "--event-header"]);
    let header = std::fs::read_to_string(project.path("t.event.h")).unwrap();
    for part in [
        "typedef struct {\n    uint32_t address;\n    uint32_t count;\n} untagged_t;",
        "union either {",
        "typedef union {\n    uint32_t number;\n    uint8_t bytes[5];\n} nameless_t;",
        "// An event is uint64_t, the program's stamp_t\n",
        "// An event is uint32_t, the program's enum color: RED 0, GREEN 1\n",
        "// An event is uint32_t[3], the program's u32[3]\n",
    ] {
        assert!(header.contains(part), "{part}\n{header}");
    }
    for compiler in [&["cc", "-std=c99", "-xc"][..], &["c++", "-std=c++11", "-xc++"]] {
        let output = Command::new(compiler[0])
            .args(&compiler[1..])
            .args(["-fsyntax-only", "-Wall", "-Werror"])
            .arg(project.path("t.event.h"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
