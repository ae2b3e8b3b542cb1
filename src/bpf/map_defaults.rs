//! Sizes of maps that a definition leaves to the host: code for libbpf sets them between open and load.

use super::constants::map_type;
use super::sys::object::MapRef;
use crate::os;

/// As many as there are stacks or keys on a busy machine; a power of two, as stack traces want it.
const ENTRIES: u32 = 16384;
const RINGBUF_BYTES: u32 = 256 * 1024;
/// `kernel.perf_event_max_stack` of a kernel that nobody has set up otherwise.
const USUAL_DEPTH: u32 = 127;

/// Gives a map what it lacks, where that has one meaning only; before load. Arrays are as large as their users index
/// them, so those are left as they are.
pub fn complete(map: MapRef<'_>) -> os::Result<()> {
    let entries = match map.kind() {
        map_type::HASH
        | map_type::PERCPU_HASH
        | map_type::LRU_HASH
        | map_type::LRU_PERCPU_HASH
        | map_type::STACK_TRACE => ENTRIES,
        map_type::RINGBUF => RINGBUF_BYTES,
        _ => return Ok(()),
    };
    if map.kind() == map_type::STACK_TRACE && map.value_size() == 0 {
        // The kernel refuses more than this, and cuts stacks to the size of the value.
        let depth = os::read_text("/proc/sys/kernel/perf_event_max_stack");
        let depth = depth.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(USUAL_DEPTH);
        map.set_value_size(depth.saturating_mul(8))?;
    }
    if map.max_entries() == 0 { map.set_max_entries(entries) } else { Ok(()) }
}
