//! Sources of events: ring buffers, perf buffers and sampled maps.
//!
//! Each turn takes a bounded batch from one source, so that a flooded source does not starve the others. The sink decides what
//! happens to a record.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::constants::{LOST_MAP, map_type};
use super::entries::Entries;
use super::event_maps::Export;
use super::map::{Map, map_error};
use super::packed::Packed;
use super::sys::perf::{Perf, PerfEvents};
pub use super::sys::ring::Positions;
use super::sys::ring::{Receiver, Ring, Shared};
pub use super::sys::span::Span;
use crate::error::{Error, Result, Status};
use crate::os::{self, Again, Errno, TimerFd};
use crate::package::Sample;
use crate::render::Plan;
use crate::types::Type;

/// Maximum number of records in one turn of a source.
const TURN: usize = 1024;

/// The kind of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SourceKind {
    /// A BPF ring buffer.
    Ring = 1,
    /// A perf event array.
    Perf = 2,
    /// A map that is read at intervals.
    Map = 3,
}

/// The completeness of the count of records that the kernel dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum LostKnown {
    /// They are not counted.
    NotCounted = 0,
    /// They are counted up to the last record of each CPU, because the kernel reports a loss with the next record (perf buffers
    /// before Linux 6.0).
    Reported = 1,
    /// They are all counted.
    #[default]
    All = 2,
}

/// The description and the counters of a source.
pub struct Shape {
    /// The perf events, if they count lost records. Dropped before the map, because they use its descriptor.
    counter: Option<Arc<PerfEvents>>,
    /// The memory of a ring buffer.
    ring: Option<Arc<Shared>>,
    /// Its map.
    pub map: Arc<Map>,
    /// Its kind.
    pub kind: SourceKind,
    /// The plan of its records; `None` if their type is unknown, and for sampled maps.
    pub record: Option<Plan>,
    /// The settings of its sampling; `None` for buffers.
    pub sample: Option<Sample>,
    /// Its index among the sources.
    pub index: usize,
    /// Number of delivered events.
    pub events: AtomicU64,
    /// Number of records that the kernel reported as dropped.
    reported: AtomicU64,
    /// The completeness of the count of dropped records.
    pub lost_known: LostKnown,
}

impl Shape {
    /// Number of records that the kernel dropped, as far as that is known.
    pub fn lost(&self) -> u64 {
        let counted = self.counter.as_ref().and_then(|events| events.lost());
        counted.unwrap_or_else(|| self.reported.load(Relaxed))
    }

    /// Returns how many of the reported records the statistics have to add: none if `counted` includes them.
    pub fn uncounted(&self, reported: u64) -> u64 {
        if self.counter.is_some() { 0 } else { reported }
    }

    /// Number of lost records that the perf events count themselves.
    pub fn counted(&self) -> u64 {
        self.counter.as_ref().and_then(|events| events.lost()).unwrap_or(0)
    }

    /// The positions in a ring buffer.
    pub fn positions(&self) -> Option<Positions> {
        self.ring.as_ref().map(|ring| ring.positions())
    }

    /// The type of its records, or of a sampled map's values.
    pub fn ty(&self) -> Option<&Arc<Type>> {
        match self.kind {
            SourceKind::Map => self.map.value.ty(),
            _ => self.record.as_ref().map(|plan| plan.ty()),
        }
    }

    /// Describes a map that is read once.
    pub fn of_map(map: &Arc<Map>) -> Shape {
        Shape {
            counter: None,
            ring: None,
            map: Arc::clone(map),
            kind: SourceKind::Map,
            record: None,
            sample: None,
            index: 0,
            events: AtomicU64::new(0),
            reported: AtomicU64::new(0),
            lost_known: LostKnown::All,
        }
    }
}

/// Adds to a counter that only the thread with the lock on all deliveries writes. An atomic addition would take longer
/// than reading a record.
#[inline(always)]
pub fn tally(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Relaxed) + count, Relaxed);
}

