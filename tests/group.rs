//! Groups: every member gets its turn and delivers each event once, whatever the others do; members can be added and
//! removed at any time.

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use eunomia::vm::{Batch, Group};
use eunomia::{Error, Event, EventKind, Flow, Format, Options, Status, Vm};

/// Much longer than an event takes.
const PATIENCE: Option<Duration> = Some(Duration::from_secs(30));
const NOW: Option<Duration> = Some(Duration::ZERO);

/// The vms of all tests count the calls of one process, so one test at a time makes calls.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A program that sends `burst` events for each getpgid(2) of this process.
fn source(buffer: &str, send: &str) -> String {
    format!(
        r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
struct event {{ u64 seq; }};
const volatile u32 target = 0;
u32 burst = 1;
u64 sent = 0;
struct {{ {buffer} }} events SEC(".maps");
SEC("tp/syscalls/sys_enter_getpgid")
int on_call(void *ctx)
{{
    struct event event = {{}};
    if (bpf_get_current_pid_tgid() >> 32 != target)
        return 0;
    for (int i = 0; i < 64 && i < burst; i++) {{
        event.seq = sent++;
        {send};
    }}
    return 0;
}}
char LICENSE[] SEC("license") = "GPL";
"#
    )
}

fn compiled(cell: &'static Mutex<Option<Vec<u8>>>, make: impl FnOnce() -> Vec<u8>) -> Vec<u8> {
    let mut made = cell.lock().unwrap_or_else(PoisonError::into_inner);
    made.get_or_insert_with(make).clone()
}

fn ring() -> Vec<u8> {
    static MADE: Mutex<Option<Vec<u8>>> = Mutex::new(None);
    let buffer = "__uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 18);";
    let send = "bpf_ringbuf_output(&events, &event, sizeof(event), 0)";
    compiled(&MADE, || support::package(&source(buffer, send)))
}

fn perf() -> Vec<u8> {
    static MADE: Mutex<Option<Vec<u8>>> = Mutex::new(None);
    let buffer = "__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __uint(key_size, 4); __uint(value_size, 4);";
    let send = "bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, &event, sizeof(event))";
    compiled(&MADE, || support::package(&source(buffer, send)))
}

/// A map whose two entries are delivered every ten milliseconds.
fn sampled() -> Vec<u8> {
    static MADE: Mutex<Option<Vec<u8>>> = Mutex::new(None);
    compiled(&MADE, || {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let package = dir.path().join("package.json");
        support::package_file("tests/conformance/bpf/sampled.bpf.c", &package);
        std::fs::read(package).expect("ecc wrote a package")
    })
}

/// A running vm that gets `burst` events for each call.
fn running(package: &[u8], burst: u32) -> Arc<Vm> {
    let vm = support::opened(package);
    vm.var_set_json("target", &std::process::id().to_string()).expect("a variable");
    vm.var_set_json("burst", &burst.to_string()).expect("a variable");
    vm.attach().expect("the package attaches");
    Arc::new(vm)
}

fn set_burst(vm: &Vm, burst: u32) {
    vm.var_set_json("burst", &burst.to_string()).expect("a variable");
}

fn trigger() {
    // SAFETY: no pointers.
    unsafe { libc::getpgid(0) };
}

/// A group of running vms, whose keys are their indices.
fn group_of(vms: &[&Arc<Vm>]) -> Group {
    let group = Group::new().expect("a group");
    for (key, vm) in vms.iter().enumerate() {
        group.add(vm, key).expect("it is in no group");
    }
    group
}

/// Polls once and returns the number of events of each member.
fn counts(group: &Group, timeout: Option<Duration>) -> Result<BTreeMap<usize, usize>, Error> {
    let mut counts = BTreeMap::new();
    let count = group.poll(timeout, Format::Raw, |key, event| {
        *counts.entry(key).or_default() += usize::from(event.kind != EventKind::Round);
        Flow::Continue
    })?;
    assert_eq!(counts.values().sum::<usize>(), count);
    Ok(counts)
}

