//! The optional thread that drains the kernel's buffers while the host is busy.
//!
//! Records travel in chunks of 64 KiB that go round between two bounded queues, so nothing is allocated while it
//! runs. When all chunks are full the newest records are dropped and counted.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use crossbeam_queue::ArrayQueue;

use super::locked;
use super::stats::Ledger;
use crate::bpf::source::{Shape, Sink, Sources};
use crate::os::{Epoll, Errno, EventFd, Thread};

/// Bytes in a chunk; only a single larger record makes one larger.
const CHUNK: usize = 64 << 10;
/// Length of a record's head in a chunk.
const HEAD: usize = 24;

/// The consumer's side, and the handle on the thread.
pub struct Queue {
    /// The chunk at work and how far it is.
    current: (Vec<u8>, usize),
    shared: Arc<Shared>,
    thread: Option<(Thread, Arc<Mutex<Option<Sources>>>)>,
}

/// What both sides use.
struct Shared {
    /// Chunks with records, the oldest first.
    full: ArrayQueue<Vec<u8>>,
    /// Chunks to fill.
    free: ArrayQueue<Vec<u8>>,
    /// Readable while chunks wait.
    filled: EventFd,
    /// Ends the thread's wait.
    wake: EventFd,
    ending: AtomicBool,
    /// Whether the thread keeps a chunk back that is not full, because fuller ones still wait.
    partial: AtomicBool,
}

/// What a record in a chunk is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Record = 0,
    Lost = 1,
    Entry = 2,
    Round = 3,
}

impl Queue {
    /// Starts the thread; `epoll` already holds the sources. Gives the sources back if the thread cannot be made.
    pub fn start(
        sources: Sources,
        epoll: Arc<Epoll>,
        max_bytes: usize,
        ledger: Arc<Ledger>,
    ) -> Result<Queue, (Errno, Option<Sources>)> {
        let chunks = (max_bytes / CHUNK).max(2);
        let made = EventFd::new().and_then(|filled| {
            let wake = EventFd::new()?;
            epoll.add(wake.fd(), 0)?;
            Ok(Arc::new(Shared {
                full: ArrayQueue::new(chunks),
                free: ArrayQueue::new(chunks),
                filled,
                wake,
                ending: AtomicBool::new(false),
                partial: AtomicBool::new(false),
            }))
        });
        let shared = match made {
            Ok(shared) => shared,
            Err(e) => return Err((e, Some(sources))),
        };
        (0..chunks).for_each(|_| drop(shared.free.push(Vec::new())));
        let max_record = max_bytes.max(CHUNK);
        let filler = Filler { chunk: None, shared: Arc::clone(&shared), ledger, max_record };
        // The thread takes the sources out of a cell and puts them back at its end.
        let cell = Arc::new(Mutex::new(Some(sources)));
        let theirs = Arc::clone(&cell);
        let body = move || {
            let taken = locked(&theirs).take();
            let done = taken.map(|sources| filler.run(sources, &epoll));
            *locked(&theirs) = done;
        };
        match Thread::spawn(c"eunomia-queue", Box::new(body)) {
            Ok(thread) => Ok(Queue { current: (Vec::new(), 0), shared, thread: Some((thread, cell)) }),
            Err(e) => Err((e, locked(&cell).take())),
        }
    }

    /// Readable while records wait.
    pub fn fd(&self) -> std::os::fd::RawFd {
        self.shared.filled.fd()
    }

    /// Ends the thread and takes the sources back; what is queued stays. `None` if it has been ended before, or died.
    pub fn stop(&mut self) -> Option<Sources> {
        let (thread, cell) = self.thread.take()?;
        self.shared.ending.store(true, SeqCst);
        self.shared.wake.signal();
        drop(thread);
        locked(&cell).take()
    }

    /// Whether the thread runs.
    pub fn is_running(&self) -> bool {
        self.thread.is_some()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.current.1 >= self.current.0.len() && self.shared.full.is_empty()
    }

    /// Delivers what waits, `budget` records at most, and says how many.
    #[cfg_attr(small, optimize(speed))]
    pub fn drain(&mut self, shapes: &[Arc<Shape>], budget: usize, sink: &mut impl Sink) -> usize {
        self.shared.filled.clear();
        let mut count = 0;
        while count < budget && !sink.interrupted() {
            if self.current.1 >= self.current.0.len() && !self.next_chunk() {
                break;
            }
            let (chunk, at) = &mut self.current;
            let Some((kind, go_on)) = deliver(chunk, at, shapes, sink) else { break };
            count += usize::from(matches!(kind, Kind::Record | Kind::Entry));
            if !go_on {
                break;
            }
        }
        if !self.is_empty() {
            self.shared.filled.signal();
        } else if self.shared.partial.load(SeqCst) {
            self.shared.wake.signal();
        }
        count
    }

