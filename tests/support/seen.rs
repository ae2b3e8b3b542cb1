//! Counts the events of a package that is replaced: each has to be delivered once, with its own type.

use eunomia::{Event, EventKind, Flow};

/// The events that have been delivered.
#[derive(Default)]
pub struct Seen {
    /// A bit for each number, by thread.
    ids: [Vec<u64>; 2],
    /// The number of different events.
    pub count: u64,
    /// The number of events whose number was delivered before.
    pub twice: u64,
    /// The number of events with a type of another size.
    pub mistyped: u64,
    /// The number of events that each version sent.
    pub by_version: [u64; 2],
}

impl Seen {
    /// Receives an event. Records end in the number of the thread and that of its event; those of the second version are longer.
    pub fn take(&mut self, event: &Event<'_>) -> Flow {
        if event.kind == EventKind::Sample {
            let len = event.data.len();
            let number = |at: usize| u32::from_ne_bytes(event.data[at..at + 4].try_into().unwrap()) as usize;
            let is_new = self.mark(number(len - 8), number(len - 4));
            self.count += u64::from(is_new);
            self.twice += u64::from(!is_new);
            self.by_version[usize::from(len > 8)] += 1;
            self.mistyped += u64::from(event.ty.is_none_or(|ty| ty.size != len));
        }
        Flow::Continue
    }

    /// Marks the number of an event, and returns whether it is new.
    fn mark(&mut self, thread: usize, number: usize) -> bool {
        let ids = &mut self.ids[thread];
        if ids.len() <= number / 64 {
            ids.resize(number / 64 + 1, 0);
        }
        let (word, bit) = (&mut ids[number / 64], 1 << (number % 64));
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }
}