/// Calls a function at the end of a scope, also after a failed assertion, so that other threads end, too.
struct AtEnd<F: FnMut()>(F);

impl<F: FnMut()> Drop for AtEnd<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

fn is_readable(group: &Group) -> bool {
    let mut polled = libc::pollfd { fd: group.epoll_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one descriptor, which lives for the call.
    (unsafe { libc::poll(&mut polled, 1, 0) }) == 1
}

fn seq(event: &Event<'_>) -> u64 {
    u64::from_ne_bytes(event.data.try_into().expect("eight bytes"))
}

#[test]
fn a_group_can_be_sent_and_shared() {
    fn is_shared<T: Send + Sync + 'static>() {}
    is_shared::<Group>();
}

#[test]
fn each_event_arrives_once_with_the_key_of_its_member() {
    needs_root!();
    let _turn = turn();
    let vms = [running(&ring(), 3), running(&perf(), 2), running(&ring(), 0), running(&ring(), 1)];
    let group = group_of(&vms.each_ref());
    let mut seen = BTreeMap::<usize, Vec<u64>>::new();
    for _ in 0..5 {
        trigger();
        assert!(is_readable(&group));
        let poll = |key, event: &Event<'_>| {
            seen.entry(key).or_default().push(seq(event));
            Flow::Continue
        };
        assert_eq!(group.poll(PATIENCE, Format::Raw, poll).expect("events"), 6);
        assert_eq!(counts(&group, NOW).expect("no failure"), BTreeMap::new());
        assert!(!is_readable(&group));
    }
    assert_eq!(seen, BTreeMap::from([(0, (0..15).collect()), (1, (0..10).collect()), (3, (0..5).collect())]));
    assert_eq!(vms[0].stats().events, 15);
}

#[test]
fn a_sleeping_poll_is_woken_by_each_kind_of_buffer() {
    needs_root!();
    let _turn = turn();
    let vms = [running(&ring(), 1), running(&perf(), 0)];
    vms[1].queue_start(1).expect("a queue");
    let more = running(&perf(), 0);
    let group = group_of(&[&vms[0], &vms[1], &more]);
    for key in [0, 1, 2] {
        for (index, vm) in [&vms[0], &vms[1], &more].into_iter().enumerate() {
            set_burst(vm, u32::from(index == key));
        }
        for _ in 0..20 {
            // The thread triggers one event and ends, most likely after the poll has begun to wait.
            let trigger = thread::spawn(|| {
                thread::sleep(Duration::from_millis(1));
                trigger();
            });
            assert_eq!(counts(&group, PATIENCE).expect("no failure"), BTreeMap::from([(key, 1)]));
            trigger.join().expect("it returns");
        }
    }
}

#[test]
fn a_flooded_member_leaves_the_others_their_turns() {
    needs_root!();
    let _turn = turn();
    let flooded = running(&ring(), 64);
    let vms = [running(&ring(), 1), running(&perf(), 1)];
    let sampled = Arc::new(support::opened(&sampled()));
    sampled.load().expect("the package loads");
    let group = group_of(&[&flooded, &vms[0], &vms[1], &sampled]);
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(SeqCst) {
                trigger();
            }
        });
        let _end = AtEnd(|| ended.store(true, SeqCst));
        let mut turns = BTreeMap::<usize, usize>::new();
        while turns.len() < 4 || turns.values().any(|turns| *turns < 10) {
            for (key, count) in counts(&group, PATIENCE).expect("no failure") {
                assert!(count <= 1024, "{count} events of member {key}");
                *turns.entry(key).or_default() += 1;
            }
        }
    });
}

