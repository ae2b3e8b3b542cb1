//! The only files of the library that call libbpf. Raw pointers do not leave this directory; errors are returned as `Errno`.
#![allow(unsafe_code, reason = "libbpf is a C library; raw pointers stay inside each file")]

pub mod attach;
pub mod dispatch;
mod library;
pub mod map;
pub mod object;
pub mod perf;
pub mod pin;
pub mod prog_run;
mod result;
pub mod ring;
pub mod section_handlers;
pub mod span;
mod tc;

pub use library::{init, version};
