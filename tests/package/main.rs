//! Packages: the published layouts, what is refused and how, and the command line they describe.

mod args;
mod errors;
mod fixture;
mod formats;
mod layouts;
mod limits;
mod targets;