/// Receives what the sources deliver. A result of false ends the batch.
///
/// A `dyn Sink` avoids a copy of the code of the sources for each type of sink.
pub trait Sink {
    /// Sets the time, on CLOCK_MONOTONIC, at which everything that follows was read. Called once per turn and CPU, not per
    /// record: all records up to the next call are from one source and CPU.
    fn read_at(&mut self, time_ns: u64);
    /// A record of a ring or perf buffer; `cpu` is -1 if unknown.
    fn record(&mut self, source: &Shape, cpu: i32, data: &[u8]) -> bool;
    /// A record of a ring buffer. The loop that reads the buffer inlines it, so it should be short.
    #[inline(always)]
    fn ring_record(&mut self, source: &Shape, data: &[u8]) -> bool {
        self.record(source, -1, data)
    }
    /// Several records of a ring buffer, or of a perf buffer of `cpu`, which are released after the call. `bytes` is
    /// the sum of their lengths. Called instead of `record` if the sink `takes_batches`.
    fn records(&mut self, source: &Shape, cpu: i32, records: &[Span<'_>], _bytes: usize) -> bool {
        let mut go_on = true;
        for data in records {
            go_on &= self.record(source, cpu, data);
        }
        go_on
    }
    /// Whether the sink receives records in batches.
    fn takes_batches(&self) -> bool {
        false
    }
    /// Returns the space for raw records of a ring buffer if the sink only stores them. It is empty if the sink cannot
    /// take records of `source` now. `packed` is called with what was stored.
    fn space(&mut self, _source: &Shape) -> Option<&mut [u8]> {
        None
    }
    /// Receives what was stored in `space`.
    fn packed(&mut self, _packed: Packed) -> bool {
        true
    }
    /// The kernel dropped `count` records.
    fn lost(&mut self, source: &Shape, cpu: i32, count: u64) -> bool;
    /// An entry of a sampled map; a per-CPU value has the values of all CPUs.
    fn entry(&mut self, source: &Shape, key: &[u8], value: &[u8]) -> bool;
    /// A sampling round is complete.
    fn round(&mut self, source: &Shape) -> bool;
    /// Whether to end early; called between turns.
    fn interrupted(&self) -> bool;
    /// Whether a record that the sink receives is counted as delivered.
    fn delivers(&self) -> bool {
        true
    }
    /// Whether the source continues its turn in the next batch; called after the sink has ended a turn.
    fn keeps_turn(&self) -> bool {
        false
    }
}

/// All sources of a package.
pub struct Sources {
    list: Vec<Source>,
    /// The source whose turn is next. It persists between batches, so that each batch starts with another source.
    next: usize,
    /// The timer for the next round of the sampled maps; `None` without such maps.
    timer: Option<TimerFd>,
    /// The time that the timer is set to.
    armed: Option<Instant>,
    /// Readable while perf buffers may have records that epoll does not report again.
    again: Option<Arc<Again>>,
    /// Whether another process reads them. The memory stays mapped, because programs can write to a perf buffer only
    /// while it is mapped.
    is_given_away: bool,
}

struct Source {
    shape: Arc<Shape>,
    buffer: Buffer,
}

enum Buffer {
    Ring(Ring),
    /// The number is the CPU whose buffer is read first in the next turn.
    Perf(Perf, usize),
    Sampled(Sampler),
}

struct Sampler {
    interval: Duration,
    /// The next round; `None` if none follows.
    due: Option<Instant>,
    /// Whether the next round is the last one.
    is_last: bool,
    clear: bool,
    /// The current round.
    walk: Option<Entries>,
    /// The start of that round on CLOCK_MONOTONIC, which is the time of all its entries.
    round_ns: u64,
}

impl Sources {
    /// Opens the buffers of a loaded object. `pages` is the number of pages of a perf buffer per CPU.
    pub fn open(exports: Vec<Export>, maps: &[Arc<Map>], pages: u32) -> Result<Sources> {
        let system = |e: Errno| Error::sys(Status::System, e.0, format_args!("event sources: {e}"));
        let mut list = Vec::new();
        let is_counted = maps.iter().any(|map| &*map.label() == LOST_MAP);
        for (index, export) in exports.into_iter().enumerate() {
            let map = &maps[export.map];
            let source = Source::open(export, index, map, pages, is_counted)?;
            list.push(source);
        }
        let has_perf = list.iter().any(|source: &Source| matches!(source.buffer, Buffer::Perf(..)));
        let again = has_perf.then(Again::new).transpose().map_err(system)?.map(Arc::new);
        let samples = list.iter().any(|source| matches!(source.buffer, Buffer::Sampled(_)));
        let timer = samples.then(TimerFd::new).transpose().map_err(system)?;
        let mut sources = Sources { list, next: 0, timer, armed: None, again, is_given_away: false };
        sources.arm().map_err(system)?;
        Ok(sources)
    }

