//! The rules for the memory of maps, compared with the kernel's own figures and with the needs of real tools.

use eunomia::vm::{Machine, MapSize, map_bytes, usual_limit};
use eunomia::{Kind, Options, Vm};

use crate::needs_root;
use crate::support;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Numbers of linux/bpf.h.
mod kind {
    pub const HASH: u32 = 1;
    pub const ARRAY: u32 = 2;
    pub const PROG_ARRAY: u32 = 3;
    pub const PERF_EVENT_ARRAY: u32 = 4;
    pub const PERCPU_HASH: u32 = 5;
    pub const PERCPU_ARRAY: u32 = 6;
    pub const STACK_TRACE: u32 = 7;
    pub const LRU_HASH: u32 = 9;
    pub const LRU_PERCPU_HASH: u32 = 10;
    pub const LPM_TRIE: u32 = 11;
    pub const TASK_STORAGE: u32 = 29;
    pub const RINGBUF: u32 = 27;
    pub const BLOOM_FILTER: u32 = 30;
    pub const ARENA: u32 = 33;
}

/// Maps of each type that this kernel creates without preparation. Each is larger than the fixed part, and is named
/// after its type.
const ALL_KINDS: &str = r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#define MAP(kind, key, value, entries, flags) struct { \
    __uint(type, BPF_MAP_TYPE_##kind); __uint(key_size, key); __uint(value_size, value); \
    __uint(max_entries, entries); __uint(map_flags, flags); } kind SEC(".maps")
MAP(HASH, 12, 33, 20000, 0);
MAP(ARRAY, 4, 5, 300000, 0);
MAP(PROG_ARRAY, 4, 4, 100000, 0);
MAP(PERF_EVENT_ARRAY, 4, 4, 100000, 0);
MAP(PERCPU_HASH, 8, 20, 20000, 0);
MAP(PERCPU_ARRAY, 4, 20, 50000, 0);
MAP(STACK_TRACE, 4, 1016, 3000, 0);
MAP(CGROUP_ARRAY, 4, 4, 100000, 0);
MAP(LRU_HASH, 12, 33, 20000, 0);
MAP(LRU_PERCPU_HASH, 8, 20, 20000, 0);
MAP(LPM_TRIE, 8, 8, 10000, BPF_F_NO_PREALLOC);
MAP(DEVMAP, 4, 4, 100000, 0);
MAP(SOCKMAP, 4, 4, 100000, 0);
MAP(XSKMAP, 4, 4, 100000, 0);
MAP(SOCKHASH, 8, 4, 100000, 0);
MAP(DEVMAP_HASH, 4, 4, 100000, 0);
MAP(REUSEPORT_SOCKARRAY, 4, 4, 100000, 0);
MAP(QUEUE, 0, 12, 100000, 0);
MAP(STACK, 0, 12, 100000, 0);
MAP(RINGBUF, 0, 0, 4194304, 0);
MAP(USER_RINGBUF, 0, 0, 4194304, 0);
struct { __uint(type, BPF_MAP_TYPE_BLOOM_FILTER); __uint(value_size, 8); __uint(max_entries, 100000);
    __uint(map_extra, 7); } BLOOM_FILTER SEC(".maps");
struct inner { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(key_size, 4); __uint(value_size, 1000000);
    __uint(max_entries, 1); } in_slot SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS); __uint(key_size, 4); __uint(max_entries, 100000);
    __array(values, struct inner); } ARRAY_OF_MAPS SEC(".maps") = {.values = {&in_slot}};
struct { __uint(type, BPF_MAP_TYPE_HASH_OF_MAPS); __uint(key_size, 4); __uint(max_entries, 50000);
    __array(values, struct inner); } HASH_OF_MAPS SEC(".maps");
char LICENSE[] SEC("license") = "GPL";
"#;

/// The memory of a map as reported in proc_pid_fdinfo(5): since Linux 6.4, what is allocated.
fn kernels_figure(fd: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).expect("an open descriptor");
    let figure = text.lines().find_map(|line| line.strip_prefix("memlock:"));
    figure.expect("the kernel says").trim().parse().expect("a number")
}

