//! Tests what a new version of a package takes over on request: entries of maps that have grown, and variables.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use eunomia::vm::{ReplaceOptions, Replaced};
use eunomia::{Kind, Options, Status, Vm};
use serde_json::{Value, json};
use support::kernel::Watch;

/// Counts calls of getpgid(2) of a process, in an entry of each map and in a variable.
const SOURCE: &str = r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
const volatile u32 wanted = 0;
struct value { VALUE };
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, ENTRIES); __type(key, u32); __type(value, struct value); } state
    SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 2); __type(key, u32); __type(value, struct value); } shares
    SEC(".maps");
u64 total;
static u64 twice;
u32 step = 1;
VARIABLES
SEC("raw_tp/sys_enter") int on_enter(struct bpf_raw_tracepoint_args *ctx)
{
    u32 key = 1;
    struct value *value;
    if (ctx->args[1] != 121 || bpf_get_current_pid_tgid() >> 32 != wanted)
        return 0;
    __sync_fetch_and_add(&total, step);
    __sync_fetch_and_add(&twice, 2 * VERSION);
    if ((value = bpf_map_lookup_elem(&state, &key)))
        __sync_fetch_and_add(&value->count, 1);
    if ((value = bpf_map_lookup_elem(&shares, &key)))
        value->count += 1;
    return 0;
}
char LICENSE[] SEC("license") = "GPL";
"#;

/// A version. `value`: members of a value, `entries`: of the hash, `variables`: more of them.
fn package(version: u32, value: &str, entries: u32, variables: &str) -> Vec<u8> {
    let (version, entries) = (version.to_string(), entries.to_string());
    let source = SOURCE.replace("VALUE", value).replace("ENTRIES", &entries).replace("VARIABLES", variables);
    support::package(&source.replace("VERSION", &version))
}

const SMALL: &str = "u64 count;";
const GROWN: &str = "u64 count; u32 more; u8 name[4];";

fn attached(package: &[u8]) -> Vm {
    let vm = support::vm_with(Options::new().replaceable(true)).0;
    vm.open(package, Kind::Json).expect("the package opens");
    vm.var_set_json("wanted", &std::process::id().to_string()).expect("a variable");
    vm.attach().expect("the package attaches");
    vm
}

fn call() {
    // SAFETY: a number only.
    unsafe { libc::getpgid(0) };
}

/// One test at a time, because each counts the calls of the process.
fn turn() -> std::sync::MutexGuard<'static, ()> {
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
    TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn report(replaced: &Replaced) -> Value {
    serde_json::from_str(&replaced.to_json()).expect("JSON")
}

/// Returns the entry for a map in one of the lists of a report.
fn of_map<'a>(report: &'a Value, list: &str, name: &str) -> Option<&'a Value> {
    report[list].as_array().expect("a list").iter().find(|map| map["name"] == name)
}

fn migrating() -> ReplaceOptions {
    let mut options = ReplaceOptions::default();
    options.migrate_maps = true;
    options
}

fn number(vm: &Vm, name: &str) -> u64 {
    vm.var_get_json(name).expect("a variable").parse().expect("a number")
}

fn entry(vm: &Vm, map: &str) -> Value {
    serde_json::from_str(&vm.map_get_json(map, "1").expect("an entry")).expect("JSON")
}

/// Calls from two threads until the end.
struct Load(Arc<AtomicBool>, Vec<std::thread::JoinHandle<()>>, Arc<AtomicU64>);

