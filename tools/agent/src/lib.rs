//! The agent: a server that runs packages for others.
//!
//! Two processes do it. The [`loader`] has the privileges that loading needs, and no network. The [`server`] has
//! no privileges: it answers requests, and reads events through descriptors that the loader sends it.
//!
//! [`http`] accepts connections and checks requests before anything else reads them, [`auth`] decides who the caller is,
//! [`router`] what a request is, and [`api`] answers it with the [`tasks`]. [`client`] sends requests. There is no command line
//! here; `ecli server` and `ecli client` have it.

/// Prints a line to stderr. It is not an error if nobody reads it.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}

pub mod api;
pub mod audit;
pub mod auth;
pub mod client;
pub mod error;
pub mod http;
pub mod loader;
pub mod log;
pub mod parser;
pub mod policy;
pub mod router;
pub mod server;
pub mod spec;
pub mod state;
pub mod tasks;
pub mod tls;

mod entry;
mod filter;
mod manager;
mod messages;
mod poller;
mod shape;
mod task;
