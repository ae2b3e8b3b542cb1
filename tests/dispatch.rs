//! Replaces packages of tracing programs, which are attached through dispatchers: each event is handled by one version and
//! delivered once, several programs change together, and a failed replace leaves the old version running.

mod support;

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use eunomia::vm::ReplaceOptions;
use eunomia::{Flow, Format, Kind, Options, Status, Vm};
use libbpf_sys as b;
use support::child;
use support::kernel::Watch;
use support::resources::Resources;
use support::seen::Seen;

const THREADS: u64 = 2;

unsafe extern "C" {
    /// The argument has 64 bits, and both the kernel and the entry of the function get all of them.
    #[link_name = "getpgid"]
    fn call_getpgid(number: u64) -> i32;
}

/// Produces an event, a call of getpgid(2).
fn call(thread: u64, seq: u32) {
    // SAFETY: numbers only. The function ignores the upper half.
    unsafe { call_getpgid(0x5eed << 48 | thread << 32 | u64::from(seq)) };
}

/// Produces an event of the static probe of this test.
fn beat(thread: u64, seq: u32) {
    support::probe::beat(0x5eed << 48 | thread << 32 | u64::from(seq));
}

/// Produces an event of an LSM hook, a call of getsockopt(2). There is no such level.
fn call_getsockopt(thread: u64, seq: u32) {
    let (level, mut value, mut len) = (0x1234 + thread as i32, 0i32, 4);
    thread_local! {
        static SOCKET: std::net::UdpSocket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    }
    SOCKET.with(|socket| {
        // SAFETY: a number of four bytes and its length.
        let result = unsafe {
            libc::getsockopt(socket.as_raw_fd(), level, seq as i32, (&raw mut value).cast(), &raw mut len)
        };
        assert_eq!(result, -1);
    });
}

/// Produces an event of a network hook, a packet on the loopback device.
fn send_packet(thread: u64, seq: u32) {
    thread_local! {
        static SOCKET: std::net::UdpSocket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    }
    let packet = [(thread as u32).to_ne_bytes(), seq.to_ne_bytes()].concat();
    SOCKET.with(|socket| socket.send_to(&packet, "127.0.0.1:24301")).expect("the packet is sent");
}

/// The code that all versions contain. `handle` sends an event; `enter` and `leave` count calls whose programs were of
/// different versions.
fn source(version: u32, event: &str, programs: &str) -> String {
    format!(
        r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#define VERSION {version}
#define GETPGID 121
struct event {{ {event} u32 thread; u32 seq; }};
struct {{ __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 18); }} events SEC(".maps");
struct {{
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 2); __type(key, u32); __type(value, u64);
}} handled SEC(".maps");
// The version that saw the beginning of the call, by thread, and the numbers of calls that ended in the same, a newer
// and an older version.
struct {{ __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 2); __type(key, u32); __type(value, u32); }} begun SEC(".maps");
struct {{
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 3); __type(key, u32); __type(value, u64);
}} ended SEC(".maps");
u32 version = VERSION;

static __always_inline u32 thread_of(u64 number)
{{
    u32 thread = number >> 32 & 0xffff;
    return number >> 48 == 0x5eed && thread < 2 ? thread : 2;
}}

static __always_inline int send(u32 thread, u32 seq)
{{
    u64 *count = bpf_map_lookup_elem(&handled, &thread);
    struct event event;
    if (count)
        *count += 1;
    __builtin_memset(&event, 0, sizeof(event));
    event.thread = thread;
    event.seq = seq;
    bpf_ringbuf_output(&events, &event, sizeof(event), 0);
    return 0;
}}

static __always_inline int enter(u64 number)
{{
    u32 thread = thread_of(number), *begin = bpf_map_lookup_elem(&begun, &thread);
    if (thread == 2)
        return 0;
    if (begin)
        *begin = VERSION;
    return send(thread, number);
}}

static __always_inline int leave(u64 number)
{{
    u32 thread = thread_of(number), *begin = bpf_map_lookup_elem(&begun, &thread);
    if (!begin)
        return 0;
    u32 kind = *begin == VERSION ? 0 : *begin < VERSION ? 1 : 2;
    u64 *count = bpf_map_lookup_elem(&ended, &kind);
    if (count && *begin)
        *count += 1;
    return 0;
}}
{programs}
char LICENSE[] SEC("license") = "GPL";
"#
    )
}

/// Programs on the beginning and the end of the call. The end of a tracepoint has no arguments.
const RAW_TP: &str = r#"
SEC("raw_tp/sys_enter") int on_enter(struct bpf_raw_tracepoint_args *ctx)
{ return ctx->args[1] == GETPGID ? enter(BPF_CORE_READ((struct pt_regs *)ctx->args[0], di)) : 0; }
SEC("raw_tp/sys_exit") int on_exit(struct bpf_raw_tracepoint_args *ctx)
{
    struct pt_regs *regs = (struct pt_regs *)ctx->args[0];
    return BPF_CORE_READ(regs, orig_ax) == GETPGID ? leave(BPF_CORE_READ(regs, di)) : 0;
}"#;
const TP_BTF: &str = r#"
SEC("tp_btf/sys_enter") int BPF_PROG(on_enter, struct pt_regs *regs, long id)
{ return id == GETPGID ? enter(regs->di) : 0; }
SEC("tp_btf/sys_exit") int BPF_PROG(on_exit, struct pt_regs *regs, long result)
{ return regs->orig_ax == GETPGID ? leave(regs->di) : 0; }"#;
const TRACEPOINT: &str = r#"
SEC("tp/syscalls/sys_enter_getpgid") int on_enter(struct trace_event_raw_sys_enter *ctx) { return enter(ctx->args[0]); }
SEC("tp_btf/sys_exit") int BPF_PROG(on_exit, struct pt_regs *regs, long result)
{ return regs->orig_ax == GETPGID ? leave(regs->di) : 0; }"#;
const UPROBE: &str = r#"
SEC("uprobe/libc.so.6:getpgid") int on_enter(struct pt_regs *ctx) { return enter(ctx->di); }
SEC("uretprobe/libc.so.6:getpgid") int on_exit(struct pt_regs *ctx) { return 0; }"#;
const USDT: &str = r#"
#include <bpf/usdt.bpf.h>
SEC("usdt//proc/self/exe:eunomia:beat") int BPF_USDT(on_enter, u64 number) { return enter(number); }"#;
const PERF_EVENT: &str = r#"
SEC("perf_event") int on_enter(void *ctx)
{
    u32 cpu = bpf_get_smp_processor_id() & 1;
    u64 *count = bpf_map_lookup_elem(&handled, &cpu);
    return count ? send(cpu, *count) : 0;
}"#;

