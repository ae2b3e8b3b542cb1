//! The last lines of a log, in memory that the loader keeps, so that no line is lost if the server is killed.
//!
//! The memory has a header and a ring of lines. A line is written first, and then the end is moved past it. Before a
//! line is overwritten, the start is moved past it. So the lines between start and end are complete at every moment.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use super::line::{Content, HEADER, Line, LineKind, Lines};
use super::shared::Shared;

/// Size of the ring in bytes, without the header.
pub const CAPACITY: usize = 2 << 20;
/// Size of the header in bytes.
const FRONT: usize = 64;
const LEN: usize = FRONT + CAPACITY;
/// "EUNOLOG1": the format of this memory.
const FORM: u64 = u64::from_le_bytes(*b"EUNOLOG1");
/// The offsets of the numbers in the header.
const AT_FORM: usize = 0;
const AT_EPOCH: usize = 8;
const AT_START: usize = 16;
const AT_END: usize = 24;
const AT_NEXT: usize = 32;
/// Maximum length of a line. A longer one would displace all others.
const LONGEST: usize = CAPACITY / 4;
/// Maximum number of bytes that one read copies, unless a single line is longer.
const READ: usize = 64 << 10;
/// Number of lines between two marks.
const STEP: u64 = 256;

/// The number of lines that were ever added to the ring in this memory, for a process that does not map it.
pub fn count(memory: BorrowedFd) -> u64 {
    let mut number = [0; 8];
    match rustix::io::pread(memory, &mut number, AT_NEXT as u64) {
        Ok(8) => u64::from_ne_bytes(number),
        _ => 0,
    }
}

/// The last lines of a log. Each has a number; they are counted from 0.
pub struct Ring {
    memory: Shared,
    /// Positions of the first line and after the last one: bytes since the log was created.
    start: u64,
    end: u64,
    /// The numbers of the first and of the next line.
    first: u64,
    next: u64,
    /// Numbers and positions of some lines, so that any line is found quickly.
    marks: VecDeque<(u64, u64)>,
}

impl Ring {
    /// Creates an empty ring. `epoch` identifies it.
    pub fn create(epoch: u32) -> io::Result<Ring> {
        let mut memory = Shared::create(LEN)?;
        memory.set_number(AT_EPOCH, epoch.into());
        memory.set_number(AT_FORM, FORM);
        Ok(Ring { memory, start: 0, end: 0, first: 0, next: 0, marks: VecDeque::new() })
    }

    /// Opens a ring that another process has written.
    pub fn open(file: OwnedFd) -> io::Result<Ring> {
        let memory = Shared::open(file, LEN)?;
        let [start, end] = [AT_START, AT_END].map(|at| memory.number(at));
        let malformed = || io::Error::other("the log is malformed");
        if memory.number(AT_FORM) != FORM || end.checked_sub(start).is_none_or(|len| len > CAPACITY as u64) {
            return Err(malformed());
        }
        let mut ring = Ring { memory, start, end, first: 0, next: 0, marks: VecDeque::new() };
        let mut at = start;
        while at < end {
            let line = ring.header(at).ok_or_else(malformed)?;
            if at == start {
                (ring.first, ring.next) = (line.number, line.number);
            }
            let after = at + line.size() as u64;
            if line.number != ring.next || after > end {
                return Err(malformed());
            }
            ring.mark(at);
            ring.next = line.number.checked_add(1).ok_or_else(malformed)?;
            at = after;
        }
        ring.memory.set_number(AT_NEXT, ring.next);
        Ok(ring)
    }