    fn next_chunk(&mut self) -> bool {
        let Some(next) = self.shared.full.pop() else { return false };
        let (mut done, _) = std::mem::replace(&mut self.current, (next, 0));
        done.clear();
        // The first chunk that is put back was never one of the pool: there is no room for it, and no need.
        drop(self.shared.free.push(done));
        true
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        drop(self.stop());
    }
}

/// Hands on the record at `at` and moves on; `None` at the end of the chunk.
#[cfg_attr(small, optimize(speed))]
fn deliver(
    chunk: &[u8],
    at: &mut usize,
    shapes: &[Arc<Shape>],
    sink: &mut impl Sink,
) -> Option<(Kind, bool)> {
    let number = |index: usize| -> Option<u32> {
        let bytes = chunk.get(*at + 4 * index..*at + 4 * index + 4)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    };
    let (source, kind, cpu) = (number(0)? as usize, number(1)?, number(2)? as i32);
    let (key_len, len) = (number(3)? as usize, number(4)? as usize);
    let data = *at + HEAD;
    let key = data + len.next_multiple_of(8);
    *at = key + key_len.next_multiple_of(8);
    let (shape, data, key) =
        (shapes.get(source)?, chunk.get(data..data + len)?, chunk.get(key..key + key_len)?);
    if kind == Kind::Record as u32 || kind == Kind::Entry as u32 {
        // Whoever delivers has the lock on all deliveries.
        shape.events.store(shape.events.load(Relaxed) + 1, Relaxed);
    }
    Some(match kind {
        0 => (Kind::Record, sink.record(shape, cpu, data)),
        1 => (Kind::Lost, sink.lost(shape, cpu, u64::from_ne_bytes(data.try_into().ok()?))),
        2 => (Kind::Entry, sink.entry(shape, key, data)),
        _ => (Kind::Round, sink.round(shape)),
    })
}

/// The thread's side.
struct Filler {
    chunk: Option<Vec<u8>>,
    shared: Arc<Shared>,
    ledger: Arc<Ledger>,
    max_record: usize,
}

impl Filler {
    fn run(mut self, mut sources: Sources, epoll: &Epoll) -> Sources {
        const BATCH: usize = 4096;
        while !self.shared.ending.load(SeqCst) {
            let mut tokens = [0; 16];
            if epoll.wait(&mut tokens, -1).is_err() {
                continue;
            }
            self.shared.wake.clear();
            drop(sources.drain(BATCH, &mut self));
            self.offer();
        }
        self.flush();
        sources
    }

    /// Hands over a chunk that is not full only to a consumer that has nothing else: a slow one must not find the
    /// pool used up by chunks with a record each. It wakes this thread when it gets there.
    fn offer(&mut self) {
        self.shared.partial.store(true, SeqCst);
        if self.shared.full.is_empty() {
            self.flush();
        }
    }

    /// Hands the chunk over, full or not.
    fn flush(&mut self) {
        if let Some(chunk) = self.chunk.take_if(|chunk| !chunk.is_empty()) {
            // There are as many places as chunks.
            drop(self.shared.full.push(chunk));
            self.shared.filled.signal();
        }
        self.shared.partial.store(self.chunk.is_some(), SeqCst);
    }

    #[cfg_attr(small, optimize(speed))]
    fn push(&mut self, source: &Shape, kind: Kind, cpu: i32, key: &[u8], data: &[u8]) -> bool {
        let size = HEAD + data.len().next_multiple_of(8) + key.len().next_multiple_of(8);
        if self.chunk.as_ref().is_some_and(|chunk| !chunk.is_empty() && chunk.len() + size > CHUNK) {
            self.flush();
        }
        if self.chunk.is_none() {
            self.chunk = self.shared.free.pop();
        }
        let Some(chunk) = self.chunk.as_mut().filter(|_| size <= self.max_record) else {
            let records = u64::from(matches!(kind, Kind::Record | Kind::Entry));
            self.ledger.lost_queue.fetch_add(records, Relaxed);
            return true;
        };
        let words = [source.index as u32, kind as u32, cpu as u32, key.len() as u32, data.len() as u32, 0];
        chunk.reserve(size.max(CHUNK - chunk.len().min(CHUNK)));
        words.iter().for_each(|word| chunk.extend_from_slice(&word.to_ne_bytes()));
        for part in [data, key] {
            chunk.extend_from_slice(part);
            chunk.resize(chunk.len().next_multiple_of(8), 0);
        }
        true
    }
}

impl Sink for Filler {
    fn record(&mut self, source: &Shape, cpu: i32, data: &[u8]) -> bool {
        self.push(source, Kind::Record, cpu, &[], data)
    }

    fn lost(&mut self, source: &Shape, cpu: i32, count: u64) -> bool {
        // Counted when it is delivered; if it finds no room, now.
        let room = self.chunk.is_some() || !self.shared.free.is_empty();
        if !room {
            self.ledger.lost_kernel.fetch_add(count, Relaxed);
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

    fn interrupted(&self) -> bool {
        self.shared.ending.load(Relaxed)
    }

    fn delivers(&self) -> bool {
        false
    }
}