/// The hooks that only some kernels have. The end of a kretprobe and an LSM hook have other arguments than the call.
const KPROBE: &str = r#"
SEC("kprobe/__x64_sys_getpgid") int on_enter(struct pt_regs *ctx)
{ return enter(BPF_CORE_READ((struct pt_regs *)PT_REGS_PARM1(ctx), di)); }
SEC("tp_btf/sys_exit") int BPF_PROG(on_exit, struct pt_regs *regs, long result)
{ return regs->orig_ax == GETPGID ? leave(regs->di) : 0; }"#;
const KPROBE_MULTI: &str = r#"
SEC("kprobe.multi/__x64_sys_getpgid") int on_enter(struct pt_regs *ctx)
{ return enter(BPF_CORE_READ((struct pt_regs *)PT_REGS_PARM1(ctx), di)); }"#;
const KRETPROBE: &str = r#"
SEC("kretprobe/__x64_sys_getpgid") int on_exit(struct pt_regs *ctx)
{
    u32 cpu = bpf_get_smp_processor_id() & 1;
    u64 *count = bpf_map_lookup_elem(&handled, &cpu);
    return count ? send(cpu, *count) : 0;
}"#;
const FENTRY: &str = r#"
SEC("fentry/__x64_sys_getpgid") int BPF_PROG(on_enter, struct pt_regs *regs) { return enter(regs->di); }
SEC("fexit/__x64_sys_getpgid") int BPF_PROG(on_exit, struct pt_regs *regs, long result) { return leave(regs->di); }"#;
const FEXIT: &str = r#"
SEC("fexit/__x64_sys_getpgid") int BPF_PROG(on_exit, struct pt_regs *regs, long result) { return enter(regs->di); }"#;
const FMOD_RET: &str = r#"
SEC("fmod_ret/security_socket_getsockopt") int BPF_PROG(on_call, struct socket *socket, int level, int option)
{
    if (level == 0x1234 || level == 0x1235)
        send(level - 0x1234, option);
    return 0;
}"#;
const LSM: &str = r#"
SEC("lsm/socket_getsockopt") int BPF_PROG(on_call, struct socket *socket, int level, int option)
{
    if (level == 0x1234 || level == 0x1235)
        send(level - 0x1234, option);
    return 0;
}"#;

/// The code that XDP and tcx programs share: it reads the numbers at the start of a UDP packet to port 0x5eed.
const PACKET: &str = r#"
static __always_inline void packet(void *data, void *end)
{
    u32 *numbers = data + 14 + 20 + 8;
    if ((void *)(numbers + 2) <= end && *(u8 *)(data + 23) == 17 && *(u16 *)(data + 36) == 0xed5e && numbers[0] < 2)
        send(numbers[0], numbers[1]);
}"#;
const XDP: &str = r#"
SEC("xdp") int on_packet(struct xdp_md *ctx)
{ packet((void *)(long)ctx->data, (void *)(long)ctx->data_end); return XDP_PASS; }"#;
const TCX: &str = r#"
SEC("tcx/ingress") int on_packet(struct __sk_buff *ctx)
{ packet((void *)(long)ctx->data, (void *)(long)ctx->data_end); return -1; }"#;

/// All hooks: the name, the programs, whether each call is an event, and the first Linux of the test matrix that has it: Debian
/// builds Linux 6.1 without CONFIG_FPROBE.
const HOOKS: [(&str, &str, bool, u32); 13] = [
    ("tracepoint", TRACEPOINT, true, 0),
    ("raw_tp", RAW_TP, true, 0),
    ("tp_btf", TP_BTF, true, 0),
    ("uprobe", UPROBE, true, 0),
    ("usdt", USDT, true, 601), // without cookies (5.15), libbpf cannot attach to a library in all processes
    ("perf_event", PERF_EVENT, false, 0),
    ("kprobe", KPROBE, true, 0),
    ("kprobe.multi", KPROBE_MULTI, true, 612),
    ("kretprobe", KRETPROBE, false, 0),
    ("fentry", FENTRY, true, 0),
    ("fexit", FEXIT, true, 0),
    ("fmod_ret", FMOD_RET, true, 0),
    ("lsm", LSM, true, 0),
];

/// The sources of both versions.
fn sources(programs: &str) -> [String; 2] {
    [source(1, "", programs), source(2, "u64 more[2];", programs)]
}

fn versions(programs: &str) -> [Vec<u8>; 2] {
    sources(programs).map(|source| support::package(&source))
}

#[test]
#[ignore = "for make vm, which runs it before it boots"]
fn pack_both_versions() {
    for (hook, programs, ..) in HOOKS {
        for (version, package) in versions(programs).iter().enumerate() {
            let path = support::packed(&format!("{hook}-{version}"));
            std::fs::write(&path, package).expect("the package is written");
            println!("pack {}", path.display());
        }
    }
    let path = support::packed("override");
    let package = support::package(&source(1, "", &[RAW_TP, OVERRIDE].concat()));
    std::fs::write(&path, package).expect("the package is written");
    println!("pack {}", path.display());
}

fn attached(package: &[u8], replaceable: bool) -> Vm {
    let vm = support::vm_with(Options::new().replaceable(replaceable)).0;
    vm.open(package, Kind::Json).expect("the package opens");
    vm.attach().expect("the package attaches");
    vm
}

/// The sum over all CPUs of an entry of a map.
fn sum(vm: &Vm, map: &str, key: u32) -> u64 {
    let mut value = vec![0; 8 * vm.map_find(map).expect("the map").cpus as usize];
    vm.map_get(map, &key.to_ne_bytes(), &mut value).expect("a value");
    value.chunks(8).map(|value| u64::from_ne_bytes(value.try_into().unwrap())).sum()
}

/// One test at a time, because each needs all CPUs.
fn turn() -> std::sync::MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Returns the number of repeats: `endurance` with `make endurance`, else `count`.
fn full(count: usize, endurance: usize) -> usize {
    if std::env::var_os("EUNOMIA_ENDURANCE").is_some() { endurance } else { count }
}

/// A change of the version.
type Step<'a> = &'a dyn Fn(&Vm, &[Vec<u8>; 2], usize);

