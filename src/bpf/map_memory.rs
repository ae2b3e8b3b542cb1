//! How much kernel memory a map takes, by a rule for each kind, and how much a package may take.
//!
//! The rules follow what the kernel allocates for a map that is full (Linux 6.18); docs/security.md has them in words.
//! Pure: the kernel is not asked.

use super::constants::map_type;

/// A map as its definition has it.
#[derive(Clone, Copy, Debug, Default)]
pub struct MapSize {
    /// BPF_MAP_TYPE_*.
    pub kind: u32,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value (of one CPU).
    pub value_size: u32,
    /// Entries at most; bytes for a ring buffer, pages for an arena.
    pub max_entries: u32,
    /// The number of hash functions of a bloom filter.
    pub extra: u64,
}

/// What the rules have to know of the machine.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// CPUs that there can be: a per-CPU value has a slot for each.
    pub possible_cpus: u64,
    /// CPUs that run: a perf buffer has a ring for each.
    pub online_cpus: u64,
    /// Bytes of a page.
    pub page: u64,
}

/// Objects (sockets, inodes, tasks, cgroups) that a storage map is counted with. The kernel sets no limit.
const OBJECTS: u64 = 16384;
/// What the kernel keeps beside each entry of a hash: its links, its hash, and what the allocator adds.
const HASH_ENTRY: u64 = 64;

/// Bytes of kernel memory of a map that is full. `perf_pages`: pages of a perf buffer per CPU.
pub fn map_bytes(map: &MapSize, perf_pages: u32, machine: &Machine) -> u64 {
    use map_type::*;
    let &Machine { possible_cpus: cpus, online_cpus, page } = machine;
    let (key, value) = (round_up(map.key_size), round_up(map.value_size));
    let entries = u64::from(map.max_entries);
    // The allocator of per-CPU memory keeps the owner of each piece, which takes as much as two CPUs.
    let per_cpu = 8 + value * (cpus + 2);
    // Bytes of an entry, and of a bucket where there is a power of two of these.
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
        // PERCPU_HASH and LRU_PERCPU_HASH. An unknown type is counted like these, which take most.
        _ => (entries.max(64), HASH_ENTRY + 16 + key + per_cpu, 16),
    };
    let rings =
        if map.kind == PERF_EVENT_ARRAY { online_cpus * (u64::from(perf_pages) + 1) * page } else { 0 };
    let fixed = page + 64 * cpus + rings + bucket * entries.next_power_of_two();
    count.saturating_mul(entry).saturating_add(fixed)
}

/// As the kernel does: of 7/5 bits for each entry and hash function the next power of two, at most 2^32.
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

/// The limit of a vm whose host sets none: a quarter of the memory that is available, at most 1 GiB. Perf buffers and
/// per-CPU maps of usual tools grow with the CPUs, so it is 16 MiB for each possible CPU where that is more than 1 GiB.
pub fn usual_limit(available: u64, possible_cpus: u64) -> u64 {
    const LEAST_CAP: u64 = 1 << 30;
    const PER_CPU: u64 = 16 << 20;
    (available / 4).min(LEAST_CAP.max(possible_cpus * PER_CPU))
}
