//! Code written for libbpf compiles unchanged and runs. Each source in `bpf/` covers one topic.

mod support;

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use eunomia::{Event, Flow, Format, Kind, Options, Vm};
use rustix::process::getpgid;
use support::{LICENSE, Loaded, Project, may_load, named, names};

/// A project with a source from `bpf/` and its headers.
fn project(name: &str) -> Project {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bpf");
    let mut project = Project::new(&format!("code-{name}"));
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap().to_owned();
        project = project.file(&file, &fs::read_to_string(path).unwrap());
    }
    project
}

/// The package, opened.
fn opened(project: &Project) -> Vm {
    let vm = Vm::new(Options::new()).unwrap();
    vm.open(&fs::read(project.path("package.json")).unwrap(), Kind::Json).unwrap();
    vm
}

/// Yields the CPU until the kernel has run the programs.
fn switch() {
    for _ in 0..50 {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

#[test]
fn code_for_many_kernels_runs_on_this_one() {
    let project = project("kernels");
    assert_eq!(project.compile(&["kernels.bpf.c"]), "");
    let sections = project.meta("kernels")["bpf_skel"]["data_sections"].clone();
    assert_eq!(named(&named(&sections, ".rodata")["variables"], "lock")["type"], "void *");
    for section in [".rodata", ".rodata.limits", ".data.totals", ".bss"] {
        named(&sections, section);
    }
    if !may_load("code_for_many_kernels_runs_on_this_one") {
        return;
    }
    let vm = opened(&project);
    let values = [
        ("only_kernel", "false"),
        ("wanted", "\"\""),
        ("least_ns", "1"),
        ("state", "-1"),
        ("ports", "[0, 1, 2, 3]"),
        ("ratio", "0.25"),
        ("limit", "9"),
        ("total", "100"),
    ];
    for (name, value) in values {
        vm.var_set_json(name, value).unwrap();
    }
    vm.load().unwrap();
    vm.attach().unwrap();
    switch();
    let total: u64 = vm.var_get_json("total").unwrap().parse().unwrap();
    assert!(total > 100 && (total - 100) % 9 == 0, "{total}");
    // Values that the source leaves to its host.
    let stacks = vm.map_find("stacks").unwrap();
    assert!(stacks.value_size >= 8 && stacks.max_entries > 0, "{} {}", stacks.value_size, stacks.max_entries);
    assert!(vm.map_find("since").unwrap().max_entries > 0);
}

#[test]
fn maps_in_maps_timers_and_storage_load() {
    let project = project("maps");
    assert_eq!(project.compile(&["maps.bpf.c"]), "");
    if !may_load("maps_in_maps_timers_and_storage_load") {
        return;
    }
    opened(&project).load().unwrap();
    let vm = opened(&project);
    for other in ["walk", "counted"] {
        vm.prog_set_autoload(other, false).unwrap();
    }
    vm.load().unwrap();
    vm.attach().unwrap();
}

#[test]
fn kfuncs_tail_calls_and_loops_run() {
    let project = project("calls");
    assert_eq!(project.compile(&["calls.bpf.c"]), "");
    assert_eq!(names(&project.meta("calls")["export_types"]), ["order"]);
    if !may_load("kfuncs_tail_calls_and_loops_run") {
        return;
    }
    let vm = opened(&project);
    let pid = std::process::id();
    vm.var_set_json("wanted", &pid.to_string()).unwrap();
    vm.load().unwrap();
    vm.attach().unwrap();
    getpgid(None).unwrap();
    let mut events = Vec::new();
    let mut keep = |event: &Event| {
        events.push(String::from_utf8_lossy(event.data).into_owned());
        Flow::Continue
    };
    vm.poll(Some(Duration::from_secs(1)), Format::Json, &mut keep).unwrap();
    assert_eq!(events[0], format!("{{\"pid\":{pid},\"count\":0}}"));
    let value = |name: &str| vm.var_get_json(name).unwrap().parse::<u32>().unwrap();
    assert_eq!((value("looped") % 10, value("inner_maps"), value("missing")), (0, 0, 1));
    for name in ["looped", "ended", "released"] {
        assert!(value(name) > 0, "{name}");
    }
}

#[test]
fn missing_targets_are_reported_at_attach() {
    let project = project("targets");
    assert_eq!(project.compile(&["targets.bpf.c"]), "");
    assert_eq!(names(&project.meta("targets")["export_types"]), ["call"]);
    if !may_load("missing_targets_are_reported_at_attach") {
        return;
    }
    let asks = [("called", "\"path\" and \"func\""), ("marked", "\"attach\"")];
    for (kept, key) in asks {
        let vm = opened(&project);
        for other in ["called", "returned", "marked", "read_begins"] {
            vm.prog_set_autoload(other, other == kept).unwrap();
        }
        vm.load().unwrap();
        let error = vm.attach().unwrap_err().to_string();
        assert!(error.contains(&format!("program {kept:?}")) && error.contains(key), "{error}");
        assert!(error.contains("; set the program's target: "), "{error}");
    }
    let vm = opened(&project);
    for other in ["marked", "read_begins"] {
        vm.prog_set_autoload(other, false).unwrap();
    }
    vm.load().unwrap();
    let program = std::env::current_exe().unwrap();
    let target = format!("{{\"path\": {:?}, \"func\": \"main\"}}", program.to_str().unwrap());
    for name in ["called", "returned"] {
        vm.prog_set_target_json(name, &target).unwrap();
    }
    vm.attach().unwrap();
}

/// Each program with its fallback, and the messages of ecc.
fn fallbacks(name: &str, source: &str) -> (Vec<(String, Option<String>)>, String) {
    let project = Project::new(name).source("a.bpf.c", source);
    let messages = project.compile(&["a.bpf.c"]);
    let programs = project.meta("a")["bpf_skel"]["progs"].as_array().unwrap().clone();
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    let pairs = programs.iter().map(|prog| (text(&prog["name"]).unwrap(), text(&prog["instead_of"])));
    (pairs.collect(), messages)
}

#[test]
fn former_names_of_a_function_are_alternatives_if_the_code_is_the_same() {
    let source = r#"
        struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8); __type(key, long); __type(value, long); }
            starts SEC(".maps"), ends SEC(".maps");
        static __attribute__((noinline)) int put(void *map) {
            long key = 1, now = bpf_ktime_get_ns();
            return bpf_map_update_elem(map, &key, &now, 0);
        }
        SEC("kprobe/start") int start(void *ctx) { return put(&starts); }
        SEC("kprobe/__start") int start_too(void *ctx) { return put(&starts); }
        SEC("kprobe/end") int end(void *ctx) { return put(&starts); }
        SEC("kprobe/__end") int another(void *ctx) { return put(&ends); }"#;
    let (pairs, messages) = fallbacks("names", source);
    let next = |name: &str| pairs.iter().find(|(known, _)| known == name).unwrap().1.clone();
    assert_eq!(next("start_too").as_deref(), Some("start"));
    assert!(["start", "end", "another"].iter().all(|name| next(name).is_none()), "{pairs:?}");
    assert_eq!(
        messages,
        "ecc: note: start_too (kprobe/__start), start (kprobe/start): only the first that attaches is used; add \
         @autoload true to each to use them all\n"
    );
    let chosen = source.replace("SEC(\"kprobe/__start\")", "/// @autoload true\nSEC(\"kprobe/__start\")");
    let (pairs, messages) = fallbacks("names-chosen", &chosen);
    assert!(pairs.iter().all(|(_, next)| next.is_none()) && messages.is_empty(), "{pairs:?} {messages}");
}

