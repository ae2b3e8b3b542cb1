//! The agent: a server that runs packages for others.
//!
//! It consists of two processes. The [`loader`] has the privileges that loading needs, and no network access. The
//! [`server`] has no privileges: it handles requests, and reads events through descriptors that the loader sends it.
//!
//! [`http`] accepts connections and checks requests before other code reads them. [`auth`] determines the role of the
//! caller, [`router`] finds the function for a request, and [`api`] contains these functions, which work on the [`tasks`].
//! [`client`] sends requests. The command lines of `ecli server` and `ecli client` are in `tools/ecli`.

/// Prints a line to stderr. It is not an error if nobody reads it.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}

pub mod api;
pub mod archive;
pub mod audit;
pub mod auth;
pub mod client;
pub mod error;
pub mod fetcher;
pub mod http;
pub mod limits;
pub mod loader;
pub mod log;
pub mod manager;
pub mod parser;
pub mod policy;
pub mod processes;
pub mod router;
pub mod server;
pub mod sink;
pub mod spec;
pub mod state;
pub mod tasks;
pub mod tls;

mod entry;
mod filter;
mod journal;
mod messages;
mod poller;
mod restart;
mod shape;
mod sinks;
mod task;
