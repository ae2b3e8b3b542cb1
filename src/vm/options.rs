//! What a vm is made with, and the checks that come before anything is done.

use std::path::PathBuf;

use crate::error::{Error, Result, Status};
use crate::log::{Level, LogFn};
use crate::os::{self, Errno};
use crate::wasm::Config as WasmOptions;

/// Settings of a new vm; the default is the usual choice.
///
/// ```
/// use eunomia::{Level, Options};
///
/// let options = Options {
///     log: Some(Box::new(|level: Level, line: &str| eprintln!("{level:?}: {line}"))),
///     poll_budget: 1000,
///     ..Options::default()
/// };
/// # let _ = options;
/// ```
#[derive(Default)]
pub struct Options {
    /// Receives the log, from any thread that uses the vm; `None`: silence.
    pub log: Option<LogFn>,
    /// Lines above this level are not passed on; `None`: errors and warnings are.
    pub log_level: Option<Level>,
    /// Kernel BTF: a file, which always wins, or a BTFHub-style folder, used where the kernel has none.
    pub btf_path: Option<PathBuf>,
    /// Folder for maps that are pinned by name; `None`: /sys/fs/bpf.
    pub pin_path: Option<PathBuf>,
    /// Pages of each perf buffer per CPU, a power of two; 0: the package's word, else 64.
    pub perf_pages: u32,
    /// Events that one poll delivers at most; 0: 65536.
    pub poll_budget: u32,
    /// A program whose hook (function, tracepoint) is not there is skipped, with a line in the log for each cause, where
    /// programs attach that can do the package's work. For code whose host picks programs by kernel.
    pub skip_missing_hooks: bool,
    /// Leaves libbpf's own handlers in place for the sections fentry, fexit, fmod_ret, fsession, tp_btf and iter. By default the
    /// library replaces them, once per process, because it finds the kernel types of such programs without reading all of them,
    /// which loads faster. Handlers are process-wide: set this for every vm of the process.
    pub libbpf_sections: bool,
    /// Bytes of kernel memory that a package may take, all packages of a WASM guest together: its maps when they are full,
    /// its programs and its types. 0: a quarter of the memory that is available, at most 1 GiB or 16 MiB for each possible
    /// CPU; `u64::MAX`: no limit. Before load it is compared with [`crate::vm::map_bytes`] of all maps.
    pub max_kernel_memory: u64,
    /// What WASM guests may take and see.
    pub wasm: WasmOptions,
}

/// A package file larger than this is none: an object may have 64 MiB, and base64 adds a third.
const MAX_FILE: usize = 128 << 20;

pub fn checked_perf_pages(pages: u32) -> Result<u32> {
    if pages == 0 || pages.is_power_of_two() {
        return Ok(pages);
    }
    Err(Error::new(Status::Inval, format_args!("perf_pages: {pages} is not a power of two")))
}

pub fn read_package(path: &str) -> Result<Vec<u8>> {
    let failed = |e: Errno| {
        let status = match e.0 {
            libc::ENOENT => Status::NotFound,
            libc::EACCES | libc::EPERM => Status::Perm,
            libc::ENOMEM => Status::NoMem,
            _ => Status::System,
        };
        Error::sys(status, e.0, e).about_file(path)
    };
    let data = os::read_file(path, MAX_FILE).map_err(failed)?;
    if data.len() > MAX_FILE {
        let text = format!("too large for a package (at most {MAX_FILE} bytes)");
        return Err(Error::new(Status::Package, text).about_file(path));
    }
    Ok(data)
}
