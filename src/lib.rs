//! libeunomia: load, configure, attach, decode and let go of eBPF programs from any host program.
//!
//! A [`Vm`] holds at most one package: JSON with the compiled object and what is to be known about it. Bytes become
//! a [`package::Package`]; libbpf makes maps, programs and links of it (`bpf`); records come back through sources,
//! are rendered by plans compiled once from BTF ([`btf`], [`types`], [`render`]), and reach a callback. One direction, no back and forth:
//! parsing knows nothing of the kernel, decoding nothing of where a record came from.
//!
//! A host in Rust needs [`Vm`], [`Options`], [`Event`] and [`Error`]; `examples/rust` has five of them. The C interface
//! is `capi` and follows the same words.
#![deny(unsafe_code)]
// Parts below `wasm` have functions that only it calls.
#![cfg_attr(not(feature = "wasm"), allow(dead_code))]
// The shipped library is compiled for size (tools/build-release.sh). What each event goes through asks for speed there.
#![cfg_attr(small, feature(optimize_attribute))]

pub mod btf;
#[cfg(feature = "capi")]
#[allow(unsafe_code)] // the border to C: raw pointers come in and go out
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

/// What the library shares with its tools and hosts do not need.
#[doc(hidden)]
pub mod internal {
    pub use crate::bpf::constants;
    pub use crate::error::without_number;
    pub use crate::os::{kernel_version, poll_timeout};
}

/// The README's host in Rust is compiled with the examples of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;

pub use error::{Error, Failure, Hint, Result, Status, Subject};
pub use log::{Level, LogFn};
pub use vm::{Event, EventKind, Flow, Format, Kind, Options, OwnedEvent, Vm};
