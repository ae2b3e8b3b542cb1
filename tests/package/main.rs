//! Packages: the published layouts, what is refused and how, and the command line they describe.

mod args;
mod errors;
mod fixture;
mod layouts;
mod limits;
mod targets;
