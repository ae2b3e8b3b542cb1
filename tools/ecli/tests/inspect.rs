//! `ecli inspect`, `check` and `doctor`: what they report about a program and a machine without running anything.

mod support;

use serde_json::Value;
use support::{Ran, compile, module, package, run};

const ACTIVE: &str = r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

static __noinline int verdict(struct xdp_md *ctx) {
    return ctx->ingress_ifindex > 7 ? XDP_DROP : XDP_PASS;
}

SEC("xdp")
int asked(struct xdp_md *ctx) { return verdict(ctx); }

SEC("xdp")
int computed(struct xdp_md *ctx) { return ctx->ingress_ifindex & 3; }

SEC("xdp")
int dropping(struct xdp_md *ctx) { return ctx->ingress_ifindex > 7 ? XDP_DROP : XDP_PASS; }

SEC("xdp")
int passing(struct xdp_md *ctx) { return XDP_PASS; }

static __noinline void inner(void *place) {
    int zero = 0;
    bpf_probe_write_user(place, &zero, sizeof(zero));
}

SEC("tp/syscalls/sys_enter_write")
int writing(struct trace_event_raw_sys_enter *ctx) {
    inner((void *)ctx->args[1]);
    bpf_send_signal(9);
    return 0;
}

extern void bpf_rcu_read_lock(void) __ksym;
extern void bpf_rcu_read_unlock(void) __ksym;

SEC("tp_btf/sched_switch")
int asking(void *ctx) {
    bpf_rcu_read_lock();
    bpf_rcu_read_unlock();
    return 0;
}
"#;

fn program<'a>(report: &'a Value, name: &str) -> &'a Value {
    let programs = report["packages"][0]["programs"].as_array().expect("programs");
    programs.iter().find(|program| program["name"] == name).expect("the program")
}

#[test]
fn effects_are_found_in_the_instructions() {
    let folder = compile(ACTIVE);
    let path = folder.path().join("package.json");
    let ran = run(&["inspect", "--json", path.to_str().expect("UTF-8")]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let report: Value = serde_json::from_str(&ran.out).expect("JSON");
    let effects = |name: &str| program(&report, name)["effects"].to_string();
    assert_eq!(effects("passing"), "[]");
    assert_eq!(effects("dropping"), "[\"drops packets\"]");
    assert_eq!(effects("asked"), "[\"drops packets\"]", "what another function returns");
    assert!(effects("computed").contains("drops packets (possibly"), "{}", effects("computed"));
    // The first of these is called two functions deep.
    assert!(effects("writing").contains("writes memory of processes"), "{}", effects("writing"));
    assert!(effects("writing").contains("sends signals"), "{}", effects("writing"));
    assert_eq!(
        program(&report, "asking")["kfuncs"].to_string(),
        "[\"bpf_rcu_read_lock\",\"bpf_rcu_read_unlock\"]"
    );
    let text = run(&["inspect", path.to_str().expect("UTF-8")]).out;
    assert!(text.contains("could: drops packets") && text.contains("bpf_send_signal"), "{text}");
    let object = folder.path().join("test.bpf.o");
    let ran = run(&["inspect", object.to_str().expect("UTF-8")]);
    assert!(ran.code == Some(0) && ran.out.contains("bpf_probe_write_user"), "{} {}", ran.out, ran.err);
}

#[test]
fn unreadable_programs_are_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("wrong");
    let name = path.to_str().expect("UTF-8");
    for content in [&b"{\"a\":"[..], b"\x7fELF", b"\0asm"] {
        std::fs::write(&path, content).expect("the file is written");
        let ran = run(&["inspect", name]);
        assert_eq!((ran.code, ran.out.as_str()), (Some(3), ""), "{}", ran.err);
        assert!(
            ran.err.starts_with(&format!("ecli: {name}: ")) && ran.err.lines().count() == 1,
            "{}",
            ran.err
        );
    }
}

#[test]
fn a_module_shows_the_package_inside() {
    let ran = run(&["inspect", &module("sigsnoop")]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.out.contains("env.run_bpf") && ran.out.contains("bpf_main"), "{}", ran.out);
    assert!(ran.out.contains("enter_kill") && ran.out.contains("target_signal"), "{}", ran.out);
}

