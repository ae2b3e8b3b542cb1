//! The agent: a server that runs packages for others.
//!
//! [`http`] accepts connections and checks requests before anything else reads them. It has no command line; `ecli server`
//! has.

pub mod error;
pub mod http;
