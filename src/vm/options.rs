//! Options of a new vm, and the checks before anything is created.

use std::fmt;
use std::path::PathBuf;

use crate::error::{Error, Result, Status};
use crate::log::{Level, LogFn};
use crate::wasm::Config as WasmOptions;

/// Options of a new [`Vm`](crate::Vm). Each method sets one option; an option that is not set has its default.
///
/// ```
/// use eunomia::{Level, Options};
///
/// let options = Options::new()
///     .log(|level: Level, line: &str| eprintln!("{level:?}: {line}"))
///     .log_level(Level::Info)
///     .poll_budget(1000);
/// # let _ = options;
/// ```
#[derive(Default)]
#[must_use]
pub struct Options {
    pub(crate) log: Option<LogFn>,
    pub(crate) log_level: Option<Level>,
    pub(crate) btf_path: Option<PathBuf>,
    pub(crate) pin_path: Option<PathBuf>,
    pub(crate) perf_pages: u32,
    pub(crate) poll_budget: u32,
    pub(crate) skip_missing_hooks: bool,
    pub(crate) libbpf_sections: bool,
    pub(crate) replaceable: bool,
    pub(crate) max_kernel_memory: u64,
    pub(crate) wasm: WasmOptions,
}

impl Options {
    /// Returns the defaults.
    pub fn new() -> Options {
        Options::default()
    }

    /// Sets the function that receives log lines, each without its newline. Any thread that uses the vm may call it, also
    /// several at once. It must not use the vm. By default the library logs nothing.
    ///
    /// ```
    /// let options = eunomia::Options::new().log(|level, line| eprintln!("{level:?}: {line}"));
    /// # let _ = options;
    /// ```
    pub fn log(mut self, log: impl Fn(Level, &str) + Send + Sync + 'static) -> Options {
        self.log = Some(Box::new(log));
        self
    }

    /// Sets the least severe level that is logged. Default: [`Level::Warn`].
    pub fn log_level(mut self, level: Level) -> Options {
        self.log_level = Some(level);
        self
    }

    /// Sets where to find the BTF of the kernel. A file takes precedence over the running kernel's own BTF. A directory in
    /// the layout of BTFHub is a fallback for a kernel that has none. Default: the kernel's own BTF, then that of the
    /// package.
    pub fn btf_path(mut self, path: impl Into<PathBuf>) -> Options {
        self.btf_path = Some(path.into());
        self
    }

    /// Sets the directory in which maps are pinned by name. Default: /sys/fs/bpf.
    pub fn pin_path(mut self, path: impl Into<PathBuf>) -> Options {
        self.pin_path = Some(path.into());
        self
    }

    /// Sets the size of each perf buffer, in pages per CPU: a power of two. 0, the default: the size in the package, or 64.
    pub fn perf_pages(mut self, pages: u32) -> Options {
        self.perf_pages = pages;
        self
    }

    /// Sets how many events one poll delivers at most. 0, the default: 65536.
    pub fn poll_budget(mut self, events: u32) -> Options {
        self.poll_budget = events;
        self
    }

    /// Sets whether a program is skipped if its hook (a function or tracepoint) does not exist, provided that another
    /// program of the package can be attached. Each cause is logged. Default: `false`, a missing hook is an error.
    pub fn skip_missing_hooks(mut self, skip: bool) -> Options {
        self.skip_missing_hooks = skip;
        self
    }

    /// Sets whether libbpf's own handlers stay in place for the sections fentry, fexit, fmod_ret, fsession, tp_btf and iter.
    /// Default: `false`, the library replaces them once per process. The library then finds the kernel types of such
    /// programs without reading all types, so the programs load faster. The handlers are process-wide: set this for
    /// every vm of the process.
    pub fn libbpf_sections(mut self, keep: bool) -> Options {
        self.libbpf_sections = keep;
        self
    }

    /// Sets whether each tracing program that supports it is attached through a dispatcher, a small program that calls the
    /// program of the current version. [`Vm::replace`](crate::Vm::replace) can then swap packages of tracing programs,
    /// at a cost of 1 to 3 ns per event. Default: `false`. The kernel counts the runs of the dispatcher;
    /// [`Stats`](crate::vm::Stats) and [`ProgInfo`](crate::vm::ProgInfo) include them.
    pub fn replaceable(mut self, replaceable: bool) -> Options {
        self.replaceable = replaceable;
        self
    }

    /// Sets how many bytes of kernel memory a package may use: its maps when they are full, its programs and its types.
    /// The packages of a WASM guest share the limit. [`load`](crate::Vm::load) compares the limit with the sum of
    /// [`map_bytes`](crate::vm::map_bytes) before it creates a map.
    ///
    /// 0, the default: a quarter of the available memory, and at most 1 GiB or 16 MiB per possible CPU, whichever is
    /// more. `u64::MAX`: no limit.
    pub fn max_kernel_memory(mut self, bytes: u64) -> Options {
        self.max_kernel_memory = bytes;
        self
    }

    /// Sets the limits and privileges of WASM guests.
    pub fn wasm(mut self, wasm: WasmOptions) -> Options {
        self.wasm = wasm;
        self
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("log", &self.log.is_some())
            .field("log_level", &self.log_level)
            .field("btf_path", &self.btf_path)
            .field("pin_path", &self.pin_path)
            .field("perf_pages", &self.perf_pages)
            .field("poll_budget", &self.poll_budget)
            .field("skip_missing_hooks", &self.skip_missing_hooks)
            .field("libbpf_sections", &self.libbpf_sections)
            .field("replaceable", &self.replaceable)
            .field("max_kernel_memory", &self.max_kernel_memory)
            .field("wasm", &self.wasm)
            .finish()
    }
}

/// Returns `pages` if it is 0 or a power of two.
pub(super) fn checked_perf_pages(pages: u32) -> Result<u32> {
    if pages == 0 || pages.is_power_of_two() {
        return Ok(pages);
    }
    Err(Error::new(Status::Inval, format_args!("perf_pages: {pages} is not a power of two")))
}
