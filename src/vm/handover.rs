//! Who wakes whom: what the threads of a vm share without a lock. Made of whatever flags, events and places it is given,
//! so that a model checker can bring its own and try every order of their steps (tests/model.rs).

/// A flag that each thread sees in the same order as all others (sequentially consistent).
pub trait Flag {
    /// Sets it.
    fn set(&self, on: bool);
    /// Reads it.
    fn get(&self) -> bool;
    /// Reads and clears it in one step.
    fn take(&self) -> bool;
}

/// Something to wait for, such as an eventfd.
pub trait Event {
    /// Makes it readable.
    fn signal(&self);
    /// Makes it unreadable; whether it was readable.
    fn clear(&self) -> bool;
}

/// Chunks of records in a row, for one thread to put in and one to take out.
pub trait ChunkQueue {
    /// Puts one at the end, if there is a place.
    fn push(&self, chunk: Vec<u8>);
    /// Takes the first.
    fn pop(&self) -> Option<Vec<u8>>;
    /// Whether there is none.
    fn is_empty(&self) -> bool;
}

/// The way of chunks from the queue's thread to those who poll, and back.
pub struct Handover<F, E, P> {
    /// Chunks with records, the oldest first.
    full: P,
    /// Chunks to fill.
    free: P,
    /// Readable while chunks wait.
    filled: E,
    /// Ends the thread's wait.
    wake: E,
    ending: F,
    /// Whether the thread keeps a chunk back that is not full, because fuller ones still wait.
    partial: F,
}

/// What the thread does.
pub trait Producer {
    /// Waits for records or for the event `wake`; false if neither came.
    fn wait(&mut self) -> bool;
    /// Puts records that wait in the kernel into chunks.
    fn fill(&mut self);
    /// The chunk at work.
    fn chunk(&mut self) -> &mut Option<Vec<u8>>;
}

impl<F: Flag, E: Event, P: ChunkQueue> Handover<F, E, P> {
    /// Of two rows of places, the second with a chunk in each, two cleared events and two cleared flags.
    pub fn new([full, free]: [P; 2], [filled, wake]: [E; 2], [ending, partial]: [F; 2]) -> Handover<F, E, P> {
        Handover { full, free, filled, wake, ending, partial }
    }

    /// Readable while chunks wait.
    pub fn filled(&self) -> &E {
        &self.filled
    }

    // ---- the thread's side

    /// The thread from its first record to its last.
    pub fn run(&self, producer: &mut impl Producer) {
        while !self.is_ending() {
            if !producer.wait() {
                continue;
            }
            self.wake.clear();
            producer.fill();
            self.offer(producer.chunk());
        }
        self.flush(producer.chunk());
    }

    /// Whether the thread is to end.
    pub fn is_ending(&self) -> bool {
        self.ending.get()
    }

    /// A chunk to fill.
    pub fn take_free(&self) -> Option<Vec<u8>> {
        self.free.pop()
    }

    /// Whether there are chunks to fill.
    pub fn has_free(&self) -> bool {
        !self.free.is_empty()
    }

    /// Hands over a chunk that is not full only to a consumer that has nothing else: a slow one must not find the
    /// pool used up by chunks with a record each. It wakes this thread when it gets there.
    fn offer(&self, chunk: &mut Option<Vec<u8>>) {
        self.partial.set(true);
        if self.full.is_empty() {
            self.flush(chunk);
        }
    }

    /// Hands the chunk over, full or not.
    pub fn flush(&self, chunk: &mut Option<Vec<u8>>) {
        if let Some(chunk) = chunk.take_if(|chunk| !chunk.is_empty()) {
            // There are as many places as chunks.
            self.full.push(chunk);
            self.filled.signal();
        }
        self.partial.set(chunk.is_some());
    }

    // ---- the side of those who poll, one at a time

    /// Before chunks are taken.
    pub fn begin(&self) {
        self.filled.clear();
    }

    /// The next chunk, for the last one.
    pub fn exchange(&self, mut done: Vec<u8>) -> Result<Vec<u8>, Vec<u8>> {
        let Some(next) = self.full.pop() else { return Err(done) };
        done.clear();
        // The first one that is given was never one of the pool: there is no place for it, and no need.
        self.free.push(done);
        Ok(next)
    }

    /// Whether no chunk waits.
    pub fn is_empty(&self) -> bool {
        self.full.is_empty()
    }

    /// After chunks have been taken; `is_empty`: all of them, to their last record.
    pub fn end(&self, is_empty: bool) {
        if !is_empty {
            self.filled.signal();
        } else if self.partial.get() {
            self.wake.signal();
        }
    }

    /// Has the thread end.
    pub fn stop(&self) {
        self.ending.set(true);
        self.wake.signal();
    }
}

/// A request that is sticky until it is reported once: a flag for those who work, an event for those who wait.
pub struct Request<F, E> {
    asked: F,
    event: E,
}

impl<F: Flag, E: Event> Request<F, E> {
    /// Of a cleared flag and a cleared event.
    pub fn new(asked: F, event: E) -> Request<F, E> {
        Request { asked, event }
    }

    /// Readable while a request stands.
    pub fn event(&self) -> &E {
        &self.event
    }

    /// Asks.
    pub fn ask(&self) {
        self.asked.set(true);
        self.event.signal();
    }

    /// Whether somebody has asked.
    pub fn is_asked(&self) -> bool {
        self.asked.get()
    }

    /// Takes the request, to report it. What counts is the event: a request whose signal is still to come is reported
    /// when it has come, and one that comes in between is reported with this one.
    pub fn take(&self) -> bool {
        self.asked.take() && self.event.clear()
    }

    /// The same after the event was seen readable, whatever the flag says.
    pub fn take_signalled(&self) -> bool {
        self.asked.set(false);
        self.event.clear()
    }
}
