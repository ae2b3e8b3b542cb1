//! Sources of events: ring buffers, perf buffers and sampled maps, any number at once.
//!
//! Each turn takes a bounded batch from every source that has something, so a flooded one starves nobody. What
//! becomes of a record is the sink's business.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::constants::{LOST_MAP, map_type};
use super::entries::Entries;
use super::export::Export;
use super::map::{Map, map_error};
use super::sys::ring::{Perf, PerfEvents, Receiver, Ring};
use crate::error::{Error, Result, Status};
use crate::os::{self, Epoll, Errno, EventFd, TimerFd};
use crate::package::Sample;
use crate::render::Plan;

/// Records that one source may deliver before the next one has its turn.
const TURN: usize = 1024;

/// What a source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// A BPF ring buffer.
    Ring = 1,
    /// A perf event array.
    Perf = 2,
    /// A map that is read at intervals.
    Map = 3,
}

/// How far it is known what the kernel dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LostKnown {
    /// Nobody counts it.
    NotCounted = 0,
    /// Up to the last record of each CPU, for the kernel reports a loss with the next record: perf buffers before
    /// Linux 6.0.
    Reported = 1,
    /// All of it.
    #[default]
    All = 2,
}

/// What is known about a source without touching it.
pub struct Shape {
    /// The events of a perf buffer that count what they lose. Before the map, whose descriptor they use when they end.
    counter: Option<Arc<PerfEvents>>,
    /// The map behind it.
    pub map: Arc<Map>,
    /// What it is.
    pub kind: SourceKind,
    /// How its records look; `None` if unknown, and for sampled maps.
    pub record: Option<Plan>,
    /// How it is sampled.
    pub sample: Option<Sample>,
    /// Place among the sources.
    pub index: usize,
    /// Events delivered.
    pub events: AtomicU64,
    /// Records that the kernel dropped and reported.
    reported: AtomicU64,
    /// How far the ledger knows what the kernel dropped.
    pub lost_known: LostKnown,
}

impl Shape {
    /// Records that the kernel dropped, as far as that is known of this source.
    pub fn lost(&self) -> u64 {
        let counted = self.counter.as_ref().and_then(|events| events.lost());
        counted.unwrap_or_else(|| self.reported.load(Relaxed))
    }

    /// How many of the records that the kernel reports as dropped the ledger has to add: none where it asks for all.
    pub fn uncounted(&self, reported: u64) -> u64 {
        if self.counter.is_some() { 0 } else { reported }
    }

    /// Records lost that the ledger asks for, in addition to what it has been told.
    pub fn counted(&self) -> u64 {
        self.counter.as_ref().and_then(|events| events.lost()).unwrap_or(0)
    }