/// Replaces a package with the other version.
fn replace(vm: &Vm, [one, two]: &[Vec<u8>; 2], turn: usize) {
    let report = vm.replace([two, one][turn % 2], ReplaceOptions::default()).expect("the replace works");
    assert!(report.to_json().contains(r#""change":"swapped""#), "{}", report.to_json());
}

/// Replaces the package in even turns, and rolls back in odd ones.
fn there_and_back(vm: &Vm, [_, two]: &[Vec<u8>; 2], turn: usize) {
    if turn % 2 == 0 {
        vm.replace(two, keeping()).expect("the replace works");
    } else {
        vm.rollback().expect("the rollback works");
    }
}

fn keeping() -> ReplaceOptions {
    let mut options = ReplaceOptions::default();
    options.keep_old = true;
    options
}

/// Replaces on a hook while two threads produce events and another one polls.
fn under_load(hook: &str) {
    changes_under_load(hook, hook, &replace, false);
}

/// Does the same with the change `step`, with or without a queue.
fn changes_under_load(what: &str, hook: &str, step: Step<'_>, is_queued: bool) {
    let (_, programs, numbered, _) = HOOKS.into_iter().find(|(name, ..)| *name == hook).expect("a hook");
    let _turn = turn();
    let watch = Watch::new();
    let both = if support::is_vm() {
        [0, 1].map(|version| {
            let path = support::packed(&format!("{hook}-{version}"));
            std::fs::read(path).expect("tests/kernels/run.sh packs it")
        })
    } else {
        versions(programs)
    };
    let call = match () {
        () if programs.contains("getsockopt") => call_getsockopt,
        () if programs.contains("usdt") => beat,
        () => call,
    };
    let vm = attached(&both[0], true);
    steps_under_load(what, vm, &both, step, call, numbered, is_queued);
    watch.is_clean();
}

/// Changes the version of `vm` step by step while two threads call `call` and another one polls. Each event is handled once.
fn steps_under_load(
    what: &str,
    vm: Vm,
    both: &[Vec<u8>; 2],
    step: Step<'_>,
    call: fn(u64, u32),
    numbered: bool,
    is_queued: bool,
) {
    let (produced, handled, seen) = run_under_load(what, vm, both, step, call, is_queued);
    assert!(!numbered || handled == produced, "handled {handled} of {produced}");
    assert_eq!(seen.twice, 0);
    assert!(seen.by_version.iter().all(|&count| count > 0));
}

/// The same, however often each event is handled. Returns how many were produced and handled, and what was delivered.
fn run_under_load(
    what: &str,
    vm: Vm,
    both: &[Vec<u8>; 2],
    step: Step<'_>,
    call: fn(u64, u32),
    is_queued: bool,
) -> (u64, u64, Seen) {
    let (count, vm) = (full(12, 200), Arc::new(vm));
    if is_queued {
        vm.queue_start(64 << 20).expect("a queue");
    }
    let (seen, over) = (Arc::new(Mutex::new(Seen::default())), Arc::new(AtomicBool::new(false)));
    let poller = {
        let (vm, seen) = (Arc::clone(&vm), Arc::clone(&seen));
        std::thread::spawn(move || vm.run(Format::Raw, |event| seen.lock().unwrap().take(event)))
    };
    let produced = Arc::new(AtomicU32::new(0));
    let load = |thread: u64| {
        let (over, produced) = (Arc::clone(&over), Arc::clone(&produced));
        std::thread::spawn(move || {
            let mut seq = 0;
            while !over.load(SeqCst) {
                call(thread, seq);
                seq += 1;
            }
            produced.fetch_add(seq, SeqCst);
        })
    };
    let threads: Vec<_> = (0..THREADS).map(load).collect();
    for turn in 0..count {
        step(&vm, both, turn);
    }
    over.store(true, SeqCst);
    threads.into_iter().for_each(|thread| thread.join().expect("the load ends"));
    vm.stop();
    poller.join().expect("no panic").expect("the polls work");
    vm.detach().expect("the package detaches");
    if is_queued {
        vm.queue_stop().expect("the queue ends");
    }
    let mut seen = std::mem::take(&mut *seen.lock().unwrap());
    while vm.poll(Some(Duration::ZERO), Format::Raw, |event| seen.take(event)).expect("the rest") > 0 {}
    let (stats, produced) = (vm.stats(), u64::from(produced.load(SeqCst)));
    let (handled, ends): (u64, Vec<u64>) = (
        (0..2).map(|key| sum(&vm, "handled", key)).sum(),
        (0..3).map(|key| sum(&vm, "ended", key)).collect(),
    );
    println!(
        "{what}: {count} replaces, produced {produced}, handled {handled}, delivered {} ({:?} by version), lost {}, twice \
         {}, calls that ended in the same, a newer, an older version {ends:?}",
        stats.events, seen.by_version, stats.lost_kernel, seen.twice
    );
    assert_eq!(stats.events + stats.lost_kernel, handled);
    assert_eq!((seen.mistyped, seen.count + seen.twice), (0, stats.events));
    assert_eq!(stats.replaces, count as u64);
    (produced, handled, seen)
}

#[test]
fn under_load_tracepoints_are_handled_once() {
    needs_root!();
    under_load("tracepoint");
}

#[test]
fn under_load_raw_tracepoints_are_handled_once() {
    needs_root!();
    under_load("raw_tp");
}

#[test]
fn under_load_btf_tracepoints_are_handled_once() {
    needs_root!();
    under_load("tp_btf");
}

#[test]
fn under_load_uprobes_are_handled_once() {
    needs_root!();
    under_load("uprobe");
}

#[test]
fn under_load_usdt_probes_are_handled_once() {
    needs_root!();
    under_load("usdt");
}

#[test]
fn under_load_usdt_probes_are_handled_once_with_rollbacks() {
    needs_root!();
    changes_under_load("rollback, usdt", "usdt", &there_and_back, false);
}

/// libbpf numbers the descriptions of arguments for each object, so two objects must not add to the same map.
#[test]
fn usdt_probes_are_added_only_where_there_are_none() {
    needs_root!();
    let _turn = turn();
    let watch = Watch::new();
    let first = USDT.replace("on_enter", "first");
    let second = USDT.replace("on_enter", "second").replace("#include <bpf/usdt.bpf.h>", "");
    let programs = [String::new(), first.clone(), [&*first, &second].concat(), first];
    let [none, one, two, fresh] = [0, 1, 2, 3].map(|version: usize| {
        let programs = [RAW_TP, &programs[version]].concat();
        support::package(&source(version as u32, "", &programs))
    });
    let vm = attached(&none, true);
    let sees = |vm: &Vm, count: usize| {
        beat(1, 7);
        assert_eq!(events(vm), count);
    };
    sees(&vm, 0);
    vm.replace(&one, ReplaceOptions::default()).expect("the first probe is added");
    sees(&vm, 1);
    let error = vm.replace(&two, ReplaceOptions::default()).expect_err("another one");
    assert_eq!(error.status(), Status::Unsupported);
    assert!(error.to_string().contains("cannot be added to others"), "{error}");
    sees(&vm, 1);
    let mut options = ReplaceOptions::default();
    options.fresh_maps = true;
    let report = vm.replace(&fresh, options).expect("the replace works").to_json();
    assert!(report.contains(r#"{"change":"carried","name":"__bpf_usdt_specs","reason":null}"#), "{report}");
    sees(&vm, 1);
    vm.detach().expect("the package detaches");
    sees(&vm, 0);
    vm.attach().expect("the package attaches again");
    sees(&vm, 1);
    drop(vm);
    watch.is_clean();
}

#[test]
fn under_load_events_are_handled_once_with_rollbacks() {
    needs_root!();
    changes_under_load("rollback", "tracepoint", &there_and_back, false);
}

#[test]
fn under_load_a_queue_delivers_the_events_with_rollbacks() {
    needs_root!();
    changes_under_load("rollback, queue", "raw_tp", &there_and_back, true);
}

#[test]
fn under_load_perf_events_are_handled_once() {
    needs_root!();
    under_load("perf_event");
}

/// Checks under load that no packet passes without a program, and that none is handled twice.
fn under_packets(hook: &str, programs: &str, step: fn(&Vm, &[Vec<u8>; 2], usize)) {
    let _turn = turn();
    let both = versions(&[PACKET, programs].concat());
    let network = move |hook: &str| {
        // SAFETY: a flag.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0, "a network of its own");
        let up = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status();
        assert!(up.expect("ip runs").success());
        // Without a receiver, each packet would cause another one.
        let _receiver = std::net::UdpSocket::bind("127.0.0.1:24301").expect("a socket");
        let vm = support::vm_with(Options::new()).0;
        vm.open(&both[0], Kind::Json).expect("the package opens");
        vm.prog_set_target_json("on_packet", r#"{"interface":"lo"}"#).expect("a target");
        vm.attach().expect("the package attaches");
        steps_under_load(hook, vm, &both, &step, send_packet, true, false);
    };
    std::thread::scope(|scope| scope.spawn(|| network(hook)).join()).expect("every packet is handled once");
}

#[test]
fn under_load_packets_of_xdp_are_handled_once() {
    needs_root!();
    under_packets("xdp", XDP, replace);
}

#[test]
fn under_load_packets_of_tcx_are_handled_once() {
    needs_root!();
    under_packets("tcx", TCX, replace);
}

#[test]
fn under_load_programs_of_two_network_hooks_are_exchanged_one_by_one() {
    needs_root!();
    let other = r#"SEC("tcx/egress") int other(struct __sk_buff *ctx) { return -1; }"#;
    under_packets("xdp and tcx", &[XDP, other].concat(), |vm, [one, two], turn| {
        let next = [two, one][turn % 2];
        let refused = vm.replace(next, ReplaceOptions::default()).expect_err("not at one moment");
        assert_eq!(refused.status(), Status::Unsupported);
        let report = vm.replace(next, overlapping()).expect("the replace works").to_json();
        assert_eq!(report.matches(r#""change":"swapped""#).count(), 2, "{report}");
    });
}

fn overlapping() -> ReplaceOptions {
    let mut options = ReplaceOptions::default();
    options.allow_overlap = true;
    options
}

fn with_a_gap() -> ReplaceOptions {
    let mut options = ReplaceOptions::default();
    options.allow_gap = true;
    options
}

/// A program that may sleep, which no dispatcher can call, and one that can be switched.
const SLEEPABLE: &str = r#"
SEC("uprobe.s/libc.so.6:getpgid") int on_enter(struct pt_regs *ctx) { return enter(ctx->di); }
SEC("raw_tp/sys_exit") int on_exit(struct bpf_raw_tracepoint_args *ctx) { return 0; }"#;

fn attached_here(package: &[u8], replaceable: bool) -> Vm {
    let vm = support::vm_with(Options::new().replaceable(replaceable)).0;
    vm.open(package, Kind::Json).expect("the package opens");
    // Other processes call the function, too.
    let target = serde_json::json!({ "pid": std::process::id() }).to_string();
    vm.prog_set_target_json("on_enter", &target).expect("a target");
    vm.attach().expect("the package attaches");
    vm
}

#[test]
fn under_load_an_overlap_loses_nothing_and_counts_what_is_doubled() {
    needs_root!();
    let _turn = turn();
    let watch = Watch::new();
    let both = versions(SLEEPABLE);
    let (doubled, vm) = (std::cell::Cell::new(0), attached_here(&both[0], true));
    let step = |vm: &Vm, [one, two]: &[Vec<u8>; 2], turn: usize| {
        let report = vm.replace([two, one][turn % 2], overlapping()).expect("the replace works");
        let text = report.to_json();
        assert!(text.contains(r#""change":"overlap""#) && text.contains(r#""change":"swapped""#), "{text}");
        doubled.set(doubled.get() + report.doubled.expect("the kernel counts runs"));
        assert_eq!(report.gap_ns, 0);
    };
    let (produced, handled, _) = run_under_load("overlap", vm, &both, &step, call, false);
    println!("doubled: {} of {}", doubled.get(), handled - produced);
    assert!(doubled.get() > 0 && doubled.get() <= handled - produced);
    watch.is_clean();
}

#[test]
fn under_load_a_gap_doubles_nothing() {
    needs_root!();
    let _turn = turn();
    let watch = Watch::new();
    let both = versions(SLEEPABLE);
    let vm = attached_here(&both[0], true);
    let step = |vm: &Vm, [one, two]: &[Vec<u8>; 2], turn: usize| {
        let report = vm.replace([two, one][turn % 2], with_a_gap()).expect("the replace works");
        assert!(report.to_json().contains(r#""change":"gap""#), "{}", report.to_json());
        assert!(report.gap_ns > 0 && report.doubled.is_none());
    };
    let (produced, handled, seen) = run_under_load("gap", vm, &both, &step, call, false);
    assert!(seen.twice == 0 && handled <= produced, "{handled} of {produced}");
    watch.is_clean();
}

#[test]
fn an_inexact_replace_is_only_on_request_and_a_failed_one_changes_nothing() {
    needs_root!();
    let _turn = turn();
    let watch = Watch::new();
    let [one, two] = versions(SLEEPABLE);
    let lacks_target = SLEEPABLE.replace("uprobe.s/libc.so.6:getpgid", "uprobe.s/libc.so.6:no_such_function");
    let lacks_target = support::package(&source(3, "", &lacks_target));
    let vm = attached_here(&one, true);
    let runs = |vm: &Vm| {
        call(0, 1);
        assert_eq!(events(vm), 1);
    };
    let error = vm.replace(&two, ReplaceOptions::default()).expect_err("on request only");
    assert!(
        error.status() == Status::Unsupported && error.to_string().contains("it is sleepable"),
        "{error}"
    );
    for options in [overlapping(), with_a_gap()] {
        let mut kept = options;
        kept.keep_old = true;
        assert_eq!(vm.replace(&two, kept).map(drop).expect_err("not kept").status(), Status::Unsupported);
        assert_eq!(
            vm.replace(&lacks_target, options).map(drop).expect_err("no hook").status(),
            Status::Inval
        );
        runs(&vm);
        without_slots(0, || vm.replace(&two, options).map(drop))
            .expect_err("a dispatcher refuses the program");
        runs(&vm);
    }
    for options in [overlapping(), with_a_gap()] {
        vm.replace(&two, options).expect("the replace works");
        runs(&vm);
        vm.replace(&one, options).expect("the replace works");
        runs(&vm);
    }
    drop(vm);
    // Without dispatchers, every program is attached anew.
    let vm = attached_here(&one, false);
    let report = vm.replace(&two, overlapping()).expect("the replace works").to_json();
    assert_eq!(report.matches(r#""change":"overlap""#).count(), 2, "{report}");
    runs(&vm);
    drop(vm);
    watch.is_clean();
}

#[test]
fn many_replaces_use_no_more_than_few() {
    needs_root!();
    let _turn = turn();
    let watch = Watch::new();
    let [one, two] = versions(RAW_TP);
    let vm = attached(&one, true);
    let count = full(200, 10_000);
    let mut early = Resources::default();
    for turn in 0..count {
        vm.replace([&two, &one][turn % 2], ReplaceOptions::default()).expect("the replace works");
        call(0, 1);
        assert_eq!(events(&vm), 1);
        // By now the caches of the allocator are full.
        if turn == count / 4 {
            early = Resources::now();
        }
    }
    let late = Resources::now();
    println!("{count} replaces: {early:?}, in the end {late:?}");
    assert_eq!((early.descriptors, early.threads), (late.descriptors, late.threads));
    assert!(late.resident <= early.resident + 512, "{early:?}, then {late:?}");
    assert!(late.heap <= early.heap + 64, "{early:?}, then {late:?}");
    drop(vm);
    watch.is_clean();
}

/// Every hook of this kernel, in a virtual machine.
#[test]
#[ignore = "needs hooks that not every kernel has: run by make vm"]
fn vm_under_load_all_hooks_are_handled_once() {
    let (major, minor) = eunomia::internal::kernel_version().expect("a version");
    for (hook, ..) in HOOKS.into_iter().filter(|(.., since)| major * 100 + minor >= *since) {
        under_load(hook);
    }
}

#[test]
fn no_version_changes_in_a_callback_for_map_entries() {
    needs_root!();
    let _turn = turn();
    let [one, two] = versions(RAW_TP);
    let vm = attached(&one, true);
    let count = vm.map_each("ended", Format::Raw, |_| {
        let refused = [vm.replace(&two, ReplaceOptions::default()).map(drop), vm.drained().map(drop)];
        for result in refused {
            assert_eq!(result.expect_err("a callback runs").status(), Status::Busy);
        }
        Flow::Continue
    });
    assert!(count.expect("the entries") > 0);
}

/// Versions only get newer, so a call never begins in a newer version than the one in which it ends.
#[test]
fn no_call_ends_in_an_older_version_than_it_began_in() {
    needs_root!();
    let _turn = turn();
    let version = |number: u32| support::package(&source(number, "", RAW_TP));
    let vm = attached(&version(1), true);
    let over = Arc::new(AtomicBool::new(false));
    let load = |thread: u64| {
        let over = Arc::clone(&over);
        std::thread::spawn(move || {
            while !over.load(SeqCst) {
                call(thread, 0);
            }
        })
    };
    let threads: Vec<_> = (0..THREADS).map(load).collect();
    for number in 2..12 {
        vm.replace(&version(number), ReplaceOptions::default()).expect("the replace works");
    }
    over.store(true, SeqCst);
    threads.into_iter().for_each(|thread| thread.join().expect("the load ends"));
    let ends: Vec<u64> = (0..3).map(|key| sum(&vm, "ended", key)).collect();
    println!("calls that ended in the same, a newer, an older version: {ends:?}");
    assert!(ends[0] > 0 && ends[2] == 0, "{ends:?}");
}

/// Whether a link in the kernel has this program.
fn is_linked(prog: u32) -> bool {
    let (mut id, mut found) = (0, false);
    // SAFETY: `id` and `info` are written within their sizes; the descriptor is closed.
    unsafe {
        while !found && b::bpf_link_get_next_id(id, &mut id) == 0 {
            let fd = b::bpf_link_get_fd_by_id(id);
            let (mut info, mut size) = (b::bpf_link_info::default(), size_of::<b::bpf_link_info>() as u32);
            if fd >= 0 && b::bpf_link_get_info_by_fd(fd, &mut info, &mut size) == 0 {
                found = info.prog_id == prog;
            }
            libc::close(fd);
        }
    }
    found
}

#[test]
fn with_the_flag_another_program_has_the_link() {
    needs_root!();
    let _turn = turn();
    let [one, two] = versions(RAW_TP);
    for replaceable in [false, true] {
        let vm = attached(&one, replaceable);
        for name in ["on_enter", "on_exit"] {
            let prog = vm.prog_find(name).expect("the program");
            assert!(prog.attached);
            assert_eq!(is_linked(prog.id), !replaceable, "{name}, replaceable: {replaceable}");
        }
        if replaceable {
            vm.replace(&two, ReplaceOptions::default()).expect("the replace works");
            assert!(!is_linked(vm.prog_find("on_enter").expect("the program").id));
        }
        vm.detach().expect("the package detaches");
        call(0, 1);
        assert_eq!(events(&vm), 0);
        vm.attach().expect("the package attaches again");
        call(0, 1);
        assert_eq!(events(&vm), 1);
    }
}

/// The kernel accepts this helper only in the program that has the hook. Few kernels have it.
const OVERRIDE: &str = r#"
SEC("kprobe/__x64_sys_getpgid") int overriding(struct pt_regs *ctx)
{
    if (thread_of(BPF_CORE_READ((struct pt_regs *)PT_REGS_PARM1(ctx), di)) < 2)
        bpf_override_return(ctx, 0);
    return 0;
}"#;

#[test]
fn dispatchers_count_as_kernel_memory() {
    needs_root!();
    let package = support::package(&source(1, "", &[RAW_TP, PACKET, TCX, OVERRIDE].concat()));
    let [direct, dispatched] = [false, true].map(|replaceable| {
        let vm = support::vm_with(Options::new().replaceable(replaceable)).0;
        vm.open(&package, Kind::Json).expect("the package opens");
        let described: serde_json::Value =
            serde_json::from_str(&vm.describe().expect("a description")).expect("JSON");
        described["kernel_memory"].as_u64().expect("a number")
    });
    // Two of the four programs can have one: 16 KiB and two pages of 4 KiB.
    assert_eq!(dispatched - direct, 2 * (24 << 10));
}

/// Delivers the pending events and returns their number.
fn events(vm: &Vm) -> usize {
    vm.poll(Some(Duration::ZERO), Format::Raw, |_| Flow::Continue).expect("a poll")
}

/// A program on another hook of the same call, which sends an event too.
const MORE: &str = r#"
SEC("tp/syscalls/sys_enter_getpgid") int more(struct trace_event_raw_sys_enter *ctx)
{ u32 thread = thread_of(ctx->args[0]); return thread < 2 ? send(thread, 99) : 0; }"#;

#[test]
fn hooks_are_added_and_dropped() {
    needs_root!();
    let _turn = turn();
    let watch = Watch::new();
    let [few, many] = [RAW_TP.to_owned(), [RAW_TP, MORE].concat()];
    let few = [1, 3].map(|version| support::package(&source(version, "", &few)));
    let many = [2, 4].map(|version| support::package(&source(version, "", &many)));
    let vm = attached(&few[0], true);
    for (package, count, change) in [
        (&many[0], 2, r#"{"change":"added","name":"more","section":"tp/syscalls/sys_enter_getpgid"}"#),
        (&few[1], 1, r#"{"change":"dropped","name":"more","section":"tp/syscalls/sys_enter_getpgid"}"#),
        (&many[1], 2, r#""change":"added""#),
    ] {
        let report = vm.replace(package, ReplaceOptions::default()).expect("the replace works").to_json();
        assert!(report.contains(change), "{report}");
        call(0, 1);
        assert_eq!(events(&vm), count);
    }
    drop(vm);
    watch.is_clean();
}

#[test]
fn a_suspended_package_runs_nothing_and_then_goes_on() {
    needs_root!();
    let _turn = turn();
    let watch = Watch::new();
    let both = versions(&[RAW_TP, MORE].concat());
    let vm = attached(&both[0], true);
    let delivered = || {
        call(0, 1);
        events(&vm)
    };
    assert_eq!(delivered(), 2);
    for on in [true, true, false, false, true, false] {
        vm.suspend(on).expect("all programs have dispatchers");
        assert_eq!(delivered(), if on { 0 } else { 2 });
    }
    // A suspension survives detach and attach, and a replace ends it.
    vm.suspend(true).expect("all programs have dispatchers");
    vm.detach().expect("the package is detached");
    assert_eq!(vm.suspend(false).expect_err("nothing is attached").status(), Status::Unsupported);
    vm.attach().expect("the package attaches");
    assert_eq!(delivered(), 0);
    for package in [&both[1], &both[0]] {
        vm.replace(package, ReplaceOptions::default()).expect("the replace works");
        assert_eq!(delivered(), 2);
    }
    vm.suspend(true).expect("the slots are those of the new version");
    assert_eq!(delivered(), 0);
    assert_eq!(vm.stats().lost_kernel, 0);
    drop(vm);
    let direct = attached(&both[0], false);
    assert_eq!(direct.suspend(true).expect_err("it has no dispatchers").status(), Status::Unsupported);
    drop(direct);
    watch.is_clean();
}

#[test]
fn a_kept_version_runs_again_without_a_load() {
    needs_root!();
    let _turn = turn();
    let watch = Watch::new();
    let [few, many] = [RAW_TP.to_owned(), [RAW_TP, MORE].concat()];
    let [few, many] =
        [(1, few), (2, many)].map(|(version, programs)| support::package(&source(version, "", &programs)));
    // The new version has one hook more, then one less.
    for (old, new, counts) in [(&few, &many, [1, 2]), (&many, &few, [2, 1])] {
        let vm = attached(old, true);
        let id = |name: &str| vm.prog_find(name).expect("the program").id;
        let before = id("on_enter");
        for _ in 0..3 {
            vm.replace(new, keeping()).expect("the replace works");
            call(0, 1);
            assert_eq!(events(&vm), counts[1]);
            assert!(vm.drained().expect("an answer"));
            assert_ne!(id("on_enter"), before);
            for refused in [vm.replace(old, keeping()).map(drop), vm.prepare(old, keeping()).map(drop)] {
                assert_eq!(refused.expect_err("a version is kept").status(), Status::State);
            }
            vm.rollback().expect("the rollback works");
            assert_eq!(id("on_enter"), before);
            call(0, 2);
            assert_eq!(events(&vm), counts[0]);
            assert_eq!(
                vm.var_get_json("version").expect("a variable"),
                if counts[0] == 1 { "1" } else { "2" }
            );
        }
        for refused in [vm.rollback().map(drop), vm.commit()] {
            assert_eq!(refused.expect_err("no version is kept").status(), Status::State);
        }
        vm.replace(new, keeping()).expect("the replace works");
        vm.commit().expect("the old version ends");
        assert_eq!(vm.rollback().map(drop).expect_err("it has ended").status(), Status::State);
        call(0, 3);
        assert_eq!(events(&vm), counts[1]);
        // A kept version ends with the attachment.
        vm.replace(old, keeping()).expect("the replace works");
        vm.detach().expect("the package detaches");
        assert_eq!(vm.commit().expect_err("it has ended").status(), Status::State);
        vm.attach().expect("the package attaches again");
        call(0, 4);
        assert_eq!(events(&vm), counts[0]);
        drop(vm);
        watch.is_clean();
    }
}

/// libbpf numbers the descriptions of arguments for each object, so versions that attach their own probes have maps of their own.
#[test]
fn usdt_probes_without_dispatchers_are_exchanged_on_request() {
    needs_root!();
    let _turn = turn();
    let watch = Watch::new();
    let other = USDT.replace("on_enter", "other").replace("#include <bpf/usdt.bpf.h>", "");
    let version = |number: u32, programs: &[&str]| support::package(&source(number, "", &programs.concat()));
    let all = [
        (version(1, &[USDT]), 1),
        (version(2, &[USDT]), 1),
        (version(3, &[USDT, &other]), 2),
        (version(4, &[USDT]), 1),
    ];
    for options in [overlapping(), with_a_gap()] {
        let vm = attached(&all[0].0, false);
        let sees = |vm: &Vm, count: usize| {
            for _ in 0..2 {
                beat(1, 7);
            }
            assert_eq!(events(vm), 2 * count);
        };
        sees(&vm, 1);
        let error = vm.replace(&all[1].0, ReplaceOptions::default()).expect_err("on request only");
        assert_eq!(error.status(), Status::Unsupported);
        assert!(error.to_string().contains("without the option replaceable"), "{error}");
        sees(&vm, 1);
        for (package, count) in all[1..].iter().chain(&all) {
            let report = vm.replace(package, options).expect("the replace works").to_json();
            assert!(!report.contains(r#""change":"swapped""#), "{report}");
            let map = r#"{"change":"fresh","name":"__bpf_usdt_specs","reason":"each version attaches its own probes"}"#;
            assert!(report.contains(map), "{report}");
            sees(&vm, *count);
        }
        let mut strict = options;
        (strict.strict_maps, strict.migrate_maps) = (true, true);
        vm.replace(&all[0].0, strict).expect("these maps never keep their content");
        sees(&vm, 1);
        vm.detach().expect("the package detaches");
        sees(&vm, 0);
        vm.attach().expect("the package attaches again");
        sees(&vm, 1);
        drop(vm);
        watch.is_clean();
    }
}

/// Checks that a version with a program that calls bpf_override_return does not replace another one, nor the other way round.
fn overriding(packages: [Vec<u8>; 2]) {
    let [plain, overriding] = packages;
    let vm = attached(&plain, true);
    let refused = |vm: &Vm, package: &[u8]| {
        let error = vm.replace(package, ReplaceOptions::default()).map(drop).expect_err("the helper");
        call(0, 1);
        assert_eq!(events(vm), 1, "the running version goes on");
        error
    };
    let error = refused(&vm, &overriding);
    // A kernel without this helper names it in the verifier's log.
    let text = format!("{error}\n{}", error.detail());
    assert!(text.contains("overriding") && text.contains("bpf_override_return"), "{text}");
    drop(vm);
    let vm = support::vm_with(Options::new().replaceable(true)).0;
    vm.open(&overriding, Kind::Json).expect("the package opens");
    if let Err(error) = vm.attach() {
        assert_eq!(error.status(), Status::Verifier, "{error}");
        return println!("this kernel lacks bpf_override_return");
    }
    for error in [error, refused(&vm, &plain)] {
        assert_eq!(error.status(), Status::Unsupported);
        let why = "cannot be replaced while it runs: it calls bpf_override_return";
        assert!(error.message().contains(why) && error.message().contains("\"overriding\""), "{error}");
    }
}

#[test]
fn a_program_that_overrides_a_result_is_named() {
    needs_root!();
    let _turn = turn();
    let both = [RAW_TP.to_owned(), [RAW_TP, OVERRIDE].concat()];
    overriding(both.map(|programs| support::package(&source(1, "", &programs))));
}

/// The same on kernels with kprobes.
#[test]
#[ignore = "needs hooks that not every kernel has: run by make vm"]
fn vm_a_program_that_overrides_a_result_is_named() {
    let _turn = turn();
    let packed = ["raw_tp-0", "override"].map(|name| std::fs::read(support::packed(name)));
    overriding(packed.map(|package| package.expect("tests/kernels/run.sh packs it")));
}

/// Runs `change` while the dispatcher of the program number `at` refuses every program: the descriptor of its slots refers to
/// something else.
fn without_slots<T>(at: usize, change: impl FnOnce() -> T) -> T {
    let is_slots = |fd: &i32| {
        std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}"))
            .is_ok_and(|text| text.contains("map_type:\t3\n"))
    };
    let slots = support::kernel::descriptors().into_keys().filter(is_slots).nth(at).expect("a dispatcher");
    let other = std::fs::File::open("/dev/null").expect("a file");
    // SAFETY: descriptors that are open; the last call closes the copy.
    unsafe {
        let kept = libc::dup(slots);
        assert!(kept >= 0 && libc::dup2(other.as_raw_fd(), slots) == slots);
        let changed = change();
        assert_eq!(libc::dup2(kept, slots), slots);
        libc::close(kept);
        changed
    }
}

#[test]
fn a_failed_switch_names_the_program_and_changes_nothing() {
    needs_root!();
    let _turn = turn();
    let [few, many] = [RAW_TP.to_owned(), [RAW_TP, MORE].concat()];
    let [few, many] =
        [(1, few), (2, many)].map(|(version, programs)| support::package(&source(version, "", &programs)));
    let vm = attached(&many, true);
    for is_queued in [false, true] {
        if is_queued {
            vm.queue_start(1 << 20).expect("a queue");
        }
        // The last hook is dropped, the others are swapped.
        for (at, name) in [(0, "on_enter"), (1, "on_exit"), (2, "more")] {
            let failed = without_slots(at, || vm.replace(&few, keeping()).map(drop));
            let error = failed.expect_err("a dispatcher refuses the program");
            assert_eq!(error.status(), Status::Attach, "{error}");
            assert!(error.to_string().contains(&format!("{name:?}")), "{error}");
            // All descriptors that the vm waits for are open.
            vm.pause(true).expect("a pause");
            vm.pause(false).expect("the end of the pause");
            call(0, 1);
            let mut count = 0;
            while count < 2 {
                let poll = vm.poll(Some(Duration::from_secs(20)), Format::Raw, |_| Flow::Continue);
                count += Some(poll.expect("a poll")).filter(|&count| count > 0).expect("an event");
            }
            assert_eq!(count, 2);
        }
    }
    assert_eq!(vm.stats().replaces, 0);
}

#[test]
fn a_failed_rollback_changes_nothing() {
    needs_root!();
    let _turn = turn();
    let sampled = r#"
/// @sample {"interval": 3600000}
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, u32); __type(value, VALUE); } table
    SEC(".maps");"#;
    let version = |number: u32, value: &str| {
        support::package(&source(number, "", &[RAW_TP, &sampled.replace("VALUE", value)].concat()))
    };
    let vm = attached(&version(1, "u64"), true);
    vm.replace(&version(2, "u32"), keeping()).expect("the replace works");
    // The old version ends with a round of its map.
    assert_eq!(events(&vm), 1);
    let failing =
        || without_slots(0, || vm.rollback().map(drop)).expect_err("a dispatcher refuses the program");
    failing();
    assert!(vm.drained().expect("an answer"));
    assert_eq!(events(&vm), 0);
    vm.rollback().expect("the rollback works");
    assert_eq!(events(&vm), 1, "the round of the newer version");
    // A record of the kept version waits in the kernel.
    call(0, 1);
    vm.replace(&version(3, "u32"), keeping()).expect("the replace works");
    vm.queue_start(1 << 20).expect("a queue");
    for _ in 0..200 {
        failing();
    }
    let mut records = 0;
    while vm
        .poll(Some(Duration::ZERO), Format::Raw, |event| {
            records += usize::from(event.kind == eunomia::EventKind::Sample);
            Flow::Continue
        })
        .expect("a poll")
        > 0
    {}
    assert_eq!(records, 1);
    assert!(vm.drained().expect("an answer"));
}

#[test]
fn a_prepared_version_does_not_run() {
    needs_root!();
    let _turn = turn();
    let [few, many] = [RAW_TP.to_owned(), [RAW_TP, MORE].concat()];
    let [one, two] =
        [(1, few), (2, many)].map(|(version, programs)| support::package(&source(version, "", &programs)));
    let vm = attached(&one, true);
    let running = vm.loaded_code().expect("it is loaded");
    assert!(running.programs.iter().all(|(info, code)| info.loaded && !code.instructions.is_empty()));
    assert!(running.maps.iter().any(|map| map.name == "events" && map.pin_path.is_none()));
    let same = vm.prepare(&one, ReplaceOptions::default()).expect("the same");
    assert!(same.loaded_code().is_none());
    drop(same);
    assert!(
        vm.prepare(&one, ReplaceOptions::default()).expect("the same").flip().expect("the same").unchanged
    );
    let clean = Watch::new();
    for flips in [false, true] {
        let prepared = vm.prepare(&two, ReplaceOptions::default()).expect("the version is prepared");
        assert!(prepared.report().to_json().contains(r#""change":"added""#));
        let loaded = prepared.loaded_code().expect("another version");
        assert!(
            loaded.programs.len() > running.programs.len() && loaded.kernel_memory > running.kernel_memory
        );
        call(0, 1);
        assert_eq!(events(&vm), 1, "only the running version sees a call");
        for refused in
            [vm.replace(&two, ReplaceOptions::default()).map(drop), vm.commit(), vm.rollback().map(drop)]
        {
            assert_eq!(refused.expect_err("a version is prepared").status(), Status::Busy);
        }
        if flips {
            // The call is refused in another thread too.
            std::thread::scope(|scope| {
                scope.spawn(|| prepared.flip().expect("the flip"));
            });
            call(0, 2);
            assert_eq!(events(&vm), 2);
        } else {
            prepared.abort();
            clean.is_clean();
        }
    }
    assert_eq!(vm.stats().replaces, 1);
    // A prepared version of a package that has been detached cannot be switched to.
    let prepared = vm.prepare(&one, ReplaceOptions::default()).expect("the version is prepared");
    vm.detach().expect("the package detaches");
    assert_eq!(prepared.flip().map(drop).expect_err("nothing runs").status(), Status::State);
}

/// Calls `change` with one more descriptor that the process may open each time, until it succeeds. `check` is called after each
/// failure. Returns the number of failures.
fn without_descriptors<T>(change: impl Fn() -> eunomia::Result<T>, check: impl Fn()) -> (T, usize) {
    let limit = |count: u64| {
        let limit = libc::rlimit { rlim_cur: count, rlim_max: 4096 };
        // SAFETY: the limit is valid for the call.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0, "a limit");
    };
    let mut failures = 0;
    // With less than that, duplicating a descriptor is an invalid argument.
    for count in 4..4096 {
        let before = support::kernel::descriptors();
        limit(count);
        let changed = change();
        limit(4096);
        match changed {
            Ok(changed) => return (changed, failures),
            Err(e) => {
                failures += 1;
                assert_eq!(e.errno(), Some(libc::EMFILE), "{e}");
                assert_eq!(support::kernel::descriptors(), before, "{e}");
                check();
            }
        }
    }
    panic!("it fails with 4096 descriptors");
}

/// The test runs in a process of its own, because it limits the number of descriptors.
#[test]
fn without_descriptors_the_running_version_goes_on() {
    let Some(_) = child::folder() else {
        needs_root!();
        let _turn = turn();
        let folder = tempfile::tempdir().expect("a temporary directory");
        return child::run("without_descriptors_the_running_version_goes_on", &[], folder.path());
    };
    let [few, many] = [(1, RAW_TP.to_owned()), (2, [RAW_TP, MORE].concat())]
        .map(|(version, programs)| support::package(&source(version, "", &programs)));
    let vm = attached(&few, true);
    // These files are opened only once per process.
    vm.replace(&many, ReplaceOptions::default()).expect("the replace works");
    vm.replace(&few, ReplaceOptions::default()).expect("the replace works");
    for is_queued in [false, true] {
        if is_queued {
            vm.queue_start(1 << 20).expect("a queue");
        }
        let runs = |count: usize| {
            call(0, 1);
            let mut events = 0;
            while events < count {
                let poll = vm.poll(Some(Duration::from_secs(20)), Format::Raw, |_| Flow::Continue);
                events += Some(poll.expect("a poll")).filter(|&count| count > 0).expect("an event");
            }
            assert_eq!(events, count);
        };
        let (_, failures) = without_descriptors(|| vm.replace(&many, keeping()), || runs(1));
        runs(2);
        let (_, back) = without_descriptors(|| vm.rollback(), || runs(2));
        runs(1);
        println!("queue {is_queued}: {failures} replaces and {back} rollbacks failed");
        assert!(failures > 20 && (back > 2 || !is_queued), "{failures}, {back}");
    }
    vm.queue_stop().expect("the queue ends");
    let runs = |vm: &Vm, count: usize| {
        call(0, 1);
        assert_eq!(events(vm), count);
    };
    let (exported, exports) = without_descriptors(|| vm.export(), || runs(&vm, 1));
    let (reader, imports) = without_descriptors(
        || Vm::import(&few, vm.export()?.for_reader(), Options::new()),
        || {
            assert_eq!(
                vm.poll(None, Format::Raw, |_| Flow::Continue).expect_err("exported").status(),
                Status::State
            )
        },
    );
    drop(exported);
    runs(&reader, 1);
    let prepared = std::cell::RefCell::new(vm.prepare(&many, ReplaceOptions::default()).expect("a version"));
    let (_, adoptions) = without_descriptors(
        || reader.adopt(&many, prepared.borrow_mut().export()?.for_reader()),
        || runs(&reader, 1),
    );
    runs(&reader, 1);
    prepared.into_inner().flip().expect("the flip");
    runs(&reader, 2);
    reader.commit().expect("the old version ends");
    println!("{exports} exports, {imports} imports, {adoptions} adoptions failed");
    assert!(exports > 10 && imports > 10 && adoptions > 10);
}

#[test]
fn a_refused_version_leaves_no_trace() {
    needs_root!();
    let _turn = turn();
    let [one, two] = versions(RAW_TP);
    let vm = attached(&one, true);
    // The first call opens a descriptor, which stays open.
    assert!(vm.replace(&one, ReplaceOptions::default()).expect("the same").unchanged);
    let clean = Watch::new();
    let with = |programs: &str| support::package(&source(3, "", &[RAW_TP, programs].concat()));
    let cases = [
        (
            "sleepable",
            with(r#"SEC("uprobe.s/libc.so.6:getpgid") int more(void *ctx) { return 0; }"#),
            Status::Unsupported,
            "it is sleepable",
        ),
        (
            "a writable raw tracepoint",
            with(r#"SEC("raw_tp.w/bpf_test_finish") int more(void *ctx) { return 0; }"#),
            Status::Unsupported,
            "programs of its type cannot be swapped",
        ),
        (
            "cannot be attached",
            with(r#"SEC("uprobe/libc.so.6:no_such_function") int more(void *ctx) { return 0; }"#),
            Status::NotFound,
            "no_such_function",
        ),
        (
            "no hook of a dispatcher",
            with(r#"SEC("cgroup/getsockopt") int more(void *ctx) { return 1; }"#),
            Status::Unsupported,
            "one program only",
        ),
        (
            "an added program reads beyond the record",
            with(r#"SEC("tp/syscalls/sys_enter_getpgid") int more(u64 *ctx) { return ctx[40]; }"#),
            Status::Attach,
            "beyond the record",
        ),
        (
            "an added program reads too many arguments",
            with(r#"SEC("raw_tp/sched_process_exec") int more(u64 *ctx) { return ctx[3]; }"#),
            Status::Attach,
            "more arguments",
        ),
        (
            "is rejected",
            with(r#"SEC("raw_tp/sys_enter") int more(void *ctx) { return *(int *)0; }"#),
            Status::Verifier,
            "more",
        ),
    ];
    for (what, package, status, text) in cases {
        let error = vm.replace(&package, ReplaceOptions::default()).expect_err(what);
        println!("{what}: {error}");
        assert_eq!(error.status(), status, "{what}: {error}");
        assert!(error.to_string().contains(text), "{what}: {error}");
        call(1, 7);
        assert_eq!(events(&vm), 1, "after: {what}");
        clean.is_clean();
    }
    assert_eq!(vm.stats().replaces, 0);
    vm.replace(&two, ReplaceOptions::default()).expect("the second version runs");
    let direct = attached(&one, false);
    let error = direct.replace(&two, ReplaceOptions::default()).expect_err("without the flag");
    assert_eq!(error.status(), Status::Unsupported);
    assert!(error.to_string().contains("option replaceable"), "{error}");
}

/// The dispatcher is attached to the hook, so the kernel does not check what the called program reads.
#[test]
fn a_program_that_reads_more_than_its_hook_has_is_refused() {
    needs_root!();
    let _turn = turn();
    let tracepoint = "tp/syscalls/sys_enter_getpgid";
    for (section, least, fits, beyond, text) in
        [(tracepoint, 1, 2, 3, "beyond the record"), ("raw_tp/sys_enter", 0, 1, 2, "more arguments")]
    {
        let program = |word: u32| {
            let read = format!("SEC(\"{section}\") int on_enter(u64 *ctx) {{ return ctx[{word}] == 1; }}");
            support::package(&source(word, "", &read))
        };
        for replaceable in [false, true] {
            let vm = support::vm_with(Options::new().replaceable(replaceable)).0;
            vm.open(&program(beyond), Kind::Json).expect("the package opens");
            let error = vm.attach().expect_err("it reads too much");
            assert!(error.status() == Status::Attach && error.to_string().contains(text), "{error}");
        }
        let vm = attached(&program(least), true);
        // The first call opens a descriptor, which stays open.
        assert!(vm.replace(&program(least), ReplaceOptions::default()).expect("the same").unchanged);
        let clean = Watch::new();
        let error = vm.replace(&program(beyond), ReplaceOptions::default()).expect_err("it reads too much");
        println!("{error}");
        assert!(error.status() == Status::Attach && error.to_string().contains(text), "{error}");
        clean.is_clean();
        vm.replace(&program(fits), ReplaceOptions::default()).expect("it reads what there is");
    }
}

#[test]
fn many_replaces_leave_nothing_behind() {
    needs_root!();
    let _turn = turn();
    let before = Watch::new();
    let [one, two] = versions(TP_BTF);
    let vm = attached(&one, true);
    let mut first = None;
    for turn in 0..100 {
        vm.replace([&two, &one][turn % 2], ReplaceOptions::default()).expect("a replace");
        call(0, 1);
        assert_eq!(events(&vm), 1);
        let descriptors = std::fs::read_dir("/proc/self/fd").expect("descriptors").count();
        assert_eq!(*first.get_or_insert(descriptors), descriptors, "after {turn} replaces");
    }
    drop(vm);
    before.is_clean();
}

/// Replaces one version with the other under load until it is killed. Creates a file when it begins.
fn replace_forever(folder: &std::path::Path) -> ! {
    let both = ["0", "1"].map(|name| std::fs::read(folder.join(name)).expect("a package"));
    let vm = Arc::new(attached(&both[0], true));
    let poller = Arc::clone(&vm);
    std::thread::spawn(move || poller.run(Format::Raw, |_| Flow::Continue));
    std::thread::spawn(|| {
        loop {
            call(0, 1);
        }
    });
    std::fs::write(folder.join("ready"), "").expect("a file");
    loop {
        [0, 1].iter().for_each(|&turn| replace(&vm, &both, turn));
    }
}

/// The programs, maps and links to which a process has descriptors.
fn held_by(process: u32) -> usize {
    let infos = std::fs::read_dir(format!("/proc/{process}/fdinfo")).expect("the process exists").flatten();
    let texts = infos.filter_map(|info| std::fs::read_to_string(info.path()).ok());
    texts.filter(|text| ["prog_id", "map_id", "link_id"].iter().any(|id| text.contains(id))).count()
}

#[test]
fn hosts_that_are_killed_during_a_replace_leave_nothing_behind() {
    needs_root!();
    if let Some(folder) = child::folder() {
        replace_forever(&folder);
    }
    let _turn = turn();
    let watch = Watch::new();
    let folder = tempfile::tempdir().expect("a folder");
    for (index, package) in versions(&[RAW_TP, MORE].concat()).iter().enumerate() {
        std::fs::write(folder.path().join(index.to_string()), package).expect("a package");
    }
    let (count, ready, mut held) =
        (full(20, 200), folder.path().join("ready"), std::collections::BTreeMap::new());
    for number in 0..count {
        let mut host =
            child::start("hosts_that_are_killed_during_a_replace_leave_nothing_behind", folder.path());
        while !ready.exists() {
            assert!(host.try_wait().expect("a child").is_none(), "it replaces until it is killed");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::fs::remove_file(&ready).expect("the file exists");
        // A replace takes some 30 ms.
        std::thread::sleep(Duration::from_micros(number as u64 * 7_300 % 60_000));
        *held.entry(held_by(host.id())).or_insert(0) += 1;
        host.kill().expect("it runs");
        host.wait().expect("it ends");
    }
    println!(
        "{count} kills, by the number of descriptors of programs, maps and links at that time: {held:?}"
    );
    // With one number only, all hosts would have been killed in the same phase.
    assert!(held.len() > 1, "{held:?}");
    watch.is_clean();
}

#[test]
fn the_command_line_is_applied_to_the_new_version() {
    needs_root!();
    let _turn = turn();
    // A variable without an option gets the default of each version. In the new version, an option may set a variable of
    // another type and name.
    let with = |vars: &str| support::package(&source(1, "", &[vars, RAW_TP].concat()));
    let one = with(
        "/// @cmdarg {\"default\": 1}\nconst volatile u32 depth = 0;\n\
         /// @cmdarg {\"long\": \"pid\"}\nconst volatile u32 target = 0;\nconst volatile u32 host = 0;\n",
    );
    let two = with(
        "/// @cmdarg {\"default\": 2}\nconst volatile u64 depth = 0;\n\
         /// @cmdarg {\"long\": \"pid\"}\nconst volatile u64 wanted = 0;\nconst volatile u32 host = 0;\n",
    );
    let without = with("const volatile u32 host = 0;\n");
    let vm = support::vm_with(Options::new().replaceable(true)).0;
    vm.open(&one, Kind::Json).expect("the package opens");
    vm.args_set(&["test", "--pid", "7", "--host", "1"]).expect("the command line fits");
    vm.var_set_json("host", "5").expect("a variable of the host");
    vm.attach().expect("the package attaches");
    let error = vm.replace(&without, ReplaceOptions::default()).expect_err("no such option");
    assert!(error.status() == Status::Inval && error.to_string().contains("--pid"), "{error}");
    vm.replace(&two, ReplaceOptions::default()).expect("the replace works");
    let values = ["depth", "wanted", "host"].map(|name| vm.var_get_json(name).expect("a variable"));
    assert_eq!(values, ["2", "7", "5"]);
    let mut fresh = ReplaceOptions::default();
    fresh.fresh_vars = true;
    vm.replace(&without, fresh).expect("with the values of the new version");
    assert_eq!(vm.var_get_json("host").expect("a variable"), "0");
}