    /// The descriptions of all sources.
    pub fn shapes(&self) -> Vec<Arc<Shape>> {
        self.list.iter().map(|source| Arc::clone(&source.shape)).collect()
    }

    /// The descriptors that are readable when a buffer has records or a sampled map is due.
    pub fn fds(&self) -> Vec<RawFd> {
        if self.is_given_away {
            return Vec::new();
        }
        let mut fds: Vec<RawFd> = self.list.iter().flat_map(Source::fds).collect();
        fds.extend(self.timer.as_ref().map(TimerFd::fd));
        fds.extend(self.again.as_ref().map(|again| again.fd()));
        fds
    }

    /// Returns the event to signal when a wait has found events but no drain follows: epoll reports a perf buffer as
    /// readable only once, so without the event the next wait would not return. `None` if there are no perf buffers.
    pub fn again(&self) -> Option<Arc<Again>> {
        self.again.clone()
    }

    /// Returns whether a record waits in a buffer. Costs no system call.
    #[inline]
    pub fn is_ready(&self) -> bool {
        self.list.iter().any(|source| match &source.buffer {
            Buffer::Ring(ring) => ring.is_ready(),
            Buffer::Perf(perf, _) => perf.is_ready(),
            Buffer::Sampled(_) => false,
        })
    }

    /// Returns whether this process can deliver something: a record waits, or a sampled map is due.
    #[inline]
    pub fn has_events(&self) -> bool {
        !self.is_given_away && (self.is_ready() || self.timer.is_some() && self.is_due())
    }

    /// Returns whether a round of a sampled map is due. A round in progress is still due.
    #[inline(never)]
    fn is_due(&self) -> bool {
        self.due().is_some_and(|due| due <= Instant::now())
    }

    /// Returns whether all records have been read, by this process or by the one that has taken over the reading.
    #[inline]
    pub fn is_spent(&self) -> bool {
        !self.has_events() && (!self.is_given_away || self.list.iter().all(|source| source.is_released()))
    }

    /// Leaves the reading to another process.
    pub fn give_away(&mut self) {
        self.leave(&|_| true);
        (self.timer, self.again, self.is_given_away) = (None, None, true);
    }

    /// Passes each perf event on: its map, its CPU, the pages of its buffer, and its descriptor.
    pub fn list_perf(&self, list: &mut dyn FnMut(&Map, i32, u32, RawFd)) {
        for source in &self.list {
            if let Buffer::Perf(perf, _) = &source.buffer {
                perf.events().list(&mut |cpu, pages, fd| list(&source.shape.map, cpu, pages, fd));
            }
        }
    }

    fn samplers(&mut self) -> impl Iterator<Item = (&Map, &mut Sampler)> {
        self.list.iter_mut().filter_map(|source| match &mut source.buffer {
            Buffer::Sampled(sampler) => Some((&*source.shape.map, sampler)),
            _ => None,
        })
    }

    /// Ends the rounds of the sampled maps for which `is_carried` returns true, because another version reads them.
    pub fn leave(&mut self, is_carried: &dyn Fn(&Map) -> bool) {
        for (_, sampler) in self.samplers().filter(|(map, _)| is_carried(map)) {
            (sampler.due, sampler.walk) = (None, None);
        }
    }

    /// Makes the next round of each sampled map, which is due now, the last one.
    pub fn end(&mut self) {
        self.samplers().for_each(|(_, sampler)| sampler.is_last = true);
        // If the timer cannot be set, this round is skipped.
        let _ = self.sample_now();
    }

    /// Restarts the rounds of the sampled maps whose rounds have ended.
    pub fn wake(&mut self) {
        for (_, sampler) in self.samplers() {
            sampler.due.get_or_insert_with(|| Instant::now() + sampler.interval);
            sampler.is_last = false;
        }
        let _ = self.arm();
    }

    /// Returns whether a record waits in a perf buffer.
    fn is_perf_ready(&self) -> bool {
        self.list.iter().any(|source| matches!(&source.buffer, Buffer::Perf(perf, _) if perf.is_ready()))
    }

