//! Kernels without the hook of a program, and alternatives to the program that do not need it. The reference kernel refuses every
//! fentry program; the tests also pass on kernels that accept them.

use eunomia::{Format, Kind, Level, Options, Status, Vm};
use serde_json::Value;

use crate::fixture::{Clean, call, drain, edited, events, load_refused, package, refused, tid};
use crate::needs_root;
use crate::support::vm_with;

/// Two chains, a program without variants, and one record per hook that is attached.
const VARIANTS: &str = r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

struct event { u64 hook; };
const volatile u32 only_tid = 0;
u64 kept = 0;

struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } events SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 4);
    __type(key, u32);
    __type(value, u64);
} notes SEC(".maps");

static int report(u64 hook)
{
    if ((u32)bpf_get_current_pid_tgid() != only_tid)
        return 0;
    struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
    if (event) {
        event->hook = hook;
        bpf_ringbuf_submit(event, 0);
    }
    return 0;
}

/// @instead_of enter_attach
SEC("fentry/no_such_function_anywhere")
int enter_load(void *ctx)
{
    return report(1);
}

/// @instead_of enter_works
SEC("tp/syscalls/sys_enter_no_such_call")
int enter_attach(void *ctx)
{
    return report(2);
}

SEC("tp/syscalls/sys_enter_getpgid")
int enter_works(void *ctx)
{
    return report(3);
}

/// @instead_of exit_works
SEC("tp_btf/no_such_tracepoint")
int exit_load(void *ctx)
{
    return report(4);
}

/// @instead_of exit_spare
SEC("tp/syscalls/sys_exit_getpgid")
int exit_works(void *ctx)
{
    return report(5);
}

SEC("tp/syscalls/sys_exit_getpgid")
int exit_spare(void *ctx)
{
    return report(6);
}

SEC("tp/syscalls/sys_enter_getppid")
int plain(void *ctx)
{
    return report(7);
}

char LICENSE[] SEC("license") = "GPL";
"#;

fn open(package: &[u8]) -> (Vm, std::sync::Arc<std::sync::Mutex<Vec<String>>>) {
    let (vm, log) = vm_with(Options::new().log_level(Level::Info));
    vm.open(package, Kind::Json).unwrap();
    vm.var_set_json("only_tid", &tid().to_string()).unwrap();
    (vm, log)
}

/// The hooks that see a call.
fn seen(vm: &Vm, count: usize) -> Vec<u64> {
    call(1);
    let seen: Vec<_> =
        events(vm, Format::Json, count).iter().map(|e| e.json()["hook"].as_u64().unwrap()).collect();
    assert_eq!(drain(vm), 0);
    seen
}

fn program(vm: &Vm, name: &str) -> Value {
    let description: Value = serde_json::from_str(&vm.describe().unwrap()).unwrap();
    let progs = description["programs"].as_array().unwrap();
    progs.iter().find(|prog| prog["name"] == name).unwrap().clone()
}

#[test]
fn the_first_alternative_that_loads_and_attaches_is_used() {
    needs_root!();
    let clean = Clean::new();
    let (vm, log) = open(&package(VARIANTS));
    assert_eq!(program(&vm, "enter_load")["instead_of"], "enter_attach");
    assert_eq!(program(&vm, "plain")["instead_of"], Value::Null);
    vm.attach().unwrap();
    assert_eq!(seen(&vm, 2), [3, 5]);

    let skipped = |name: &str| program(&vm, name)["skipped"].as_str().unwrap().to_owned();
    for (name, word) in [("enter_load", "fentry"), ("enter_attach", "no tracepoint"), ("exit_load", "tp_btf")]
    {
        assert!(skipped(name).contains(word), "{}", skipped(name));
        let line = format!("program {name:?} is skipped: {}", skipped(name));
        assert!(log.lock().unwrap().contains(&line), "{line}");
        assert_eq!(
            (&program(&vm, name)["autoload"], &program(&vm, name)["attached"]),
            (&true.into(), &false.into())
        );
    }
    for (name, attached) in
        [("enter_works", true), ("exit_works", true), ("exit_spare", false), ("plain", true)]
    {
        assert_eq!(program(&vm, name)["skipped"], Value::Null);
        assert_eq!(program(&vm, name)["attached"], attached, "{name}");
    }
    // After detach, the package attaches again with the same result.
    vm.detach().unwrap();
    vm.attach().unwrap();
    assert_eq!(seen(&vm, 2), [3, 5]);
    drop(vm);
    drop(clean);
}

#[test]
fn settings_of_the_host_survive_a_skipped_alternative() {
    needs_root!();
    let clean = Clean::new();
    let (vm, _log) = open(&package(VARIANTS));
    vm.var_set_json("kept", "77").unwrap();
    vm.prog_set_autoload("exit_works", false).unwrap();
    vm.load().unwrap();
    // Two loads failed before; neither has left a map.
    assert_eq!(vm.var_get_json("kept").unwrap(), "77");
    vm.map_set_json("notes", "1", "2", 0).unwrap();
    vm.attach().unwrap();
    assert_eq!(vm.map_get_json("notes", "1").unwrap(), "2");
    assert_eq!(seen(&vm, 2), [3, 6]);
    drop(vm);
    drop(clean);
}

