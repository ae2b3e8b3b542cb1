//! A package is pinned, its process is killed at any moment, and another process takes over the version that runs. Each
//! event is handled once.

mod support;

use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use eunomia::vm::{Exported, FdRole, remove_pins, running_pins};
use eunomia::{EventKind, Flow, Format, Kind, Options, Status, Vm};
use serde_json::Value;
use support::child;
use support::kernel::Watch;
use support::random::Random;

const BPFFS: &str = "/sys/fs/bpf";

/// Counts calls of getpgid(2) of one process in each program, and sends an event for each.
fn source(version: u32, programs: &str) -> String {
    format!(
        r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
struct event {{ u64 number; u32 version; }};
const volatile u32 wanted = 0;
u32 version = {version};
u64 total = 0;
u64 failed = 0;
struct {{ __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 3); __type(key, u32); __type(value, u64); }} handled SEC(".maps");
struct {{ __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 16); }} events SEC(".maps");
static __always_inline u64 *count(u32 index)
{{
    u64 *counter = bpf_map_lookup_elem(&handled, &index);
    return bpf_get_current_pid_tgid() >> 32 == wanted ? counter : 0;
}}
static __always_inline int handle(u32 index)
{{
    u64 *counter = count(index);
    struct event event = {{ .version = {version} }};
    if (!counter)
        return 0;
#ifdef BEFORE_5_12 // The kernel cannot return the old value.
    event.number = *counter;
    __sync_fetch_and_add(counter, 1);
#else
    event.number = __sync_fetch_and_add(counter, 1);
#endif
    __sync_fetch_and_add(&total, 1);
    if (index == 0)
        bpf_ringbuf_output(&events, &event, sizeof(event), 0);
    return 0;
}}
{programs}
char LICENSE[] SEC("license") = "GPL";
"#
    )
}

const RAW_TP: &str = r#"
SEC("raw_tp/sys_enter") int on_enter(struct bpf_raw_tracepoint_args *ctx) { return ctx->args[1] == 121 ? handle(0) : 0; }"#;
const TRACEPOINT: &str = r#"
SEC("tp/syscalls/sys_enter_getpgid") int on_call(struct trace_event_raw_sys_enter *ctx) { return handle(1); }"#;
/// A hook that only one of two versions has.
const MORE: &str = r#"
SEC("raw_tp/sys_exit") int on_exit(struct bpf_raw_tracepoint_args *ctx) { return ctx->args[1] == 4711 ? handle(2) : 0; }"#;
const PERF: &str = r#"
struct { __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __uint(key_size, 4); __uint(value_size, 4); } perf SEC(".maps");
SEC("raw_tp/sys_enter") int on_enter(struct bpf_raw_tracepoint_args *ctx)
{
    struct event event = { .version = 7 };
    if (ctx->args[1] != 121 || !count(0))
        return 0;
    event.number = __sync_fetch_and_add(&total, 1);
    if (bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, &event, sizeof(event)) < 0)
        __sync_fetch_and_add(&failed, 1);
    return 0;
}"#;
const USDT: &str = r#"
#include <bpf/usdt.bpf.h>
SEC("usdt//proc/self/exe:eunomia:beat") int BPF_USDT(on_beat, u64 number) { return handle(0); }"#;
const XDP: &str = r#"SEC("xdp") int on_packet(struct xdp_md *ctx) { return XDP_PASS; }"#;

fn call() {
    // SAFETY: a number only.
    unsafe { libc::getpgid(0) };
}