    /// Delivers the available records, at most `budget`, and returns their number.
    #[inline(always)]
    pub fn drain(&mut self, budget: usize, sink: &mut (impl Sink + ?Sized)) -> Result<usize> {
        if let Some(again) = &self.again {
            again.clear();
        }
        let drained = self.turns(budget, sink);
        if let Some(again) = self.again.as_ref().filter(|_| self.is_perf_ready()) {
            again.signal();
        }
        // The timer is also set after a failure: the next round may succeed, and other maps have their own rounds.
        if self.timer.is_some() {
            let failed =
                |e: Errno| Error::sys(Status::System, e.0, format_args!("timer of sampled maps: {e}"));
            self.arm().map_err(failed)?;
        }
        drained
    }

    /// Delivers the records of a ring buffer that begin before the position `end`, and returns their number.
    pub fn drain_to(&mut self, index: usize, end: u64, sink: &mut dyn Sink) -> Result<usize> {
        let Some(Source { shape, buffer: Buffer::Ring(ring) }) = self.list.get_mut(index) else {
            return Err(Error::new(
                Status::Inval,
                format_args!("source {index} is not a ring buffer: only ring buffers have positions"),
            ));
        };
        sink.read_at(os::monotonic_ns());
        let mut batch = Batch { shape, sink, count: 0, limit: usize::MAX, go_on: true };
        ring.consume_to(end, &mut batch).map_err(|e| map_error(&batch.shape.map, "events", e))?;
        let count = batch.count;
        tally(&shape.events, count as u64);
        Ok(count)
    }

    /// Gives the sources turns until none has more records, or until `budget` events have been delivered.
    fn turns(&mut self, budget: usize, sink: &mut (impl Sink + ?Sized)) -> Result<usize> {
        let mut total = 0;
        let mut idle = 0;
        while idle < self.list.len() && total < budget && !sink.interrupted() {
            let at = self.next;
            // This avoids a division, which takes as long as several locks.
            self.next = if at + 1 < self.list.len() { at + 1 } else { 0 };
            let Some(source) = self.list.get_mut(at) else { break };
            let (count, go_on, more) = source.turn(TURN.min(budget - total), sink)?;
            total += count;
            if sink.delivers() {
                tally(&source.shape.events, count as u64);
            }
            idle = if more { 0 } else { idle + 1 };
            if !go_on {
                if sink.keeps_turn() {
                    self.next = at;
                }
                break;
            }
        }
        Ok(total)
    }

    /// Makes every sampled map due, so that the next drain reads it.
    pub fn sample_now(&mut self) -> os::Result<()> {
        let now = Instant::now();
        self.samplers().for_each(|(_, sampler)| sampler.due = sampler.due.map(|_| now));
        self.arm()
    }

    /// Returns the time of the earliest round, without looking at the sources if no map is sampled.
    fn due(&self) -> Option<Instant> {
        let rounds = self.list.iter().filter_map(|source| match &source.buffer {
            Buffer::Sampled(sampler) => sampler.due,
            _ => None,
        });
        self.timer.as_ref().and_then(|_| rounds.min())
    }

