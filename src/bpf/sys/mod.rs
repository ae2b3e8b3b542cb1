//! The only files that name libbpf. Raw pointers stay inside; errors leave as `Errno` with the errno.
#![allow(unsafe_code, reason = "libbpf is C; each file keeps its pointers to itself")]

pub mod attach;
mod library;
pub mod map;
pub mod object;
mod result;
pub mod ring;
pub mod section_handlers;
mod tc;

pub use library::{init, version};