/// A directory in the BPF file system, which is removed with its content.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = Path::new(BPFFS).join(format!("eunomia-test-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).expect("a BPF file system");
        Folder(path)
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).expect("the directory").flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    fn of(&self, version: u32) -> PathBuf {
        self.0.join(version.to_string())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        for name in self.names() {
            let _ = remove_pins(self.0.join(name));
        }
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// Opens a package that counts the calls of the process `wanted`.
fn opened(package: &[u8], wanted: u32) -> Vm {
    let vm = support::vm_with(Options::new().replaceable(true)).0;
    vm.open(package, Kind::Json).expect("the package opens");
    vm.var_set_json("wanted", &wanted.to_string()).expect("a variable");
    vm
}

fn attached(package: &[u8]) -> Vm {
    let vm = opened(package, std::process::id());
    vm.attach().expect("the package attaches");
    vm
}

fn number(vm: &Vm, variable: &str) -> u64 {
    vm.var_get_json(variable).expect("a variable").parse().expect("a number")
}

fn handled(vm: &Vm, index: u32) -> u64 {
    vm.map_get_json("handled", &index.to_string()).expect("an entry").parse().expect("a number")
}

/// The events that wait: their versions and numbers.
fn events(vm: &Vm) -> Vec<(u64, u64)> {
    let mut all = Vec::new();
    let mut take = |event: &eunomia::Event<'_>| {
        if event.kind == EventKind::Sample {
            let event: Value = serde_json::from_slice(event.data).expect("JSON");
            all.push((
                event["version"].as_u64().expect("a version"),
                event["number"].as_u64().expect("a number"),
            ));
        }
        Flow::Continue
    };
    while vm.poll(Some(Duration::ZERO), Format::Json, &mut take).expect("a poll") > 0 {}
    all
}