    /// Sets the timer to the earliest round, unless it is set to that already. During a round the timer has expired and
    /// stays readable, because the round is still due. Setting the timer makes it unreadable until the next round is
    /// due.
    fn arm(&mut self) -> os::Result<()> {
        let (Some(timer), earliest) = (&self.timer, self.due()) else { return Ok(()) };
        if earliest == self.armed {
            return Ok(());
        }
        match earliest {
            Some(due) => timer.arm(due.saturating_duration_since(Instant::now()))?,
            None => timer.arm_every(Duration::ZERO)?,
        }
        self.armed = earliest;
        Ok(())
    }
}

impl Source {
    /// Opens a source. `is_counted` means that the object counts failed reservations of ring buffers.
    fn open(export: Export, index: usize, map: &Arc<Map>, pages: u32, is_counted: bool) -> Result<Source> {
        let fd = map.fd()?.fd();
        let (kind, buffer) = match (&export.sample, map.kind) {
            (Some(sample), _) => (SourceKind::Map, Ok(Buffer::Sampled(Sampler::new(sample)))),
            (None, map_type::RINGBUF) => (SourceKind::Ring, Ring::new(fd, map.max_entries).map(Buffer::Ring)),
            (None, _) => {
                let perf = match export.given {
                    Some(given) => (given.open)(given.events, given.pages),
                    None => Perf::new(fd, map.max_entries, pages),
                };
                (SourceKind::Perf, perf.map(|perf| Buffer::Perf(perf, 0)))
            }
        };
        let buffer = buffer.map_err(|e| match e.0 {
            libc::EPERM if kind == SourceKind::Perf => {
                let limit = "more memory than this user may lock; use fewer pages or CAP_IPC_LOCK";
                map.about(Error::sys(
                    Status::Perm,
                    libc::EPERM,
                    format_args!("{pages} perf pages per CPU are {limit}"),
                ))
            }
            _ => map_error(map, "event buffer", e),
        })?;
        let (counter, lost_known) = match &buffer {
            Buffer::Ring(_) if !is_counted => (None, LostKnown::NotCounted),
            Buffer::Perf(perf, _) => match perf.events().lost() {
                Some(_) => (Some(Arc::clone(perf.events())), LostKnown::All),
                None => (None, LostKnown::Reported),
            },
            _ => (None, LostKnown::All),
        };
        let ring = match &buffer {
            Buffer::Ring(ring) => Some(Arc::clone(ring.memory())),
            _ => None,
        };
        let (record, sample) = (export.record, export.sample);
        let shape = Shape { counter, ring, kind, record, sample, index, lost_known, ..Shape::of_map(map) };
        Ok(Source { shape: Arc::new(shape), buffer })
    }

    /// Whether the reader, in another process, has released all records.
    fn is_released(&self) -> bool {
        match &self.buffer {
            Buffer::Ring(ring) => {
                let Positions { consumed, produced } = ring.memory().positions();
                consumed == produced
            }
            Buffer::Perf(perf, _) => !perf.is_ready(),
            Buffer::Sampled(_) => true,
        }
    }

    /// Returns the descriptors that are readable when the buffer has records.
    fn fds(&self) -> Vec<RawFd> {
        match &self.buffer {
            Buffer::Ring(_) => self.shape.map.fd().map(|fd| fd.fd()).into_iter().collect(),
            Buffer::Perf(perf, _) => perf.fds().collect(),
            Buffer::Sampled(_) => Vec::new(),
        }
    }

    /// Runs one turn. Returns the number of events, whether the sink accepts more, and whether there may be more.
    ///
    /// This function has the loop that reads a ring buffer. Inlined into a caller, the loop would be compiled for size,
    /// like the caller.
    #[inline(never)]
    #[cfg_attr(small, optimize(speed))]
    fn turn(&mut self, limit: usize, sink: &mut (impl Sink + ?Sized)) -> Result<(usize, bool, bool)> {
        let shape = &*self.shape;
        // The clock is not read for an empty buffer.
        let is_ready = match &self.buffer {
            Buffer::Ring(ring) => ring.is_ready(),
            Buffer::Perf(perf, _) => perf.is_ready(),
            Buffer::Sampled(_) => true,
        };
        if !is_ready {
            return Ok((0, true, false));
        }
        let time_ns = if matches!(self.buffer, Buffer::Sampled(_)) { 0 } else { os::monotonic_ns() };
        let mut batch = Batch { shape, sink, count: 0, limit, go_on: true };
        let (result, more) = match &mut self.buffer {
            Buffer::Ring(ring) => {
                batch.sink.read_at(time_ns);
                let space = batch.sink.space(shape);
                let consumed = match space.map(|space| ring.pack(space, limit)) {
                    Some(packed) => packed.map(|packed| batch.packed(packed)),
                    None if batch.sink.takes_batches() => ring.consume_batches(&mut batch),
                    None => ring.consume(&mut batch),
                };
                (consumed.map(drop), consumed.unwrap_or(false))
            }
            Buffer::Perf(perf, first) => {
                let result = each_cpu(perf, *first, limit, time_ns, &mut batch);
                *first = if *first + 1 < perf.len() { *first + 1 } else { 0 };
                (result, batch.count > 0)
            }
            Buffer::Sampled(sampler) => sampler.turn(&mut batch),
        };
        result.map_err(|e| map_error(&shape.map, "events", e))?;
        Ok((batch.count, batch.go_on, more))
    }
}

/// Reads the buffers of all CPUs, each up to its share, starting with CPU `first`.
fn each_cpu<S: Sink + ?Sized>(
    perf: &mut Perf,
    first: usize,
    limit: usize,
    time_ns: u64,
    batch: &mut Batch<'_, S>,
) -> os::Result<()> {
    let share = (limit / perf.len().max(1)).max(1);
    for index in (first..perf.len()).chain(0..first) {
        batch.limit = limit.min(batch.count + share);
        if batch.wants_more() {
            batch.sink.read_at(time_ns);
            match batch.sink.takes_batches() {
                true => perf.consume_batches(index, batch)?,
                false => perf.consume(index, batch)?,
            }
        }
    }
    Ok(())
}

/// A turn of one source.
struct Batch<'a, S: ?Sized> {
    shape: &'a Shape,
    sink: &'a mut S,
    count: usize,
    limit: usize,
    go_on: bool,
}

