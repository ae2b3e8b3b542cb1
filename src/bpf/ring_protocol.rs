//! The reader's side of the BPF ring buffer protocol (Documentation/bpf/ringbuf.rst in the kernel's source), without the
//! memory mapping, so that a model checker can run it against a model of the kernel (tests/ring_model.rs).
//!
//! The kernel reserves a record by advancing the producer position. The first word of the record is its length, with
//! `BUSY` until the program submits the record, and `DISCARD` if the program discarded it. The reader advances the consumer
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

/// What is at the read position: a record, a reserved record that is not yet submitted, or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// A record of `len` bytes, up to the position `next`. `discarded`: the program discarded it.
    Record {
        len: usize,
        discarded: bool,
        next: u64,
    },
    /// A record that is reserved but not yet submitted.
    Busy,
    Empty,
}

/// The one reader of a ring buffer. The kernel keeps its position, so a reader continues where the previous one
/// stopped.
///
/// Mostly, records have the same length. The position of a record then need not wait for the length of the one before it: see
/// [`Reader::next`].
#[derive(Clone, Copy, Debug)]
pub struct Reader {
    position: u64,
    /// The last known producer position, at most `size` bytes after `position`.
    end: u64,
    /// Bytes of the data area, a power of two.
    size: u64,
    /// The first word of the last record that was looked at.
    last: u32,
    /// A bit for each of the last records, the newest in the lowest bit. The bit of a record is set if its first word
    /// differs from that of the record before.
    changes: u32,
    /// The bits of `changes` that must be clear before the next record is expected to be like the last one.
    relevant: u32,
    /// Bytes from a record like `last` to the next one if such a record is expected, else `UNKNOWN`.
    step: u64,
}

/// Larger than any distance between two records.
const UNKNOWN: u64 = u64::MAX;

/// The number of equal records after which the next one is expected to be equal too. A wrong expectation costs as much
/// time as several records.
const STREAK: u32 = 8;

/// Maximum number of bytes of a run after its first record. The headers that are read to find the end of the run are then still
/// in the processor's first cache when the records are copied.
const RUN: u64 = 8192;

/// Submitted records of the same length that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The position of the data of the first record.
    pub position: u64,
    /// The length of each record.
    pub len: usize,
    /// The distance between their positions.
    pub step: u64,
    /// Their number.
    pub count: usize,
}

impl Reader {
    /// Returns a reader that starts at `position`, the published consumer position. `size`: bytes of the data area.
    pub fn new(position: u64, size: u64) -> Reader {
        Reader::with_streak(position, size, STREAK)
    }

