//! WASM guests on the running kernel: both interfaces, limits, and hostile guests.
#![allow(missing_docs)]

mod fixture;
#[path = "../support/mod.rs"]
mod support;

mod budget;
mod events;
mod fuzz;
mod hostile;
mod libc;
mod limits;
mod objects;
mod replace;
mod script;
mod wasi;
