//! The events of one task: the last ones, for any number of readers.
//!
//! The log has one copy of the events, and each reader has a position in it. If lines are dropped before a slow reader has read
//! them, the reader gets the number of lost lines. A reader that is about to miss lines delays the others for
//! at most 10 ms at a time, see `is_ahead`.

mod line;
mod ring;
mod shared;
mod writer;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

pub use line::{Content, LineKind, LineRef, Lines};
use ring::Ring;
pub use ring::count;
pub use writer::{Form, LineWriter};

/// The events of one task.
pub struct Log {
    /// A number that differs for each log, even between two runs of the server, so that a cursor of another log is noticed.
    epoch: u32,
    state: Mutex<State>,
    /// The position of the next line; `u64::MAX` when the task has ended.
    end: watch::Sender<u64>,
    followers: Mutex<Vec<Weak<AtomicU64>>>,
}

/// How far a reader that follows the log has come. The reader is forgotten when this is dropped.
pub struct Follower(Arc<AtomicU64>);

struct State {
    ring: Ring,
    /// The time when the last line was added, unless readers have been notified since.
    time: Option<u32>,
    has_ended: bool,
}

/// The text is neither a cursor nor a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotACursor;

/// The result of a read.
#[derive(Debug)]
pub enum Read {
    /// The number of lines that were dropped before they were read.
    Lost(u64),
    /// Lines.
    Lines(Lines),
    /// No line is available now.
    Nothing,
    /// No line is left, and none will follow.
    End,
}

impl Log {
    /// An empty log.
    pub fn new() -> io::Result<Log> {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // RandomState has random keys, so logs that are created at the same time differ too.
        let epoch = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), time) as u32;
        Ring::create(epoch).map(Log::of)
    }

    /// Opens the log of a previous server.
    pub fn open(file: OwnedFd) -> io::Result<Log> {
        Ring::open(file).map(Log::of)
    }

    fn of(ring: Ring) -> Log {
        let (epoch, next) = (ring.epoch(), ring.next());
        let state = Mutex::new(State { ring, time: None, has_ended: false });
        Log { epoch, state, end: watch::Sender::new(next), followers: Mutex::default() }
    }

    /// The memory, for the next server.
    pub fn file(&self) -> io::Result<OwnedFd> {
        self.state().ring.file().try_clone_to_owned()
    }

    /// Adds a line. It is safe when this returns, even if this process is killed. Readers see it after [`flush`](Log::flush).
    pub fn push(&self, kind: LineKind, source: &str, content: Content) {
        let mut state = self.state();
        let time = *state.time.get_or_insert_with(now);
        state.ring.push(time, kind, source, content);
    }

    /// Notifies the readers that lines were added.
    pub fn flush(&self) {
        let mut state = self.state();
        if state.time.take().is_some() {
            let next = state.ring.next();
            drop(state);
            self.end.send_replace(next);
        }
    }

    /// Ends the log: readers end after they have read the last line.
    pub fn end(&self) {
        self.state().has_ended = true;
        self.end.send_replace(u64::MAX);
    }

    /// Reads what follows `position`, and moves it forward.
    pub fn read(&self, position: &mut u64) -> Read {
        let state = self.state();
        if *position >= state.ring.next() {
            return if state.has_ended { Read::End } else { Read::Nothing };
        }
        let first = state.ring.first();
        if *position < first {
            let lost = first - *position;
            *position = first;
            return Read::Lost(lost);
        }
        let lines = state.ring.read(*position);
        *position = lines.end;
        Read::Lines(lines)
    }

    /// Adds a reader that is waited for.
    pub fn follow(&self, position: u64) -> Follower {
        let follower = Arc::new(AtomicU64::new(position));
        let mut followers = self.followers.lock().unwrap_or_else(PoisonError::into_inner);
        followers.retain(|other| other.strong_count() > 0);
        followers.push(Arc::downgrade(&follower));
        Follower(follower)
    }

    /// Whether lines that a follower has not read yet are dropped soon. A follower that has missed lines already is not waited for,
    /// so that each delays the others once at most, unless it catches up.
    pub fn is_ahead(&self) -> bool {
        let followers = self.followers.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.state();
        let is_behind = |position: u64| {
            (state.ring.first()..state.ring.next()).contains(&position)
                && state.ring.len_from(position) > ring::CAPACITY / 2
        };
        followers.iter().filter_map(Weak::upgrade).any(|position| is_behind(position.load(Relaxed)))
    }

    /// The position of the oldest line that is kept.
    pub fn oldest(&self) -> u64 {
        self.state().ring.first()
    }

    /// The position of the next line.
    pub fn next(&self) -> u64 {
        self.state().ring.next()
    }

    /// Reports changes: each value is the position of the next line.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.end.subscribe()
    }

    /// The beginning of all cursors.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Converts a position to a cursor, which [`parse`](Log::parse) reads.
    pub fn cursor(&self, position: u64) -> String {
        format!("{:08x}.{position}", self.epoch)
    }

    /// Reads a cursor or a position. `Ok(None)`: it belongs to another log, such as one from before a restart of the server.
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

