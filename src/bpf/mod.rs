//! A safe interface to libbpf: objects, links, maps and sources of a package.
//!
//! Callbacks, formats and threads belong to the vm.

mod alternatives;
mod attach;
mod attach_tc;
mod btf_hook;
pub mod constants;
mod diagnose;
mod dispatch;
mod dry_run;
mod elf;
pub mod entries;
mod event_maps;
mod executable;
pub mod exported;
mod kernel_btf;
pub mod map;
mod map_defaults;
pub mod map_memory;
pub mod memory_account;
mod messages;
mod new_link;
pub mod object;
mod object_types;
pub mod packed;
pub mod pins;
pub mod replace;
mod requirements;
mod ring_protocol;
pub mod session;
mod skipped;
pub mod source;
mod sys;

pub use sys::{init, version};

pub use sys::map::MapFd;
pub use sys::object::prog_facts;
pub use sys::prog_run::count_runs;
