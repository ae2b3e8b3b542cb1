//! Programs and targets that this kernel refuses, and the state of the package afterwards.

use std::time::Duration;

use eunomia::{Format, Kind, Options, Status, Vm};

use crate::fixture::{
    CALLS, Clean, PINNED, call, drain, events, load_refused, package, refused, source, tid,
};
use crate::needs_root;
use crate::support::{opened, vm, vm_with};

/// Opens a package that counts calls of this thread only.
fn calls() -> Vm {
    let vm = opened(&package(CALLS));
    vm.var_set_json("only_tid", &tid().to_string()).unwrap();
    vm
}

const REJECTED: &str = source!(
    r#"
const volatile u32 factor = 1;
u64 sum = 5;

SEC("tp/syscalls/sys_enter_getpgid")
int is_good(void *ctx)
{
    sum += factor;
    return 0;
}

SEC("tp/syscalls/sys_exit_getpgid")
int reads_nowhere(void *ctx)
{
    u64 *nowhere = (void *)(long)bpf_get_prandom_u32();
    return *nowhere;
}
"#
);

#[test]
fn a_rejected_program_is_named_and_its_log_is_the_detail() {
    needs_root!();
    let package = package(REJECTED);
    let clean = Clean::new();
    let vm = opened(&package);
    vm.var_set_json("factor", "7").unwrap();
    vm.var_set_json("sum", "100").unwrap();
    let error = load_refused(
        &vm,
        &clean,
        Status::Verifier,
        &["reads_nowhere", "rejected by the verifier", "invalid mem access"],
    );
    assert!(
        error.detail().contains("R1 invalid mem access")
            || error.detail().contains("invalid mem access 'scalar'"),
        "{}",
        error.detail()
    );
    assert!(error.detail().contains("processed "), "{}", error.detail());
    assert_eq!(error.errno(), Some(libc::EACCES));

    // The other program works without it, and keeps the values that were set.
    assert_eq!(vm.var_get_json("factor").unwrap(), "7");
    assert_eq!(vm.var_get_json("sum").unwrap(), "100");
    vm.prog_set_autoload("reads_nowhere", false).unwrap();
    vm.attach().unwrap();
    assert!(!vm.prog_find("reads_nowhere").unwrap().loaded);
    call(2);
    assert!(vm.var_get_json("sum").unwrap().parse::<u64>().unwrap() >= 114);
    refused(vm.prog_set_autoload("reads_nowhere", true), Status::State, &["reads_nowhere"]);
}

#[test]
fn a_verdict_at_the_end_of_a_huge_log_is_found() {
    needs_root!();
    const SOURCE: &str = source!(
        r#"
u64 total = 0;
SEC("tp/syscalls/sys_enter_getpgid")
int takes_long(void *ctx)
{
    for (u32 i = 0; i < 60000; i++)
        *(volatile u64 *)&total += i;
    u64 *nowhere = (void *)(long)bpf_get_prandom_u32();
    return *nowhere;
}
"#
    );
    let package = package(SOURCE);
    let clean = Clean::new();
    let vm = opened(&package);
    let error = refused(vm.load(), Status::Verifier, &["takes_long", "invalid mem access"]);
    assert!((1 << 18..4 << 20).contains(&error.detail().len()), "{} bytes of log", error.detail().len());
    clean.nothing_in_kernel();
}

#[test]
fn an_endless_loop_is_the_verdict_not_the_state_after_it() {
    needs_root!();
    const SOURCE: &str = source!(
        r#"
SEC("tp/syscalls/sys_enter_getpgid")
int never_ends(void *ctx)
{
    asm volatile("r6 = 0; again: r6 &= 1; if r6 == 0 goto again;" ::: "r6");
    return 0;
}
"#
    );
    let package = package(SOURCE);
    let clean = Clean::new();
    let vm = opened(&package);
    let error =
        load_refused(&vm, &clean, Status::Verifier, &["never_ends", "infinite loop detected at insn"]);
    assert!(error.detail().contains("old state:"), "{}", error.detail());
}

#[test]
fn gpl_only_helpers_need_a_gpl_license() {
    needs_root!();
    const SOURCE: &str = r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
SEC("tp/syscalls/sys_enter_getpgid")
int is_proprietary(void *ctx)
{
    bpf_printk("hello");
    return 0;
}
char LICENSE[] SEC("license") = "Proprietary";
"#;
    let package = package(SOURCE);
    let clean = Clean::new();
    let vm = opened(&package);
    load_refused(&vm, &clean, Status::Verifier, &["is_proprietary", "GPL"]);
}

