//! The events of one task: the last ones, for any number of readers.
//!
//! All readers share one copy, and each has a position in it. A slow reader loses the lines that were dropped before it read them, and
//! gets their number. A reader delays neither the task nor other readers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

/// Bytes that are kept for each task, with what each line costs beyond its text.
const MAX_BYTES: usize = 2 << 20;
/// What a line costs beyond its text.
const LINE_COST: usize = 16;

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineKind {
    /// An event as JSON.
    Json,
    /// An event or output of the program as text.
    Text,
    /// The number of records that the kernel lost.
    Lost,
}

/// Lines that were added together.
#[derive(Debug, Default)]
pub struct Chunk {
    /// The position of the first line.
    pub first: u64,
    /// When they were added, in seconds since 1970.
    pub time: u64,
    lines: Vec<Line>,
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct Line {
    end: usize,
    kind: LineKind,
    source: Option<Arc<str>>,
}

/// A line of a chunk.
#[derive(Debug)]
pub struct LineRef<'a> {
    /// Its position.
    pub position: u64,
    /// What it is.
    pub kind: LineKind,
    /// The map that it comes from.
    pub source: Option<&'a str>,
    /// Its text, without a newline at its end.
    pub text: &'a [u8],
}

impl Chunk {
    /// Appends a line.
    pub fn push(&mut self, kind: LineKind, source: Option<Arc<str>>, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.lines.push(Line { end: self.bytes.len(), kind, source });
    }

    /// Whether there are no lines.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The lines.
    pub fn lines(&self) -> impl Iterator<Item = LineRef<'_>> {
        let starts = std::iter::once(0).chain(self.lines.iter().map(|line| line.end));
        let numbered = (self.first..).zip(starts.zip(&self.lines));
        numbered.map(|(position, (start, line))| LineRef {
            position,
            kind: line.kind,
            source: line.source.as_deref(),
            text: &self.bytes[start..line.end],
        })
    }

    fn end(&self) -> u64 {
        self.first + self.lines.len() as u64
    }

    fn cost(&self) -> usize {
        self.bytes.len() + LINE_COST * self.lines.len()
    }
}

/// The events of one task.
pub struct Log {
    /// Differs for each log, also of other runs of the server, so that a position of another one is noticed.
    epoch: u32,
    state: Mutex<State>,
    /// The position of the next line; `u64::MAX` when the task has ended.
    end: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    chunks: VecDeque<Arc<Chunk>>,
    cost: usize,
    next: u64,
    has_ended: bool,
}

/// The text is neither a cursor nor a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotACursor;

/// What a reader gets.
#[derive(Debug)]
pub enum Read {
    /// Lines were dropped before they were read: so many.
    Lost(u64),
    /// A chunk. The reader skips lines before its position.
    Lines(Arc<Chunk>),
    /// There is nothing now.
    Nothing,
    /// There is nothing, and there will be nothing.
    End,
}

