//! Many vms in one process need no more memory than one, and a lack of memory is reported.

use std::time::Duration;

use eunomia::{Error, Flow, Format, Kind, Options, Status, Vm};

use crate::fixture::{Clean, call, object, package, refused, tid, with_object};
use crate::needs_root;
use crate::support::{child, kernel::descriptors};

/// Sources of all kinds, and a program that attaches quickly.
const SOURCE: &str = r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

struct event { u64 number; char text[64]; };
const volatile u32 only_tid = 0;
const volatile bool invalid = false;

struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } ring SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
    __uint(key_size, 4);
    __uint(value_size, 4);
} perf SEC(".maps");
/// @sample {"interval": 1}
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 16);
    __type(key, u32);
    __type(value, u64);
} counts SEC(".maps");

SEC("raw_tp/sys_enter")
int on_call(void *ctx)
{
    u32 tid = bpf_get_current_pid_tgid();
    struct event event = {.number = 7};
    if (invalid)
        return *(int *)(long)bpf_get_prandom_u32();
    if (tid != only_tid)
        return 0;
    bpf_ringbuf_output(&ring, &event, sizeof(event), 0);
    bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, &event, sizeof(event));
    bpf_map_update_elem(&counts, &tid, &event.number, 0);
    return 0;
}

SEC("raw_tp")
int elsewhere(void *ctx)
{
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
"#;

/// Memory of this process that is in use, in bytes.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() << 12
}

/// Runs `count` life cycles, so that memory that grows with each is noticed.
fn lives(count: usize, mut life: impl FnMut()) {
    let warm_up = count / 4;
    (0..warm_up).for_each(|_| life());
    let (fds, memory) = (descriptors(), resident());
    (warm_up..count).for_each(|_| life());
    let grown = resident().saturating_sub(memory);
    assert!(grown < 1 << 20, "{grown} bytes more after {} lives", count - warm_up);
    assert_eq!(descriptors(), fds);
}

#[test]
fn two_hundred_vms_need_no_more_memory_than_one() {
    needs_root!();
    let Some(folder) = child::folder() else {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("package.json"), package(SOURCE)).unwrap();
        return child::run("memory::two_hundred_vms_need_no_more_memory_than_one", &[], folder.path());
    };
    let clean = Clean::new();
    let package = std::fs::read(folder.join("package.json")).unwrap();
    let opened = || {
        let vm = Vm::new(Options::new()).unwrap();
        vm.open(&package, Kind::Json).unwrap();
        vm.var_set_json("only_tid", &tid().to_string()).unwrap();
        vm
    };
    lives(200, || {
        let vm = opened();
        vm.prog_set_target_json("elsewhere", r#"{"attach":"raw_tp/sys_exit"}"#).unwrap();
        vm.attach().unwrap();
        call(10);
        for format in [Format::Json, Format::Text, Format::Raw] {
            assert!(vm.poll(Some(Duration::from_secs(1)), format, |_| Flow::Continue).unwrap() > 0);
            call(10);
        }
        vm.queue_start(0).unwrap();
        call(10);
        vm.queue_stop().unwrap();
        vm.detach().unwrap();
    });
    // Repeated failures of load, attach and open in one vm use no additional memory.
    let vm = opened();
    lives(100, || drop(refused(vm.attach(), Status::Unsupported, &["elsewhere"])));
    vm.var_set_json("invalid", "true").unwrap();
    lives(100, || drop(refused(vm.load(), Status::Verifier, &["on_call"])));
    drop(vm);
    let vm = Vm::new(Options::new()).unwrap();
    lives(100, || {
        drop(refused(vm.open(&package[..package.len() - 9], Kind::Json), Status::Package, &["truncated"]))
    });
    drop(vm);
    drop(clean);
}

/// Variables and values that are small in the package and large in memory.
const LARGE: &str = r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char room[10 << 20];
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 300);
    __type(key, u32);
    __type(value, u64[8192]);
} values SEC(".maps");

SEC("raw_tp/sys_enter")
int on_call(void *ctx)
{
    u32 key = 0;
    u64 *value = bpf_map_lookup_elem(&values, &key);
    return value ? *value + room[0] : 0;
}

char LICENSE[] SEC("license") = "GPL";
"#;

/// Repeats `work` with more and more available memory until it succeeds. Each failure has a message.
fn with_every_limit<T>(what: &str, mut work: impl FnMut() -> Result<T, Error>) {
    const STEP: usize = 4 << 20;
    let used = || {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        pages.split(' ').next().unwrap().parse::<usize>().unwrap() << 12
    };
    for steps in 1..200 {
        limit_memory(used() + steps * STEP);
        let done = work();
        limit_memory(usize::MAX);
        let Err(e) = done else {
            assert!(steps > 1, "{what}: takes no memory");
            return;
        };
        assert_eq!(e.status(), Status::NoMem, "{what}, {steps}: {e} ({})", e.detail());
    }
    panic!("{what} works with no limit");
}

fn limit_memory(bytes: usize) {
    // SAFETY: the struct lives for the calls.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        assert_eq!(libc::getrlimit(libc::RLIMIT_AS, &mut limit), 0);
        limit.rlim_cur = (bytes as u64).min(limit.rlim_max);
        assert_eq!(libc::setrlimit(libc::RLIMIT_AS, &limit), 0);
    }
}

#[test]
fn running_out_of_memory_is_reported_and_survived() {
    needs_root!();
    let Some(folder) = child::folder() else {
        let folder = tempfile::tempdir().unwrap();
        let large = package(LARGE);
        let mut padded = object(&large);
        padded.resize(60 << 20, 0);
        std::fs::write(folder.path().join("bomb.json"), with_object(&large, &padded)).unwrap();
        std::fs::write(folder.path().join("large.json"), large).unwrap();
        // malloc uses one heap, and a mapping for each large block, so that it has no reserve.
        let malloc = ["env", "MALLOC_ARENA_MAX=1", "MALLOC_MMAP_THRESHOLD_=1048576"];
        return child::run("memory::running_out_of_memory_is_reported_and_survived", &malloc, folder.path());
    };
    let clean = Clean::new();
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    with_every_limit("opening", || {
        let vm = Vm::new(Options::new())?;
        vm.open_file(path("bomb.json"), Kind::Json)
    });
    let vm = Vm::new(Options::new()).unwrap();
    vm.open_file(path("large.json"), Kind::Json).unwrap();
    with_every_limit("reading a variable", || vm.var_get("room"));
    with_every_limit("reading a variable as JSON", || vm.var_get_json("room"));
    with_every_limit("setting a variable", || vm.var_set_json("room", "\"text\""));
    vm.load().unwrap();
    vm.map_each("values", Format::Raw, |_| Flow::Continue).unwrap();
    drop(vm);
    drop(clean);
}