#[test]
fn a_chain_without_a_working_alternative_names_each_with_its_reason() {
    needs_root!();
    let clean = Clean::new();
    let (vm, _log) = open(&package(VARIANTS));
    vm.prog_set_autoload("enter_works", false).unwrap();
    let words = [
        "program \"enter_load\": no alternative works on this kernel; \"enter_load\": this kernel ",
        "; \"enter_attach\": this kernel has no tracepoint \"syscalls/sys_enter_no_such_call\"",
    ];
    refused(vm.attach(), Status::Attach, &words);
    clean.nothing_in_kernel();
    // A second attempt fails in the same way. With the program that loads, attach succeeds.
    refused(vm.attach(), Status::Attach, &words);
    vm.prog_set_autoload("enter_works", true).unwrap();
    vm.attach().unwrap();
    assert_eq!(seen(&vm, 2), [3, 5]);
    drop(vm);
    // If no alternative loads, load fails.
    let (vm, _log) = open(&package(VARIANTS));
    for name in ["exit_works", "exit_spare", "enter_attach", "enter_works"] {
        vm.prog_set_autoload(name, false).unwrap();
    }
    // A program without an alternative is a program like any other.
    let error = load_refused(&vm, &clean, Status::Unsupported, &["program \"enter_load\""]);
    assert!(!error.message().contains("alternative"), "{error}");
    drop(vm);
    drop(clean);
}

#[test]
fn a_package_may_keep_programs_from_being_loaded() {
    needs_root!();
    let off = |name: &'static str| {
        move |document: &mut Value| {
            let progs = document["meta"]["bpf_skel"]["progs"].as_array_mut().unwrap();
            progs.iter_mut().find(|prog| prog["name"] == name).unwrap()["autoload"] = false.into();
        }
    };
    let package = edited(&edited(&package(VARIANTS), off("plain")), off("enter_works"));
    let clean = Clean::new();
    let (vm, _log) = open(&package);
    refused(vm.attach(), Status::Attach, &["program \"enter_load\": no alternative works"]);
    assert_eq!(program(&vm, "plain")["autoload"], false);
    vm.prog_set_autoload("enter_works", true).unwrap();
    vm.attach().unwrap();
    assert_eq!((&program(&vm, "plain")["loaded"], seen(&vm, 2)), (&false.into(), vec![3, 5]));
    drop(vm);
    drop(clean);
}

/// Programs of which a host on plain libbpf would select those whose hooks exist.
fn picked_by_the_host(hooks: &[&str]) -> Vec<u8> {
    let mut source = String::from(
        "#include \"vmlinux.h\"\n#include <bpf/bpf_helpers.h>\nchar LICENSE[] SEC(\"license\") = \"GPL\";\n",
    );
    for (index, hook) in hooks.iter().enumerate() {
        source += &format!("SEC(\"{hook}\") int prog{index}(void *ctx) {{ return 0; }}\n");
    }
    crate::support::package(&source)
}

#[test]
fn programs_without_a_hook_are_skipped_if_the_host_allows_it() {
    needs_root!();
    let clean = Clean::new();
    let some =
        ["tracepoint/sched/no_such", "tp_btf/no_such", "raw_tp/no_such", "tracepoint/sched/sched_switch"];
    let vm = |hooks: &[&str], skip_missing_hooks| {
        let (vm, log) = vm_with(Options::new().skip_missing_hooks(skip_missing_hooks));
        vm.open(&picked_by_the_host(hooks), Kind::Json).unwrap();
        (vm, log)
    };
    let (strict, _) = vm(&some, false);
    assert!(strict.attach().unwrap_err().message().contains("no_such"));

    let (lenient, log) = vm(&some, true);
    lenient.attach().unwrap();
    let attached: Vec<bool> = (0..4).map(|index| lenient.prog_at(index).unwrap().attached).collect();
    assert_eq!(attached, [false, false, false, true]);
    let described: Value = serde_json::from_str(&lenient.describe().unwrap()).unwrap();
    for index in 0..3 {
        let line = |logged: &String| {
            logged.starts_with(&format!("program \"prog{index}\" (")) && logged.contains("is skipped: ")
        };
        // The second program is an alternative of the third, so both count as one.
        assert_eq!(log.lock().unwrap().iter().any(line), index != 1, "{log:?}");
        assert!(described["programs"][index]["skipped"].as_str().unwrap().contains("no_such"), "{described}");
    }
    drop(lenient);

    // No program can be used: none loads, none attaches, or none that the host names does.
    for hooks in [["tp_btf/no_such", "tp_btf/nor_this"], ["tracepoint/sched/no_such", "raw_tp/no_such"]] {
        let (none, _) = vm(&hooks, true);
        let error = none.attach().unwrap_err();
        assert!(error.message().contains("no_such") || error.message().contains("nor_this"), "{error}");
    }
    let (asked, _) = vm(&["raw_tp/sched_switch", "raw_tp/sched_wakeup"], true);
    asked.prog_set_target_json("prog1", r#"{"attach": "raw_tp/no_such"}"#).unwrap();
    assert!(asked.attach().unwrap_err().message().contains("no_such"));
    drop((strict, asked));
    drop(clean);
}