#[test]
fn a_directory_for_each_architecture_has_its_vmlinux() {
    let source = "#include <vmlinux.h>\n#include <bpf/bpf_helpers.h>\nstruct event { int a; };
        struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } ring SEC(\".maps\");
        SEC(\"xdp\") int send(struct only_here *ctx) {
            struct event event = { ctx->a };
            void *record = &event;
            bpf_ringbuf_output(&ring, record, sizeof(event), 0);
            return 2;
        }";
    let vmlinux = "typedef unsigned char __u8; typedef unsigned short __u16; typedef unsigned int __u32;
        typedef unsigned long long __u64; typedef int __s32; typedef long long __s64; typedef __u16 __be16;
        typedef __u32 __be32; typedef __u32 __wsum; enum { BPF_MAP_TYPE_RINGBUF = 27 };
        struct only_here { int a; }; struct another { int b; };";
    let mut project = Project::new("arch-dir").file("a.bpf.c", &format!("{source}\n{LICENSE}"));
    for arch in ["x86", "arm64", "riscv", "powerpc", "loongarch", "s390"] {
        // A link to one of several versions.
        project = project.file(&format!("{arch}/vmlinux.h"), "#include \"vmlinux_608.h\"\n");
        project = project.file(&format!("{arch}/vmlinux_608.h"), vmlinux);
    }
    assert_eq!(project.compile(&["a.bpf.c"]), "");
    assert_eq!(names(&project.meta("a")["export_types"]), ["event"]);
}