#[test]
fn maps_that_cannot_be_created_are_named() {
    needs_root!();
    const EMPTY: &str = source!(
        r#"
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 0);
    __uint(key_size, 4);
    __uint(value_size, 0);
} no_room SEC(".maps");
SEC("tp/syscalls/sys_enter_getpgid")
int on_enter(void *ctx)
{
    u32 key = 0;
    bpf_map_lookup_elem(&no_room, &key);
    return 0;
}
"#
    );
    const HUGE: &str = source!(
        r#"
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 0xffffffff);
    __type(key, u32);
    __type(value, u64[100000]);
} too_large SEC(".maps");
SEC("tp/syscalls/sys_enter_getpgid")
int on_enter(void *ctx)
{
    u32 key = 0;
    bpf_map_lookup_elem(&too_large, &key);
    return 0;
}
"#
    );
    for (source, status, name) in [(EMPTY, Status::Package, "no_room"), (HUGE, Status::NoMem, "too_large")] {
        let package = package(source);
        let clean = Clean::new();
        let vm = opened(&package);
        load_refused(&vm, &clean, status, &[&format!("map {name:?}")]);
    }
}

#[test]
fn a_map_pinned_outside_of_bpffs_is_named() {
    needs_root!();
    let package = package(PINNED);
    let clean = Clean::new();
    let folder = tempfile::tempdir().unwrap();
    let (vm, _log) = vm_with(Options::new().pin_path(folder.path()));
    vm.open(&package, Kind::Json).unwrap();
    load_refused(
        &vm,
        &clean,
        Status::System,
        &["map \"PPPPPPPPPPPP\"", folder.path().to_str().unwrap(), "BPF file system"],
    );
    drop(vm);
    drop(clean);
}

