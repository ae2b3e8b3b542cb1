//! Everything that events are delivered from: the kept record, the queue and the sources.

use std::sync::Arc;

use super::batch::PendingRecord;
use super::callback_sink::Scratch;
use super::queue::Queue;
use crate::bpf::source::{Shape, Sink, Sources};
use crate::error::Result;

/// Everything that events are delivered from. Its lock is held while a call delivers events.
#[derive(Default)]
pub struct Delivery {
    /// The sources, unless the queue's thread has them.
    pub sources: Option<Sources>,
    /// The queue. It stays after its thread has ended, until its events have been delivered.
    pub queue: Option<Queue>,
    /// Descriptions of the sources, by index.
    pub shapes: Vec<Arc<Shape>>,
    /// The record that did not fit into the buffer of the last `read`.
    pub pending: Option<PendingRecord>,
    /// Buffers for rendering.
    pub scratch: Scratch,
    /// A buffer for one record of `read`.
    pub line: Vec<u8>,
}

impl Delivery {
    /// Delivers waiting events, oldest first and at most `budget`.
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