const SHARED: &str = r#"
struct event { int from; int value; };
struct ring { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); };
"#;

/// Two sources: one defines the map and a program, the other sends to that map and defines a function that both call.
fn linked(name: &str) -> Project {
    let first = r#"
        #include "shared.h"
        /// @cmdarg {"long": "first"}
        const volatile int wanted = 0;
        struct ring events SEC(".maps");
        extern int twice(int number);
        SEC("xdp") int one(void *ctx) {
            struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
            if (!event)
                return XDP_DROP;
            event->from = 1;
            event->value = twice(wanted);
            bpf_ringbuf_submit(event, 0);
            return XDP_PASS;
        }"#;
    let second = r#"
        #include "shared.h"
        struct size { long bytes; };
        /** How often.
         *  @cmdarg {"long":
         *           "second"} */
        volatile int calls;
        extern struct ring events SEC(".maps");
        struct { __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __uint(key_size, 4); __uint(value_size, 4); } sizes SEC(".maps");
        __attribute__((noinline)) int twice(int number) { calls++; return 2 * number; }
        SEC("xdp") int two(struct xdp_md *ctx) {
            struct event event = { 2, twice(3) };
            struct size size = { ctx->data_end - ctx->data };
            bpf_ringbuf_output(&events, &event, sizeof(event), 0);
            bpf_perf_event_output(ctx, &sizes, BPF_F_CURRENT_CPU, &size, sizeof(size));
            return XDP_PASS;
        }"#;
    Project::new(name)
        .source("one.bpf.c", first)
        .source("two.bpf.c", second)
        .file("shared.h", &format!("#pragma once\n{SHARED}"))
}

#[test]
fn several_sources_are_linked_to_one_program() {
    let project = linked("linked");
    assert_eq!(project.compile(&["one.bpf.c", "two.bpf.c"]), "");
    let meta = project.meta("one");
    let skeleton = &meta["bpf_skel"];
    assert_eq!(names(&skeleton["progs"]), ["one", "two"]);
    assert_eq!(names(&meta["export_types"]), ["event", "size"]);
    let variable = |section: &str, name: &str| {
        named(&named(&skeleton["data_sections"], section)["variables"], name)["cmdarg"]["long"].clone()
    };
    assert_eq!(variable(".rodata", "wanted"), "first");
    assert_eq!(variable(".bss", "calls"), "second");
    for (map, name) in [("events", "event"), ("sizes", "size")] {
        let id = &named(&skeleton["maps"], map)["export_config"]["btf_type_id"];
        assert_eq!(*id, named(&meta["export_types"], name)["type_id"], "{map}");
    }
    assert!(!project.path("two.bpf.o").exists());
    if may_load("several_sources_are_linked_to_one_program") {
        let loaded = Loaded::load(&project, "one");
        loaded.run("one", 1, &project);
        loaded.run("two", 2, &project);
        let bss = loaded.map("one_bss");
        assert_eq!(bss[0]["formatted"]["value"][".bss"][0]["calls"], 3, "{bss}");
    }
}

