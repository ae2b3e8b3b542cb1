//! The optional thread that reads the kernel's buffers while the host is busy.
//!
//! Records are copied into chunks of 64 KiB, which circulate between two bounded queues: once each chunk has its memory,
//! nothing is allocated. When all chunks are full, the newest records are dropped and counted.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use crossbeam_queue::ArrayQueue;

use super::handover::{ChunkQueue, Event, Flag, Handover, Producer};
use super::lock::locked;
use super::stats::Counters;
use crate::bpf::source::{Shape, Sink, Sources, tally};
use crate::os::{self, Epoll, EventFd, Thread};

/// The size of a chunk in bytes. Only a single larger record makes a chunk larger.
const CHUNK: usize = 64 << 10;
/// The length of a record's header in a chunk: kind and source in one word, CPU, length of the key and of the data, then
/// the time in two words.
const HEADER: usize = 24;
/// The bit at which the kind begins in the first word; the lower bits are the index of the source.
const KIND_SHIFT: u32 = 24;

/// The consumer's side, and the handle of the thread.
pub struct Queue {
    /// The chunk that is being delivered, and the offset of the next record in it.
    current: (Vec<u8>, usize),
    shared: Arc<Shared>,
    thread: Option<(Thread, Cell)>,
    max_bytes: usize,
}

type Shared = Handover<AtomicBool, EventFd, ArrayQueue<Vec<u8>>>;

/// The cell from which the thread takes the sources when it begins, and to which it returns them when it ends. While
/// the caller of `start` has the cell locked, the thread reads nothing and does not end.
pub type Cell = Arc<Mutex<Option<Sources>>>;

impl Flag for AtomicBool {
    fn set(&self, on: bool) {
        self.store(on, SeqCst);
    }

    fn get(&self) -> bool {
        self.load(SeqCst)
    }

    fn take(&self) -> bool {
        self.swap(false, SeqCst)
    }
}

impl Event for EventFd {
    fn signal(&self) {
        EventFd::signal(self);
    }

    fn clear(&self) -> bool {
        EventFd::clear(self)
    }
}

impl ChunkQueue for ArrayQueue<Vec<u8>> {
    fn push(&self, chunk: Vec<u8>) {
        drop(ArrayQueue::push(self, chunk));
    }

    fn pop(&self) -> Option<Vec<u8>> {
        ArrayQueue::pop(self)
    }

    fn is_empty(&self) -> bool {
        ArrayQueue::is_empty(self)
    }
}

/// The kind of a record in a chunk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Record = 0,
    Lost = 1,
    Entry = 2,
    Round = 3,
}

impl Queue {
    /// Starts the thread, which reads the sources that are in `epoll`. After a failure they are still in `cell`.
    pub fn start(
        cell: &Cell,
        epoll: Arc<Epoll>,
        max_bytes: usize,
        counters: Arc<Counters>,
    ) -> os::Result<Queue> {
        let chunks = (max_bytes / CHUNK).max(2);
        let [filled, wake] = [EventFd::new()?, EventFd::new()?];
        epoll.add(wake.fd(), 0)?;
        let (full, free) = (ArrayQueue::new(chunks), ArrayQueue::new(chunks));
        (0..chunks).for_each(|_| ChunkQueue::push(&free, Vec::new()));
        let shared = Arc::new(Shared::new([full, free], [filled, wake], Default::default()));
        let max_record = max_bytes.max(CHUNK);
        let filler = Filler { chunk: None, shared: Arc::clone(&shared), counters, max_record, time_ns: 0 };
        let (cell, theirs) = (Arc::clone(cell), Arc::clone(cell));
        let body = move || {
            let taken = locked(&theirs).take();
            let done = taken.map(|sources| filler.run(sources, &epoll));
            *locked(&theirs) = done;
        };
        let thread = Some((Thread::spawn(c"eunomia-queue", Box::new(body))?, cell));
        Ok(Queue { current: (Vec::new(), 0), shared, thread, max_bytes })
    }

