//! Annotations in comments above declarations become metadata.

mod support;

use serde_json::json;
use support::{Project, named};

const SOURCE: &str = r#"
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "settings.h"

/// @description "trace only this process"
/// @cmdarg {"default": 0, "short": "p", "long": "pid"}
const volatile int pid = 0;

/** The least duration.
 *  @cmdarg {"help": "in ms;
 *            0: all"}
 */
const volatile
unsigned long
least = 1;

// Not documentation.
int plain;
int behind; ///< after a program has run
/* @cmdarg {} */ int ordinary;
int first = 1; /** only the first */ int second = 2, third;

/// @name other
/// @description {not json}
/// @free [1, 2]
int odd;

/// @sample {"interval": 1000, "type": "log2_hist", "unit": "us"}
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 1024);
    /// not this one
    __type(key, int);
    __type(value, long);
} histogram SEC(".maps");

/// @sample {"interval": 10, "clear_map": true}
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, int); __type(value, int); } slots SEC(".maps");

/// @tchook {"ifindex": 1, "attach_point": "BPF_TC_EGRESS"} @tcopts {"handle": 2, "priority": 3}
SEC("tc")
int egress(struct __sk_buff *skb) { return plain + behind + ordinary + first + second + third + odd + nested; }

/// @ifindex 2
/// @flags 0
/// @xdpopts {"old_prog_fd": 0}
SEC("xdp") int pass(struct xdp_md *ctx) { return pid ? XDP_PASS : XDP_DROP; }

/// @perf_event {"type": 1, "config": 0, "frequency": 99}
/// @interface eth0
/// @cgroup /sys/fs/cgroup/test
SEC("raw_tp/sched_switch")
int BPF_PROG(switched,
             int preempt)
{
    return least && preempt;
}

/// Watches packets.
///
/// @brief one line
/// @version 1.0
char _license[] SEC("license") = "GPL";
"#;

const SETTINGS: &str = "/// @cmdarg {\"long\": \"nested\"}\nint nested;\n";

fn project(name: &str) -> Project {
    Project::new(name).file("notes.bpf.c", SOURCE).file("settings.h", SETTINGS)
}

#[test]
fn annotations_of_variables_are_in_the_metadata() {
    let project = project("variables");
    let messages = project.compile(&["notes.bpf.c"]);
    let sections = project.meta("notes")["bpf_skel"]["data_sections"].clone();
    let variable = |section: &str, name: &str| named(&named(&sections, section)["variables"], name).clone();
    assert_eq!(
        variable(".rodata", "pid"),
        json!({
            "name": "pid", "type": "int", "description": "trace only this process",
            "cmdarg": {"default": 0, "short": "p", "long": "pid"},
        })
    );
    assert_eq!(
        variable(".rodata", "least"),
        json!({
            "name": "least", "type": "unsigned long", "description": "The least duration.",
            "cmdarg": {"help": "in ms; 0: all"},
        })
    );
    assert_eq!(variable(".bss", "plain"), json!({"name": "plain", "type": "int"}));
    assert_eq!(variable(".bss", "behind")["description"], "after a program has run");
    assert_eq!(variable(".bss", "ordinary"), json!({"name": "ordinary", "type": "int"}));
    assert_eq!(variable(".data", "first"), json!({"name": "first", "type": "int"}));
    assert_eq!(variable(".data", "second")["description"], "only the first");
    assert_eq!(variable(".bss", "third")["description"], "only the first");
    assert_eq!(variable(".bss", "nested")["cmdarg"], json!({"long": "nested"}));
    let odd = json!({"name": "odd", "type": "int", "description": "{not json}", "free": [1, 2]});
    assert_eq!(variable(".bss", "odd"), odd);
    let messages: Vec<_> = messages.lines().map(|line| line.rsplit_once('/').unwrap().1).collect();
    assert_eq!(
        messages,
        [
            "notes.bpf.c:27: odd: @free: unknown annotation, copied unchanged",
            "notes.bpf.c:25: odd: @name: reserved key, ignored"
        ]
    );
}

#[test]
fn invalid_annotations_are_refused() {
    for (right, wrong, message) in [
        (
            "\"short\": \"p\"",
            "\"short\": p",
            "8: pid: @cmdarg: expected a JSON object, but {\"default\": 0, \"short\": p, \"long\": \"pid\"} is not valid JSON: expected value",
        ),
        (
            "all\"}",
            "all\"",
            "12: least: @cmdarg: expected a JSON object, but {\"help\": \"in ms; 0: all\" is not valid JSON: EOF while parsing an object",
        ),
        (
            "@xdpopts {\"old_prog_fd\": 0}",
            "@xdpopts 3",
            "48: pass: @xdpopts: expected a JSON object, found 3",
        ),
    ] {
        let source = SOURCE.replace(right, wrong);
        assert_ne!(source, SOURCE);
        let project = Project::new("malformed").file("notes.bpf.c", &source).file("settings.h", SETTINGS);
        let error = project.error(&["notes.bpf.c"]);
        assert!(error.ends_with(&format!("notes.bpf.c:{message}")), "{error}");
        assert!(!project.path("notes.bpf.o").exists());
    }
}

