//! Packages: the published layouts, how malformed ones are refused, and the command line that they describe.

mod args;
#[path = "../support/bomb.rs"]
mod bomb;
mod errors;
mod fixture;
mod formats;
mod layouts;
mod limits;
mod machines;
mod targets;
