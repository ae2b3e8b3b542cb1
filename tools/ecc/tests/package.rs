//! The content of packages, and reproducible builds.

mod support;

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::json;
use support::{Loaded, Project, may_load, named, names};

/// A typical tool: kernel types, settings, a map, a perf buffer.
const TOOL: &str = r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

struct event { u64 ts; int pid; int ppid; int ret; int flags; char comm[16]; char fname[255]; };

const volatile pid_t wanted = 0;
const volatile bool failed = false;
const volatile char prefix[16] = "/etc";
static const volatile int hidden = 7;
static int seen;
int matrix[2][3];
unsigned long long total = 5;
struct event *last;
enum mode { SLOW, FAST } mode;

struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 1024); __type(key, u32); __type(value, u64); }
started SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __uint(key_size, 4); __uint(value_size, 4); }
events SEC(".maps");

SEC("tracepoint/syscalls/sys_enter_openat")
int enter(struct trace_event_raw_sys_enter *ctx) {
    u32 tid = bpf_get_current_pid_tgid();
    u64 name = ctx->args[1];
    if (wanted && wanted != hidden)
        return 0;
    seen++;
    bpf_map_update_elem(&started, &tid, &name, BPF_ANY);
    return 0;
}

SEC("tracepoint/syscalls/sys_exit_openat")
int leave(struct trace_event_raw_sys_exit *ctx) {
    struct task_struct *task = (void *)bpf_get_current_task();
    u32 tid = bpf_get_current_pid_tgid();
    u64 *name = bpf_map_lookup_elem(&started, &tid);
    struct event event = {};
    if (!name || (failed && ctx->ret >= 0))
        return 0;
    event.ts = bpf_ktime_get_ns();
    event.ppid = BPF_CORE_READ(task, real_parent, tgid);
    event.ret = ctx->ret;
    event.flags = mode + matrix[1][2] + prefix[0] + (last != 0);
    bpf_get_current_comm(event.comm, sizeof(event.comm));
    bpf_probe_read_user_str(event.fname, sizeof(event.fname), (void *)*name);
    bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, &event, sizeof(event));
    total++;
    return 0;
}

SEC("raw_tp/sched_switch") int BPF_PROG(switched, bool preempt) { return preempt; }

char LICENSE[] SEC("license") = "GPL";
"#;