#[test]
fn annotations_of_maps_are_in_the_metadata() {
    let project = project("maps");
    project.compile(&["notes.bpf.c"]);
    let maps = project.meta("notes")["bpf_skel"]["maps"].clone();
    let expected = json!({"interval": 1000, "type": "log2_hist", "unit": "us", "clear_map": false});
    assert_eq!(named(&maps, "histogram")["sample"], expected);
    assert_eq!(named(&maps, "slots")["sample"], json!({"interval": 10, "clear_map": true}));
}

#[test]
fn annotations_of_programs_are_in_the_metadata() {
    let project = project("programs");
    project.compile(&["notes.bpf.c"]);
    let programs = project.meta("notes")["bpf_skel"]["progs"].clone();
    assert_eq!(
        named(&programs, "egress"),
        &json!({
            "name": "egress", "attach": "tc", "link": true,
            "tchook": {"ifindex": 1, "attach_point": "BPF_TC_EGRESS"}, "tcopts": {"handle": 2, "priority": 3},
        })
    );
    assert_eq!(
        named(&programs, "pass"),
        &json!({
            "name": "pass", "attach": "xdp", "link": true, "ifindex": 2, "flags": 0, "xdpopts": {"old_prog_fd": 0},
        })
    );
    assert_eq!(
        named(&programs, "switched"),
        &json!({
            "name": "switched", "attach": "raw_tp/sched_switch", "link": true,
            "perf_event": {"type": 1, "config": 0, "frequency": 99}, "interface": "eth0", "cgroup": "/sys/fs/cgroup/test",
        })
    );
}

#[test]
fn the_license_describes_the_program() {
    let project = project("license");
    project.compile(&["notes.bpf.c"]);
    let doc = json!({"description": "Watches packets.", "brief": "one line", "version": "1.0"});
    assert_eq!(project.meta("notes")["bpf_skel"]["doc"], doc);
}

#[test]
fn the_package_reader_accepts_the_annotations() {
    let project = project("understood");
    project.compile(&["notes.bpf.c"]);
    let meta = project.package().meta;
    let least = meta.vars.iter().find(|variable| variable.name == "least").unwrap();
    assert_eq!(least.cmdarg.as_ref().unwrap().help.as_deref(), Some("in ms; 0: all"));
    assert_eq!(meta.doc.version.as_deref(), Some("1.0"));
    let egress = meta.progs.iter().find(|program| program.name == "egress").unwrap();
    assert_eq!((egress.target.tc.handle, egress.target.tc.priority), (2, 3));
}

#[test]
fn one_of_two_hooks_at_the_same_place_is_used_unless_the_source_decides() {
    let hook = |comment: &str, section: &str| {
        let name = section.replace('/', "_");
        format!("{comment}\nSEC(\"{section}\") int {name}(void *ctx) {{ return 0; }}\n")
    };
    let hooks = |comments: [&str; 3]| {
        hook(comments[0], "fentry/f") + &hook(comments[1], "kprobe/f") + &hook(comments[2], "tp/syscalls/g")
    };
    for (comments, expected) in [
        (["", "", ""], [json!("kprobe_f"), json!(null), json!(null)]),
        (["", "", "/// @instead_of fentry_f"], [json!("kprobe_f"), json!(null), json!("fentry_f")]),
        (["", "", "/// @instead_of kprobe_f"], [json!(null), json!(null), json!("kprobe_f")]),
        (["/// @instead_of tp_syscalls_g", "", ""], [json!("tp_syscalls_g"), json!(null), json!(null)]),
        (["", "/// @autoload false", ""], [json!(null), json!(null), json!(null)]),
    ] {
        let project = Project::new("two-hooks").source("twice.bpf.c", &hooks(comments));
        project.compile(&["twice.bpf.c"]);
        let programs = project.meta("twice")["bpf_skel"]["progs"].clone();
        let found = ["fentry_f", "kprobe_f", "tp_syscalls_g"]
            .map(|name| named(&programs, name).get("instead_of").cloned().unwrap_or_default());
        assert_eq!(found, expected, "{comments:?}");
        // The library accepts each package.
        project.package();
    }
}

#[test]
fn every_documented_key_of_programs_is_a_known_annotation() {
    let common = "/// @path /bin/sh\n/// @pid -1\n/// @required true\n/// @autoload true\n/// @interface lo\n/// @ifindex 1\n\
                  /// @flags 0\n/// @cgroup /sys";
    let source = format!(
        "{common}\n/// @func main\n/// @offset 4\nSEC(\"uprobe\") int one(void *ctx) {{ return 0; }}\n\
         {common}\n/// @address 0x1000\n/// @build_id ab12\nSEC(\"uprobe\") int two(void *ctx) {{ return 0; }}"
    );
    let project = Project::new("known-keys").source("keys.bpf.c", &source);
    assert_eq!(project.compile(&["keys.bpf.c"]), "");
}
