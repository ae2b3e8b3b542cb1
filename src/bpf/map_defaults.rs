//! Default sizes for maps whose definition has none. Programs for libbpf set such sizes between open and load.

use super::constants::map_type;
use super::sys::object::MapRef;
use crate::os;

/// Enough for the stacks or keys of a busy machine, and a power of two, which stack traces require.
const ENTRIES: u32 = 16384;
const RINGBUF_BYTES: u32 = 256 * 1024;
/// The kernel's default of `kernel.perf_event_max_stack`.
const USUAL_DEPTH: u32 = 127;

/// Sets missing sizes of a map, before load. Arrays are left unchanged, because only their users know how they are indexed.
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
        // The kernel refuses larger values, and truncates stacks to the size of the value.
        let depth = os::read_text("/proc/sys/kernel/perf_event_max_stack");
        let depth = depth.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(USUAL_DEPTH);
        map.set_value_size(depth.saturating_mul(8))?;
    }
    if map.max_entries() == 0 { map.set_max_entries(entries) } else { Ok(()) }
}