#[test]
fn the_budget_of_a_member_is_its_own() {
    needs_root!();
    let _turn = turn();
    let limited = support::vm_with(Options::new().poll_budget(7)).0;
    limited.open(&ring(), eunomia::Kind::Json).expect("a package");
    limited.var_set_json("target", &std::process::id().to_string()).expect("a variable");
    limited.attach().expect("the package attaches");
    let vms = [Arc::new(limited), running(&ring(), 64)];
    let group = group_of(&vms.each_ref());
    (0..24).for_each(|_| trigger());
    assert_eq!(counts(&group, PATIENCE).expect("no failure"), BTreeMap::from([(0, 7), (1, 1024)]));
    assert_eq!(counts(&group, PATIENCE).expect("no failure"), BTreeMap::from([(0, 7), (1, 512)]));
    assert_eq!(counts(&group, PATIENCE).expect("no failure"), BTreeMap::from([(0, 7)]));
    assert_eq!(counts(&group, PATIENCE).expect("no failure"), BTreeMap::from([(0, 3)]));
    assert_eq!(counts(&group, NOW).expect("no failure"), BTreeMap::new());
}

#[test]
fn a_paused_member_has_no_turn_until_it_is_resumed() {
    needs_root!();
    let _turn = turn();
    let vms = [running(&perf(), 2), running(&ring(), 1)];
    let group = group_of(&vms.each_ref());
    vms[0].pause(true).expect("it pauses");
    trigger();
    assert_eq!(counts(&group, PATIENCE).expect("no failure"), BTreeMap::from([(1, 1)]));
    assert!(!is_readable(&group));
    assert_eq!(counts(&group, NOW).expect("no failure"), BTreeMap::new());
    vms[0].pause(false).expect("it resumes");
    assert!(is_readable(&group));
    assert_eq!(counts(&group, PATIENCE).expect("no failure"), BTreeMap::from([(0, 2)]));
}

#[test]
fn a_record_that_a_read_kept_is_delivered() {
    needs_root!();
    let _turn = turn();
    let vm = running(&ring(), 2);
    let group = group_of(&[&vm]);
    trigger();
    let error = vm.read(NOW, Format::Raw, &mut [0; 8], &mut Batch::default()).expect_err("it is too small");
    assert_eq!(error.status(), Status::TooSmall);
    assert_eq!(counts(&group, PATIENCE).expect("no failure"), BTreeMap::from([(0, 2)]));
    assert_eq!(counts(&group, NOW).expect("no failure"), BTreeMap::new());
}

#[test]
fn a_callback_may_drop_and_remove_members() {
    needs_root!();
    let _turn = turn();
    let mut vms: Vec<Option<Arc<Vm>>> = (0..4).map(|_| Some(running(&ring(), 5))).collect();
    let group = Group::new().expect("a group");
    vms.iter().flatten().enumerate().for_each(|(key, vm)| group.add(vm, key).expect("it is in no group"));
    trigger();
    // The first member removes itself after its second event, and drops another one before its turn.
    let (mut first, mut dropped, mut seen) = (None, None, BTreeMap::<usize, usize>::new());
    let mut polls = 0;
    while seen.values().sum::<usize>() < 2 + 2 * 5 {
        let poll = |key: usize, _: &Event<'_>| {
            let first = *first.get_or_insert(key);
            *seen.entry(key).or_default() += 1;
            if key == first && seen[&key] == 2 {
                dropped = Some((key + 1) % 4);
                drop(vms[(key + 1) % 4].take());
                group.remove(vms[key].as_ref().expect("it lives")).expect("it is a member");
                drop(vms[key].take());
            }
            Flow::Continue
        };
        assert!(group.poll(PATIENCE, Format::Raw, poll).expect("no failure") > 0);
        polls += 1;
    }
    let (first, dropped) = (first.expect("an event"), dropped.expect("an event"));
    assert_eq!((seen[&first], seen.get(&dropped), polls <= 3), (2, None, true));
    assert_eq!(counts(&group, NOW).expect("no failure"), BTreeMap::new());
}

