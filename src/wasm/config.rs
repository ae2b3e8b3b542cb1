//! Options of a vm for its guests.

use std::path::PathBuf;
use std::time::Duration;

use super::sys::instance::{Limits, PAGE};

/// Limits of the guests of a vm, and what they can access.
#[derive(Clone, Default)]
pub struct Config {
    /// Size of the call stack in bytes; 0: 128 KiB.
    pub stack: u32,
    /// Size of the heap that the host manages, in bytes; 0: 2 MiB.
    pub heap: u32,
    /// Maximum size of the linear memory in bytes; 0: 16 MiB.
    pub memory: u32,
    /// Time limit for one event in milliseconds; 0: 1000.
    pub budget_ms: u32,
    /// Whether guests that do not choose a format get events as bytes.
    pub raw_events: bool,
    /// Whether guests use the host's stdin, stdout and stderr.
    pub stdio: bool,
    /// Directories that guests can read.
    pub dirs: Vec<PathBuf>,
}

impl Config {
    /// Returns the sizes, with defaults for those that are 0.
    pub(super) fn limits(&self) -> Limits {
        let or = |given: u32, default: u32| if given == 0 { default } else { given };
        Limits {
            stack: or(self.stack, 128 << 10),
            // WAMR makes no smaller heap, and a larger one hardly leaves space for the guest's own memory.
            heap: or(self.heap, 2 << 20).clamp(4096, 1 << 30),
            memory: or(self.memory, 16 << 20).max(PAGE),
        }
    }

    /// Returns the time limit for one event.
    pub(super) fn budget(&self) -> Duration {
        Duration::from_millis(if self.budget_ms == 0 { 1000 } else { self.budget_ms }.into())
    }
}
