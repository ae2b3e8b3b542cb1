//! What delivers: the sources, the queue and the record that did not fit, in that order of age.

use std::sync::Arc;

use super::batch::PendingRecord;
use super::callback_sink::Scratch;
use super::queue::Queue;
use crate::bpf::source::{Shape, Sink, Sources};
use crate::error::Result;

/// What delivers, held locked for as long as it does.
#[derive(Default)]
pub struct Delivery {
    /// The kernel's buffers, unless the queue's thread has them.
    pub sources: Option<Sources>,
    /// The queue; without its thread while what it holds is still to be delivered.
    pub queue: Option<Queue>,
    /// What the sources are, by index.
    pub shapes: Vec<Arc<Shape>>,
    /// A record that did not fit into the last `read`.
    pub pending: Option<PendingRecord>,
    /// Buffers for rendering.
    pub scratch: Scratch,
    pub line: Vec<u8>,
}

impl Delivery {
    /// Delivers what is there, the oldest first: `budget` events at most.
    pub fn drain(&mut self, budget: usize, sink: &mut impl Sink) -> Result<()> {
        let mut left = budget;
        if let Some(pending) = self.pending.take() {
            left -= 1;
            if !pending.deliver(&self.shapes[pending.source], sink) {
                return Ok(());
            }
        }
        if let Some(queue) = &mut self.queue {
            left -= queue.drain(&self.shapes, left, sink);
            if !queue.is_running() && queue.is_empty() {
                self.queue = None;
            }
        }
        match &mut self.sources {
            Some(sources) if left > 0 && !sink.interrupted() => sources.drain(left, sink).map(drop),
            _ => Ok(()),
        }
    }
}