impl<S: Sink + ?Sized> Batch<'_, S> {
    fn wants_more(&self) -> bool {
        self.go_on && self.count < self.limit
    }

    /// Returns whether records may be left.
    fn packed(&mut self, packed: Packed) -> bool {
        self.count += packed.count;
        self.go_on = self.sink.packed(packed);
        packed.count > 0
    }

    fn entry(&mut self, key: &[u8], value: &[u8]) -> bool {
        self.count += 1;
        self.go_on = self.sink.entry(self.shape, key, value);
        self.wants_more()
    }
}

impl<S: Sink + ?Sized> Receiver for Batch<'_, S> {
    #[inline(always)]
    #[cfg_attr(small, optimize(speed))]
    fn record(&mut self, data: &[u8]) -> bool {
        self.count += 1;
        self.go_on = self.sink.ring_record(self.shape, data);
        self.wants_more()
    }

    fn perf_record(&mut self, cpu: i32, data: &[u8]) -> bool {
        self.count += 1;
        self.go_on = self.sink.record(self.shape, cpu, &data[..self.unpadded(data.len())]);
        self.wants_more()
    }

    fn records(&mut self, cpu: i32, records: &[Span<'_>], bytes: usize) -> bool {
        self.count += records.len();
        self.go_on = self.sink.records(self.shape, cpu, records, bytes);
        self.wants_more()
    }

    fn limit(&self) -> usize {
        self.limit - self.count
    }

    fn unpadded(&self, len: usize) -> usize {
        let size = self.shape.record.as_ref().map_or(len, |plan| plan.ty().size);
        if len > size && len - size < 8 { size } else { len }
    }

    fn lost(&mut self, cpu: i32, count: u64) -> bool {
        self.shape.reported.fetch_add(count, Relaxed);
        self.go_on = self.sink.lost(self.shape, cpu, count);
        self.go_on
    }
}

impl Sampler {
    fn new(sample: &Sample) -> Sampler {
        let interval = Duration::from_millis(sample.interval_ms.max(1).into());
        Sampler {
            interval,
            due: Some(Instant::now() + interval),
            is_last: false,
            clear: sample.clear_map,
            walk: None,
            round_ns: 0,
        }
    }

    /// Reads a chunk of the current round, or of a new round that is due.
    #[cfg_attr(small, optimize(speed))]
    fn turn<S: Sink + ?Sized>(&mut self, batch: &mut Batch<'_, S>) -> (os::Result<()>, bool) {
        let now = Instant::now();
        if self.walk.is_none() && self.due.is_none_or(|due| now < due) {
            return (Ok(()), false);
        }
        let (map, clear) = (&*batch.shape.map, self.clear);
        if self.walk.is_none() {
            self.round_ns = os::monotonic_ns();
        }
        batch.sink.read_at(self.round_ns);
        let walk = self.walk.get_or_insert_with(|| Entries::new(map, clear));
        let over = match walk.step(map, |key, value| batch.entry(key, value)) {
            Ok(over) => over,
            Err(e) => {
                self.finish(now);
                return (Err(e), false);
            }
        };
        if over {
            self.finish(now);
            batch.go_on &= batch.sink.round(batch.shape);
        }
        (Ok(()), !over)
    }

    /// Ends a round. The next one is due one interval later; missed rounds are skipped.
    fn finish(&mut self, now: Instant) {
        self.walk = None;
        let next = self.due.filter(|_| !self.is_last).map(|due| due + self.interval);
        self.due = next.map(|next| if next < now { now + self.interval } else { next });
    }
}
