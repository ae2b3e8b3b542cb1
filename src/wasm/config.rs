//! Options of a vm for its guests.

use std::path::PathBuf;

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