#[test]
fn every_map_type_is_counted_with_what_the_kernel_allocates_or_a_little_more() {
    needs_root!();
    let vm = Vm::new(Options::new().max_kernel_memory(u64::MAX)).unwrap();
    vm.open(&support::package(ALL_KINDS), Kind::Json).unwrap();
    let counted: Vec<u64> = (0..vm.map_count().unwrap()).map(|i| vm.map_at(i).unwrap().bytes).collect();
    vm.load().unwrap();
    let mut seen = 0;
    for (index, counted) in counted.into_iter().enumerate() {
        let map = vm.map_at(index).unwrap();
        let (name, kernel) = (map.name.to_string_lossy().into_owned(), kernels_figure(map.fd));
        assert!(counted >= kernel, "{name}: counted with {counted} bytes, the kernel has {kernel}");
        // These maps are filled later, have an inner map, or have rings that are not part of the map.
        let grows =
            ["LPM_TRIE", "SOCKHASH", "DEVMAP_HASH", "HASH_OF_MAPS", "ARRAY_OF_MAPS", "PERF_EVENT_ARRAY"];
        if !grows.contains(&&*name) {
            // A per-CPU value counts for two additional CPUs, so the rule is twice the figure on a machine with two
            // CPUs.
            let most = if name.contains("PERCPU") { 5 * kernel / 2 } else { 3 * kernel / 2 };
            assert!(
                counted <= most + 64 * KIB,
                "{name}: counted with {counted} bytes, the kernel has {kernel}"
            );
        }
        seen += 1;
    }
    assert_eq!(seen, 25);
}

#[test]
fn inner_maps_and_the_rings_of_perf_buffers_are_counted() {
    needs_root!();
    let vm = Vm::new(Options::new().perf_pages(1024)).unwrap();
    vm.open(&support::package(ALL_KINDS), Kind::Json).unwrap();
    let bytes = |name: &str| vm.map_find(name).unwrap().bytes;
    assert!(bytes("in_slot") > 1_000_000);
    assert!(bytes("ARRAY_OF_MAPS") > 100_000 * 8 + 1_000_000);
    assert!(bytes("HASH_OF_MAPS") > 50_000 * 64 + 1_000_000);
    let cpus =
        std::fs::read_to_string("/proc/stat").unwrap().lines().filter(|l| l.starts_with("cpu")).count() - 1;
    assert!(bytes("PERF_EVENT_ARRAY") > cpus as u64 * 1024 * 4096 + 100_000 * 8);
}

/// A machine with 128 possible CPUs, all of which are online.
const LARGE: Machine = Machine { possible_cpus: 128, online_cpus: 128, page: 4096 };

fn map(kind: u32, key_size: u32, value_size: u32, max_entries: u32) -> MapSize {
    MapSize { kind, key_size, value_size, max_entries, extra: 0 }
}

fn sum(maps: &[MapSize], perf_pages: u32) -> u64 {
    maps.iter().map(|map| map_bytes(map, perf_pages, &LARGE)).sum()
}