    /// Returns the size that the queue was started with.
    pub fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// The descriptor that is readable while records wait.
    pub fn fd(&self) -> std::os::fd::RawFd {
        self.shared.filled().fd()
    }

    /// Ends the thread and returns the sources. Queued records stay. `None` if the thread has been ended before or panicked.
    pub fn stop(&mut self) -> Option<Sources> {
        let (thread, cell) = self.thread.take()?;
        self.shared.stop();
        drop(thread);
        locked(&cell).take()
    }

    /// Returns whether the thread runs.
    pub fn is_running(&self) -> bool {
        self.thread.is_some()
    }

    /// Returns whether no record waits.
    pub fn is_empty(&self) -> bool {
        self.current.1 >= self.current.0.len() && self.shared.is_empty()
    }

    /// Delivers waiting records, at most `budget`, and returns their number.
    #[cfg_attr(small, optimize(speed))]
    pub fn drain(&mut self, shapes: &[Arc<Shape>], budget: usize, sink: &mut (impl Sink + ?Sized)) -> usize {
        self.shared.begin();
        let (mut count, mut last) = (0, None);
        while count < budget && !sink.interrupted() {
            if self.current.1 >= self.current.0.len() && !self.next_chunk() {
                break;
            }
            let (chunk, at) = &mut self.current;
            let Some((kind, go_on)) = deliver(chunk, at, &mut last, shapes, sink) else { break };
            count += usize::from(matches!(kind, Kind::Record | Kind::Entry));
            if !go_on {
                break;
            }
        }
        self.shared.end(self.is_empty());
        count
    }

    fn next_chunk(&mut self) -> bool {
        let next = self.shared.exchange(std::mem::take(&mut self.current.0));
        let is_new = next.is_ok();
        let at = if is_new { 0 } else { self.current.1 };
        self.current = (next.unwrap_or_else(|done| done), at);
        is_new
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        drop(self.stop());
    }
}

/// The source, the CPU and the time of a record.
type Origin = (usize, i32, u64);

/// Delivers the record at offset `at` and advances `at`. `None` at the end of the chunk.
#[cfg_attr(small, optimize(speed))]
fn deliver(
    chunk: &[u8],
    at: &mut usize,
    last: &mut Option<Origin>,
    shapes: &[Arc<Shape>],
    sink: &mut (impl Sink + ?Sized),
) -> Option<(Kind, bool)> {
    let number = |index: usize| -> Option<u32> {
        let bytes = chunk.get(*at + 4 * index..*at + 4 * index + 4)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    };
    let (what, cpu) = (number(0)?, number(1)? as i32);
    let (kind, source) = (what >> KIND_SHIFT, (what & ((1 << KIND_SHIFT) - 1)) as usize);
    let (key_len, len) = (number(2)? as usize, number(3)? as usize);
    let time_ns = u64::from(number(4)?) | u64::from(number(5)?) << 32;
    let data = *at + HEADER;
    let key = data + len.next_multiple_of(8);
    *at = key + key_len.next_multiple_of(8);
    let (shape, data, key) =
        (shapes.get(source)?, chunk.get(data..data + len)?, chunk.get(key..key + key_len)?);
    if kind == Kind::Record as u32 || kind == Kind::Entry as u32 {
        tally(&shape.events, 1);
    }
    let origin = (shape.index, cpu, time_ns);
    if *last != Some(origin) {
        *last = Some(origin);
        sink.read_at(time_ns);
    }
    Some(match kind {
        0 => (Kind::Record, sink.record(shape, cpu, data)),
        1 => (Kind::Lost, sink.lost(shape, cpu, u64::from_ne_bytes(data.try_into().ok()?))),
        2 => (Kind::Entry, sink.entry(shape, key, data)),
        _ => (Kind::Round, sink.round(shape)),
    })
}