impl Log {
    /// An empty log.
    pub fn new() -> Log {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Two logs of the same nanosecond differ by the address of something that each has.
        let epoch = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), time) as u32;
        Log { epoch, state: Mutex::default(), end: watch::Sender::new(0) }
    }

    /// Adds lines.
    pub fn add(&self, mut chunk: Chunk) {
        chunk.time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let mut state = self.state();
        chunk.first = state.next;
        state.next = chunk.end();
        state.cost += chunk.cost();
        state.chunks.push_back(Arc::new(chunk));
        while state.cost > MAX_BYTES && state.chunks.len() > 1 {
            let dropped = state.chunks.pop_front();
            state.cost -= dropped.map_or(0, |chunk| chunk.cost());
        }
        let next = state.next;
        drop(state);
        self.end.send_replace(next);
    }

    /// Ends the log: readers end after the last line.
    pub fn end(&self) {
        self.state().has_ended = true;
        self.end.send_replace(u64::MAX);
    }

    /// Reads what follows `position`, and moves it forward.
    pub fn read(&self, position: &mut u64) -> Read {
        let state = self.state();
        if *position >= state.next {
            return if state.has_ended { Read::End } else { Read::Nothing };
        }
        let first = state.chunks.front().map_or(state.next, |chunk| chunk.first);
        if *position < first {
            let lost = first - *position;
            *position = first;
            return Read::Lost(lost);
        }
        let index = state.chunks.partition_point(|chunk| chunk.end() <= *position);
        let chunk = Arc::clone(&state.chunks[index]);
        *position = chunk.end();
        Read::Lines(chunk)
    }

    /// The position of the oldest line that is kept.
    pub fn oldest(&self) -> u64 {
        let state = self.state();
        state.chunks.front().map_or(state.next, |chunk| chunk.first)
    }

    /// The position of the next line.
    pub fn next(&self) -> u64 {
        self.state().next
    }

    /// Reports changes: each value is the position of the next line.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.end.subscribe()
    }

    /// Writes a position so that [`parse`](Log::parse) reads it.
    pub fn cursor(&self, position: u64) -> String {
        format!("{:08x}.{position}", self.epoch)
    }

    /// Reads a cursor, or a position. `Ok(None)`: of another log, such as one before the server was started again.
    pub fn parse(&self, cursor: &str) -> Result<Option<u64>, NotACursor> {
        if let Ok(position) = cursor.parse() {
            return Ok((position <= self.next()).then_some(position));
        }
        let (epoch, position) = cursor.split_once('.').ok_or(NotACursor)?;
        let epoch = u32::from_str_radix(epoch, 16).map_err(|_| NotACursor)?;
        let position: u64 = position.parse().map_err(|_| NotACursor)?;
        Ok((epoch == self.epoch && position <= self.next()).then_some(position))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Log {
    fn default() -> Log {
        Log::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(texts: &[&str]) -> Chunk {
        let mut chunk = Chunk::default();
        texts.iter().for_each(|text| chunk.push(LineKind::Json, None, text.as_bytes()));
        chunk
    }

    fn read_all(log: &Log, position: &mut u64) -> (Vec<String>, u64) {
        let (mut lines, mut lost) = (Vec::new(), 0);
        loop {
            let from = *position;
            match log.read(position) {
                Read::Lines(chunk) => {
                    let new = chunk.lines().filter(|line| line.position >= from);
                    lines.extend(new.map(|line| String::from_utf8(line.text.to_vec()).unwrap()));
                }
                Read::Lost(count) => lost += count,
                Read::Nothing | Read::End => return (lines, lost),
            }
        }
    }

    #[test]
    fn each_reader_has_its_own_position() {
        let log = Log::new();
        log.add(chunk(&["a", "b"]));
        let mut early = 0;
        assert_eq!(read_all(&log, &mut early).0, ["a", "b"]);
        log.add(chunk(&["c"]));
        let (mut late, mut middle) = (0, 1);
        assert_eq!(read_all(&log, &mut early).0, ["c"]);
        assert_eq!(read_all(&log, &mut middle).0, ["b", "c"]);
        assert_eq!(read_all(&log, &mut late), (vec!["a".into(), "b".into(), "c".into()], 0));
        assert!(matches!(log.read(&mut late), Read::Nothing));
        log.end();
        assert!(matches!(log.read(&mut late), Read::End));
    }

    #[test]
    fn a_slow_reader_is_told_how_much_it_has_lost_and_memory_stays_bounded() {
        let log = Log::new();
        let long = "x".repeat(1000);
        let count = 3 * MAX_BYTES / long.len();
        (0..count).for_each(|_| log.add(chunk(&[&long])));
        let mut position = 0;
        let (lines, lost) = read_all(&log, &mut position);
        assert_eq!(lines.len() as u64 + lost, count as u64);
        assert!(lost > 0 && lines.len() * (long.len() + LINE_COST) <= MAX_BYTES);
    }

    #[test]
    fn a_cursor_of_another_log_is_noticed() {
        let (log, other) = (Log::new(), Log::new());
        log.add(chunk(&["a"]));
        other.add(chunk(&["a"]));
        assert_eq!(log.parse(&log.cursor(1)), Ok(Some(1)));
        assert_eq!(log.parse(&other.cursor(1)), Ok(None));
        assert_eq!(log.parse(&log.cursor(2)), Ok(None), "a line that does not exist yet");
        assert_eq!(log.parse("1"), Ok(Some(1)));
        assert!(["", "x.1", "1.x", "1.-1"].map(|text| log.parse(text)).iter().all(Result::is_err));
    }
}
