//! The log of each vm, and how the messages of libbpf reach the right one.
//!
//! libbpf prints through one process-wide function without user data. While a thread calls libbpf for a vm, a thread-local
//! variable refers to the log of that vm. [`capture`] sets it and restores the previous one.

mod verifier_log;

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// The severity of a line. The numbers are those of the C interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Level {
    /// An operation failed.
    Error = 1,
    /// A problem that does not stop the operation.
    Warn = 2,
    /// Information.
    Info = 3,
    /// Details for debugging.
    Debug = 4,
}

/// A function that receives one line, without its newline.
pub type LogFn = Box<dyn Fn(Level, &str) + Send + Sync>;

/// The log of one vm.
pub struct Log {
    sink: Option<LogFn>,
    level: AtomicU32,
}

/// Maximum size of all messages together that one capture keeps.
const CAPTURE_LIMIT: usize = 4 << 20;

thread_local! {
    static CURRENT: RefCell<Option<Capture>> = const { RefCell::new(None) };
}

struct Capture {
    log: Arc<Log>,
    text: String,
}

impl Log {
    /// Creates a log of lines with severity `level` or higher.
    pub fn new(sink: Option<LogFn>, level: Level) -> Log {
        Log { sink, level: AtomicU32::new(level as u32) }
    }

    /// Changes the level.
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

/// Restores the previous log of the thread, also when `work` unwinds.
struct Restore(Option<Capture>);

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

/// Runs `work` and sends what libbpf prints on this thread to `log`. Returns the result of `work` and the warnings.
pub fn capture<T>(log: &Arc<Log>, work: impl FnOnce() -> T) -> (T, String) {
    let own = Capture { log: Arc::clone(log), text: String::new() };
    let restore = Restore(CURRENT.replace(Some(own)));
    let result = work();
    let text = CURRENT.take().map(|own| own.text).unwrap_or_default();
    drop(restore);
    (result, text)
}

/// Handles a message of libbpf on this thread. Verifier logs become the detail of the error, and are logged with level
/// `Debug` only.
pub fn from_libbpf(level: Level, message: &str) {
    let log = CURRENT.with_borrow_mut(|current| {
        let capture = current.as_mut()?;
        let (head, tail) = verifier_log::shortened(message);
        if level <= Level::Warn && capture.text.len() + head.len() + tail.len() <= CAPTURE_LIMIT {
            capture.text.extend([head, tail]);
        }
        Some(Arc::clone(&capture.log))
    });
    if let Some(log) = log {
        log.write(if verifier_log::is_verifier_log(message) { Level::Debug } else { level }, message);
    }
}