#[test]
fn metadata_describes_the_object() {
    let project = Project::new("metadata").file("opener.bpf.c", TOOL);
    assert_eq!(project.compile(&["opener.bpf.c"]), "");
    let meta = project.meta("opener");
    let skeleton = &meta["bpf_skel"];
    assert_eq!(skeleton["obj_name"], "opener_bpf");
    let maps = &skeleton["maps"];
    assert_eq!(names(maps), ["started", "events", "opener_b.rodata", "opener_b.data", "opener_b.bss"]);
    assert_eq!(named(maps, "events"), &json!({"name": "events", "ident": "events"}));
    let rodata = json!({"name": "opener_b.rodata", "ident": "rodata", "mmaped": true});
    assert_eq!(named(maps, "opener_b.rodata"), &rodata);
    assert_eq!(
        skeleton["progs"],
        json!([
            {"name": "enter", "attach": "tracepoint/syscalls/sys_enter_openat", "link": true},
            {"name": "leave", "attach": "tracepoint/syscalls/sys_exit_openat", "link": true},
            {"name": "switched", "attach": "raw_tp/sched_switch", "link": true},
        ])
    );
    assert_eq!(meta["eunomia_version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn globals_are_listed_with_sections_and_types() {
    let project = Project::new("globals").file("opener.bpf.c", TOOL);
    project.compile(&["opener.bpf.c"]);
    let sections = &project.meta("opener")["bpf_skel"]["data_sections"];
    let variables = |section: &str| named(sections, section)["variables"].clone();
    let rodata = [("wanted", "pid_t"), ("failed", "bool"), ("prefix", "char[16]")];
    let expected = |list: &[(&str, &str)]| -> Vec<_> {
        list.iter().map(|(name, text)| json!({"name": name, "type": text})).collect()
    };
    assert_eq!(variables(".rodata"), json!(expected(&rodata)));
    assert_eq!(variables(".data"), json!(expected(&[("total", "unsigned long long")])));
    // Static variables are not listed. The order is that of the section.
    let mut bss = variables(".bss").as_array().unwrap().clone();
    bss.sort_by_key(|variable| variable["name"].to_string());
    assert_eq!(bss, expected(&[("last", "struct event *"), ("matrix", "int[2][3]"), ("mode", "enum mode")]));
}

#[test]
fn a_package_contains_the_object_and_the_metadata() {
    let project = Project::new("package").file("opener.bpf.c", TOOL);
    project.compile(&["opener.bpf.c"]);
    let package = project.package();
    assert_eq!(package.object, project.object("opener"));
    assert_eq!(package.meta_value(), &project.meta("opener"));
    assert_eq!(package.meta.export_types[0].name, "event");
}

#[test]
fn a_tool_is_small_and_has_no_debug_information() {
    let project = Project::new("size").file("opener.bpf.c", TOOL);
    project.compile(&["opener.bpf.c"]);
    let len = fs::metadata(project.path("package.json")).unwrap().len();
    assert!(len <= 20_000, "{len} bytes");
    let object = project.object("opener");
    assert!(!object.windows(7).any(|bytes| bytes == b".debug_"));
    // The source lines are kept for the verifier's log.
    assert!(object.windows(8).any(|bytes| bytes == b"total++;"));
}

#[test]
fn a_tool_loads() {
    let project = Project::new("tool-loads").file("opener.bpf.c", TOOL);
    project.compile(&["opener.bpf.c"]);
    if may_load("a_tool_loads") {
        let loaded = Loaded::load(&project, "opener");
        assert_eq!(loaded.map("opener_data")[0]["formatted"]["value"][".data"][0]["total"], 5);
    }
}

#[test]
fn programs_that_share_a_section_load() {
    let source = r#"
        static __attribute__((noinline)) int helper(struct xdp_md *ctx) { return ctx->data_end - ctx->data; }
        __attribute__((noinline)) int shared(struct xdp_md *ctx) { return helper(ctx) + 1; }
        SEC("xdp") int one(struct xdp_md *ctx) { return shared(ctx); }
        SEC("xdp") int two(struct xdp_md *ctx) { return shared(ctx) + helper(ctx); }"#;
    let project = Project::new("sharing").source("shared.bpf.c", source);
    project.compile(&["shared.bpf.c"]);
    assert_eq!(names(&project.meta("shared")["bpf_skel"]["progs"]), ["one", "two"]);
    // The kernel checks function and line information against the instructions.
    if may_load("programs_that_share_a_section_load") {
        Loaded::load(&project, "shared");
    }
}

#[test]
fn the_same_source_gives_the_same_files() {
    let header = "/** @description of a header */\nconst volatile int more = 1;\n";
    let source = format!("#include \"../lib/more.h\"\n{}", TOOL.replace("seen++", "seen += more"));
    let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/dist/libeunomia.a");
    assert!(library.exists(), "{} is missing: run `make archive` first", library.display());
    // The runs differ in directory, user and date.
    let projects = ["same", "ganz wo anders x=y"]
        .map(|name| Project::new(name).file("src/opener.bpf.c", &source).file("lib/more.h", header));
    let yesterday = SystemTime::now() - Duration::from_secs(86_400);
    for name in ["src/opener.bpf.c", "lib/more.h"] {
        let file = File::options().write(true).open(projects[1].path(name)).unwrap();
        file.set_modified(yesterday).unwrap();
    }
    for project in &projects {
        let library = library.to_str().unwrap();
        let more = ["--event-header", "--wasm-header", "-s", "--libeunomia", library];
        for arguments in [&more[..], &["--yaml"]] {
            let mut command = project.command(&["src/opener.bpf.c", "-o", "out"]);
            command.args(arguments).env("XDG_CACHE_HOME", project.path("cache")).env("TMPDIR", &project.dir);
            assert!(command.status().unwrap().success());
        }
    }
    let files = [
        "ewasm-skel.h",
        "opener",
        "opener.bpf.o",
        "opener.event.h",
        "opener.skel.json",
        "opener.skel.yaml",
        "package.json",
        "package.yaml",
    ];
    for name in files {
        let [one, two] = [0, 1].map(|at: usize| fs::read(projects[at].path("out").join(name)).unwrap());
        assert!(one == two, "{name} differs");
    }
    assert_eq!(fs::read_dir(projects[0].path("out")).unwrap().count(), files.len());
}

#[test]
fn an_object_does_not_contain_build_paths() {
    let project = Project::new("anywhere").file("opener.bpf.c", TOOL);
    let output = project.command(&["opener.bpf.c"]).env("XDG_CACHE_HOME", project.path("cache")).output();
    assert!(output.unwrap().status.success());
    assert!(project.path("cache/libeunomia").exists());
    let dir = project.dir.to_str().unwrap().as_bytes();
    assert!(!project.object("opener").windows(dir.len()).any(|bytes| bytes == dir));
}

#[test]
fn a_program_without_maps_has_empty_lists() {
    let source = "SEC(\"xdp\") int pass(void *ctx) { return XDP_PASS; }";
    let project = Project::new("empty-lists").source("pass.bpf.c", source);
    assert_eq!(project.compile(&["pass.bpf.c"]), "");
    let meta = project.meta("pass");
    assert_eq!(meta["bpf_skel"]["maps"], json!([]));
    assert_eq!(meta["bpf_skel"]["data_sections"], json!([]));
    assert_eq!(meta["export_types"], json!([]));
}

#[test]
fn sections_with_longer_names_are_found() {
    let source = r#"
        int tuned SEC(".data.tuned") = 1;
        const volatile int fixed SEC(".rodata.fixed") = 2;
        SEC("xdp") int pass(void *ctx) { tuned = fixed; return XDP_PASS; }"#;
    let project = Project::new("long-sections").source("p.bpf.c", source);
    project.compile(&["p.bpf.c"]);
    let skeleton = &project.meta("p")["bpf_skel"];
    assert_eq!(names(&skeleton["data_sections"]), [".data.tuned", ".rodata.fixed"]);
    assert_eq!(named(&skeleton["maps"], ".data.tuned")["ident"], "data_tuned");
}

#[test]
fn programs_are_named_as_libbpf_names_them() {
    let source = "SEC(\"?xdp\") int later(void *ctx) { return XDP_PASS; }";
    let project = Project::new("later").source("later.bpf.c", source);
    project.compile(&["later.bpf.c"]);
    // The object specifies whether a program is loaded automatically, so the metadata need not.
    let programs = json!([{"name": "later", "attach": "xdp", "link": true}]);
    assert_eq!(project.meta("later")["bpf_skel"]["progs"], programs);
    assert!(project.object("later").windows(5).any(|bytes| bytes == b"?xdp\0"));
}

#[test]
fn outputs_are_written_to_the_output_directory() {
    let source = "SEC(\"xdp\") int pass(void *ctx) { return XDP_PASS; }";
    let project = Project::new("où est").source("sub dir/pröbe.v1.bpf.c", source);
    project.compile(&["sub dir/pröbe.v1.bpf.c"]);
    assert!(project.path("sub dir/package.json").exists());
    assert_eq!(project.meta("sub dir/pröbe")["bpf_skel"]["obj_name"], "pr__be_bpf");
    project.compile(&["sub dir/pröbe.v1.bpf.c", "-o", "new/out put", "-n"]);
    assert!(project.path("new/out put/pröbe.bpf.o").exists());
    assert!(project.path("new/out put/pröbe.skel.json").exists());
    assert!(!project.path("new/out put/package.json").exists());
    assert_eq!(fs::read_dir(project.path("new/out put")).unwrap().count(), 2);
}