#[test]
fn link_errors_are_reported_in_one_line() {
    let twice = linked("twice").source(
        "three.bpf.c",
        "int twice(int number) { return 4; } SEC(\"xdp\") int three(void *c) { return twice(1); }",
    );
    let error = twice.error(&["one.bpf.c", "two.bpf.c", "three.bpf.c"]);
    assert!(
        error.starts_with("three.bpf.c: cannot be linked with the other sources: ")
            && error.contains("twice"),
        "{error}"
    );
    assert!(!error.contains("0x"), "no place in ecc's own memory: {error}");
    let missing = linked("missing");
    let error = missing.error(&["one.bpf.c"]);
    assert!(error.contains("twice"), "{error}");
    let headers = missing.error(&["one.bpf.c", "a.h", "b.h"]);
    assert_eq!(headers, "a.h and b.h: only one header can be given");
}

/// A program with calls of two kfuncs, after `declarations`.
fn calling_kfuncs(declarations: &str) -> String {
    format!(
        r#"#include "vmlinux.h"
        #include <bpf/bpf_helpers.h>
        #include <bpf/bpf_tracing.h>
        {declarations}
        long pid, seen;
        SEC("tp_btf/signal_generate")
        int BPF_PROG(sent, int sig, struct kernel_siginfo *info, struct task_struct *task) {{
            struct task_struct *found = bpf_task_from_pid(task->tgid);
            if (found) {{
                if (sig == 23 && found->tgid == pid)
                    __sync_fetch_and_add(&seen, 1);
                bpf_task_release(found);
            }}
            return 0;
        }}
        {LICENSE}"#
    )
}

#[test]
fn kfuncs_need_no_declaration() {
    let project = Project::new("kfuncs").file("k.bpf.c", &calling_kfuncs(""));
    assert_eq!(project.compile(&["k.bpf.c", "--additional-cflags=-Werror"]), "");
    assert!(!project.btf("k").contains("'bpf_rcu_read_lock'"), "what is not called leaves no trace");
    if may_load("kfuncs_need_no_declaration") {
        let script = "read line; kill -URG $$";
        let mut child = Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).spawn().unwrap();
        let vm = opened(&project);
        vm.var_set_json("pid", &child.id().to_string()).unwrap();
        vm.attach().unwrap();
        child.stdin.take().unwrap().write_all(b"now\n").unwrap();
        child.wait().unwrap();
        assert_eq!(vm.var_get_json("seen").unwrap(), "1");
    }
}

#[test]
fn kfuncs_that_a_program_declares_itself_do_not_conflict() {
    let declarations = [
        "extern struct task_struct *bpf_task_from_pid(s32 pid) __ksym;
         extern void bpf_task_release(struct task_struct *p) __weak __ksym;",
        // The next one declares a kfunc as another kernel does. The last one defines a function with the name of a kfunc.
        "extern struct task_struct *bpf_task_from_pid(s32 pid) __ksym;
         extern int bpf_task_release(const struct task_struct *p) __weak __ksym;",
        "extern struct task_struct *bpf_task_from_pid(s32 pid) __ksym;
         extern void bpf_task_release(struct task_struct *p) __ksym;
         static int bpf_rcu_read_lock(int a) { return a; }",
    ];
    for (index, declarations) in declarations.iter().enumerate() {
        let project = Project::new(&format!("kfuncs-{index}")).file("k.bpf.c", &calling_kfuncs(declarations));
        assert_eq!(project.compile(&["k.bpf.c"]), "", "{declarations}");
    }
    let project = Project::new("kfuncs-none").file("k.bpf.c", &calling_kfuncs(""));
    let output = project.run(&["k.bpf.c", "--additional-cflags=-DBPF_NO_KFUNC_PROTOTYPES"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("bpf_task_from_pid"), "{output:?}");
}

#[test]
fn probes_without_a_function_need_a_target() {
    let hooks = ["uprobe", "uretprobe", "uprobe.s", "uretprobe.s", "uprobe.multi", "uretprobe.multi"];
    for place in hooks.iter().flat_map(|hook| [format!("{hook}/x"), format!("{hook}//bin/true:")]) {
        let source = format!("SEC(\"{place}\") int probe(void *ctx) {{ return 0; }}");
        let project = Project::new("no-function").source("p.bpf.c", &source);
        project.compile(&["p.bpf.c"]);
        if may_load("probes_without_a_function_need_a_target") {
            let error = opened(&project).attach().unwrap_err().to_string();
            assert!(error.ends_with("set the program's target: \"path\" and \"func\""), "{place}: {error}");
        }
    }
}