/// The producer's side: copies records into chunks.
struct Filler {
    chunk: Option<Vec<u8>>,
    shared: Arc<Shared>,
    counters: Arc<Counters>,
    max_record: usize,
    /// The time when the next records were read.
    time_ns: u64,
}

impl Filler {
    fn run(self, sources: Sources, epoll: &Epoll) -> Sources {
        let shared = Arc::clone(&self.shared);
        let mut drainer = Drainer { filler: self, sources, epoll };
        shared.run(&mut drainer);
        drainer.sources
    }

    #[cfg_attr(small, optimize(speed))]
    fn push(&mut self, source: &Shape, kind: Kind, cpu: i32, key: &[u8], data: &[u8]) -> bool {
        let size = HEADER + data.len().next_multiple_of(8) + key.len().next_multiple_of(8);
        if self.chunk.as_ref().is_some_and(|chunk| !chunk.is_empty() && chunk.len() + size > CHUNK) {
            self.shared.flush(&mut self.chunk);
        }
        if self.chunk.is_none() {
            self.chunk = self.shared.take_free();
        }
        let Some(chunk) = self.chunk.as_mut().filter(|_| size <= self.max_record) else {
            let records = u64::from(matches!(kind, Kind::Record | Kind::Entry));
            self.counters.lost_queue.fetch_add(records, Relaxed);
            return true;
        };
        let what = (kind as u32) << KIND_SHIFT | source.index as u32;
        let (time, time_high) = (self.time_ns as u32, (self.time_ns >> 32) as u32);
        let words = [what, cpu as u32, key.len() as u32, data.len() as u32, time, time_high];
        chunk.reserve(size.max(CHUNK - chunk.len().min(CHUNK)));
        words.iter().for_each(|word| chunk.extend_from_slice(&word.to_ne_bytes()));
        for part in [data, key] {
            chunk.extend_from_slice(part);
            chunk.resize(chunk.len().next_multiple_of(8), 0);
        }
        true
    }
}

/// The state of the running thread.
struct Drainer<'a> {
    filler: Filler,
    sources: Sources,
    epoll: &'a Epoll,
}

impl Producer for Drainer<'_> {
    fn wait(&mut self) -> bool {
        self.epoll.wait(&mut [0; 16], -1).is_ok()
    }

    fn fill(&mut self) {
        const BATCH: usize = 4096;
        drop(self.sources.drain(BATCH, &mut self.filler as &mut dyn Sink));
    }

    fn chunk(&mut self) -> &mut Option<Vec<u8>> {
        &mut self.filler.chunk
    }
}

impl Sink for Filler {
    fn read_at(&mut self, time_ns: u64) {
        self.time_ns = time_ns;
    }

    fn record(&mut self, source: &Shape, cpu: i32, data: &[u8]) -> bool {
        self.push(source, Kind::Record, cpu, &[], data)
    }

    fn lost(&mut self, source: &Shape, cpu: i32, count: u64) -> bool {
        // The loss is counted when its record is delivered, or now if the queue has no capacity for that record.
        let has_capacity = self.chunk.is_some() || self.shared.has_free();
        if !has_capacity {
            self.counters.lost_kernel.fetch_add(source.uncounted(count), Relaxed);
            return true;
        }
        self.push(source, Kind::Lost, cpu, &[], &count.to_ne_bytes())
    }

    fn entry(&mut self, source: &Shape, key: &[u8], value: &[u8]) -> bool {
        self.push(source, Kind::Entry, -1, key, value)
    }

    fn round(&mut self, source: &Shape) -> bool {
        self.push(source, Kind::Round, -1, &[], &[])
    }

    /// Copies the records of a batch in one loop.
    fn takes_batches(&self) -> bool {
        true
    }

    fn interrupted(&self) -> bool {
        self.shared.is_ending()
    }

    fn delivers(&self) -> bool {
        false
    }
}
