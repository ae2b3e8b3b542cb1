//! State that the threads of a vm share without a lock, and which thread wakes which.
//!
//! The code is generic over flags, events and queues, so that a model checker can use its own and try every
//! interleaving of the threads (tests/model.rs).

/// A flag with sequentially consistent access.
pub trait Flag {
    /// Sets the flag.
    fn set(&self, on: bool);
    /// Reads the flag.
    fn get(&self) -> bool;
    /// Reads and clears the flag in one step.
    fn take(&self) -> bool;
}

/// An event to wait for, such as an eventfd.
pub trait Event {
    /// Makes the event readable.
    fn signal(&self);
    /// Makes the event unreadable. Returns whether it was readable.
    fn clear(&self) -> bool;
}

/// A bounded queue of chunks of records, with one thread that puts chunks in and one that takes them out.
pub trait ChunkQueue {
    /// Appends a chunk, if there is capacity.
    fn push(&self, chunk: Vec<u8>);
    /// Takes the first chunk.
    fn pop(&self) -> Option<Vec<u8>>;
    /// Returns whether the queue is empty.
    fn is_empty(&self) -> bool;
}

/// Passes chunks from the queue's thread to the thread that polls, and back.
pub struct Handover<F, E, P> {
    /// Chunks with records, oldest first.
    full: P,
    /// Empty chunks.
    free: P,
    /// Readable while `full` has chunks.
    filled: E,
    /// Wakes the queue's thread.
    wake: E,
    ending: F,
    /// Set while the thread keeps a partly filled chunk, because full ones still wait.
    partial: F,
}

/// The work of the queue's thread.
pub trait Producer {
    /// Waits for records or the event `wake`. Returns false if neither came.
    fn wait(&mut self) -> bool;
    /// Moves records from the kernel's buffers into chunks.
    fn fill(&mut self);
    /// The chunk that is being filled.
    fn chunk(&mut self) -> &mut Option<Vec<u8>>;
}

impl<F: Flag, E: Event, P: ChunkQueue> Handover<F, E, P> {
    /// Takes two queues, two cleared events and two cleared flags. The second queue has all chunks, which are empty.
    pub fn new([full, free]: [P; 2], [filled, wake]: [E; 2], [ending, partial]: [F; 2]) -> Handover<F, E, P> {
        Handover { full, free, filled, wake, ending, partial }
    }

    /// The event that is readable while chunks wait.
    pub fn filled(&self) -> &E {
        &self.filled
    }

    // ---- called by the queue's thread

    /// Runs until `stop` is called.
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

    /// Returns whether the thread must end.
    pub fn is_ending(&self) -> bool {
        self.ending.get()
    }

    /// Takes an empty chunk.
    pub fn take_free(&self) -> Option<Vec<u8>> {
        self.free.pop()
    }

    /// Returns whether there is an empty chunk.
    pub fn has_free(&self) -> bool {
        !self.free.is_empty()
    }

    /// Passes on a partly filled chunk only if the consumer has no other: otherwise chunks with one record each could use up
    /// the pool while the consumer is slow. The consumer wakes this thread when it has emptied the queue.
    fn offer(&self, chunk: &mut Option<Vec<u8>>) {
        self.partial.set(true);
        if self.full.is_empty() {
            self.flush(chunk);
        }
    }

    /// Passes the chunk on, full or not.
    pub fn flush(&self, chunk: &mut Option<Vec<u8>>) {
        if let Some(chunk) = chunk.take_if(|chunk| !chunk.is_empty()) {
            // The queue has capacity for all chunks.
            self.full.push(chunk);
            self.filled.signal();
        }
        self.partial.set(chunk.is_some());
    }

    // ---- called by the thread that polls, one at a time

    /// Must be called before chunks are taken.
    pub fn begin(&self) {
        self.filled.clear();
    }

    /// Takes the next full chunk and recycles `done`.
    pub fn exchange(&self, mut done: Vec<u8>) -> Result<Vec<u8>, Vec<u8>> {
        let Some(next) = self.full.pop() else { return Err(done) };
        done.clear();
        // The first `done` is not one of the chunks of the pool, so the queue, which is then full, drops it.
        self.free.push(done);
        Ok(next)
    }

    /// Returns whether no chunk waits.
    pub fn is_empty(&self) -> bool {
        self.full.is_empty()
    }

    /// Must be called after chunks have been taken. `is_empty`: whether all of them have been taken, up to the last
    /// record.
    pub fn end(&self, is_empty: bool) {
        if !is_empty {
            self.filled.signal();
        } else if self.partial.get() {
            self.wake.signal();
        }
    }

    /// Makes the thread end.
    pub fn stop(&self) {
        self.ending.set(true);
        self.wake.signal();
    }
}

/// A request that remains until it is reported once: a flag for a thread that works, an event for a thread that waits.
pub struct Request<F, E> {
    asked: F,
    event: E,
}

impl<F: Flag, E: Event> Request<F, E> {
    /// Takes a cleared flag and a cleared event.
    pub fn new(asked: F, event: E) -> Request<F, E> {
        Request { asked, event }
    }

    /// The event that is readable while the request remains.
    pub fn event(&self) -> &E {
        &self.event
    }

    /// Makes the request. The event is first: whoever finds the flag set can take both, so a thread that never waits
    /// reports the request, too.
    pub fn ask(&self) {
        self.event.signal();
        self.asked.set(true);
    }

    /// Returns whether the request has been made.
    pub fn is_asked(&self) -> bool {
        self.asked.get()
    }

    /// Takes the request, to report it. If the flag is set without the event, the request was already reported.
    #[inline(always)]
    pub fn take(&self) -> bool {
        // Reading is cheaper than exchanging, and mostly there is no request.
        self.asked.get() && self.take_asked()
    }

    #[cold]
    fn take_asked(&self) -> bool {
        self.asked.take() && self.event.clear()
    }

    /// Takes the request after the event was found readable, whatever the flag says.
    pub fn take_signalled(&self) -> bool {
        self.asked.set(false);
        self.event.clear()
    }
}