impl Load {
    fn start() -> Load {
        let (over, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let run = |_| {
            let (over, count) = (Arc::clone(&over), Arc::clone(&count));
            std::thread::spawn(move || {
                while !over.load(SeqCst) {
                    call();
                    count.fetch_add(1, SeqCst);
                }
            })
        };
        let threads = (0..2).map(run).collect();
        Load(over, threads, count)
    }

    /// Returns the number of calls.
    fn end(self) -> u64 {
        self.0.store(true, SeqCst);
        self.1.into_iter().for_each(|thread| thread.join().expect("the load ends"));
        self.2.load(SeqCst)
    }
}

#[test]
fn entries_of_maps_that_have_grown_are_copied() {
    needs_root!();
    let _turn = turn();
    let clean = Watch::new();
    let vm = attached(&package(1, SMALL, 8, ""));
    for key in 1..=8 {
        vm.map_set_json("state", &key.to_string(), r#"{"count":5}"#, 0).expect("an entry");
    }
    call();
    let mut strict = migrating();
    strict.strict_maps = true;
    let replaced = vm.replace(&package(2, GROWN, 8, ""), strict).expect("the replace works");
    let told = report(&replaced);
    println!("{told}");
    assert_eq!(of_map(&told, "maps", "state").expect("told")["change"], "migrated");
    assert_eq!(
        of_map(&told, "migrated", "state"),
        Some(&json!({ "name": "state", "entries": 8, "updates_lost": 0 }))
    );
    call();
    assert_eq!(entry(&vm, "state"), json!({ "count": 7, "more": 0, "name": [0, 0, 0, 0] }));
    assert_eq!(vm.map_get_json("state", "8").expect("an entry"), r#"{"count":5,"more":0,"name":[0,0,0,0]}"#);
    let shares: u64 = entry(&vm, "shares")
        .as_array()
        .expect("a value per CPU")
        .iter()
        .map(|one| one["count"].as_u64().unwrap())
        .sum();
    assert_eq!(shares, 2);
    // The new version has more entries; after a rollback, the old version lacks the updates by the new one.
    let mut keeping = migrating();
    keeping.keep_old = true;
    let told = report(&vm.replace(&package(3, GROWN, 9, ""), keeping).expect("the replace works"));
    assert_eq!(of_map(&told, "migrated", "state").expect("told")["entries"], 8);
    assert_eq!(of_map(&told, "maps", "shares").expect("told")["change"], "carried");
    vm.map_set_json("state", "9", r#"{"count":1}"#, 0).expect("one more entry");
    call();
    vm.rollback().expect("the rollback works");
    assert_eq!(entry(&vm, "state")["count"], 7);
    drop(vm);
    clean.is_clean();
}

#[test]
fn entries_of_other_values_are_not_copied() {
    needs_root!();
    let _turn = turn();
    let first = package(1, "u64 count; u32 part;", 8, "");
    let cases = [
        ("u64 count; u32 part; u32 in_the_padding;", 8),
        ("u64 count; u32 other; u64 more;", 8),
        ("u32 more; u64 count; u32 part;", 8),
        ("u64 count; u32 part;", 7),
    ];
    for (index, (value, entries)) in cases.into_iter().enumerate() {
        let vm = attached(&first);
        vm.map_set_json("state", "1", r#"{"count":5}"#, 0).expect("an entry");
        let other = package(2 + index as u32, value, entries, "");
        let mut strict = migrating();
        strict.strict_maps = true;
        assert_eq!(vm.replace(&other, strict).map(drop).expect_err("strict").status(), Status::Type);
        let told = report(&vm.replace(&other, migrating()).expect("the replace works"));
        assert_eq!(of_map(&told, "maps", "state").expect("told")["change"], "fresh", "{value}");
        assert!(of_map(&told, "migrated", "state").is_none());
        assert!(vm.map_get_json("state", "1").is_err(), "{value}");
    }
}

#[test]
fn under_load_updates_after_the_copy_are_counted() {
    needs_root!();
    let _turn = turn();
    let both = [package(1, SMALL, 8, ""), package(2, GROWN, 8, "")];
    // Between the copy and the switch the programs have little time to change the one entry that they change.
    let is_counted = |_| {
        let vm = attached(&both[0]);
        for key in ["1", "2"] {
            vm.map_set_json("state", key, r#"{"count":0}"#, 0).expect("an entry");
        }
        let load = Load::start();
        while entry(&vm, "state")["count"] == 0 {}
        let told = report(&vm.replace(&both[1], migrating()).expect("the replace works"));
        let produced = load.end();
        let counted = entry(&vm, "state")["count"].as_u64().expect("a number");
        assert!(counted <= produced, "{counted} of {produced}");
        let told = of_map(&told, "migrated", "state").expect("told");
        assert_eq!(told["entries"], 2);
        assert!(told["updates_lost"] == 1 || told["updates_lost"] == 0, "{told}");
        told["updates_lost"] == 1
    };
    assert!((0..200).any(is_counted));
}

#[test]
fn under_load_carried_variables_lose_no_update() {
    needs_root!();
    let _turn = turn();
    let both = [1, 2].map(|version| package(version, SMALL, 8, ""));
    let vm = attached(&both[0]);
    let mut options = ReplaceOptions::default();
    options.carry_data = true;
    let load = Load::start();
    for turn in 0..12 {
        let told = report(&vm.replace(&both[(turn + 1) % 2], options).expect("the replace works"));
        let changes = told["maps"].as_array().expect("maps").iter();
        let data: Vec<_> = changes.filter(|map| map["name"].as_str().unwrap().ends_with("ss")).collect();
        assert_eq!((data.len(), &data[0]["change"]), (1, &json!("carried")), "{told}");
    }
    let produced = load.end();
    assert_eq!(number(&vm, "total"), produced);
    // The host and the programs have the same variables.
    vm.var_set_json("step", "10").expect("a variable");
    vm.replace(&both[1], options).expect("the replace works");
    assert_eq!(number(&vm, "step"), 10);
    call();
    assert_eq!(number(&vm, "total"), produced + 10);
    vm.var_set_json("total", "0").expect("a variable");
    call();
    assert_eq!(number(&vm, "total"), 10);
}

#[test]
fn other_variables_start_anew() {
    needs_root!();
    let _turn = turn();
    let mut options = ReplaceOptions::default();
    options.carry_data = true;
    for more in ["static u64 more; u64 *get(void) { return &more; }", "u64 more;"] {
        let vm = attached(&package(1, SMALL, 8, ""));
        call();
        assert_eq!(number(&vm, "total"), 1);
        vm.replace(&package(2, SMALL, 8, more), options).expect("the replace works");
        assert_eq!(number(&vm, "total"), 0, "{more}");
    }
    // Without the option, the variables also start with their initial values.
    let vm = attached(&package(1, SMALL, 8, ""));
    call();
    vm.replace(&package(2, SMALL, 8, ""), ReplaceOptions::default()).expect("the replace works");
    assert_eq!(number(&vm, "total"), 0);
}