    /// Like `new`. Expects a record to be like the one before it after `streak` equal ones, at most 31.
    pub fn with_streak(position: u64, size: u64, streak: u32) -> Reader {
        Reader {
            position,
            end: position,
            size,
            last: BUSY,
            changes: !0,
            relevant: (1 << streak) - 1,
            step: UNKNOWN,
        }
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
    /// After the last position is published, there is a full barrier. If no record is left, the reader then looks once
    /// more. The kernel makes a record visible and then reads the consumer position, with a full barrier in between. So
    /// one of the two sees the other: a record that this call does not see causes a wake-up.
    #[inline(always)]
    pub fn consume<M: Memory>(
        &mut self,
        memory: &M,
        mut take: impl FnMut(u64, usize) -> bool,
    ) -> Result<bool, Damaged> {
        // The position is kept in a register: the header of each record is found through the position, so a position in
        // memory would delay the next record.
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

    /// Like `consume`, but in batches. `put` receives each run of submitted records, with the index of its first record
    /// in the batch, and returns how many of them it takes. A batch is complete when it has `most` records, when `put`
    /// has not taken all, or when no record is left. Then `take` receives the number of its records and the sum of
    /// their lengths. They are released after that call. It also sets `most` for the next batch. `state` is passed to
    /// both.
    #[inline(always)]
    pub fn consume_batches<M: Memory, S>(
        &mut self,
        memory: &M,
        state: &mut S,
        mut most: usize,
        mut put: impl FnMut(&mut S, usize, Run) -> usize,
        mut take: impl FnMut(&mut S, usize, usize, &mut usize) -> bool,
    ) -> Result<bool, Damaged> {
        loop {
            let Reader { mut position, mut end, mut last, mut changes, size, relevant, .. } = *self;
            let (mut count, mut bytes, mut is_full, mut is_damaged) = (0, 0, false, false);
            while count < most {
                if position == end {
                    let produced = memory.producer();
                    is_damaged = produced.wrapping_sub(position) > size;
                    if is_damaged || produced == position {
                        break;
                    }
                    end = produced;
                }
                let header = memory.header(position);
                let step = size_of_record(header);
                is_damaged = header & BUSY == 0 && step > end.wrapping_sub(position);
                if is_damaged || header & BUSY != 0 {
                    break;
                }
                changes = changes << 1 | u32::from(header != last);
                last = header;
                let mut next = position.wrapping_add(step);
                if header & DISCARD == 0 {
                    let (len, mut more) = (header as usize, 0);
                    if changes & relevant == 0 {
                        let most = most - count - 1;
                        (more, next) = count_equal(memory, (next, end), header, most);
                    }
                    let run = Run { position: position + HEADER, len, step, count: 1 + more };
                    let taken = put(state, count, run);
                    (count, bytes) = (count + taken, bytes + taken * len);
                    is_full = taken <= more;
                    if is_full {
                        position = position.wrapping_add(step * taken as u64);
                        break;
                    }
                }
                // The next header is found through the position, which the multiplication would delay.
                position = next;
            }
            (self.end, self.last, self.changes) = (end, last, changes);
            self.step = self.expected_step();
            // The records before the damaged one are delivered first.
            if is_damaged && position == self.position {
                return Err(Damaged);
            }
            let is_empty = position == self.position;
            if !is_empty {
                let released = Release { memory, reader: self, next: position };
                is_full |= count > 0 && !take(state, count, bytes, &mut most);
                drop(released);
            }
            if is_full || is_empty {
                memory.fence();
                if is_full || !self.is_ready(memory) {
                    return Ok(is_full);
                }
            }
        }
    }

    /// Returns the distance of a record like the last one to the next if such a record is expected, else `UNKNOWN`.
    #[inline(always)]
    fn expected_step(&self) -> u64 {
        let is_expected = self.changes & self.relevant == 0 && self.last & DISCARD == 0;
        if is_expected { size_of_record(self.last) } else { UNKNOWN }
    }

    /// Returns the record at `position`, which is at most `end`.
    ///
    /// A record that is expected is recognized by one comparison. The processor predicts its result and already loads the headers
    /// of the next records, because their positions follow from `step` and not from a header that has yet to arrive.
    /// This takes half as long as adding up the lengths.
    #[inline(always)]
    fn next<M: Memory>(&mut self, memory: &M, position: u64) -> Result<Next, Damaged> {
        if self.end.wrapping_sub(position) >= self.step && memory.header(position) == self.last {
            return Ok(Next::Record {
                len: self.last as usize,
                discarded: false,
                next: position.wrapping_add(self.step),
            });
        }
        self.next_of_any(memory, position)
    }

    /// Returns the record at `position`, whatever its header.
    #[inline(always)]
    fn next_of_any<M: Memory>(&mut self, memory: &M, position: u64) -> Result<Next, Damaged> {
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
        let size = size_of_record(header);
        if size > self.end.wrapping_sub(position) {
            return Err(Damaged);
        }
        let discarded = header & DISCARD != 0;
        // A count of equal headers would be reset by a branch, which is unpredictable if lengths change without a pattern.
        self.changes = self.changes << 1 | u32::from(header != self.last);
        self.last = header;
        self.step = self.expected_step();
        Ok(Next::Record { len: (header & !DISCARD) as usize, discarded, next: position.wrapping_add(size) })
    }
}

/// Returns how many records from `position` to `end`, at most `most` and within `RUN` bytes, have this header, and the position after
/// them.
#[inline(always)]
fn count_equal<M: Memory>(
    memory: &M,
    (mut position, end): (u64, u64),
    header: u32,
    most: usize,
) -> (usize, u64) {
    let (step, end) = (size_of_record(header), position.wrapping_add(end.wrapping_sub(position).min(RUN)));
    let mut count = 0;
    while count < most && end.wrapping_sub(position) >= step && memory.header(position) == header {
        (count, position) = (count + 1, position.wrapping_add(step));
    }
    (count, position)
}

/// Returns the distance of a submitted record to the next one.
#[inline(always)]
fn size_of_record(header: u32) -> u64 {
    HEADER + ((u64::from(header & !DISCARD) + 7) & !7)
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
