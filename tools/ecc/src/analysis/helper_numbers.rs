//! The numbers of BPF helpers that send records, return memory, or write to it.

pub const MAP_LOOKUP: i32 = 1;
pub const PERF_EVENT_OUTPUT: i32 = 25;
pub const SK_STORAGE_GET: i32 = 107;
pub const SKB_OUTPUT: i32 = 111;
pub const XDP_OUTPUT: i32 = 121;
pub const RINGBUF_OUTPUT: i32 = 130;
pub const RINGBUF_RESERVE: i32 = 131;
pub const RINGBUF_SUBMIT: i32 = 132;
pub const INODE_STORAGE_GET: i32 = 145;
pub const TASK_STORAGE_GET: i32 = 156;
pub const MAP_LOOKUP_PERCPU: i32 = 195;
pub const RINGBUF_RESERVE_DYNPTR: i32 = 198;
pub const DYNPTR_WRITE: i32 = 202;
pub const DYNPTR_DATA: i32 = 203;
pub const CGRP_STORAGE_GET: i32 = 210;

/// The helpers that return the address of a map's value. The map is their first argument.
pub const LOOKUPS: [i32; 6] =
    [MAP_LOOKUP, MAP_LOOKUP_PERCPU, SK_STORAGE_GET, INODE_STORAGE_GET, TASK_STORAGE_GET, CGRP_STORAGE_GET];
