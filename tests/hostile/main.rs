//! Bad input, bad environments and everything that works, on the running kernel: each failure has its own status and
//! a message that names the thing, and whatever happens, nothing is left in the kernel.
#![allow(missing_docs)]

#[path = "../support/bomb.rs"]
mod bomb;
mod fixture;
#[path = "../support/mod.rs"]
mod support;

mod btf;
mod environment;
mod events;
mod forms;
mod kernel;
mod limits;
mod maps;
mod memory;
mod packages;
mod variables;
mod variants;
