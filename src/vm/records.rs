//! Events in batches: each call of the callback receives many records of a buffer. Records of a ring buffer are not
//! copied: they are in the memory that the kernel wrote them to.

use std::ffi::CStr;
use std::sync::Arc;
use std::time::Duration;

use super::event::{EventKind, Flow, outcome};
use super::interrupt::Interrupt;
use super::state::Vm;
use crate::bpf::source::{Shape, Sink, Span};
use crate::error::Result;
use crate::types::Type;

/// A batch of raw records. It borrows them, and they are valid until the callback returns.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Records<'a> {
    /// The kind of the batch: [`EventKind::Sample`] for records, [`EventKind::MapEntry`] for an entry of a map, or
    /// [`EventKind::Lost`] or [`EventKind::Round`], which have no data.
    pub kind: EventKind,
    /// The name of the map that all records came through.
    pub source: &'a CStr,
    /// The index of the source; see [`Vm::source_at`].
    pub source_index: usize,
    /// The records as the kernel wrote them, or the value of a map entry. A record begins at a multiple of 8 bytes.
    pub data: &'a [Span<'a>],
    /// The key of a map entry, else empty.
    pub key: &'a [u8],
    /// The type of the records. `None` if the package does not specify it.
    pub ty: Option<&'a Arc<Type>>,
    /// The number of records that the kernel dropped, for [`EventKind::Lost`].
    pub lost: u64,
    /// The CPU of perf records, or -1 if it is unknown.
    pub cpu: i32,
    /// The time when the records were read, as [`Event::time_ns`](crate::Event::time_ns).
    pub time_ns: u64,
}

impl Vm {
    /// Waits for events like [`Vm::poll`], and passes them to `callback` in batches of raw records. Returns the number of
    /// events.
    ///
    /// A batch has at most 256 records of one ring buffer, or of one CPU of a perf buffer, or one map entry. The records
    /// of a ring buffer are not copied: they are in the memory that the kernel wrote them to. The kernel can reuse the
    /// memory of a batch only after the callback. So a slow callback makes the kernel drop records earlier than a slow
    /// callback for single events would. A batch that the callback gets is counted as delivered, whatever the callback
    /// returns. With a queue ([`Vm::queue_start`]), a batch has one record.
    ///
    /// # Errors
    ///
    /// Those of [`Vm::poll`].
    ///
    /// ```no_run
    /// use eunomia::Flow;
    ///
    /// # fn main() -> eunomia::Result<()> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// let mut bytes = 0;
    /// let count = vm.poll_batch(None, |records| {
    ///     bytes += records.data.iter().map(|record| record.len()).sum::<usize>();
    ///     Flow::Continue
    /// })?;
    /// println!("{count} events, {bytes} bytes");
    /// # Ok(())
    /// # }
    /// ```
    pub fn poll_batch(
        &self,
        timeout: Option<Duration>,
        mut callback: impl FnMut(&Records<'_>) -> Flow,
    ) -> Result<usize> {
        let budget = self.poll_budget();
        let count = self.deliver(timeout, |delivery| {
            let mut sink = RecordsSink::new(&self.shared.stop, &mut callback);
            let drained = delivery.drain(budget, &mut sink as &mut dyn Sink);
            let RecordsSink { events, bytes, lost, ended, .. } = sink;
            self.count(events, bytes, lost);
            drained?;
            let count = outcome(ended, events as usize)?;
            Ok((count > 0 || ended.is_some()).then_some(count))
        })?;
        Ok(count.unwrap_or(0))
    }
}

/// A sink that passes batches of records to a callback.
struct RecordsSink<'a, F> {
    callback: &'a mut F,
    stop: &'a Interrupt,
    time_ns: u64,
    events: u64,
    bytes: u64,
    lost: u64,
    ended: Option<Flow>,
}

impl<'a, F: FnMut(&Records<'_>) -> Flow> RecordsSink<'a, F> {
    fn new(stop: &'a Interrupt, callback: &'a mut F) -> RecordsSink<'a, F> {
        RecordsSink { callback, stop, time_ns: 0, events: 0, bytes: 0, lost: 0, ended: None }
    }

    /// Calls the callback with records of `bytes` bytes in total.
    fn call(&mut self, records: &Records<'_>, bytes: usize) -> bool {
        self.events += records.data.len() as u64;
        self.bytes += bytes as u64;
        match (self.callback)(records) {
            Flow::Continue => true,
            flow => {
                self.ended.get_or_insert(flow);
                false
            }
        }
    }

    fn batch<'b>(&self, kind: EventKind, source: &'b Shape, data: &'b [Span<'b>]) -> Records<'b> {
        let ty = match kind {
            EventKind::Sample => source.record.as_ref().map(|plan| plan.ty()),
            EventKind::MapEntry => source.map.value.ty(),
            _ => None,
        };
        let (source, source_index, time_ns) = (&*source.map.name, source.index, self.time_ns);
        Records { kind, source, source_index, data, key: &[], ty, lost: 0, cpu: -1, time_ns }
    }
}

impl<F: FnMut(&Records<'_>) -> Flow> Sink for RecordsSink<'_, F> {
    fn read_at(&mut self, time_ns: u64) {
        self.time_ns = time_ns;
    }

    fn record(&mut self, source: &Shape, cpu: i32, data: &[u8]) -> bool {
        let list = [data.into()];
        self.call(&Records { cpu, ..self.batch(EventKind::Sample, source, &list) }, data.len())
    }

    fn records(&mut self, source: &Shape, cpu: i32, records: &[Span<'_>], bytes: usize) -> bool {
        self.call(&Records { cpu, ..self.batch(EventKind::Sample, source, records) }, bytes)
    }

    fn takes_batches(&self) -> bool {
        true
    }

    fn lost(&mut self, source: &Shape, cpu: i32, count: u64) -> bool {
        self.lost += source.uncounted(count);
        let records = Records { cpu, lost: count, ..self.batch(EventKind::Lost, source, &[]) };
        self.call(&records, 0)
    }

    fn entry(&mut self, source: &Shape, key: &[u8], value: &[u8]) -> bool {
        let data = [value.into()];
        self.call(&Records { key, ..self.batch(EventKind::MapEntry, source, &data) }, key.len() + value.len())
    }

    fn round(&mut self, source: &Shape) -> bool {
        self.call(&self.batch(EventKind::Round, source, &[]), 0)
    }

    fn interrupted(&self) -> bool {
        self.ended.is_some() || self.stop.ends_batch()
    }
}
