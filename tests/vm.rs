//! The life cycle of a vm on the running kernel: variables, events in three formats, maps, stop, queue, statistics.
#![allow(missing_docs)]

mod support;

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use eunomia::{Error, Event, EventKind, Flow, Format, Options, Status, Vm};
use support::{attached, example, opened, package};

/// Delivers one event per call of getpgid(2) of this thread; `seq` counts them.
const CALLS: &str = r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

struct event {
    u64 seq;
    u32 tid;
    char comm[16];
};

const volatile u32 only_tid = 0;
const volatile u32 repeat = 1;
u64 seen = 0;
u64 base = 1000;

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 64 * 1024);
} events SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 1024);
    __type(key, u32);
    __type(value, u64);
} counts SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 2);
    __type(key, u32);
    __type(value, u32);
} per_cpu SEC(".maps");

SEC("tp/syscalls/sys_enter_getpgid")
int on_getpgid(void *ctx)
{
    u32 tid = bpf_get_current_pid_tgid();
    if (tid != only_tid)
        return 0;
    for (u32 i = 0; i < repeat && i < 100; i++) {
        struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
        if (!event)
            continue;
        event->seq = base + seen++;
        event->tid = tid;
        bpf_get_current_comm(event->comm, sizeof(event->comm));
        bpf_ringbuf_submit(event, 0);
    }
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
"#;

/// Programs, two of which have hooks that no kernel has.
const HOOKS: &str = r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

SEC("kprobe/no_such_function_a")
int lacking(void *ctx)
{
    return 0;
}

SEC("kprobe/no_such_function_b")
int lacking_too(void *ctx)
{
    return 0;
}

SEC("kprobe/vfs_read")
int reading(void *ctx)
{
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
"#;

/// Sends bytes without a type for each getpgid(2) of one thread.
const BYTES: &str = r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

const volatile u32 only_tid = 0;

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 4096);
} events SEC(".maps");

