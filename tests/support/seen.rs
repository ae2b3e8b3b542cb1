//! Counts the events of a package that is replaced: each has to be delivered once, with its own type.

use std::collections::HashSet;

use eunomia::{Event, EventKind, Flow};

/// What has been delivered.
#[derive(Default)]
pub struct Seen {
    /// Their numbers.
    pub ids: HashSet<u64>,
    /// How many had a number that was there before.
    pub twice: u64,
    /// How many had a type of another size.
    pub mistyped: u64,
    /// How many each version sent.
    pub by_version: [u64; 2],
}

impl Seen {
    /// Receives an event. Records end in the number of the thread and that of its event; those of the second version are longer.
    pub fn take(&mut self, event: &Event<'_>) -> Flow {
        if event.kind == EventKind::Sample {
            let len = event.data.len();
            let number = |at: usize| u32::from_ne_bytes(event.data[at..at + 4].try_into().unwrap());
            let id = u64::from(number(len - 8)) << 32 | u64::from(number(len - 4));
            self.twice += u64::from(!self.ids.insert(id));
            self.by_version[usize::from(len > 8)] += 1;
            self.mistyped += u64::from(event.ty.is_none_or(|ty| ty.size != len));
        }
        Flow::Continue
    }
}
