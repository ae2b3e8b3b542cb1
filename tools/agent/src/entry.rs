//! Entries of a map as JSON.

use std::sync::Arc;

use eunomia::render::{Clock, Plan, hex_json};
use eunomia::types::Type;
use eunomia::vm::MapInfo;

/// Formats the entries of one map.
#[derive(Debug)]
pub struct Entry {
    /// The map.
    pub map: MapInfo,
    key: Option<Plan>,
    value: Option<Plan>,
}

impl Entry {
    /// A formatter for the entries of `map`.
    pub fn new(map: MapInfo) -> Entry {
        let plan = |ty: &Option<Arc<Type>>| ty.as_ref().and_then(|ty| Plan::new(ty).ok());
        let (key, value) = (plan(&map.key_type), plan(&map.value_type));
        Entry { map, key, value }
    }

    /// The number of bytes of a value. In a per-CPU map, it includes the values of all CPUs.
    pub fn value_len(&self) -> usize {
        match self.map.cpus {
            0 | 1 => self.map.value_size as usize,
            cpus => self.stride() * cpus as usize,
        }
    }

    /// The distance in bytes from the value of one CPU to that of the next one.
    fn stride(&self) -> usize {
        (self.map.value_size as usize).next_multiple_of(8).max(1)
    }

    /// Appends `{"key":..,"value":..}`. The value of a per-CPU map is an array.
    pub fn json(&self, key: &[u8], value: &[u8], clock: &Clock, out: &mut Vec<u8>) {
        let write = |plan: &Option<Plan>, bytes: &[u8], out: &mut Vec<u8>| match plan {
            Some(plan) => plan.json(bytes, clock, out),
            None => hex_json(bytes, out),
        };
        let size = self.map.value_size as usize;
        out.extend_from_slice(b"{\"key\":");
        write(&self.key, key, out);
        out.extend_from_slice(b",\"value\":");
        if self.map.cpus > 1 {
            for (cpu, value) in value.chunks(self.stride()).enumerate() {
                out.push(if cpu == 0 { b'[' } else { b',' });
                write(&self.value, &value[..value.len().min(size)], out);
            }
            out.push(b']');
        } else {
            write(&self.value, value, out);
        }
        out.push(b'}');
    }
}