const HALF: &str = r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

SEC("tp/syscalls/sys_enter_write")
int good(void *ctx) { return 0; }

SEC("tp/syscalls/sys_enter_write")
int bad(void *ctx) { return *(volatile int *)(ctx + 100000); }
"#;

/// The lines of `check` about programs, without their effects.
fn verdicts(out: &str) -> Vec<&str> {
    out.lines().filter(|line| !line.starts_with(' ')).collect()
}

#[test]
fn check_reports_each_program() {
    needs_root!();
    let ran = run(&["check", &package("opensnoop")]);
    assert_eq!(ran.code, Some(0), "{} {}", ran.out, ran.err);
    assert!(
        verdicts(&ran.out).len() == 4 && verdicts(&ran.out).iter().all(|line| line.ends_with(": ok")),
        "{}",
        ran.out
    );
    let folder = compile(HALF);
    let path = folder.path().join("package.json");
    let ran = run(&["check", path.to_str().expect("UTF-8")]);
    assert_eq!(ran.code, Some(5), "{} {}", ran.out, ran.err);
    assert!(ran.out.contains("good: ok\n") && ran.out.contains("bad: refused: "), "{}", ran.out);
    assert!(ran.out.contains("    dereference of modified ctx ptr"), "the verifier's reason: {}", ran.out);
}

#[test]
fn check_names_programs_that_others_replace_and_hooks_that_are_not_there() {
    needs_root!();
    let source = HALF.replace(
        "SEC(\"tp/syscalls/sys_enter_write\")\nint bad",
        "/// @instead_of good\nSEC(\"tp/sched/x\")\nint bad",
    );
    let check = |source: &str| {
        let folder = compile(source);
        let path = folder.path().join("package.json");
        run(&["check", "--json", path.to_str().expect("UTF-8")])
    };
    let of = |ran: &Ran, name: &str| {
        let all = ran.out.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        all.into_iter().find(|one| one["program"] == name).expect("one for each program")
    };
    let ran = check(&source);
    assert_eq!(ran.code, Some(0), "{} {}", ran.out, ran.err);
    assert!(of(&ran, "bad")["skipped"].as_str().is_some_and(|why| why.contains("verifier")), "{}", ran.out);
    assert_eq!((&of(&ran, "bad")["ok"], &of(&ran, "bad")["missing"]), (&Value::Bool(true), &Value::Null));
    assert_eq!((&of(&ran, "good")["ok"], &of(&ran, "good")["skipped"]), (&Value::Bool(true), &Value::Null));

    let ran = check(&source.replace("sys_enter_write", "no_such"));
    assert_eq!(ran.code, Some(5), "{} {}", ran.out, ran.err);
    let missing =
        "program \"good\" (tp/syscalls/no_such): this kernel has no tracepoint \"syscalls/no_such\"";
    assert_eq!(of(&ran, "good")["missing"], missing, "{}", ran.out);
    assert_eq!((&of(&ran, "good")["ok"], &of(&ran, "good")["error"]), (&Value::Bool(false), &Value::Null));
}

#[test]
fn doctor_checks_this_machine() {
    needs_root!();
    let ran = run(&["doctor"]);
    assert_eq!(ran.code, Some(0), "{}", ran.out);
    assert!(ran.out.contains("ok    tracefs"), "{}", ran.out);
    let ran = run(&["doctor", "--json"]);
    let all: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(
        all.iter().any(|finding| finding["what"] == "privileges" && finding["grade"] == "ok"),
        "{}",
        ran.out
    );
}

#[test]
fn doctor_fails_without_privileges_and_suggests_a_fix() {
    needs_root!();
    let ran = support::without_privileges(&["doctor"], "");
    assert_eq!(ran.code, Some(1), "{}", ran.out);
    assert!(ran.out.contains("FAIL  privileges: missing CAP_BPF, CAP_PERFMON"), "{}", ran.out);
    assert!(ran.out.contains("setpriv"), "{}", ran.out);
    assert!(ran.out.contains("warn  tracefs") && ran.out.contains("CAP_DAC_READ_SEARCH"), "{}", ran.out);
}

