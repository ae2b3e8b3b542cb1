//! Numbers and names of the kernel's BPF interface (linux/bpf.h), in one place for the library and its tools.

/// Map types, `enum bpf_map_type`, without the prefix BPF_MAP_TYPE_.
#[allow(missing_docs, reason = "the names are those of the kernel")]
pub mod map_type {
    pub const HASH: u32 = 1;
    pub const ARRAY: u32 = 2;
    pub const PROG_ARRAY: u32 = 3;
    pub const PERF_EVENT_ARRAY: u32 = 4;
    pub const PERCPU_HASH: u32 = 5;
    pub const PERCPU_ARRAY: u32 = 6;
    pub const STACK_TRACE: u32 = 7;
    pub const CGROUP_ARRAY: u32 = 8;
    pub const LRU_HASH: u32 = 9;
    pub const LRU_PERCPU_HASH: u32 = 10;
    pub const LPM_TRIE: u32 = 11;
    pub const ARRAY_OF_MAPS: u32 = 12;
    pub const HASH_OF_MAPS: u32 = 13;
    pub const DEVMAP: u32 = 14;
    pub const SOCKMAP: u32 = 15;
    pub const CPUMAP: u32 = 16;
    pub const XSKMAP: u32 = 17;
    pub const SOCKHASH: u32 = 18;
    pub const REUSEPORT_SOCKARRAY: u32 = 20;
    pub const PERCPU_CGROUP_STORAGE: u32 = 21;
    pub const QUEUE: u32 = 22;
    pub const STACK: u32 = 23;
    pub const SK_STORAGE: u32 = 24;
    pub const DEVMAP_HASH: u32 = 25;
    pub const STRUCT_OPS: u32 = 26;
    pub const RINGBUF: u32 = 27;
    pub const INODE_STORAGE: u32 = 28;
    pub const TASK_STORAGE: u32 = 29;
    pub const BLOOM_FILTER: u32 = 30;
    pub const USER_RINGBUF: u32 = 31;
    pub const CGRP_STORAGE: u32 = 32;
    pub const ARENA: u32 = 33;
}

/// Program types, `enum bpf_prog_type`, without the prefix BPF_PROG_TYPE_.
#[allow(missing_docs, reason = "the names are those of the kernel")]
pub mod prog_type {
    pub const KPROBE: u32 = 2;
    pub const SCHED_CLS: u32 = 3;
    pub const SCHED_ACT: u32 = 4;
    pub const TRACEPOINT: u32 = 5;
    pub const XDP: u32 = 6;
    pub const PERF_EVENT: u32 = 7;
    pub const CGROUP_SKB: u32 = 8;
    pub const CGROUP_SOCK: u32 = 9;
    pub const LWT_IN: u32 = 10;
    pub const LWT_OUT: u32 = 11;
    pub const LWT_XMIT: u32 = 12;
    pub const SOCK_OPS: u32 = 13;
    pub const SK_SKB: u32 = 14;
    pub const CGROUP_DEVICE: u32 = 15;
    pub const RAW_TRACEPOINT: u32 = 17;
    pub const CGROUP_SOCK_ADDR: u32 = 18;
    pub const FLOW_DISSECTOR: u32 = 22;
    pub const CGROUP_SYSCTL: u32 = 23;
    pub const RAW_TRACEPOINT_WRITABLE: u32 = 24;
    pub const CGROUP_SOCKOPT: u32 = 25;
    pub const TRACING: u32 = 26;
    pub const STRUCT_OPS: u32 = 27;
    pub const LSM: u32 = 29;
    pub const SK_LOOKUP: u32 = 30;
    pub const SYSCALL: u32 = 31;
}

/// Attach types, `enum bpf_attach_type`, without the prefixes BPF_TRACE_ and BPF_.
#[allow(missing_docs, reason = "the names are those of the kernel")]
pub mod attach_type {
    pub const RAW_TP: u32 = 23;
    pub const LSM_MAC: u32 = 27;
    pub const ITER: u32 = 28;
}

/// Helper functions, `enum bpf_func_id`.
#[allow(missing_docs, reason = "the names are those of the kernel")]
pub mod helper {
    pub const OVERRIDE_RETURN: i32 = 58;
    pub const SEQ_PRINTF: i32 = 126;
    pub const SEQ_WRITE: i32 = 127;
}

/// Codes of instructions, from linux/bpf.h and linux/bpf_common.h.
#[allow(missing_docs, reason = "the names are those of the kernel")]
pub mod opcode {
    /// BPF_LD | BPF_IMM | BPF_DW, the first half of the only instruction of 16 bytes.
    pub const LOAD_64: u8 = 0x18;
    /// BPF_JMP | BPF_CALL.
    pub const CALL: u8 = 0x85;
}

/// The kernel's own "not supported", which libc does not define.
pub const ENOTSUPP: i32 = 524;

/// The map in which an object counts failed ring-buffer reservations. `ecc` adds it; the library reads it.
pub const LOST_MAP: &str = "__eunomia_lost";

/// Exists if the kernel has kprobes.
pub const KPROBES: &str = "/sys/bus/event_source/devices/kprobe";
