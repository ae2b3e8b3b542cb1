//! The loader: the process with privileges. It loads and attaches packages and keeps them attached, even while there is no
//! server. It sends the server, which has no privileges, the descriptors for reading their events.
//!
//! It opens no network connection, and only the files that packages and their targets name. It trusts nothing that it receives.

mod budget;
pub(crate) mod channel;
mod client;
pub mod exchange;
mod files;
mod guard;
mod inherited;
mod keeper;
mod metering;
mod pins;
mod plan;
pub mod privileges;
pub mod protocol;
mod running;
mod service;
mod survival;
pub mod wire;

use std::fmt::Display;
use std::io::Write;

pub use client::{Client, Settings, end};
pub use guard::Config;
pub use keeper::keep;
pub use privileges::{confine_fetcher, confine_parser, confine_server};
pub use running::UNCHANGED;
pub use service::serve;

/// Prints a line to stderr and ignores errors: the terminal or pipe may have been closed when the server ended.
fn say(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "loader: {line}");
}