SEC("tp/syscalls/sys_enter_getpgid")
int on_getpgid(void *ctx)
{
    static const u8 bytes[] = {0x01, 0xab, 0xff};

    if ((u32)bpf_get_current_pid_tgid() == only_tid)
        bpf_ringbuf_output(&events, (void *)bytes, sizeof(bytes), 0);
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
"#;

/// A package of this file; in a virtual machine, which has no compiler, it was compiled before.
fn made(name: &str) -> Vec<u8> {
    match (support::is_vm(), name) {
        (true, _) => std::fs::read(support::packed(name)).expect("tests/kernels/run.sh packs it"),
        (false, "calls") => package(CALLS),
        (false, "hooks") => package(HOOKS),
        (false, "bytes") => package(BYTES),
        (false, "tasks") => package(include_str!("data/bpf/tasks.bpf.c")),
        (false, "rejected") => package(include_str!("data/bpf/rejected.bpf.c")),
        (false, _) => example(name),
    }
}

#[test]
#[ignore = "for make vm, which runs it before it boots"]
fn pack_packages() {
    for name in ["calls", "hooks", "bytes", "tasks", "rejected", "opensnoop", "hello"] {
        let path = support::packed(name);
        std::fs::write(&path, made(name)).unwrap();
        println!("pack {}", path.display());
    }
}

/// Opens `CALLS`, limited to this thread.
fn calls() -> Vm {
    let vm = opened(&made("calls"));
    vm.var_set_json("only_tid", &tid().to_string()).unwrap();
    vm
}

/// The id of this thread; tests are threads of one process.
fn tid() -> u32 {
    // SAFETY: no arguments.
    unsafe { libc::gettid() as u32 }
}

fn call(times: usize) {
    for _ in 0..times {
        // SAFETY: no pointers.
        unsafe { libc::getpgid(0) };
    }
}

/// Polls until the callback breaks, for at most five seconds.
fn poll_until(vm: &Vm, format: Format, mut f: impl FnMut(&Event<'_>) -> ControlFlow<()>) {
    let end = Instant::now() + Duration::from_secs(5);
    let mut done = false;
    while !done {
        assert!(Instant::now() < end, "the expected events did not arrive");
        let polled = vm.poll(Some(Duration::from_millis(100)), format, |event| {
            done = f(event).is_break();
            if done { Flow::End } else { Flow::Continue }
        });
        polled.expect("poll works");
    }
}

fn texts(vm: &Vm, format: Format, count: usize) -> Vec<String> {
    let mut texts = Vec::new();
    poll_until(vm, format, |event| {
        texts.push(String::from_utf8(event.data.to_vec()).unwrap());
        if texts.len() == count { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    texts
}

fn status<T: std::fmt::Debug>(result: Result<T, Error>) -> Status {
    result.expect_err("this call fails").status()
}

#[test]
fn events_arrive_as_json_in_order() {
    needs_root!();
    let vm = calls();
    vm.attach().unwrap();
    call(3);
    let texts = texts(&vm, Format::Json, 3);
    let values: Vec<serde_json::Value> =
        texts.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    let seqs: Vec<_> = values.iter().map(|value| value["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, [1000, 1001, 1002]);
    assert_eq!(values[0]["tid"], tid());
    assert!(texts[0].starts_with("{\"seq\":1000,\"tid\":"), "{}", texts[0]);
}

#[test]
fn a_poll_that_ends_at_the_header_of_the_table_loses_no_row() {
    needs_root!();
    let vm = calls();
    vm.attach().unwrap();
    call(1);
    let mut kinds = Vec::new();
    vm.poll(Some(Duration::from_secs(5)), Format::Text, |event: &Event<'_>| {
        kinds.push(event.kind);
        Flow::End
    })
    .unwrap();
    assert_eq!(kinds, [EventKind::Header, EventKind::Sample]);
    assert_eq!(vm.stats().events, 1);
}

#[test]
fn text_begins_with_the_header_of_the_table() {
    needs_root!();
    let vm = calls();
    vm.attach().unwrap();
    call(2);
    let texts = texts(&vm, Format::Text, 3);
    assert_eq!(texts[0], "TIME     SEQ    TID    COMM   ");
    assert_eq!(&texts[1][2..3], ":");
    assert_eq!(&texts[1][9..16], "1000   ");
    assert_eq!(&texts[2][9..13], "1001");
}

#[test]
fn raw_events_carry_their_type() {
    needs_root!();
    let vm = calls();
    vm.attach().unwrap();
    call(1);
    poll_until(&vm, Format::Raw, |event| {
        assert_eq!(event.data[..8], 1000u64.to_ne_bytes());
        assert_eq!(event.data.len(), 32);
        assert_eq!(event.data.as_ptr() as usize % 8, 0);
        let ty = event.ty.unwrap();
        assert_eq!((&*ty.name, ty.size), ("struct event", 32));
        assert_eq!(event.source.to_bytes(), b"events");
        ControlFlow::Break(())
    });
}

#[test]
fn constants_can_be_set_only_before_load_and_globals_always() {
    needs_root!();
    let vm = calls();
    vm.var_set_json("base", "5").unwrap();
    vm.load().unwrap();
    assert_eq!(vm.var_get_json("only_tid").unwrap(), tid().to_string());
    assert_eq!(status(vm.var_set_json("only_tid", "1")), Status::State);
    vm.attach().unwrap();
    call(1);
    assert_eq!(vm.var_get_json("seen").unwrap(), "1");
    assert_eq!(vm.var_get("base").unwrap(), 5u64.to_ne_bytes());
    vm.var_set("base", &70u64.to_ne_bytes()).unwrap();
    call(1);
    assert!(texts(&vm, Format::Json, 2)[1].starts_with("{\"seq\":71,"));
}

#[test]
fn variables_are_range_checked_and_named() {
    needs_root!();
    let vm = opened(&made("calls"));
    let error = vm.var_set_json("only_tid", "4294967296").unwrap_err();
    assert_eq!(error.status(), Status::Type);
    assert!(error.message().starts_with("variable \"only_tid\": 4294967296"), "{}", error.message());
    assert_eq!(status(vm.var_set_json("only_tid", "\"x\"")), Status::Type);
    assert_eq!(status(vm.var_set_json("only_tid", "{")), Status::Inval);
    assert_eq!(status(vm.var_set_json("nobody", "1")), Status::NotFound);
    assert_eq!(status(vm.var_set("only_tid", &[1, 2])), Status::Type);
    vm.var_set_json("only_tid", "1e3").unwrap();
    assert_eq!(vm.var_get_json("only_tid").unwrap(), "1000");
}

#[test]
fn maps_are_read_and_written_by_bytes_and_json() {
    needs_root!();
    let vm = opened(&made("calls"));
    assert_eq!(status(vm.map_set_json("counts", "1", "2", 0)), Status::State);
    vm.load().unwrap();
    vm.map_set_json("counts", "7", "18446744073709551615", 0).unwrap();
    assert_eq!(vm.map_get_json("counts", "7").unwrap(), "18446744073709551615");
    let mut value = [0; 8];
    vm.map_get("counts", &7u32.to_ne_bytes(), &mut value).unwrap();
    assert_eq!(u64::from_ne_bytes(value), u64::MAX);
    assert_eq!(status(vm.map_get("counts", &[1], &mut value)), Status::Inval);
    assert_eq!(status(vm.map_get_json("counts", "8")), Status::NotFound);
    let mut key = [0; 4];
    vm.map_next("counts", None, &mut key).unwrap();
    assert_eq!(u32::from_ne_bytes(key), 7);
    assert_eq!(status(vm.map_next("counts", Some(&7u32.to_ne_bytes()), &mut key)), Status::NotFound);
    vm.map_del_json("counts", "7").unwrap();
    assert_eq!(status(vm.map_del("counts", &7u32.to_ne_bytes())), Status::NotFound);
}

#[test]
fn per_cpu_values_are_arrays_in_json() {
    needs_root!();
    let vm = opened(&made("calls"));
    vm.load().unwrap();
    let cpus = vm.map_find("per_cpu").unwrap().cpus as usize;
    vm.map_set_json("per_cpu", "1", "9", 0).unwrap();
    let nines = format!("[{}]", vec!["9"; cpus].join(","));
    assert_eq!(vm.map_get_json("per_cpu", "1").unwrap(), nines);
    let counting = format!("[{}]", (0..cpus).map(|n| n.to_string()).collect::<Vec<_>>().join(","));
    vm.map_set_json("per_cpu", "1", &counting, 0).unwrap();
    assert_eq!(vm.map_get_json("per_cpu", "1").unwrap(), counting);
    let mut value = vec![0; cpus * 8];
    vm.map_get("per_cpu", &1u32.to_ne_bytes(), &mut value).unwrap();
    assert_eq!(value[(cpus - 1) * 8], cpus as u8 - 1);
}

#[test]
fn every_entry_of_a_map_is_visited_once() {
    needs_root!();
    let vm = opened(&made("calls"));
    vm.load().unwrap();
    for key in 0..600 {
        vm.map_set_json("counts", &key.to_string(), "1", 0).unwrap();
    }
    let mut keys = std::collections::BTreeSet::new();
    let count = vm.map_each("counts", Format::Json, |event| {
        assert_eq!(event.kind, EventKind::MapEntry);
        let key = String::from_utf8(event.key.to_vec()).unwrap();
        let text = std::str::from_utf8(event.data).unwrap();
        assert_eq!(text, format!("{{\"key\":{key},\"value\":1}}"));
        keys.insert(key);
        Flow::Continue
    });
    assert_eq!((count.unwrap(), keys.len()), (600, 600));
    let mut buf = vec![0; 1 << 16];
    let mut batch = eunomia::vm::Batch::default();
    assert_eq!(status(vm.map_dump("counts", Format::Json, &mut buf[..10], &mut batch)), Status::TooSmall);
    let need = batch.need;
    assert_eq!(vm.map_dump("counts", Format::Json, &mut buf[..need], &mut batch).unwrap(), 600);
    assert_eq!(batch.len, need);
}

#[test]
fn stop_is_sticky_reported_once_and_ends_a_sleeping_poll() {
    needs_root!();
    let vm = calls();
    vm.attach().unwrap();
    vm.stop();
    vm.stop();
    assert_eq!(status(vm.poll(Some(Duration::ZERO), Format::Raw, |_| Flow::Continue)), Status::Stopped);
    assert_eq!(vm.poll(Some(Duration::ZERO), Format::Raw, |_| Flow::Continue).unwrap(), 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(50));
            vm.stop();
        });
        assert_eq!(status(vm.poll(None, Format::Raw, |_| Flow::Continue)), Status::Stopped);
    });
}

#[test]
fn a_callback_can_read_but_not_close_the_package() {
    needs_root!();
    let vm = calls();
    vm.attach().unwrap();
    call(1);
    poll_until(&vm, Format::Raw, |_| {
        assert_eq!(vm.var_get_json("seen").unwrap(), "1");
        vm.map_set_json("counts", "1", "1", 0).unwrap();
        assert!(vm.describe().unwrap().contains("\"state\":\"attached\""));
        assert_eq!(status(vm.detach()), Status::Busy);
        assert_eq!(status(vm.poll(Some(Duration::ZERO), Format::Raw, |_| Flow::Continue)), Status::Busy);
        assert_eq!(status(vm.map_each("counts", Format::Raw, |_| Flow::Continue)), Status::Busy);
        ControlFlow::Break(())
    });
}

#[test]
fn a_callback_ends_a_poll_and_the_next_poll_delivers_the_rest() {
    needs_root!();
    let vm = calls();
    vm.attach().unwrap();
    call(5);
    assert_eq!(vm.poll(Some(Duration::from_secs(1)), Format::Raw, |_| Flow::End).unwrap(), 1);
    let error = vm.poll(Some(Duration::from_secs(1)), Format::Raw, |_| Flow::Fail(-5)).unwrap_err();
    assert_eq!(error.status(), Status::Callback);
    let mut seqs = Vec::new();
    vm.poll(Some(Duration::from_secs(1)), Format::Raw, |event| {
        seqs.push(event.data[0]);
        Flow::Continue
    })
    .unwrap();
    assert_eq!(seqs.len(), 3);
    assert_eq!(vm.stats().events, 5);
}

#[test]
fn a_full_ring_buffer_is_counted() {
    needs_root!();
    let vm = calls();
    vm.var_set_json("repeat", "100").unwrap();
    vm.attach().unwrap();
    call(50);
    while vm.poll(Some(Duration::from_millis(100)), Format::Raw, |_| Flow::Continue).unwrap() > 0 {}
    let stats = vm.stats();
    assert!(stats.lost_kernel > 0, "{stats:?}");
    assert_eq!(stats.events + stats.lost_kernel, 5000, "{stats:?}");
}

#[test]
fn the_queue_delivers_everything_and_counts_what_it_drops() {
    needs_root!();
    let vm = calls();
    vm.attach().unwrap();
    vm.queue_start(1 << 20).unwrap();
    assert_eq!(status(vm.queue_start(1 << 20)), Status::State);
    for _ in 0..300 {
        call(10);
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut count = 0;
    let mut last = 0;
    while count < 3000 {
        let polled = vm.poll(Some(Duration::from_secs(1)), Format::Raw, |event| {
            let seq = u64::from_ne_bytes(event.data[..8].try_into().unwrap());
            assert!(seq > last, "out of order");
            last = seq;
            Flow::Continue
        });
        let polled = polled.unwrap();
        assert!(polled > 0, "only {count} of 3000 events came: {:?}", vm.stats());
        count += polled;
    }
    assert_eq!(vm.stats().lost_queue, 0);
    vm.queue_stop().unwrap();
    call(1);
    assert_eq!(vm.poll(Some(Duration::from_secs(1)), Format::Raw, |_| Flow::Continue).unwrap(), 1);
}

#[test]
fn a_full_queue_drops_and_counts_the_newest_events() {
    needs_root!();
    let vm = calls();
    vm.var_set_json("repeat", "100").unwrap();
    vm.attach().unwrap();
    vm.queue_start(0).unwrap();
    for _ in 0..200 {
        call(1);
        std::thread::sleep(Duration::from_millis(2));
    }
    vm.queue_stop().unwrap();
    let mut first = None;
    while vm
        .poll(Some(Duration::from_millis(100)), Format::Raw, |event| {
            first.get_or_insert(u64::from_ne_bytes(event.data[..8].try_into().unwrap()));
            Flow::Continue
        })
        .unwrap()
        > 0
    {}
    let stats = vm.stats();
    assert_eq!(first, Some(1000));
    assert!(stats.lost_queue > 0, "{stats:?}");
    assert_eq!(stats.events + stats.lost_queue + stats.lost_kernel, 20000, "{stats:?}");
}

#[test]
fn a_paused_vm_keeps_its_events() {
    needs_root!();
    let vm = calls();
    vm.attach().unwrap();
    vm.pause(true).unwrap();
    call(2);
    assert_eq!(vm.poll(Some(Duration::from_millis(50)), Format::Raw, |_| Flow::Continue).unwrap(), 0);
    vm.pause(false).unwrap();
    assert_eq!(vm.poll(Some(Duration::from_secs(1)), Format::Raw, |_| Flow::Continue).unwrap(), 2);
}

#[test]
fn read_keeps_the_record_that_does_not_fit() {
    needs_root!();
    let vm = calls();
    vm.attach().unwrap();
    call(3);
    let mut buf = [0; 100];
    let mut batch = eunomia::vm::Batch::default();
    assert_eq!(
        status(vm.read(Some(Duration::from_secs(1)), Format::Raw, &mut buf[..8], &mut batch)),
        Status::TooSmall
    );
    assert_eq!(batch.need, 16 + 32);
    assert_eq!(vm.read(Some(Duration::from_secs(1)), Format::Raw, &mut buf, &mut batch).unwrap(), 2);
    assert_eq!((batch.len, batch.count, batch.source), (96, 2, 0));
    assert_eq!(buf[16..24], 1000u64.to_ne_bytes());
    assert_eq!(buf[64..72], 1001u64.to_ne_bytes());
    let mut text = vec![0; 256];
    assert_eq!(vm.read(Some(Duration::from_secs(1)), Format::Json, &mut text, &mut batch).unwrap(), 1);
    assert!(text.starts_with(b"{\"seq\":1002,"));
    assert_eq!(text[batch.len - 1], b'\n');
    assert_eq!(vm.stats().events, 3);
}

#[test]
fn read_packs_lines_one_after_the_other() {
    needs_root!();
    let vm = calls();
    vm.attach().unwrap();
    call(3);
    let (mut buf, mut batch) = (vec![0; 1024], eunomia::vm::Batch::default());
    assert_eq!(vm.read(Some(Duration::from_secs(1)), Format::Json, &mut buf, &mut batch).unwrap(), 3);
    let text = std::str::from_utf8(&buf[..batch.len]).unwrap();
    let begins: Vec<&str> = text.lines().filter_map(|line| line.split_inclusive(',').next()).collect();
    assert_eq!(begins, ["{\"seq\":1000,", "{\"seq\":1001,", "{\"seq\":1002,"], "{text}");
    assert_eq!(vm.stats().bytes, 3 * 32);
}

#[test]
fn records_without_a_type_arrive_as_hexadecimal_digits() {
    needs_root!();
    let vm = opened(&made("bytes"));
    vm.var_set_json("only_tid", &tid().to_string()).unwrap();
    vm.attach().unwrap();
    call(2);
    assert_eq!(texts(&vm, Format::Json, 2), ["{\"data\":\"01abff\"}"; 2]);
}

#[test]
fn an_iterator_delivers_each_line_without_its_end() {
    needs_root!();
    let vm = opened(&made("tasks"));
    vm.attach().unwrap();
    let mut lines = Vec::new();
    let count = vm.iter_each("tasks", |event| {
        lines.push(String::from_utf8(event.data.to_vec()).unwrap());
        Flow::Continue
    });
    assert_eq!(count.unwrap(), lines.len());
    assert!(lines.contains(&format!("pid {}", tid())), "{lines:?}");
}

#[test]
fn check_judges_the_programs_of_a_package_that_does_not_load() {
    needs_root!();
    let package = made("rejected");
    let open = || {
        let (vm, _) = support::vm_with(Options::new());
        vm.open(&package, eunomia::Kind::Json).map(|_| vm)
    };
    let checked = eunomia::vm::check(&open, &mut |_, _| Ok(())).unwrap();
    assert_eq!(checked.refused.map(|error| error.status()), Some(Status::Verifier));
    let [verdict] = checked.verdicts.as_slice() else { panic!("{:?}", checked.verdicts) };
    assert!(verdict.autoload, "{verdict:?}");
    assert!(matches!(verdict.outcome, eunomia::vm::Outcome::Rejected(_)), "{verdict:?}");
}

#[test]
fn a_record_that_was_kept_makes_the_vm_readable() {
    needs_root!();
    let vm = calls();
    vm.attach().unwrap();
    call(1);
    let mut batch = eunomia::vm::Batch::default();
    assert_eq!(
        status(vm.read(Some(Duration::from_secs(1)), Format::Raw, &mut [], &mut batch)),
        Status::TooSmall
    );
    assert!(is_readable(&vm));
    assert_eq!(vm.poll(Some(Duration::ZERO), Format::Raw, |_| Flow::Continue).unwrap(), 1);
    assert!(!is_readable(&vm));
}

fn is_readable(vm: &Vm) -> bool {
    let mut poll = libc::pollfd { fd: vm.epoll_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one element, which lives for the call.
    unsafe { libc::poll(&mut poll, 1, 0) == 1 }
}

#[test]
fn detach_and_attach_may_repeat_and_maps_stay() {
    needs_root!();
    let vm = calls();
    vm.attach().unwrap();
    assert_eq!(status(vm.attach()), Status::State);
    call(1);
    vm.detach().unwrap();
    call(1);
    vm.attach().unwrap();
    call(1);
    assert_eq!(vm.var_get_json("seen").unwrap(), "2");
    assert_eq!(vm.poll(Some(Duration::from_secs(1)), Format::Raw, |_| Flow::Continue).unwrap(), 2);
}

#[test]
fn programs_can_be_disabled_and_are_described() {
    needs_root!();
    let vm = opened(&made("calls"));
    assert_eq!(vm.prog_count().unwrap(), 1);
    vm.prog_set_autoload("on_getpgid", false).unwrap();
    assert_eq!(status(vm.prog_set_autoload("nobody", false)), Status::NotFound);
    vm.attach().unwrap();
    let info = vm.prog_find("on_getpgid").unwrap();
    assert!(!info.autoload && !info.loaded && !info.attached);
    assert_eq!(info.section.to_bytes(), b"tp/syscalls/sys_enter_getpgid");
}

#[test]
fn the_command_line_of_a_package_sets_its_variables() {
    needs_root!();
    let vm = opened(&made("opensnoop"));
    let help = vm.args_help().unwrap();
    assert!(help.contains("--"), "{help}");
    assert!(vm.args_set(&["opensnoop", "--help"]).unwrap());
    assert!(!vm.args_set(&["opensnoop", "--pid", "77"]).unwrap());
    assert_eq!(vm.var_get_json("targ_pid").unwrap(), "77");
    assert_eq!(status(vm.args_set(&["opensnoop", "--nothing"])), Status::Inval);
}

#[test]
fn an_idle_vm_is_not_woken() {
    needs_root!();
    let vm = calls();
    vm.attach().unwrap();
    let switches = || -> u64 {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("voluntary")).unwrap();
        line.split_whitespace().last().unwrap().parse().unwrap()
    };
    let before = switches();
    assert_eq!(vm.poll(Some(Duration::from_secs(2)), Format::Raw, |_| Flow::Continue).unwrap(), 0);
    // When the thread falls asleep, that is one switch.
    assert!(switches() - before <= 1, "{} switches", switches() - before);
}

#[test]
fn a_package_without_sources_only_waits() {
    needs_root!();
    let vm = attached(&made("hello"));
    assert_eq!(vm.source_count().unwrap(), 0);
    assert_eq!(vm.poll(Some(Duration::from_millis(50)), Format::Json, |_| Flow::Continue).unwrap(), 0);
}

#[test]
#[ignore = "needs kprobes: run by make vm"]
fn vm_missing_kernel_functions_are_skipped_and_reported_by_check() {
    needs_root!();
    let package = made("hooks");
    let open = |skip_missing_hooks| {
        let (vm, log) = support::vm_with(Options::new().skip_missing_hooks(skip_missing_hooks));
        vm.open(&package, eunomia::Kind::Json).map(|_| (vm, log))
    };
    let (strict, _) = open(false).unwrap();
    let refused = strict.attach().unwrap_err();
    assert_eq!(
        (refused.status(), refused.reason()),
        (Status::Unsupported, "this kernel has no function \"no_such_function_a\"")
    );

    let (lenient, log) = open(true).unwrap();
    lenient.attach().unwrap();
    let line = |name: &str, function: &str| {
        format!("program {name:?} (kprobe/{function}) is skipped: this kernel has no function {function:?}")
    };
    for line in [line("lacking", "no_such_function_a"), line("lacking_too", "no_such_function_b")] {
        assert_eq!(
            log.lock().unwrap().iter().filter(|logged| **logged == line).count(),
            1,
            "{line}: {log:?}"
        );
    }
    let checked = eunomia::vm::check(&|| open(true).map(|(vm, _)| vm), &mut |_, _| Ok(())).unwrap();
    assert!(checked.refused.is_none());
    let lines: Vec<String> = checked.verdicts.iter().map(ToString::to_string).collect();
    let skipped =
        |name: &str, function: &str| format!("{name}: skipped: this kernel has no function {function:?}\n");
    let expected = [
        skipped("lacking", "no_such_function_a"),
        skipped("lacking_too", "no_such_function_b"),
        "reading: ok\n".into(),
    ];
    assert_eq!(lines, expected);
}
