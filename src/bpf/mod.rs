//! The safe face of libbpf: objects, links, maps and sources of a package.
//!
//! Knows nothing of callbacks, formats or threads; that is the vm's business.

pub mod account;
mod attach;
mod binary;
pub mod budget;
mod elf;
pub mod entries;
mod export;
mod hook;
pub mod map;
pub mod object;
pub mod probe;
mod rehearsal;
mod room;
pub mod session;
mod skipped;
pub mod source;
mod sys;
mod variant;

pub use sys::{init, version};

pub use sys::map::MapFd;
pub use sys::object::prog_facts;
