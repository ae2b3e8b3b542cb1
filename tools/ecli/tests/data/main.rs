//! The data that `ecli run` shows (losses, formats, maps, iterators), and the targets of programs.

#[path = "../support/mod.rs"]
mod support;

mod attach;
mod lost;
mod maps;