    /// The memory.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.memory.file()
    }

    /// Identifies the ring.
    pub fn epoch(&self) -> u32 {
        self.memory.number(AT_EPOCH) as u32
    }

    /// The number of the first line that is kept.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The number of the next line.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Appends a line, and drops the oldest ones to make space. A line that is too long is reported as lost.
    pub fn push(&mut self, time: u32, kind: LineKind, source: &str, content: Content) {
        let is_long = content.text.len() + content.record.len() > LONGEST;
        let (kind, content) = if is_long { (LineKind::Lost, Content::text(b"1")) } else { (kind, content) };
        let Content { text, record, shape } = content;
        // The names of maps are shorter than this limit.
        let source = source.get(..source.len().min(LONGEST / 1024)).unwrap_or_default();
        let (source_len, text_len, record_len) = (source.len(), text.len(), record.len());
        let line = Line { number: self.next, time, kind, source_len, text_len, record_len, shape };
        while self.end + line.size() as u64 - self.start > CAPACITY as u64 {
            self.drop_first();
        }
        self.mark(self.end);
        let mut at = self.end;
        for bytes in [&line.encode(), source.as_bytes(), text, record] {
            self.write(at, bytes);
            at += bytes.len() as u64;
        }
        (self.end, self.next) = (at, self.next + 1);
        self.memory.set_number(AT_END, at);
        self.memory.set_number(AT_NEXT, self.next);
    }

    /// Copies lines from the number `from` on, which must be kept.
    pub fn read(&self, from: u64) -> Lines {
        let begin = self.find(from);
        let (mut end, mut count) = (begin, 0);
        while end < self.end {
            let Some(line) = self.header(end) else { break };
            let after = end + line.size() as u64;
            if count > 0 && after - begin > READ as u64 {
                break;
            }
            (end, count) = (after, count + 1);
        }
        let mut bytes = vec![0; (end - begin) as usize];
        self.copy(begin, &mut bytes);
        Lines::new(bytes, from + count)
    }

    /// The number of bytes from the line `number`, which must be kept, to the end.
    pub fn len_from(&self, number: u64) -> usize {
        (self.end - self.find(number)) as usize
    }

    /// The position of a line that is kept.
    fn find(&self, number: u64) -> u64 {
        let index = self.marks.partition_point(|(marked, _)| *marked <= number);
        let mark = index.checked_sub(1).and_then(|index| self.marks.get(index));
        let (mut current, mut at) = mark.copied().unwrap_or((self.first, self.start));
        while current < number && at < self.end {
            let Some(line) = self.header(at) else { break };
            (current, at) = (current + 1, at + line.size() as u64);
        }
        at
    }

    fn drop_first(&mut self) {
        let size = self.header(self.start).map_or(self.end - self.start, |line| line.size() as u64);
        (self.start, self.first) = (self.start + size, self.first + 1);
        self.memory.set_number(AT_START, self.start);
        while self.marks.front().is_some_and(|(_, at)| *at < self.start) {
            self.marks.pop_front();
        }
    }

    /// Stores the position of the next line, if that line gets a mark.
    fn mark(&mut self, at: u64) {
        if self.next % STEP == 0 {
            self.marks.push_back((self.next, at));
        }
    }

    fn header(&self, at: u64) -> Option<Line> {
        let mut bytes = [0; HEADER];
        self.copy(at, &mut bytes);
        Line::decode(&bytes)
    }

    fn copy(&self, at: u64, into: &mut [u8]) {
        let offset = (at % CAPACITY as u64) as usize;
        let (one, other) = into.split_at_mut(into.len().min(CAPACITY - offset));
        self.memory.read(FRONT + offset, one);
        self.memory.read(FRONT, other);
    }

    fn write(&mut self, at: u64, bytes: &[u8]) {
        let offset = (at % CAPACITY as u64) as usize;
        let (one, other) = bytes.split_at(bytes.len().min(CAPACITY - offset));
        self.memory.write(FRONT + offset, one);
        self.memory.write(FRONT, other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(ring: &mut Ring, text: &str) {
        ring.push(5, LineKind::Json, "events", Content::text(text.as_bytes()));
    }

    fn texts(ring: &Ring) -> Vec<(u64, String)> {
        let (mut found, mut from) = (Vec::new(), ring.first());
        while from < ring.next() {
            let lines = ring.read(from);
            let text = |text: &[u8]| String::from_utf8(text.to_vec()).unwrap();
            found.extend(lines.iter().map(|line| (line.position, text(line.text))));
            from = lines.end;
        }
        found
    }

    fn again(ring: &Ring) -> io::Result<Ring> {
        Ring::open(ring.file().try_clone_to_owned().unwrap())
    }

    #[test]
    fn the_next_process_finds_what_was_written() {
        let mut ring = Ring::create(7).unwrap();
        assert!(texts(&again(&ring).unwrap()).is_empty());
        for number in 0..200_000_u32 {
            push(&mut ring, &"x".repeat(number as usize % 50));
        }
        assert!(ring.first() > 0 && ring.end - ring.start <= CAPACITY as u64);
        let mut other = again(&ring).unwrap();
        assert_eq!((other.epoch(), other.first(), other.next()), (7, ring.first(), 200_000));
        push(&mut other, "last");
        let found = texts(&other);
        assert!(found.iter().map(|(number, _)| *number).eq(other.first()..200_001));
        assert_eq!(found.last().unwrap(), &(200_000, "last".to_owned()));
        assert!(found.iter().rev().skip(1).all(|(number, text)| text.len() as u64 == number % 50));
        let middle = (other.first() + other.next()) / 2;
        assert_eq!(other.read(middle).iter().next().unwrap().position, middle);
    }

    #[test]
    fn an_unfinished_line_is_not_seen() {
        let mut ring = Ring::create(7).unwrap();
        push(&mut ring, "one");
        // A process was killed after it had written this much.
        let end = ring.end;
        ring.write(end, &[0xff; 100]);
        let mut other = again(&ring).unwrap();
        push(&mut other, "two");
        assert_eq!(texts(&other), [(0, "one".to_owned()), (1, "two".to_owned())]);
    }

    #[test]
    fn memory_is_bounded_per_byte() {
        let mut ring = Ring::create(7).unwrap();
        push(&mut ring, &"x".repeat(LONGEST));
        push(&mut ring, &"x".repeat(LONGEST + 1));
        let lines = ring.read(1);
        let line = lines.iter().next().unwrap();
        assert_eq!((line.kind, line.text), (LineKind::Lost, &b"1"[..]));
        for _ in 0..10 {
            push(&mut ring, &"x".repeat(LONGEST));
        }
        assert_eq!(ring.next() - ring.first(), 3, "a fourth one does not fit with the headers");
    }

    #[test]
    fn malformed_memory_is_refused() {
        for (at, number) in [(AT_FORM, 0), (AT_END, CAPACITY as u64 + 100), (AT_START, 1), (AT_END, 3)] {
            let mut ring = Ring::create(7).unwrap();
            push(&mut ring, "one");
            push(&mut ring, "two");
            assert!(again(&ring).is_ok());
            ring.memory.set_number(at, number);
            assert!(again(&ring).is_err(), "{at}: {number}");
        }
        let mut ring = Ring::create(7).unwrap();
        push(&mut ring, "one");
        push(&mut ring, "two");
        for at in 0..ring.end as usize {
            let mut byte = [0];
            ring.memory.read(FRONT + at, &mut byte);
            for bit in 0..8 {
                ring.memory.write(FRONT + at, &[byte[0] ^ 1 << bit]);
                // Refused, or read as something else, without a panic.
                if let Ok(other) = again(&ring) {
                    assert!(other.read(other.first()).iter().count() <= 2);
                }
            }
            ring.memory.write(FRONT + at, &byte);
        }
    }
}
