//! The loader: the process with privileges. It loads and attaches packages, keeps them attached, and hands descriptors for
//! reading their events to the server, which has no privileges.
//!
//! It opens no network connection, and only the files that packages and their targets name. It trusts nothing that it receives.

mod channel;
mod client;
mod privileges;
pub mod protocol;
mod service;

pub use client::{Client, start};
pub use privileges::confine_server;
pub use service::serve;