/// Maps of typical tools: type, key, value, entries.
#[test]
fn common_tools_open_on_128_cpus_with_8_gib() {
    use kind::*;
    const MAX_ENTRIES: u32 = 10240;
    // The available memory of an idle machine with 8 GiB.
    let limit = usual_limit(7 * GIB, LARGE.possible_cpus);
    let opensnoop = [map(HASH, 4, 16, MAX_ENTRIES), map(PERF_EVENT_ARRAY, 4, 4, 0)];
    let memleak = [
        map(HASH, 4, 8, MAX_ENTRIES),
        map(HASH, 8, 32, 1_000_000),
        map(HASH, 8, 8, MAX_ENTRIES),
        map(HASH, 8, 8, MAX_ENTRIES),
        map(STACK_TRACE, 4, 127 * 8, MAX_ENTRIES),
    ];
    let offcputime = [
        map(HASH, 4, 16, MAX_ENTRIES),
        map(STACK_TRACE, 4, 127 * 8, 16384),
        map(HASH, 16, 24, MAX_ENTRIES),
        map(HASH, 4, 1, 1024),
    ];
    let biolatency =
        [map(HASH, 8, 8, MAX_ENTRIES), map(PERCPU_HASH, 8, 27 * 4, 1024), map(HASH, 8, 27 * 4, MAX_ENTRIES)];
    // A tracer with a perf buffer of 1024 pages for each CPU, per-CPU scratch memory and tables of tasks.
    let tracer: Vec<MapSize> = [
        map(PERF_EVENT_ARRAY, 4, 4, 1024),
        map(PERCPU_ARRAY, 4, 32 << 10, 3),
        map(PERCPU_ARRAY, 4, 4096, 8),
        map(LRU_HASH, 4, 512, 30720),
        map(LRU_HASH, 8, 1024, MAX_ENTRIES),
        map(LRU_HASH, 4, 256, 65536),
        map(HASH, 8, 64, 65536),
        map(LRU_PERCPU_HASH, 8, 16, MAX_ENTRIES),
        map(STACK_TRACE, 4, 160, MAX_ENTRIES),
        map(LPM_TRIE, 20, 16, 4096),
        map(BLOOM_FILTER, 0, 8, 65536),
        map(TASK_STORAGE, 4, 256, 0),
    ]
    .into_iter()
    .chain((0..40).map(|_| map(PROG_ARRAY, 4, 4, 1024)))
    .chain((0..60).map(|_| map(HASH, 16, 32, MAX_ENTRIES)))
    .collect();
    // A monitor with a ring buffer of 8 MiB for each CPU, each a map of its own.
    let monitor: Vec<MapSize> = (0..LARGE.online_cpus)
        .map(|_| map(RINGBUF, 0, 0, 8 << 20))
        .chain([map(PERCPU_ARRAY, 4, 128 << 10, 2), map(HASH, 4, 8, 65536), map(ARRAY, 4, 512, 512)])
        .collect();
    // A monitor with few large ring buffers, like those of agents.
    let agent = [map(RINGBUF, 0, 0, 64 << 20), map(RINGBUF, 0, 0, 64 << 20), map(LRU_HASH, 40, 128, 65536)];
    let packages: [(&str, &[MapSize], u32); 7] = [
        ("opensnoop", &opensnoop, 64),
        ("memleak", &memleak, 64),
        ("offcputime", &offcputime, 64),
        ("biolatency", &biolatency, 64),
        ("tracer", &tracer, 1024),
        ("monitor", &monitor, 64),
        ("agent", &agent, 64),
    ];
    for (name, maps, perf_pages) in packages {
        let sum = sum(maps, perf_pages);
        assert!(sum <= limit, "{name}: {} of {} MiB", sum / MIB, limit / MIB);
    }
}

#[test]
fn the_default_limit_is_a_quarter_of_available_memory_up_to_a_cap() {
    assert_eq!(usual_limit(400 * MIB, 2), 100 * MIB);
    assert_eq!(usual_limit(64 * GIB, 2), GIB);
    assert_eq!(usual_limit(64 * GIB, 128), 2 * GIB);
    assert_eq!(usual_limit(u64::MAX, 4), GIB);
}

#[test]
fn extreme_numbers_do_not_overflow() {
    for kind in 0..40 {
        for size in [0, 1, u32::MAX] {
            let map =
                MapSize { kind, key_size: size, value_size: size, max_entries: u32::MAX, extra: u64::MAX };
            let machine = Machine { possible_cpus: 8192, online_cpus: 8192, page: 65536 };
            assert!(map_bytes(&map, u32::MAX, &machine) > 0, "kind {kind}");
        }
    }
    assert_eq!(map_bytes(&map(kind::ARENA, 0, 0, 1 << 20), 0, &LARGE) / GIB, 4);
}

/// An unknown type is counted like the one that uses most memory.
#[test]
fn unknown_map_types_are_counted_as_per_cpu_hashes() {
    let [unknown, hash] =
        [1000, kind::PERCPU_HASH].map(|kind| map_bytes(&map(kind, 8, 64, 10_000), 0, &LARGE));
    assert_eq!(unknown, hash);
    assert!(map_bytes(&map(1000, 0, 65536, 0), 0, &LARGE) > 64 * 65536 * 128);
}
