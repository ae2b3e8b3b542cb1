//! The reader's side of the BPF ring buffer protocol (Documentation/bpf/ringbuf.rst in the kernel's source), without the
//! memory mapping, so that a model checker can run it against a model of the kernel (tests/model.rs).
//!
//! The kernel reserves a record by advancing the producer position. The first word of the record is its length, with
//! `BUSY` until the program submits it and `DISCARD` if the program gave it up. The reader advances the consumer
//! position past each record that it has handled. The kernel then reuses the space.
//!
//! The kernel wakes the reader only if the submitted record is the next one that the reader has not handled. So before
//! the reader waits it must publish its position and then look again: see [`Reader::consume`].

/// Set in a record's first word until the program submits or discards the record.
const BUSY: u32 = 1 << 31;
/// Set in a record's first word if the program discarded the record.
const DISCARD: u32 = 1 << 30;
/// Bytes before a record's data: the length, and a word for the kernel.
pub const HEADER: u64 = 8;

/// The shared memory of a ring buffer.
pub trait Memory {
    /// Returns the position up to which the kernel has reserved records. An acquire load.
    fn producer(&self) -> u64;
    /// Returns the first word of the record at `position`. An acquire load: the data is visible once `BUSY` is clear.
    fn header(&self, position: u64) -> u32;
    /// Publishes the consumer position. A release store: the kernel may overwrite everything before it.
    fn publish(&self, position: u64);
    /// A full barrier.
    fn fence(&self);
}

/// The shared memory contradicts the protocol: another process has changed the consumer position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged;

/// What follows the records handled so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// A record of `len` bytes, up to the position `next`. `discarded`: the program gave it up.
    Record {
        len: usize,
        discarded: bool,
        next: u64,
    },
    /// A record that is reserved but not yet submitted.
    Busy,
    Empty,
}

/// The one reader of a ring buffer. The kernel keeps its position, so a reader continues where the last one stopped.
#[derive(Clone, Copy, Debug)]
pub struct Reader {
    position: u64,
    /// The last known producer position, at most `size` bytes after `position`.
    end: u64,
    /// Bytes of the data area, a power of two.
    size: u64,
}

impl Reader {
    /// Returns a reader that starts at `position`, the published consumer position. `size`: bytes of the data area.
    pub fn new(position: u64, size: u64) -> Reader {
        Reader { position, end: position, size }
    }

    /// Returns the position of the next record.
    #[allow(dead_code, reason = "tests/ring_model.rs uses it")]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Returns whether a submitted record waits. Costs two loads and no system call.
    #[inline]
    pub fn is_ready(&self, memory: &impl Memory) -> bool {
        self.position != memory.producer() && memory.header(self.position) & BUSY == 0
    }

    /// Calls `take` with position and length of each submitted record, in order, until `take` returns false. A record
    /// is released after its call, even if the call panics. Returns false if no submitted record is left.
    ///
    /// After the last published position comes a full barrier, and if no record is left, another look. The kernel makes a
    /// record visible and then reads the consumer position, with a full barrier in between. So one of the two sees the
    /// other: a record that this call does not see causes a wake-up.
    #[inline(always)]
    pub fn consume<M: Memory>(
        &mut self,
        memory: &M,
        mut take: impl FnMut(u64, usize) -> bool,
    ) -> Result<bool, Damaged> {
        // In a register: the header of each record is found through the position, so a position in memory would delay it.
        let mut position = self.position;
        loop {
            match self.next(memory, position)? {
                Next::Record { len, discarded, next } => {
                    let released = Release { memory, reader: self, next };
                    let go_on = discarded || take(position + HEADER, len);
                    drop(released);
                    position = next;
                    if !go_on {
                        memory.fence();
                        return Ok(true);
                    }
                }
                Next::Busy | Next::Empty => {
                    memory.fence();
                    if !self.is_ready(memory) {
                        return Ok(false);
                    }
                }
            }
        }
    }

    /// Like `consume`, but in batches: `add` receives position and length of each submitted record until it returns false or
    /// none is left, then `take` is called. The batch is released after that call. `state` is passed to both.
    #[inline(always)]
    pub fn consume_batches<M: Memory, S>(
        &mut self,
        memory: &M,
        state: &mut S,
        mut add: impl FnMut(&mut S, u64, usize) -> bool,
        mut take: impl FnMut(&mut S) -> bool,
    ) -> Result<bool, Damaged> {
        loop {
            let (mut position, mut is_empty) = (self.position, true);
            loop {
                match self.next(memory, position) {
                    Ok(Next::Record { len, discarded, next }) => {
                        let data = std::mem::replace(&mut position, next) + HEADER;
                        is_empty &= discarded;
                        if !discarded && !add(state, data, len) {
                            break;
                        }
                    }
                    Ok(Next::Busy | Next::Empty) => break,
                    // The records before it are delivered first.
                    Err(_) if position != self.position => break,
                    Err(damaged) => return Err(damaged),
                }
            }
            if position == self.position {
                memory.fence();
                if !self.is_ready(memory) {
                    return Ok(false);
                }
                continue;
            }
            let released = Release { memory, reader: self, next: position };
            let go_on = is_empty || take(state);
            drop(released);
            if !go_on {
                memory.fence();
                return Ok(true);
            }
        }
    }

    #[inline(always)]
    fn next<M: Memory>(&mut self, memory: &M, position: u64) -> Result<Next, Damaged> {
        if position == self.end {
            let end = memory.producer();
            if end == position {
                return Ok(Next::Empty);
            }
            if end.wrapping_sub(position) > self.size {
                return Err(Damaged);
            }
            self.end = end;
        }
        let header = memory.header(position);
        if header & BUSY != 0 {
            return Ok(Next::Busy);
        }
        let len = header & !DISCARD;
        let size = HEADER + ((u64::from(len) + 7) & !7);
        if size > self.end.wrapping_sub(position) {
            return Err(Damaged);
        }
        Ok(Next::Record { len: len as usize, discarded: header & DISCARD != 0, next: position + size })
    }
}

/// Releases a record when it is dropped, so that a panic in the callback does not deliver the record twice.
struct Release<'a, M: Memory> {
    memory: &'a M,
    reader: &'a mut Reader,
    next: u64,
}

impl<M: Memory> Drop for Release<'_, M> {
    #[inline(always)]
    fn drop(&mut self) {
        self.reader.position = self.next;
        self.memory.publish(self.next);
    }
}
