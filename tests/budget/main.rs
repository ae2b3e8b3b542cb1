//! Kernel memory: how maps are counted, what is refused, and how a load ends early.
#![allow(missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod fuzz;
mod load;
mod rules;
mod stop;