const DECIDED_AT_LOAD: &str = r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

char LICENSE[] SEC("license") = "GPL";

struct task_struct___other { int no_such_member; } __attribute__((preserve_access_index));

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, int);
    __type(value, long);
    __uint(pinning, LIBBPF_PIN_BY_NAME);
} ecli_shared SEC(".maps");

SEC("cgroup_skb/egress")
int lacks(void *ctx) {
    struct task_struct___other *task = 0;
    return bpf_core_field_exists(task->no_such_member);
}

SEC("cgroup_skb/egress")
int has(void *ctx) {
    struct task_struct *task = 0;
    return bpf_core_field_exists(task->pid);
}

SEC("cgroup_skb/egress")
int shares(void *ctx) {
    int zero = 0;
    bpf_map_lookup_elem(&ecli_shared, &zero);
    return 1;
}

extern void bpf_rcu_read_lock(void) __ksym;
extern void bpf_rcu_read_unlock(void) __ksym;

SEC("tp_btf/sched_switch")
int asking(void *ctx) {
    bpf_rcu_read_lock();
    bpf_rcu_read_unlock();
    return 0;
}
"#;

#[test]
fn check_judges_the_instructions_that_the_kernel_gets() {
    needs_root!();
    let folder = compile(DECIDED_AT_LOAD);
    let path = folder.path().join("package.json");
    let name = path.to_str().expect("UTF-8");
    let report: Value = serde_json::from_str(&run(&["inspect", "--json", name]).out).expect("JSON");
    for program_name in ["lacks", "has"] {
        let effects = program(&report, program_name)["effects"].to_string();
        assert!(effects.contains("drops packets (possibly"), "{program_name}: {effects}");
    }
    let ran = run(&["check", "--json", name]);
    // The kernel accepts all of them. They cannot be attached, because there is no cgroup for them, but that does not
    // matter here.
    assert_eq!(ran.code, Some(2), "{} {}", ran.out, ran.err);
    let all: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let effects = |name: &str| {
        let found = all.iter().find(|one| one["program"] == name).expect("one for each program");
        found["effects"].to_string()
    };
    assert_eq!(effects("lacks"), "[\"drops packets\"]");
    assert_eq!((effects("has").as_str(), effects("asking").as_str()), ("[]", "[]"));
    assert_eq!(effects("shares"), "[\"shares the pinned map /sys/fs/bpf/ecli_shared with others\"]");
    let text = run(&["check", name]).out;
    let below = |name: &str| {
        let mut lines = text.lines().skip_while(|line| !line.starts_with(&format!("{name}: ")));
        lines.nth(1).unwrap_or_default().to_owned()
    };
    assert_eq!(below("lacks"), "    could: drops packets", "{text}");
    assert!(below("has").starts_with("shares: "), "{text}");
}

const REFUSED_AMONG_OTHERS: &str = r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

static __noinline int loud(int signal) {
    bpf_send_signal(signal);
    return signal;
}

SEC("tp/syscalls/sys_enter_getsid")
int first(void *ctx) { return loud(27); }

SEC("tp/syscalls/sys_enter_getpgid")
int refused(void *ctx) { return loud(28) + *(volatile int *)(ctx + 100000); }

SEC("tp/syscalls/sys_enter_getsid")
int last(void *ctx) { return loud(29); }
"#;

#[test]
fn check_analyses_rejected_and_accepted_programs() {
    needs_root!();
    let folder = compile(REFUSED_AMONG_OTHERS);
    let path = folder.path().join("package.json");
    let ran = run(&["check", "--json", path.to_str().expect("UTF-8")]);
    assert_eq!(ran.code, Some(5), "{} {}", ran.out, ran.err);
    let all: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    for name in ["first", "refused", "last"] {
        let found = all.iter().find(|one| one["program"] == name).expect("one for each program");
        assert_eq!(found["effects"].to_string(), "[\"sends signals to processes\"]", "{name}: {}", ran.out);
    }
}