#[track_caller]
fn wait_until(what: &str, mut is_true: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_true() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What a child needs, in files of a directory of both.
struct Order {
    folder: tempfile::TempDir,
}

impl Order {
    /// The packages of even and odd versions.
    fn new(packages: [&[u8]; 2], pins: &Folder) -> Order {
        let folder = tempfile::tempdir().expect("a directory");
        let write =
            |name: &str, content: &[u8]| std::fs::write(folder.path().join(name), content).expect("a file");
        write("0", packages[0]);
        write("1", packages[1]);
        write("wanted", std::process::id().to_string().as_bytes());
        write("pins", pins.0.as_os_str().as_encoded_bytes());
        Order { folder }
    }

    /// Starts a child, and waits until it runs a version that is pinned.
    fn start(&self, test: &str) -> Child {
        let ready = self.folder.path().join("ready");
        let _ = std::fs::remove_file(&ready);
        let mut child = child::start(test, self.folder.path());
        wait_until("the child is ready", || {
            assert!(child.try_wait().expect("a child").is_none(), "the child has ended");
            ready.exists()
        });
        child
    }
}

fn kill(mut child: Child) {
    child.kill().expect("the child runs");
    child.wait().expect("the child ends");
}

/// The child: takes over what is pinned, or attaches and pins version 1. With `replaces` it then replaces the package until it
/// is killed.
fn run_as_child(folder: &Path, replaces: bool) -> ! {
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect("a file");
    let (pins, wanted) = (PathBuf::from(read("pins")), read("wanted").parse().expect("a process"));
    let package = |version: u32| std::fs::read(folder.join((version % 2).to_string())).expect("a package");
    let (vm, mut version) = recovered(&pins, wanted, &package).unwrap_or_else(|| {
        let vm = opened(&package(1), wanted);
        vm.attach().expect("the package attaches");
        vm.pin(pins.join("1")).expect("it is pinned");
        (vm, 1)
    });
    std::fs::write(folder.join("ready"), "").expect("a file");
    loop {
        if !replaces {
            std::thread::park();
            continue;
        }
        version += 1;
        let mut prepared = vm.prepare(&package(version), Default::default()).expect("the next version");
        prepared.pin(pins.join(version.to_string())).expect("it is pinned");
        prepared.flip().expect("the switch");
        events(&vm);
    }
}

/// Takes over the version that runs.
fn recovered(pins: &Path, wanted: u32, package: &dyn Fn(u32) -> Vec<u8>) -> Option<(Vm, u32)> {
    let found = running_pins(pins).expect("the pins can be read")?;
    let version = found.file_name()?.to_str()?.parse().expect("a version");
    let vm = opened(&package(version), wanted);
    vm.recover(&found).expect("the package is recovered");
    Some((vm, version))
}

/// Calls getpgid(2) in two threads until the end, and counts the calls.
struct Load(Arc<AtomicBool>, Arc<AtomicU64>, Vec<std::thread::JoinHandle<()>>);

impl Load {
    fn start() -> Load {
        let (over, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let run = |_| {
            let (over, calls) = (Arc::clone(&over), Arc::clone(&calls));
            std::thread::spawn(move || {
                while !over.load(SeqCst) {
                    call();
                    if calls.fetch_add(1, SeqCst) % 64 == 0 {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
            })
        };
        let threads = (0..2).map(run).collect();
        Load(over, calls, threads)
    }

    fn end(self) -> u64 {
        self.0.store(true, SeqCst);
        self.2.into_iter().for_each(|thread| thread.join().expect("the load ends"));
        self.1.load(SeqCst)
    }
}

/// One test at a time, because each counts the calls of this process.
fn turn() -> std::sync::MutexGuard<'static, ()> {
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
    TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[test]
fn killed_at_any_moment_of_a_replace_one_version_runs_and_is_taken_over() {
    needs_root!();
    if let Some(folder) = child::folder() {
        run_as_child(&folder, true);
    }
    let _turn = turn();
    const TEST: &str = "killed_at_any_moment_of_a_replace_one_version_runs_and_is_taken_over";
    let watch = Watch::new();
    let packages = [[RAW_TP, TRACEPOINT, MORE], [RAW_TP, TRACEPOINT, ""]];
    let packages =
        [0, 1].map(|version| support::package(&source(version, &packages[version as usize].concat())));
    let pins = Folder::new("kill");
    let order = Order::new([&packages[0], &packages[1]], &pins);
    let mut random = Random(u64::from(std::process::id()));
    eprintln!("seed {}", random.0);
    kill(order.start(TEST));
    let load = Load::start();
    let rounds = if std::env::var_os("EUNOMIA_ENDURANCE").is_some() { 200 } else { 12 };
    for round in 0..rounds {
        let running = match round % 4 {
            // It is killed while it takes over.
            0 => child::start(TEST, order.folder.path()),
            _ => order.start(TEST),
        };
        std::thread::sleep(Duration::from_millis(random.below(120)));
        kill(running);
        eprintln!("round {round}: {:?}", pins.names());
    }
    let package = |version: u32| packages[version as usize % 2].clone();
    let (vm, version) = recovered(&pins.0, std::process::id(), &package).expect("a version runs");
    assert_eq!(pins.names(), [version.to_string()]);
    events(&vm);
    let calls = load.end();
    assert_eq!([handled(&vm, 0), handled(&vm, 1)], [calls; 2], "each call is handled once by each program");
    events(&vm);
    (0..3).for_each(|_| call());
    let parity = u64::from(version % 2);
    assert_eq!(events(&vm), [(parity, calls), (parity, calls + 1), (parity, calls + 2)]);
    // It can be replaced like a package that this process has loaded.
    let mut prepared = vm.prepare(&package(version + 1), Default::default()).expect("the next version");
    prepared.pin(pins.of(version + 1)).expect("it is pinned");
    prepared.flip().expect("the switch");
    assert_eq!(pins.names(), [(version + 1).to_string()]);
    call();
    assert_eq!(events(&vm), [(1 - parity, calls + 3)]);
    drop(vm);
    assert_eq!(pins.names(), [""; 0]);
    eprintln!("{calls} calls, {rounds} kills, version {version}");
    drop(pins);
    watch.kernel_is_clean();
}

#[test]
fn maps_and_variables_keep_their_values_and_a_perf_buffer_fails_until_the_package_is_recovered() {
    needs_root!();
    if let Some(folder) = child::folder() {
        run_as_child(&folder, false);
    }
    let _turn = turn();
    let package = support::package(&source(7, PERF));
    let pins = Folder::new("perf");
    let order = Order::new([&package; 2], &pins);
    let child = order
        .start("maps_and_variables_keep_their_values_and_a_perf_buffer_fails_until_the_package_is_recovered");
    call();
    kill(child);
    (0..2).for_each(|_| call());
    let (vm, _) = recovered(&pins.0, std::process::id(), &|_| package.clone()).expect("it is pinned");
    assert_eq!((number(&vm, "total"), number(&vm, "failed")), (3, 2));
    call();
    assert_eq!(events(&vm), [(7, 3)]);
    let parts = vm.unpinnable().expect("parts");
    let perf = FdRole::Map { name: "perf".into() };
    assert!(parts.len() == 1 && parts[0].0 == perf && parts[0].1.contains("perf buffer"), "{parts:?}");
    // Programs of another process cannot be attached again.
    vm.detach().expect("it is detached");
    assert_eq!(pins.names(), [""; 0]);
    let error = vm.attach().expect_err("it was not loaded here");
    assert_eq!(error.status(), Status::State, "{error}");
    call();
    assert_eq!(number(&vm, "total"), 4);
}

#[test]
fn suspended_programs_stay_suspended() {
    needs_root!();
    let _turn = turn();
    let package = support::package(&source(1, RAW_TP));
    let pins = Folder::new("suspended");
    let vm = attached(&package);
    vm.suspend(true).expect("it is suspended");
    vm.pin(pins.of(1)).expect("it is pinned");
    // The kernel's objects stay as they are, as after the end of the process.
    std::mem::forget(vm);
    let vm = recovered(&pins.0, std::process::id(), &|_| package.clone()).expect("it is pinned").0;
    call();
    assert_eq!(events(&vm), []);
    vm.suspend(false).expect("it runs again");
    call();
    assert_eq!(events(&vm), [(1, 0)]);
    vm.suspend(true).expect("it is suspended");
    call();
    assert_eq!(events(&vm), []);
}

#[test]
fn the_kernel_knows_which_of_two_pinned_versions_runs() {
    needs_root!();
    let _turn = turn();
    for programs in [RAW_TP, XDP] {
        let watch = Watch::new();
        let packages = [1, 2].map(|version| support::package(&source(version, programs)));
        let pins = Folder::new("two");
        let is_running = |version| Exported::from_pins(pins.of(version)).and_then(|pins| pins.is_running());
        let vm = attached(&packages[0]);
        vm.pin(pins.of(1)).expect("it is pinned");
        let mut prepared = vm.prepare(&packages[1], Default::default()).expect("the next version");
        prepared.pin(pins.of(2)).expect("it is pinned");
        assert_eq!([1, 2].map(|version| is_running(version).expect("pins")), [true, false]);
        drop(prepared);
        assert_eq!(pins.names(), ["1"], "an aborted version leaves no pins");
        let mut options = eunomia::vm::ReplaceOptions::default();
        options.keep_old = true;
        let mut prepared = vm.prepare(&packages[1], options).expect("the next version");
        prepared.pin(pins.of(2)).expect("it is pinned");
        prepared.flip().expect("the switch");
        assert_eq!([1, 2].map(|version| is_running(version).expect("pins")), [false, true]);
        let waiting = opened(&packages[0], 0).recover(pins.of(1)).expect_err("another version runs");
        assert_eq!(waiting.status(), Status::State, "{waiting}");
        vm.rollback().expect("the first version");
        assert_eq!((pins.names(), is_running(1).expect("pins")), (vec!["1".to_owned()], true));
        vm.pin(pins.of(3)).expect("it is pinned elsewhere");
        assert_eq!(pins.names(), ["3"]);
        vm.detach().expect("it is detached");
        assert_eq!(pins.names(), [""; 0], "a detached package has no pins");
        vm.attach().expect("it is attached again");
        drop((vm, pins));
        watch.kernel_is_clean();
    }
}

#[test]
fn a_reader_of_pins_gets_events_without_loading() {
    needs_root!();
    let _turn = turn();
    let package = support::package(&source(1, RAW_TP));
    let pins = Folder::new("reader");
    let vm = attached(&package);
    vm.pin(pins.of(1)).expect("it is pinned");
    let exported = Exported::from_pins(pins.of(1)).expect("pins");
    let reader = Vm::import(&package, exported, Options::new()).expect("a reader");
    call();
    assert_eq!(events(&reader), [(1, 0)]);
}

#[test]
fn what_cannot_be_pinned_is_refused_with_the_reason() {
    needs_root!();
    let _turn = turn();
    let watch = Watch::new();
    let pins = Folder::new("refused");
    // The probe is in an executable that contains it.
    support::probe::beat(0);
    let vm = attached(&support::package(&source(1, USDT)));
    let parts = vm.unpinnable().expect("parts");
    let usdt = FdRole::Link { program: "on_beat".into() };
    assert!(parts.len() == 1 && parts[0].0 == usdt && parts[0].1.contains("libbpf attaches it"), "{parts:?}");
    let error = vm.pin(pins.of(1)).expect_err("a USDT probe has no link");
    assert_eq!(error.status(), Status::Unsupported, "{error}");
    assert!(
        error.message().contains("\"on_beat\"") && error.message().contains("cannot be pinned"),
        "{error}"
    );
    drop(vm);
    let package = support::package(&source(1, RAW_TP));
    let vm = opened(&package, 0);
    assert_eq!(vm.pin(pins.of(1)).expect_err("nothing is attached").status(), Status::State);
    assert_eq!(vm.recover(pins.of(1)).expect_err("nothing is pinned").status(), Status::NotFound);
    // After the failure it is open as before.
    vm.attach().expect("it attaches");
    let temporary = tempfile::tempdir().expect("a directory");
    for (dir, status) in [
        (temporary.path().join("1"), Status::Perm),
        (pins.0.join("a.b"), Status::Perm),
        (pins.0.join("none/1"), Status::NotFound),
        (pins.0.clone(), Status::Inval),
    ] {
        let error = vm.pin(&dir).expect_err("no such place");
        assert_eq!(error.status(), status, "{error}");
        assert!(error.message().contains(dir.to_str().expect("UTF-8")), "{error}");
    }
    assert_eq!(
        (pins.names(), std::fs::read_dir(temporary.path()).expect("a directory").count()),
        (vec![], 0)
    );
    vm.pin(pins.of(1)).expect("it is pinned");
    let other = opened(&support::package(&source(2, RAW_TP)), 0);
    let error = other.recover(pins.of(1)).expect_err("another package");
    assert!(error.status() == Status::Inval && error.message().contains("of another package"), "{error}");
    // What a killed process leaves: a directory that is not complete.
    std::fs::create_dir(pins.0.join("2~")).expect("a directory");
    assert_eq!(running_pins(&pins.0).expect("pins"), Some(pins.of(1)));
    assert_eq!(pins.names(), ["1"]);
    // Anything else is an error, and stays.
    std::fs::create_dir(pins.of(2)).expect("a directory");
    assert_eq!(running_pins(&pins.0).expect_err("not a version").status(), Status::NotFound);
    std::fs::remove_dir(pins.of(2)).expect("it is still there");
    drop((vm, other, pins));
    watch.is_clean();
}

/// Packages for each hook, and the first Linux whose links of such hooks can be pinned.
const HOOKS: [(&str, &str, (u32, u32)); 4] = [
    ("raw_tp", RAW_TP, (5, 10)),
    ("tracepoint", TRACEPOINT, (5, 15)),
    (
        "kprobe",
        r#"SEC("kprobe/__x64_sys_getpgid") int on_call(struct pt_regs *ctx) { return handle(1); }"#,
        (5, 15),
    ),
    ("fentry", r#"SEC("fentry/__x64_sys_getpgid") int on_call(void *ctx) { return handle(1); }"#, (5, 10)),
];

#[test]
#[ignore = "for make vm, which runs it before it boots"]
fn pack_pinned_hooks() {
    for (hook, programs, _) in HOOKS {
        let path = support::packed(&format!("pins-{hook}"));
        let source = "#define BEFORE_5_12\n".to_owned() + &source(1, programs);
        std::fs::write(&path, support::package(&source)).expect("the package is written");
        println!("pack {}", path.display());
    }
}

#[test]
#[ignore = "needs hooks that not every kernel has: run by make vm"]
fn vm_hooks_are_pinned_as_this_kernel_can() {
    if let Some(folder) = child::folder() {
        run_as_child(&folder, false);
    }
    let version = eunomia::internal::kernel_version().expect("a version");
    for (hook, _, since) in HOOKS {
        let package = std::fs::read(support::packed(&format!("pins-{hook}"))).expect("a package");
        let pins = Folder::new(hook);
        if version < since {
            let vm = attached(&package);
            let error = vm.pin(pins.of(1)).expect_err(hook);
            assert_eq!(error.status(), Status::Unsupported, "{hook}: {error}");
            assert!(error.message().contains("since Linux 5.15"), "{hook}: {error}");
            assert_eq!(vm.unpinnable().expect("parts").len(), 1, "{hook}");
            continue;
        }
        let order = Order::new([&package; 2], &pins);
        kill(order.start("vm_hooks_are_pinned_as_this_kernel_can"));
        call();
        let (vm, _) = recovered(&pins.0, std::process::id(), &|_| package.clone()).expect(hook);
        call();
        assert_eq!(number(&vm, "total"), 2, "{hook}");
    }
}