impl Follower {
    /// Notes that it has read the lines before `position`.
    pub fn has_read(&self, position: u64) {
        self.0.store(position, Relaxed);
    }
}

fn now() -> u32 {
    let time = SystemTime::now().duration_since(UNIX_EPOCH);
    time.map_or(0, |time| u32::try_from(time.as_secs()).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(log: &Log, texts: &[&str]) {
        texts.iter().for_each(|text| log.push(LineKind::Json, "", Content::text(text.as_bytes())));
        log.flush();
    }

    fn read_all(log: &Log, position: &mut u64) -> (Vec<String>, u64) {
        let (mut lines, mut lost) = (Vec::new(), 0);
        loop {
            match log.read(position) {
                Read::Lines(new) => {
                    lines.extend(new.iter().map(|line| String::from_utf8(line.text.to_vec()).unwrap()));
                }
                Read::Lost(count) => lost += count,
                Read::Nothing | Read::End => return (lines, lost),
            }
        }
    }

    #[test]
    fn each_reader_has_its_own_position() {
        let log = Log::new().unwrap();
        add(&log, &["a", "b"]);
        let mut early = 0;
        assert_eq!(read_all(&log, &mut early).0, ["a", "b"]);
        add(&log, &["c"]);
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
        let log = Log::new().unwrap();
        let long = "x".repeat(1000);
        let count = 3 * ring::CAPACITY / long.len();
        (0..count).for_each(|_| add(&log, &[&long]));
        let mut position = 0;
        let (lines, lost) = read_all(&log, &mut position);
        assert_eq!(lines.len() as u64 + lost, count as u64);
        assert!(lost > 0 && lines.len() * (long.len() + line::HEADER) <= ring::CAPACITY);
    }

    #[test]
    fn a_follower_is_waited_for_until_it_misses_lines() {
        let log = Log::new().unwrap();
        let long = "x".repeat(1000);
        let half = ring::CAPACITY / 2 / (long.len() + line::HEADER);
        let follower = log.follow(0);
        (0..half).for_each(|_| add(&log, &[&long]));
        assert!(!log.is_ahead());
        (0..10).for_each(|_| add(&log, &[&long]));
        assert!(log.is_ahead());
        follower.has_read(20);
        assert!(!log.is_ahead(), "it has read enough");
        follower.has_read(0);
        (0..half).for_each(|_| add(&log, &[&long]));
        assert!(log.oldest() > 0 && !log.is_ahead(), "it has missed lines");
        follower.has_read(log.oldest());
        assert!(log.is_ahead());
        drop(follower);
        assert!(!log.is_ahead());
    }

    #[test]
    fn the_next_server_goes_on_with_the_same_cursors() {
        let log = Log::new().unwrap();
        add(&log, &["a", "b"]);
        // Not flushed: the server was killed.
        log.push(LineKind::Unknown, "", Content::text(b"loader"));
        let again = Log::open(log.file().unwrap()).unwrap();
        let mut position = again.parse(&log.cursor(1)).unwrap().unwrap();
        assert_eq!(read_all(&again, &mut position).0, ["b", "loader"]);
        assert_eq!(again.cursor(3), log.cursor(3));
    }

    #[test]
    fn a_cursor_of_another_log_is_noticed() {
        let (log, other) = (Log::new().unwrap(), Log::new().unwrap());
        add(&log, &["a"]);
        add(&other, &["a"]);
        assert_eq!(log.parse(&log.cursor(1)), Ok(Some(1)));
        assert_eq!(log.parse(&other.cursor(1)), Ok(None));
        assert_eq!(log.parse(&log.cursor(2)), Ok(None), "a line that does not exist yet");
        assert_eq!(log.parse("1"), Ok(Some(1)));
        assert!(["", "x.1", "1.x", "1.-1"].map(|text| log.parse(text)).iter().all(Result::is_err));
    }
}
