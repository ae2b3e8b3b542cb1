//! Computes the kernel memory of a map, by a rule for each type of map, and the default limit for a package.
//!
//! The rules follow what the kernel allocates for a full map (Linux 6.18). docs/security.md describes them. This file makes no
//! system call.

use super::constants::map_type;

/// The size of a map, from its definition.
#[derive(Clone, Copy, Debug, Default)]
pub struct MapSize {
    /// BPF_MAP_TYPE_*.
    pub kind: u32,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value (of one CPU).
    pub value_size: u32,
    /// Maximum number of entries; bytes for a ring buffer, pages for an arena.
    pub max_entries: u32,
    /// The number of hash functions of a bloom filter.
    pub extra: u64,
}

/// Facts of the machine that the rules use.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Possible CPUs. A per-CPU value has a slot for each.
    pub possible_cpus: u64,
    /// Online CPUs. A perf buffer has a ring for each.
    pub online_cpus: u64,
    /// Size of a page.
    pub page: u64,
}

/// The assumed number of objects (sockets, inodes, tasks, cgroups) of a storage map. The kernel sets no limit.
const OBJECTS: u64 = 16384;
/// Overhead of each entry of a hash: its links, its hash, and what the allocator adds.
const HASH_ENTRY: u64 = 64;

/// Returns the bytes of kernel memory of a full map. `perf_pages` is the number of pages of a perf buffer per CPU.
pub fn map_bytes(map: &MapSize, perf_pages: u32, machine: &Machine) -> u64 {
    use map_type::*;
    let &Machine { possible_cpus: cpus, online_cpus, page } = machine;
    let (key, value) = (round_up(map.key_size), round_up(map.value_size));
    let entries = u64::from(map.max_entries);
    // The per-CPU allocator records the owner of each object, which takes as much memory as the values of two CPUs.
    let per_cpu = 8 + value * (cpus + 2);
    // Number of entries, bytes of an entry, and bytes of a bucket (the number of buckets is a power of two).
    let (count, entry, bucket) = match map.kind {
        ARRAY | PROG_ARRAY | PERF_EVENT_ARRAY | CGROUP_ARRAY | ARRAY_OF_MAPS | DEVMAP | SOCKMAP | CPUMAP
        | XSKMAP | REUSEPORT_SOCKARRAY => (entries, value, 0),
        PERCPU_ARRAY => (entries, per_cpu, 0),
        // Each CPU keeps one entry of a HASH in reserve.
        HASH | LRU_HASH | HASH_OF_MAPS | SOCKHASH | DEVMAP_HASH => {
            (entries + cpus, HASH_ENTRY + key + value, 16)
        }
        STACK_TRACE => (entries, 16 + value, 8),
        // Between any two entries there may be an intermediate node.
        LPM_TRIE => (2 * entries, HASH_ENTRY + key + value, 0),
        QUEUE | STACK => (entries + 1, value, 0),
        SK_STORAGE | INODE_STORAGE | TASK_STORAGE | CGRP_STORAGE => (OBJECTS, 2 * HASH_ENTRY + value, 0),
        // The value twice, and code that calls the functions.
        STRUCT_OPS => (1, 2 * value + 16 * page, 0),
        // The data, and a list of its pages in which each page is listed twice.
        RINGBUF | USER_RINGBUF => (1, entries + entries / page * 16 + 4 * page, 0),
        BLOOM_FILTER => (1, bloom_filter(entries, map.extra), 0),
        ARENA => (entries, page, 0),
        // PERCPU_HASH and LRU_PERCPU_HASH. An unknown type is counted like these, which use the most memory.
        _ => (entries.max(64), HASH_ENTRY + 16 + key + per_cpu, 16),
    };
    let rings =
        if map.kind == PERF_EVENT_ARRAY { online_cpus * (u64::from(perf_pages) + 1) * page } else { 0 };
    let fixed = page + 64 * cpus + rings + bucket * entries.next_power_of_two();
    count.saturating_mul(entry).saturating_add(fixed)
}

/// Computes the size like the kernel: 7/5 bits for each entry and hash function, rounded up to a power of two, at most 2^32.
fn bloom_filter(entries: u64, extra: u64) -> u64 {
    let functions = match extra & 15 {
        0 => 5,
        given => given,
    };
    (entries * functions * 7 / 5).next_power_of_two().min(1 << 32) / 8
}

fn round_up(size: u32) -> u64 {
    u64::from(size).next_multiple_of(8)
}

/// Returns the default limit of a vm: a quarter of the available memory, but at most 1 GiB, or 16 MiB for each possible CPU if
/// that is more. Perf buffers and per-CPU maps of ordinary tools grow with the number of CPUs.
pub fn usual_limit(available: u64, possible_cpus: u64) -> u64 {
    const LEAST_CAP: u64 = 1 << 30;
    const PER_CPU: u64 = 16 << 20;
    (available / 4).min(LEAST_CAP.max(possible_cpus * PER_CPU))
}