/// A bad target, and the status and words of the error.
type Bad = (&'static str, Status, &'static [&'static str]);

/// Sets each target and attaches, which must fail. Nothing stays attached; a loaded package stays loaded.
#[track_caller]
fn attach_refused(source: &'static str, prog: &str, targets: &[Bad]) {
    let package = package(source);
    let clean = Clean::new();
    for (target, status, words) in targets {
        let vm = opened(&package);
        if !target.is_empty() {
            vm.prog_set_target_json(prog, target).unwrap();
        }
        let words: Vec<&str> = words.iter().copied().chain([prog]).collect();
        refused(vm.attach(), *status, &words);
        clean.nothing_in_kernel();
        vm.load().unwrap();
        refused(vm.attach(), *status, &words);
        assert!(!vm.prog_find(prog).unwrap().attached);
        assert!(vm.prog_find(prog).unwrap().loaded);
    }
}

#[test]
fn an_interface_that_does_not_exist_is_named() {
    needs_root!();
    const XDP: &str = source!("SEC(\"xdp\") int on_packet(struct xdp_md *ctx) { return XDP_PASS; }");
    const TC: &str = source!("SEC(\"tc\") int on_packet(struct __sk_buff *ctx) { return 0; }");
    const TCX: &str = source!("SEC(\"tcx/ingress\") int on_packet(struct __sk_buff *ctx) { return 0; }");
    for source in [XDP, TC, TCX] {
        attach_refused(
            source,
            "on_packet",
            &[
                (r#"{"interface":"nope0"}"#, Status::Inval, &["no such network interface", "\"nope0\""]),
                (r#"{"ifindex":999999}"#, Status::Inval, &["no such network interface", "999999"]),
            ],
        );
    }
}

#[test]
fn a_cgroup_that_does_not_exist_is_named() {
    needs_root!();
    const SKB: &str =
        source!("SEC(\"cgroup_skb/egress\") int on_packet(struct __sk_buff *ctx) { return 1; }");
    attach_refused(
        SKB,
        "on_packet",
        &[
            ("", Status::Attach, &["cgroup"]),
            (
                r#"{"cgroup":"/sys/fs/cgroup/unified/nope"}"#,
                Status::Inval,
                &["/sys/fs/cgroup/unified/nope", "No such"],
            ),
            (r#"{"cgroup":"/tmp"}"#, Status::Inval, &["\"/tmp\"", "cgroup"]),
            (r#"{"cgroup":"/etc/passwd"}"#, Status::Inval, &["\"/etc/passwd\"", "cgroup"]),
        ],
    );
}

#[test]
fn a_tracepoint_that_does_not_exist_is_named() {
    needs_root!();
    const TP: &str = source!("SEC(\"tp/syscalls/sys_enter_nothing\") int on_call(void *ctx) { return 0; }");
    attach_refused(
        TP,
        "on_call",
        &[("", Status::Attach, &["sys_enter_nothing", "this kernel has no tracepoint"])],
    );
    const RAW: &str = source!("SEC(\"raw_tp/sys_nothing\") int on_call(void *ctx) { return 0; }");
    attach_refused(
        RAW,
        "on_call",
        &[("", Status::Attach, &["sys_nothing", "this kernel has no tracepoint"])],
    );
    const GOOD: &str = source!("SEC(\"tp/syscalls/sys_enter_getpgid\") int on_call(void *ctx) { return 0; }");
    attach_refused(
        GOOD,
        "on_call",
        &[
            (
                r#"{"attach":"tp/sched/nothing_at_all"}"#,
                Status::Attach,
                &["sched/nothing_at_all", "this kernel has no tracepoint"],
            ),
            (r#"{"attach":"tp/sched"}"#, Status::Attach, &["\"tp/sched\""]),
            (r#"{"attach":"xyz/abc"}"#, Status::Attach, &["\"xyz/abc\""]),
        ],
    );
}

#[test]
fn a_hook_that_the_kernel_lacks_is_named_at_load() {
    needs_root!();
    for (source, section) in [
        (
            source!("SEC(\"tp_btf/nothing_at_all\") int on_call(void *ctx) { return 0; }"),
            "tp_btf/nothing_at_all",
        ),
        (
            source!("SEC(\"fentry/nothing_at_all\") int on_call(void *ctx) { return 0; }"),
            "fentry/nothing_at_all",
        ),
        (source!("SEC(\"iter/nothing_at_all\") int on_call(void *ctx) { return 0; }"), "iter/nothing_at_all"),
    ] {
        let package = package(source);
        let clean = Clean::new();
        let vm = opened(&package);
        load_refused(&vm, &clean, Status::Unsupported, &["on_call", section]);
    }
}

#[test]
fn a_failed_kprobe_reports_what_is_missing() {
    needs_root!();
    const KPROBE: &str = source!("SEC(\"kprobe/nothing_at_all\") int on_call(void *ctx) { return 0; }");
    let has_kprobes = std::path::Path::new("/sys/bus/event_source/devices/kprobe").exists();
    let (status, word) = if has_kprobes {
        (Status::Unsupported, "this kernel has no function")
    } else {
        (Status::Unsupported, "CONFIG_KPROBES")
    };
    let words: &'static [&str] = Vec::leak(vec!["kprobe/nothing_at_all", word]);
    attach_refused(KPROBE, "on_call", &[("", status, words)]);
}

#[test]
fn an_executable_or_function_that_does_not_exist_is_named() {
    needs_root!();
    const UPROBE: &str = source!("SEC(\"uprobe\") int on_call(void *ctx) { return 0; }");
    attach_refused(
        UPROBE,
        "on_call",
        &[
            ("", Status::Unsupported, &["(uprobe): neither", "target: \"path\" and \"func\""]),
            (r#"{"path":"/nowhere/lib.so","func":"f"}"#, Status::Inval, &["/nowhere/lib.so"]),
            (r#"{"path":"/etc/passwd","func":"f"}"#, Status::Inval, &["/etc/passwd"]),
            (
                r#"{"path":"libc.so.6","func":"nothing_at_all"}"#,
                Status::Inval,
                &["libc.so.6", "nothing_at_all"],
            ),
            (r#"{"path":"libc.so.6"}"#, Status::Attach, &["\"func\""]),
            (r#"{"path":"libc.so.6","func":"getpgid","pid":4194304}"#, Status::Inval, &["libc.so.6"]),
        ],
    );
}

#[test]
fn a_perf_event_that_does_not_exist_is_named() {
    needs_root!();
    const PERF: &str = source!("SEC(\"perf_event\") int on_tick(void *ctx) { return 0; }");
    attach_refused(
        PERF,
        "on_tick",
        &[
            (r#"{"perf_event":{"type":12345,"config":0}}"#, Status::Unsupported, &["perf event type 12345"]),
            (
                r#"{"perf_event":{"type":"software","config":999}}"#,
                Status::Unsupported,
                &["perf event type 1 config 999"],
            ),
        ],
    );
}

#[test]
fn a_bad_target_is_refused_before_anything_happens() {
    needs_root!();
    let package = package(CALLS);
    let clean = Clean::new();
    let vm = opened(&package);
    for (json, words) in [
        ("{", vec!["EOF"]),
        ("7", vec!["an object"]),
        (r#"{"pid":1.5}"#, vec!["pid", "1.5"]),
        (r#"{"interface":"a name that is too long"}"#, vec!["interface", "15"]),
        (r#"{"interface":-1}"#, vec!["interface", "-1"]),
        (r#"{"ifindex":0}"#, vec!["ifindex", "0"]),
        (r#"{"path":"a\u0000b"}"#, vec!["path"]),
        (r#"[{},{"cgroup":""}]"#, vec!["[1]", "cgroup"]),
        (r#"{"perf_event":{"frequency":1,"period":1}}"#, vec!["perf_event", "period"]),
        (r#"{"tchook":{"attach_point":"SIDEWAYS"}}"#, vec!["attach_point", "SIDEWAYS"]),
    ] {
        let words: Vec<&str> = words.into_iter().chain(["\"on_enter\""]).collect();
        refused(vm.prog_set_target_json("on_enter", json), Status::Inval, &words);
    }
    refused(vm.prog_set_target_json("nobody", "{}"), Status::NotFound, &["\"nobody\""]);
    vm.attach().unwrap();
    refused(vm.prog_set_target_json("on_enter", "{}"), Status::State, &["\"on_enter\""]);
    drop(vm);
    drop(clean);
}

#[test]
fn if_one_program_cannot_attach_none_stays_attached() {
    needs_root!();
    let _ = package(CALLS);
    let clean = Clean::new();
    let vm = calls();
    vm.prog_set_target_json("on_exit", r#"{"attach":"tp/syscalls/sys_exit_nothing"}"#).unwrap();
    refused(vm.attach(), Status::Attach, &["\"on_exit\"", "sys_exit_nothing"]);
    clean.nothing_in_kernel();

    // If the package was loaded beforehand, it stays loaded, and nothing is attached.
    vm.load().unwrap();
    refused(vm.attach(), Status::Attach, &["\"on_exit\""]);
    for prog in ["on_enter", "on_exit"] {
        let info = vm.prog_find(prog).unwrap();
        assert!(info.loaded && !info.attached, "{prog}");
    }
    call(3);
    assert_eq!(
        vm.poll(Some(Duration::from_millis(50)), Format::Raw, |_| eunomia::Flow::Continue).unwrap(),
        0
    );

    // With a target that exists, attach succeeds.
    vm.prog_set_target_json("on_exit", r#"{"attach":"tp/syscalls/sys_exit_getpgid"}"#).unwrap();
    vm.attach().unwrap();
    call(1);
    assert_eq!(events(&vm, Format::Json, 2).len(), 2);
    drop(vm);
    drop(clean);
}

#[test]
fn one_bad_target_of_several_detaches_the_others() {
    needs_root!();
    let _ = package(CALLS);
    let clean = Clean::new();
    let vm = calls();
    vm.load().unwrap();
    let targets = r#"[{"attach":"tp/syscalls/sys_enter_getpgid"},{"attach":"tp/syscalls/sys_enter_getpgrp"},
        {"attach":"tp/syscalls/sys_enter_nothing"}]"#;
    vm.prog_set_target_json("on_enter", targets).unwrap();
    refused(vm.attach(), Status::Attach, &["\"on_enter\"", "sys_enter_nothing"]);
    call(3);
    assert_eq!(drain(&vm), 0);
    vm.prog_set_target_json(
        "on_enter",
        r#"[{"attach":"tp/syscalls/sys_enter_getpgid"},{"attach":"tp/syscalls/sys_enter_getpgrp"}]"#,
    )
    .unwrap();
    vm.attach().unwrap();
    call(1);
    // SAFETY: no arguments.
    unsafe { libc::syscall(libc::SYS_getpgrp) };
    assert_eq!(events(&vm, Format::Raw, 3).len(), 3);
    drop(vm);
    drop(clean);
}

#[test]
fn calls_in_the_wrong_order_change_nothing() {
    needs_root!();
    let package = package(CALLS);
    let clean = Clean::new();
    let vm = vm();
    refused(vm.load(), Status::State, &["no package"]);
    refused(vm.attach(), Status::State, &["no package"]);
    refused(vm.detach(), Status::State, &["no package"]);
    refused(
        vm.poll(Some(Duration::ZERO), Format::Raw, |_| eunomia::Flow::Continue),
        Status::State,
        &["no package"],
    );
    vm.open(&package, Kind::Json).unwrap();
    refused(vm.open(&package, Kind::Json), Status::State, &["already open"]);
    refused(vm.detach(), Status::State, &["not loaded"]);
    refused(
        vm.poll(Some(Duration::ZERO), Format::Raw, |_| eunomia::Flow::Continue),
        Status::State,
        &["not loaded"],
    );
    clean.nothing_in_kernel();
    vm.attach().unwrap();
    refused(vm.load(), Status::State, &["already loaded"]);
    refused(vm.attach(), Status::State, &["already attached"]);
    drop(vm);
    drop(clean);
}
