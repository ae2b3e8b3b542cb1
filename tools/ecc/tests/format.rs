//! Comments of struct members become metadata; formats that do not fit are reported with their line.

mod support;

use serde_json::json;
use support::{Project, named};

const HEADER: &str = r#"
typedef unsigned int __be32;

union either {
    __be32 v4;         ///< @format ipv4
    unsigned char v6[16]; ///< @format ipv6
};

typedef struct {
    unsigned char mac[6]; /**< @format mac */
    unsigned short port;  ///< in host order
} peer_t;

/// Not a member.
struct event {
    /// Who connects.
    int pid;
    int ret; ///< @format errno
             ///< the result of connect(2)
    /** @format syscall */
    long nr;
    __be32 saddr, daddr; ///< @format ipv4
    __be32 plain;
    union {
        unsigned int signal; ///< @format signal
        unsigned int other;
    };
    struct {
        /// @format hex
        unsigned long long cookie;
        struct {
            unsigned long long at; ///< @format ktime
        } inner;
    } args[2];
    union either address;
    peer_t peer;
    unsigned long long took; ///< @format duration
    unsigned long long stack[8]; ///< @format stack
};
"#;

const SOURCE: &str = r#"
#include "conn.h"
struct key {
    /// @format ipv4
    unsigned int daddr;
    unsigned int port;
};
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } events SEC(".maps");
/// @sample {"interval": 1000}
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 16); __type(key, struct key); __type(value, peer_t); }
counts SEC(".maps");
SEC("tp/sched/sched_process_exec") int exec(void *ctx) {
    struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
    if (event)
        bpf_ringbuf_submit(event, 0);
    return 0;
}
"#;

#[test]
fn formats_and_descriptions_of_members_are_in_the_metadata() {
    let project = Project::new("member-formats").file("conn.h", HEADER).source("conn.bpf.c", SOURCE);
    assert_eq!(project.compile(&["conn.bpf.c"]), "");
    let meta = project.meta("conn");
    assert_eq!(
        meta["formats"],
        json!({
            "either": {"v4": "ipv4", "v6": "ipv6"},
            "event": {
                "ret": "errno", "nr": "syscall", "saddr": "ipv4", "daddr": "ipv4", "signal": "signal",
                "args.cookie": "hex", "args.inner.at": "ktime", "took": "duration", "stack": "stack",
            },
            "key": {"daddr": "ipv4"},
            "peer_t": {"mac": "mac"},
        })
    );
    let members = &meta["export_types"][0]["members"];
    let pid = json!({"name": "pid", "type": "int", "description": "Who connects."});
    assert_eq!(named(members, "pid"), &pid);
    assert_eq!(named(members, "ret")["description"], "the result of connect(2)");
    assert_eq!(named(members, "plain"), &json!({"name": "plain", "type": "__be32"}));
    assert_eq!(project.package().meta.formats.len(), 13);
}

#[test]
fn formats_that_do_not_fit_are_reported_with_their_line() {
    let header = HEADER
        .replace("int ret; ///< @format errno", "int ret; ///< @format error")
        .replace("mac[6]; /**< @format mac */", "mac[6]; /**< @format ipv4 */")
        .replace("unsigned int other;", "unsigned int other : 3; ///< @format hex");
    let project = Project::new("bad-formats").file("conn.h", &header).source("conn.bpf.c", SOURCE);
    let messages = project.compile(&["conn.bpf.c"]);
    let lines: Vec<&str> = messages.lines().collect();
    let ends = [
        "conn.h:18: ret: @format error: there is no such format; ignored",
        "conn.h:26: other: @format hex: the member is a bit-field; ignored",
        "conn.h:10: mac: @format ipv4: the format requires 4 bytes; ignored",
    ];
    assert_eq!(lines.len(), ends.len(), "{messages}");
    for end in ends {
        assert!(lines.iter().any(|line| line.ends_with(end)), "{end}\n{messages}");
    }
    assert_eq!(project.meta("conn")["formats"]["event"].get("ret"), None);
}

#[test]
fn a_package_without_formats_has_no_formats_key() {
    let project = Project::new("no-formats").file("conn.h", &HEADER.replace("@format", "@other"));
    let project = project.source("conn.bpf.c", &SOURCE.replace("@format", "@other"));
    assert_eq!(project.compile(&["conn.bpf.c"]), "");
    assert_eq!(project.meta("conn").get("formats"), None);
}

/// Sources for eunomia-bpf 1.0 mark members as stacks by an annotation of the map.
#[test]
fn the_older_annotation_for_stacks_sets_the_format() {
    const SOURCE: &str = r#"
        struct event { int pid; unsigned long long kernel[8]; long long ustack[8]; int kstack; };
        /// @intepreter {"stack_trace": {"field_map": {"kstack": "kernel"}}}
        struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } events SEC(".maps");
        SEC("xdp") int pass(void *ctx)
        {
            struct event event = {};
            bpf_ringbuf_output(&events, &event, sizeof(event), 0);
            return 2;
        }"#;
    let project = Project::new("older-stacks").source("stacks.bpf.c", SOURCE);
    project.compile(&["stacks.bpf.c"]);
    let meta = project.meta("stacks");
    assert_eq!(meta["formats"], json!({"event": {"kernel": "stack", "ustack": "stack"}}));
    assert!(meta["bpf_skel"]["maps"][0]["intepreter"]["stack_trace"].is_object(), "{meta}");
}