    /// A map that is read once.
    pub fn of_map(map: &Arc<Map>) -> Shape {
        Shape {
            counter: None,
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

/// Takes what the sources deliver; `false` ends the batch after that.
pub trait Sink {
    /// Sets the time, on CLOCK_MONOTONIC, at which everything that follows was read. Called once per turn, not per record.
    fn read_at(&mut self, time_ns: u64);
    /// A record of a ring or perf buffer; `cpu` is -1 where unknown.
    fn record(&mut self, source: &Shape, cpu: i32, data: &[u8]) -> bool;
    /// The kernel dropped `count` records.
    fn lost(&mut self, source: &Shape, cpu: i32, count: u64) -> bool;
    /// An entry of a sampled map; all CPUs of a per-CPU value.
    fn entry(&mut self, source: &Shape, key: &[u8], value: &[u8]) -> bool;
    /// A sampling round is complete.
    fn round(&mut self, source: &Shape) -> bool;
    /// Asked between turns: whether to end early.
    fn interrupted(&self) -> bool;
    /// Whether what it takes has been delivered with that.
    fn delivers(&self) -> bool {
        true
    }
    /// Asked when the sink ended a turn: whether the source goes on with it in the next batch.
    fn keeps_turn(&self) -> bool {
        false
    }
}

/// Any sink: the way to it is longer, and compiled once for all who take it.
impl Sink for &mut dyn Sink {
    fn read_at(&mut self, time_ns: u64) {
        (**self).read_at(time_ns);
    }

    #[cfg_attr(small, optimize(speed))]
    fn record(&mut self, source: &Shape, cpu: i32, data: &[u8]) -> bool {
        (**self).record(source, cpu, data)
    }

    fn lost(&mut self, source: &Shape, cpu: i32, count: u64) -> bool {
        (**self).lost(source, cpu, count)
    }

    fn entry(&mut self, source: &Shape, key: &[u8], value: &[u8]) -> bool {
        (**self).entry(source, key, value)
    }

    fn round(&mut self, source: &Shape) -> bool {
        (**self).round(source)
    }

    fn interrupted(&self) -> bool {
        (**self).interrupted()
    }

    fn keeps_turn(&self) -> bool {
        (**self).keeps_turn()
    }
}

/// All sources of a package.
pub struct Sources {
    list: Vec<Source>,
    /// Whose turn is next, so that a batch that ended early is not always followed by the same source.
    next: usize,
    epoll: Epoll,
    timer: TimerFd,
    /// Readable while perf buffers may hold records that the kernel will not tell of again.
    again: Option<Arc<EventFd>>,
}

struct Source {
    shape: Arc<Shape>,
    buffer: Buffer,
}

enum Buffer {
    Ring(Ring),
    /// With the CPU that comes first in the next turn.
    Perf(Perf, usize),
    Sampled(Sampler),
}

struct Sampler {
    interval: Duration,
    due: Instant,
    clear: bool,
    /// The round under way.
    walk: Option<Entries>,
    /// When that round began, on CLOCK_MONOTONIC: the time of all of its entries.
    round_ns: u64,
}

impl Sources {
    /// Opens the buffers of a loaded object. `pages`: per CPU, of a perf buffer.
    pub fn open(exports: Vec<Export>, maps: &[Arc<Map>], pages: u32) -> Result<Sources> {
        let system = |e: Errno| Error::sys(Status::System, e.0, format_args!("event sources: {e}"));
        let epoll = Epoll::new().map_err(system)?;
        let timer = TimerFd::new().map_err(system)?;
        let mut list = Vec::new();
        let is_counted = maps.iter().any(|map| &*map.label() == LOST_MAP);
        for (index, export) in exports.into_iter().enumerate() {
            let map = &maps[export.map];
            let source = Source::open(export, index, map, pages, is_counted)?;
            source.watch(&epoll).map_err(|e| map_error(map, "epoll", e))?;
            list.push(source);
        }
        let has_perf = list.iter().any(|source: &Source| matches!(source.buffer, Buffer::Perf(..)));
        let again = has_perf.then(EventFd::new).transpose().map_err(system)?.map(Arc::new);
        let sources = Sources { list, next: 0, epoll, timer, again };
        sources.arm().map_err(system)?;
        Ok(sources)
    }

    /// What the sources are.
    pub fn shapes(&self) -> Vec<Arc<Shape>> {
        self.list.iter().map(|source| Arc::clone(&source.shape)).collect()
    }

    /// The descriptors that are readable when a buffer, or a sampled map, has something.
    pub fn fds(&self) -> Vec<RawFd> {
        let again = self.again.as_ref().map(|again| again.fd());
        [self.epoll.fd(), self.timer.fd()].into_iter().chain(again).collect()
    }

    /// To be signalled after the readiness of these descriptors may have been asked for without a drain, which takes it
    /// away from perf buffers; `None` if there are none.
    pub fn again(&self) -> Option<Arc<EventFd>> {
        self.again.clone()
    }

    /// Whether a perf buffer holds records, whatever its descriptor says.
    pub fn has_records(&self) -> bool {
        self.list.iter().any(|source| matches!(&source.buffer, Buffer::Perf(perf, _) if perf.has_records()))
    }

    /// Delivers what is there now, `budget` events at most, and says how many.
    pub fn drain(&mut self, budget: usize, sink: &mut impl Sink) -> Result<usize> {
        if self.samples() {
            self.timer.clear();
        }
        if let Some(again) = &self.again {
            again.clear();
        }
        let drained = self.turns(budget, sink);
        if let Some(again) = self.again.as_ref().filter(|_| self.has_records()) {
            again.signal();
        }
        // Also after a failure: the next round may work, and other maps have theirs.
        let armed = self.arm();
        armed.map_err(|e| Error::sys(Status::System, e.0, format_args!("timer of sampled maps: {e}")))?;
        drained
    }

    /// Gives each source its turn, again and again, until none has anything more to give.
    fn turns(&mut self, budget: usize, sink: &mut impl Sink) -> Result<usize> {
        let mut total = 0;
        let mut idle = 0;
        while idle < self.list.len() && total < budget && !sink.interrupted() {
            let at = self.next;
            self.next = (at + 1) % self.list.len();
            let source = &mut self.list[at];
            let (count, go_on, more) = source.turn(TURN.min(budget - total), sink)?;
            total += count;
            if sink.delivers() {
                source.shape.events.fetch_add(count as u64, Relaxed);
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

    /// Whether there is anything to use the timer for; a batch of records costs no system call of it.
    /// Has the next drain read every sampled map, whenever its next round is due.
    pub fn sample_now(&mut self) -> os::Result<()> {
        let now = Instant::now();
        for source in &mut self.list {
            if let Buffer::Sampled(sampler) = &mut source.buffer {
                sampler.due = now;
            }
        }
        self.arm()
    }

    fn samples(&self) -> bool {
        self.list.iter().any(|source| matches!(source.buffer, Buffer::Sampled(_)))
    }

    /// Sets the timer to the earliest round, or to now where one is under way.
    fn arm(&self) -> os::Result<()> {
        let now = Instant::now();
        let delays = self.list.iter().filter_map(|source| match &source.buffer {
            Buffer::Sampled(Sampler { walk: Some(_), .. }) => Some(Duration::ZERO),
            Buffer::Sampled(sampler) => Some(sampler.due.saturating_duration_since(now)),
            _ => None,
        });
        delays.min().map_or(Ok(()), |delay| self.timer.arm(delay))
    }
}

impl Source {
    /// `is_counted`: the object counts the records that ring buffers have no space for.
    fn open(export: Export, index: usize, map: &Arc<Map>, pages: u32, is_counted: bool) -> Result<Source> {
        let fd = map.fd()?.fd();
        let (kind, buffer) = match (&export.sample, map.kind) {
            (Some(sample), _) => (SourceKind::Map, Ok(Buffer::Sampled(Sampler::new(sample)))),
            (None, map_type::RINGBUF) => (SourceKind::Ring, Ring::new(fd).map(Buffer::Ring)),
            (None, _) => (SourceKind::Perf, Perf::new(fd, pages).map(|perf| Buffer::Perf(perf, 0))),
        };
        let buffer = buffer.map_err(|e| match e.0 {
            libc::EPERM if kind == SourceKind::Perf => {
                let limit = "more memory than this user may lock; take fewer, or CAP_IPC_LOCK";
                let text = format_args!("{pages} perf pages per CPU are {limit}");
                map.about(Error::sys(Status::Perm, libc::EPERM, text))
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
        let (record, sample) = (export.record, export.sample);
        let shape = Shape { counter, kind, record, sample, index, lost_known, ..Shape::of_map(map) };
        Ok(Source { shape: Arc::new(shape), buffer })
    }

    fn watch(&self, epoll: &Epoll) -> os::Result<()> {
        match &self.buffer {
            Buffer::Ring(_) => {
                let fd = self.shape.map.fd().map_err(|_| Errno(libc::EBADF))?;
                epoll.add(fd.fd(), 0)
            }
            Buffer::Perf(perf, _) => (0..perf.len()).try_for_each(|index| epoll.add(perf.fd(index)?, 0)),
            Buffer::Sampled(_) => Ok(()),
        }
    }

    /// One turn: events delivered, whether the sink wants more, whether there may be more.
    #[cfg_attr(small, optimize(speed))]
    fn turn(&mut self, limit: usize, sink: &mut impl Sink) -> Result<(usize, bool, bool)> {
        let shape = &*self.shape;
        // No clock is read for a buffer that has nothing.
        let has_records = match &self.buffer {
            Buffer::Ring(ring) => ring.available() > 0,
            Buffer::Perf(perf, _) => perf.has_records(),
            Buffer::Sampled(_) => true,
        };
        if !has_records {
            return Ok((0, true, false));
        }
        if !matches!(self.buffer, Buffer::Sampled(_)) {
            sink.read_at(os::monotonic_ns());
        }
        let mut batch = Batch { shape, sink, count: 0, limit, go_on: true };
        let (result, more) = match &mut self.buffer {
            Buffer::Ring(ring) => (ring.consume(limit, &mut batch), ring.available() > 0),
            Buffer::Perf(perf, first) => {
                let result = each_cpu(perf, *first, limit, &mut batch);
                *first = (*first + 1) % perf.len().max(1);
                (result, batch.count > 0)
            }
            Buffer::Sampled(sampler) => sampler.turn(&mut batch),
        };
        result.map_err(|e| map_error(&shape.map, "events", e))?;
        // A record that is reserved but not yet submitted is there and cannot be had.
        let (count, go_on) = (batch.count, batch.go_on);
        Ok((count, go_on, more && count > 0))
    }
}

/// Gives each CPU's buffer its share, beginning with another one each time.
fn each_cpu<S: Sink>(
    perf: &mut Perf,
    first: usize,
    limit: usize,
    batch: &mut Batch<'_, S>,
) -> os::Result<()> {
    let share = (limit / perf.len().max(1)).max(1);
    for index in (first..perf.len()).chain(0..first) {
        batch.limit = limit.min(batch.count + share);
        if batch.wants_more() {
            perf.consume(index, batch)?;
        }
    }
    Ok(())
}

/// A turn of one source.
struct Batch<'a, S> {
    shape: &'a Shape,
    sink: &'a mut S,
    count: usize,
    limit: usize,
    go_on: bool,
}

impl<S: Sink> Batch<'_, S> {
    fn wants_more(&self) -> bool {
        self.go_on && self.count < self.limit
    }

    fn entry(&mut self, key: &[u8], value: &[u8]) -> bool {
        self.count += 1;
        self.go_on = self.sink.entry(self.shape, key, value);
        self.wants_more()
    }
}

impl<S: Sink> Receiver for Batch<'_, S> {
    #[inline(always)]
    #[cfg_attr(small, optimize(speed))]
    fn record(&mut self, cpu: i32, data: &[u8]) -> bool {
        self.count += 1;
        let data = if cpu < 0 { data } else { unpadded(self.shape, data) };
        self.go_on = self.sink.record(self.shape, cpu, data);
        self.wants_more()
    }

    fn lost(&mut self, cpu: i32, count: u64) -> bool {
        self.shape.reported.fetch_add(count, Relaxed);
        self.go_on = self.sink.lost(self.shape, cpu, count);
        self.go_on
    }
}

/// A perf record without the up to seven bytes that the kernel appends to round it up.
fn unpadded<'a>(shape: &Shape, data: &'a [u8]) -> &'a [u8] {
    let size = shape.record.as_ref().map_or(data.len(), |plan| plan.ty().size);
    if data.len() > size && data.len() - size < 8 { &data[..size] } else { data }
}

impl Sampler {
    fn new(sample: &Sample) -> Sampler {
        let interval = Duration::from_millis(sample.interval_ms.max(1).into());
        Sampler { interval, due: Instant::now() + interval, clear: sample.clear_map, walk: None, round_ns: 0 }
    }

    /// A chunk of the round under way, or of a new one that is due.
    #[cfg_attr(small, optimize(speed))]
    fn turn<S: Sink>(&mut self, batch: &mut Batch<'_, S>) -> (os::Result<()>, bool) {
        let now = Instant::now();
        if self.walk.is_none() && now < self.due {
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

    /// Rounds keep their rhythm; those that were missed are not made up for.
    fn finish(&mut self, now: Instant) {
        self.walk = None;
        self.due += self.interval;
        if self.due < now {
            self.due = now + self.interval;
        }
    }
}
