//! Options of a vm for its guests.

use std::path::PathBuf;
use std::time::Duration;

/// Limits and privileges of the WASM guests of a vm. Each method sets one option; an option that is not set has its default.
///
/// ```
/// use std::time::Duration;
///
/// use eunomia::Options;
/// use eunomia::vm::WasmOptions;
///
/// let wasm = WasmOptions::new().memory(64 << 20).budget(Duration::from_millis(100)).dirs(["/sys/fs/cgroup"]);
/// let options = Options::new().wasm(wasm);
/// # let _ = options;
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Config {
    pub(crate) stack: u32,
    pub(crate) heap: u32,
    pub(crate) memory: u32,
    pub(crate) budget_ms: u32,
    pub(crate) raw_events: bool,
    pub(crate) stdio: bool,
    pub(crate) dirs: Vec<PathBuf>,
}

impl Config {
    /// Returns the defaults.
    pub fn new() -> Config {
        Config::default()
    }

    /// Sets the size of the call stack in bytes. 0, the default: 128 KiB.
    pub fn stack(mut self, bytes: u32) -> Config {
        self.stack = bytes;
        self
    }

    /// Sets the size of the heap that the host manages, in bytes. 0, the default: 2 MiB.
    pub fn heap(mut self, bytes: u32) -> Config {
        self.heap = bytes;
        self
    }

    /// Sets the maximum size of the linear memory in bytes. 0, the default: 16 MiB.
    pub fn memory(mut self, bytes: u32) -> Config {
        self.memory = bytes;
        self
    }

    /// Sets the time limit for one event, rounded up to milliseconds. 0, the default: one second.
    pub fn budget(mut self, time: Duration) -> Config {
        self.budget_ms = u32::try_from(time.as_micros().div_ceil(1000)).unwrap_or(u32::MAX);
        self
    }

    /// Sets whether guests that do not choose a format get events as bytes. Default: `false`, as JSON.
    pub fn raw_events(mut self, raw: bool) -> Config {
        self.raw_events = raw;
        self
    }

    /// Sets whether guests use the host's stdin, stdout and stderr. Default: `false`, their output is delivered as events.
    pub fn stdio(mut self, stdio: bool) -> Config {
        self.stdio = stdio;
        self
    }

    /// Sets the directories that guests can read. Default: none.
    pub fn dirs(mut self, dirs: impl IntoIterator<Item = impl Into<PathBuf>>) -> Config {
        self.dirs = dirs.into_iter().map(Into::into).collect();
        self
    }
}
