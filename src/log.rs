//! A log sink per vm, and the way libbpf's process-wide prints find the right one.
//!
//! libbpf prints through one function without user data. While a thread is inside libbpf on behalf of
//! a vm, a thread-local entry names that vm's log; [`capture`] sets it and puts the old one back.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// How grave a line is; the numbers are those of the C interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something failed.
    Error = 1,
    /// Something is off, and work goes on.
    Warn = 2,
    /// Worth knowing.
    Info = 3,
    /// For finding bugs.
    Debug = 4,
}

/// Receives one line without its newline.
pub type LogFn = Box<dyn Fn(Level, &str) + Send + Sync>;

/// The log of one vm.
pub struct Log {
    sink: Option<LogFn>,
    level: AtomicU32,
}

/// Verifier logs can be megabytes; more than this is of no use to anybody.
const MESSAGE_LIMIT: usize = 1 << 20;
const CAPTURE_LIMIT: usize = 4 << 20;

thread_local! {
    static CURRENT: RefCell<Option<Capture>> = const { RefCell::new(None) };
}

struct Capture {
    log: Arc<Log>,
    text: String,
}

impl Log {
    /// A log that passes on lines up to `level`.
    pub fn new(sink: Option<LogFn>, level: Level) -> Log {
        Log { sink, level: AtomicU32::new(level as u32) }
    }

    /// Changes how much is passed on.
    pub fn set_level(&self, level: Level) {
        self.level.store(level as u32, Relaxed);
    }

    /// Writes `text`, line by line.
    pub fn write(&self, level: Level, text: &str) {
        if level as u32 > self.level.load(Relaxed) {
            return;
        }
        if let Some(sink) = &self.sink {
            text.lines().for_each(|line| sink(level, line));
        }
    }
}

/// Puts the thread's previous entry back, also when `work` unwinds.
struct Restore(Option<Capture>);

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

/// Runs `work`, sends what libbpf prints on this thread meanwhile to `log`, and returns its warnings as well.
pub fn capture<T>(log: &Arc<Log>, work: impl FnOnce() -> T) -> (T, String) {
    let own = Capture { log: Arc::clone(log), text: String::new() };
    let restore = Restore(CURRENT.replace(Some(own)));
    let result = work();
    let text = CURRENT.take().map(|own| own.text).unwrap_or_default();
    drop(restore);
    (result, text)
}

/// Takes a message of libbpf on the current thread. Texts of several lines are program logs: they go into
/// the error's detail, and to the log only for debugging.
pub fn from_libbpf(level: Level, message: &str) {
    let log = CURRENT.with_borrow_mut(|current| {
        let capture = current.as_mut()?;
        let (head, tail) = shortened(message);
        if level <= Level::Warn && capture.text.len() + head.len() + tail.len() <= CAPTURE_LIMIT {
            capture.text.extend([head, tail]);
        }
        Some(Arc::clone(&capture.log))
    });
    let several = message.trim_end().contains('\n');
    if let Some(log) = log {
        log.write(if several { Level::Debug } else { level }, message);
    }
}

/// First line and end of a message that is too long: what the verifier objects to stands at the end of its log.
fn shortened(message: &str) -> (&str, &str) {
    if message.len() <= MESSAGE_LIMIT {
        return (message, "");
    }
    let head = message.find('\n').map_or(0, |end| end + 1);
    let mut start = (message.len() - MESSAGE_LIMIT).max(head);
    while !message.is_char_boundary(start) {
        start += 1;
    }
    (&message[..head], &message[start..])
}