#[test]
fn no_event_follows_a_removal_by_another_thread() {
    needs_root!();
    let _turn = turn();
    let vm = running(&ring(), 64);
    let (group, removed) = (group_of(&[&vm]), AtomicBool::new(false));
    for round in 0..20 {
        (0..16).for_each(|_| trigger());
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_readable(&group) {}
                thread::sleep(Duration::from_micros(50 * round));
                group.remove(&vm).expect("it is a member");
                removed.store(true, SeqCst);
                group.stop();
            });
            let error = loop {
                let polled = group.poll(PATIENCE, Format::Raw, |_, _| {
                    assert!(!removed.load(SeqCst));
                    Flow::Continue
                });
                if let Err(error) = polled {
                    break error;
                }
                trigger();
            };
            assert_eq!(error.status(), Status::Stopped);
        });
        removed.store(false, SeqCst);
        group.add(&vm, 0).expect("it is in no group");
    }
}

#[test]
fn a_vm_is_in_one_group_at_a_time() {
    needs_root!();
    let vm = Arc::new(support::vm());
    let groups = [Group::new().expect("a group"), Group::new().expect("a group")];
    groups[0].add(&vm, 0).expect("it is in no group");
    for group in &groups {
        assert_eq!(group.add(&vm, 0).expect_err("it is in a group").status(), Status::State);
    }
    assert_eq!(groups[1].remove(&vm).expect_err("it is in the other one").status(), Status::NotFound);
    let [first, second] = groups;
    drop(first);
    second.add(&vm, 0).expect("the first group is gone");
    second.remove(&vm).expect("it is a member");
    assert_eq!(second.remove(&vm).expect_err("it is in no group").status(), Status::NotFound);
}

#[test]
fn a_stop_from_another_thread_ends_one_poll() {
    needs_root!();
    let _turn = turn();
    let vm = running(&ring(), 1);
    let group = group_of(&[&vm]);
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(20));
            group.stop();
        });
        let error = counts(&group, None).expect_err("it is stopped");
        assert_eq!((error.status(), group.failed()), (Status::Stopped, None));
    });
    assert!(!is_readable(&group));
    trigger();
    assert_eq!(counts(&group, PATIENCE).expect("no failure"), BTreeMap::from([(0, 1)]));
}

#[test]
fn a_member_that_is_stopped_leaves_and_the_others_go_on() {
    needs_root!();
    let _turn = turn();
    let vms = [running(&ring(), 1), running(&ring(), 1)];
    let group = group_of(&vms.each_ref());
    trigger();
    vms[0].stop();
    // The events of the other member may come before the failure or after it.
    let (mut count, mut failures) = (0, 0);
    while count < 1 || failures < 1 {
        assert!(is_readable(&group));
        match counts(&group, PATIENCE) {
            Ok(counts) => count += counts[&1],
            Err(error) => {
                assert_eq!((error.status(), group.failed()), (Status::Stopped, Some(0)));
                failures += 1;
            }
        }
    }
    assert_eq!((count, failures), (1, 1));
    assert_eq!(counts(&group, NOW).expect("no failure"), BTreeMap::new());
    assert!(group.failed().is_none() && !is_readable(&group));
    group.add(&vms[0], 7).expect("it has left");
    assert_eq!(counts(&group, PATIENCE).expect("no failure"), BTreeMap::from([(7, 1)]));
}

#[test]
fn a_callback_ends_the_poll_and_loses_nothing() {
    needs_root!();
    let _turn = turn();
    let vms = [running(&ring(), 2), running(&perf(), 2)];
    let group = group_of(&vms.each_ref());
    trigger();
    for flow in [Flow::End, Flow::Fail(3), Flow::End, Flow::Fail(4)] {
        assert!(is_readable(&group));
        let polled = group.poll(PATIENCE, Format::Raw, |_, _| flow);
        match flow {
            Flow::Fail(_) => assert_eq!(polled.expect_err("the callback failed").status(), Status::Callback),
            _ => assert_eq!(polled.expect("one event"), 1),
        }
    }
    assert_eq!(counts(&group, NOW).expect("no failure"), BTreeMap::new());
    assert!(!is_readable(&group));
}

