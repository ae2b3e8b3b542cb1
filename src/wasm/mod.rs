//! WASM packages: a module carries BPF programs and the code that configures them and processes their events.
//!
//! A guest can call the functions listed in `imports.rs` and nothing else. Every pointer, length, handle and string that
//! it passes is checked before it is used. Every run ends: because the guest returns or traps, because one event takes
//! longer than its time limit, or because the host calls `stop`. Nothing here knows the host's callbacks: events and
//! output go to an [`Outlet`].
//!
//! Imports have one direction. `run.rs` drives a run and knows the interfaces; the interfaces that guests import
//! (`ewasm`, `wasm_bpf`, `wasi`, `libc`) know `state.rs`; the state knows only their tables of what a guest has open.

mod call;
mod config;
mod ewasm;
mod imports;
mod libc;
mod limits;
mod line;
mod module;
mod outcome;
mod outlet;
mod rewrite;
mod run;
mod state;
mod sys;
mod wasi;
mod wasm_bpf;
mod watchdog;

pub use config::Config;
pub use module::Module;
pub use outlet::{Outlet, Vm, Wake};
pub use run::run;
pub use sys::runtime::version;
