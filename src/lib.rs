//! libeunomia runs eBPF programs inside any program: it loads, configures and attaches them, and decodes their events.
//!
//! A package is one JSON file with the compiled BPF object and its metadata; `ecc` builds it from C. A [`Vm`] is a handle to
//! one package. The library needs no compiler and no kernel headers at run time, and starts no thread unless asked to.
//!
//! # Example
//!
//! This host prints the events of a package, one line of JSON each, until the package is stopped:
//!
//! ```no_run
//! use eunomia::{Flow, Format, Kind, Level, Options, Vm};
//!
//! fn main() -> eunomia::Result<()> {
//!     let options = Options::new().log(|level: Level, line: &str| eprintln!("{level:?}: {line}"));
//!     let vm = Vm::new(options)?;
//!     vm.open_file("package.json", Kind::Json)?;
//!     // Global variables of the BPF program are set by name, constants before it is loaded.
//!     vm.var_set_json("min_duration_ns", "1000000")?;
//!     // Loads the programs into the kernel and attaches them to their hooks.
//!     if let Err(error) = vm.attach() {
//!         eprintln!("{error}\n{}", error.detail()); // the detail is the verifier's log
//!         return Err(error);
//!     }
//!     vm.run(Format::Json, |event| {
//!         println!("{}", String::from_utf8_lossy(event.data));
//!         Flow::Continue
//!     })?;
//!     println!("{} events, {} lost", vm.stats().events, vm.stats().lost_kernel);
//!     Ok(())
//! }
//! ```
//!
//! # Events
//!
//! Events are delivered as raw bytes, JSON or text ([`Format`]), in one of four ways:
//!
//! * [`Vm::poll`] and [`Vm::run`] pass borrowed events to a callback, without an allocation.
//! * [`Vm::read`] packs raw records into a buffer of the host.
//! * [`Vm::events`] is an iterator over events that own their data.
//! * `Vm::channel` (cargo feature `channel`) sends them to a channel.
//!
//! For an event loop or an async runtime, [`Vm::epoll_fd`] is a descriptor that is readable when there are events. `Vm`
//! implements `AsFd` and `AsRawFd`; `examples/rust/async.rs` uses it with tokio, and `examples/rust/loop.rs` with poll(2).
//!
//! # Threads
//!
//! A [`Vm`] is `Send` and `Sync`. One thread at a time uses it; another one gets [`Status::Busy`] and does not block.
//! [`Vm::stop`], [`Vm::pause`] and [`Vm::stats`] work from any thread at any time.
//!
//! # Errors
//!
//! Every call that can fail returns [`Error`]: a [`Status`] to decide by, a one-line message, and where known the thing that
//! failed, a hint, a detail and an errno. Its `source` is the [`std::io::Error`] of a failed system call.
//!
//! # Modules
//!
//! [`vm`] has the types of the calls. [`package`] reads and writes packages without a kernel. [`btf`], [`types`] and [`render`]
//! read BTF, describe types and turn records into text; tools use them directly. `capi` is the C interface.
#![deny(unsafe_code)]
// Parts below `wasm` have functions that only it calls.
#![cfg_attr(not(feature = "wasm"), allow(dead_code, unused_imports))]
// The shipped library is compiled for size (tools/build-release.sh). Functions that run once per event ask for speed.
#![cfg_attr(small, feature(optimize_attribute))]

pub mod btf;
#[cfg(feature = "capi")]
#[allow(unsafe_code)] // the boundary to C: raw pointers come in and go out
#[allow(rustdoc::broken_intra_doc_links)] // its text is that of the C header
pub mod capi;
pub mod error;
pub mod package;
pub mod render;
pub mod types;
pub mod vm;

mod bpf;
mod log;
mod memory;
mod number;
mod os;
#[cfg(feature = "wasm")]
mod wasm;
#[cfg(not(feature = "wasm"))]
#[path = "wasm/absent.rs"]
mod wasm;
mod zlib;

/// The library shares these with its tools; hosts do not need them.
#[doc(hidden)]
pub mod internal {
    pub use crate::bpf::constants;

    /// Makes the kernel count the runs of all programs and their time, as long as the descriptor is open.
    pub fn count_runs() -> std::io::Result<std::os::fd::OwnedFd> {
        crate::bpf::count_runs().map_err(|error| std::io::Error::from_raw_os_error(error.0))
    }

    pub use crate::error::without_number;
    pub use crate::os::kernel_version;
}

/// Compiles the Rust host of the README together with the examples of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;

pub use error::{Error, Hint, Result, Status, Subject};
pub use log::Level;
pub use vm::{Event, EventKind, Flow, Format, Kind, Kinds, Options, OwnedEvent, Vm};