#[test]
fn a_member_that_another_thread_uses_is_skipped() {
    needs_root!();
    let _turn = turn();
    let vms = [running(&ring(), 1), running(&ring(), 1)];
    let group = group_of(&vms.each_ref());
    trigger();
    let (entered, leave) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut is_first = true;
            vms[0].poll(PATIENCE, Format::Raw, |_| {
                if std::mem::take(&mut is_first) {
                    entered.wait();
                    leave.wait();
                }
                Flow::Continue
            })
        });
        entered.wait();
        assert_eq!(counts(&group, PATIENCE).expect("no failure"), BTreeMap::from([(1, 1)]));
        trigger();
        assert_eq!(counts(&group, PATIENCE).expect("no failure"), BTreeMap::from([(1, 1)]));
        assert_eq!(counts(&group, NOW).expect("no failure"), BTreeMap::new());
        leave.wait();
        // The poll in the other thread may deliver the second event, too.
        let mut count = vms[0].stats().events;
        while count < 2 {
            counts(&group, Some(Duration::from_millis(1))).expect("no failure");
            count = vms[0].stats().events;
        }
        assert_eq!(count, 2);
    });
}

#[test]
fn one_thread_at_a_time_polls() {
    needs_root!();
    let _turn = turn();
    let vm = running(&ring(), 1);
    let group = group_of(&[&vm]);
    trigger();
    let inside = |_, _: &Event<'_>| {
        assert_eq!(counts(&group, NOW).expect_err("it is polled").status(), Status::Busy);
        assert_eq!(vm.poll(NOW, Format::Raw, |_| Flow::Continue).expect_err("polled").status(), Status::Busy);
        vm.var_get_json("burst").expect("variables can be used");
        Flow::Continue
    };
    assert_eq!(group.poll(PATIENCE, Format::Raw, inside).expect("an event"), 1);
}

#[test]
fn members_may_be_opened_loaded_and_closed_while_the_group_waits() {
    needs_root!();
    let _turn = turn();
    let (group, ended) = (Group::new().expect("a group"), AtomicBool::new(false));
    let package = ring();
    thread::scope(|scope| {
        let poller = scope.spawn(|| {
            let mut count = 0;
            while !ended.load(SeqCst) {
                match counts(&group, None) {
                    Ok(counts) => count += counts.values().sum::<usize>(),
                    Err(error) => assert_eq!(error.status(), Status::Stopped),
                }
            }
            count
        });
        let before = descriptors();
        let mut sent = 0;
        for _ in 0..20 {
            let vm = Arc::new(support::vm());
            group.add(&vm, 0).expect("it is in no group");
            vm.open(&package, eunomia::Kind::Json).expect("a package");
            vm.var_set_json("target", &std::process::id().to_string()).expect("a variable");
            vm.attach().expect("the package attaches");
            trigger();
            sent += 1;
            while vm.stats().events < 1 {
                thread::yield_now();
            }
            drop(vm);
        }
        ended.store(true, SeqCst);
        group.stop();
        assert_eq!(poller.join().expect("no panic"), sent);
        assert_eq!(descriptors(), before);
    });
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("/proc is mounted").count()
}

/// Voluntary context switches of a thread.
fn wakeups(thread: libc::pid_t) -> u64 {
    let status =
        std::fs::read_to_string(format!("/proc/self/task/{thread}/status")).expect("/proc is mounted");
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.expect("the kernel counts them").trim().parse().expect("a number")
}

#[test]
fn an_idle_group_does_not_wake_up() {
    needs_root!();
    let _turn = turn();
    let vms = [running(&ring(), 0), running(&perf(), 0)];
    let group = group_of(&vms.each_ref());
    let (sender, receiver) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            // SAFETY: no pointers.
            sender.send(unsafe { libc::gettid() }).expect("the test waits");
            assert_eq!(counts(&group, None).expect_err("it is stopped").status(), Status::Stopped);
        });
        let thread = receiver.recv().expect("a number");
        while wakeups(thread) == 0 {
            thread::yield_now();
        }
        thread::sleep(Duration::from_millis(50));
        let before = wakeups(thread);
        thread::sleep(Duration::from_millis(300));
        assert_eq!(wakeups(thread), before);
        group.stop();
    });
}
