//! Bad input, bad environments and working programs, on the running kernel. Each failure has its own status and a message that
//! names the cause, and nothing is left in the kernel in any case.
#![allow(missing_docs)]

#[path = "../support/bomb.rs"]
mod bomb;
mod fixture;
#[path = "../support/mod.rs"]
mod support;

mod alternatives;
mod btf;
mod environment;
mod events;
mod kernel;
mod limits;
mod maps;
mod memory;
mod packages;
mod program_types;
mod variables;
