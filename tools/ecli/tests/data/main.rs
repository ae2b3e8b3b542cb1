//! What `ecli run` shows of data: losses, formats, maps, iterators; and where programs attach.

#[path = "../support/mod.rs"]
mod support;

mod attach;
mod lost;
mod maps;
