//! Everything that events are delivered from: the kept record, the queue and the sources, of the running version of the package
//! and of versions that a replace has retired.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

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
    /// Buffers for rendering, unless a call uses them. In a box, because each call moves them.
    pub scratch: Option<Box<Scratch>>,
    /// A buffer for one record of `read`.
    pub line: Vec<u8>,
    /// Versions that a replace has retired and that still have records, oldest first.
    pub retired: Vec<Retired>,
    /// The version that records were last taken from. The kept record is from it.
    last: u64,
    /// The number of the running version.
    version: u64,
}

/// The undelivered events of a version that no longer runs.
pub struct Retired {
    version: u64,
    sources: Option<Sources>,
    queue: Option<Queue>,
    shapes: Vec<Arc<Shape>>,
    /// Whether its last program has ended, so that no record follows those that wait.
    is_over: bool,
    /// Whether its sources stay open.
    is_kept: bool,
    /// Number of its events that were delivered after it had been retired.
    delivered: Arc<AtomicU64>,
}

impl Delivery {
    /// Delivers waiting events, oldest first and at most `budget`. Records of two versions are never delivered by one call,
    /// because the same source index refers to another type in each version.
    pub fn drain(&mut self, budget: usize, sink: &mut (impl Sink + ?Sized)) -> Result<()> {
        let mut left = budget;
        if let Some(pending) = self.pending.take() {
            left -= 1;
            let retired = self.retired.iter().find(|retired| retired.version == self.last);
            let shapes = retired.map_or(&self.shapes, |retired| {
                retired.delivered.fetch_add(1, Relaxed);
                &retired.shapes
            });
            if !pending.deliver(&shapes[pending.source], sink) || !self.retired.is_empty() {
                return Ok(());
            }
        }
        for retired in &mut self.retired {
            self.last = retired.version;
            if retired.drain(left, sink)? > 0 || sink.interrupted() {
                return Ok(());
            }
        }
        self.last = self.version;
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

    /// Takes the kept record if it is from this source of the running version.
    pub fn take_kept(&mut self, source: usize) -> Option<PendingRecord> {
        let is_current = self.last == self.version;
        self.pending.take_if(|kept| is_current && kept.source == source)
    }

    /// Returns whether something can be delivered: a kept record, one in the queue or in a buffer of the kernel, or a sampled map that is
    /// due. Costs no system call.
    #[cfg_attr(small, optimize(speed))]
    pub fn has_events(&self) -> bool {
        self.sources.as_ref().is_some_and(Sources::has_events)
            || self.pending.is_some()
            || self.queue.as_ref().is_some_and(|queue| !queue.is_empty())
            || !self.retired.is_empty() && self.retired.iter().any(Retired::has_events)
    }

    /// Delivers from `sources` from now on, or from `queue` if its thread has the sources, and retires the sources and
    /// the queue of the old version. The old queue has been stopped and has put its sources back. Returns the counter
    /// of events that are still delivered from the retired version.
    #[inline(never)]
    pub fn replace(
        &mut self,
        shapes: Vec<Arc<Shape>>,
        sources: Option<Sources>,
        queue: Option<Queue>,
    ) -> Arc<AtomicU64> {
        let delivered = Arc::new(AtomicU64::new(0));
        let retired = Retired {
            version: self.version,
            sources: std::mem::replace(&mut self.sources, sources),
            queue: std::mem::replace(&mut self.queue, queue),
            shapes: std::mem::replace(&mut self.shapes, shapes),
            is_over: false,
            is_kept: true,
            delivered: Arc::clone(&delivered),
        };
        self.retired.push(retired);
        self.version += 1;
        delivered
    }

    /// Marks the version that was retired last as over, because its last program has ended. Its sampled maps get a last
    /// round. `keep`: whether its sources stay open.
    pub fn end_retired(&mut self, keep: bool) {
        for retired in self.retired.iter_mut().filter(|retired| retired.is_kept) {
            (retired.is_over, retired.is_kept) = (true, keep);
            retired.sources.iter_mut().for_each(Sources::end);
        }
    }

    /// Replaces the sources of the kept version with `sources`. Without `sources`, the version is no longer kept.
    pub fn swap_kept(&mut self, sources: &mut Option<Sources>) {
        let is_kept = |retired: &Retired| retired.is_kept || sources.is_some() && retired.sources.is_none();
        if let Some(retired) = self.retired.iter_mut().rev().find(|retired| is_kept(retired)) {
            std::mem::swap(&mut retired.sources, sources);
            retired.is_over = true;
            retired.is_kept = retired.sources.is_some();
        }
    }

    /// Returns whether everything of all retired versions has been delivered.
    pub fn is_drained(&self) -> bool {
        self.retired.iter().all(|retired| retired.is_over && retired.is_empty())
    }

    /// Takes out the retired versions that have ended and have no record left.
    pub fn take_spent(&mut self) -> Vec<Retired> {
        let kept = self.pending.as_ref().map(|_| self.last);
        let is_spent = |retired: &Retired| retired.is_spent() && kept != Some(retired.version);
        if !self.retired.iter().any(is_spent) {
            return Vec::new();
        }
        let all = std::mem::take(&mut self.retired);
        let (spent, left) = all.into_iter().partition(is_spent);
        self.retired = left;
        spent
    }

    /// The descriptors of all queues.
    pub fn queue_fds(&self) -> Vec<RawFd> {
        let queues = self.retired.iter().map(|retired| &retired.queue).chain([&self.queue]);
        queues.flatten().map(Queue::fd).collect()
    }

    /// The sources of retired versions.
    pub fn retired_sources(&self) -> Vec<&Sources> {
        self.retired.iter().filter_map(|retired| retired.sources.as_ref()).collect()
    }
}

impl Retired {
    /// Delivers the waiting events, those of the queue first, and returns their number.
    #[inline(never)]
    fn drain(&mut self, budget: usize, sink: &mut (impl Sink + ?Sized)) -> Result<usize> {
        let mut count = self.queue.as_mut().map_or(0, |queue| queue.drain(&self.shapes, budget, sink));
        if let Some(sources) = self.sources.as_mut().filter(|_| count < budget && !sink.interrupted()) {
            count += sources.drain(budget - count, sink)?;
        }
        self.delivered.fetch_add(count as u64, Relaxed);
        Ok(count)
    }

    #[inline(never)]
    fn has_events(&self) -> bool {
        self.sources.as_ref().is_some_and(Sources::has_events)
            || self.queue.as_ref().is_some_and(|queue| !queue.is_empty())
    }

    fn is_spent(&self) -> bool {
        self.is_over && !self.is_kept && self.is_empty()
    }

    fn is_empty(&self) -> bool {
        self.queue.as_ref().is_none_or(Queue::is_empty) && self.sources.as_ref().is_none_or(Sources::is_spent)
    }
}
