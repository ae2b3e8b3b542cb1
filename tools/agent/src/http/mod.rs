//! HTTP/1.1 over unix sockets and TCP, for callers that are not trusted.
//!
//! A connection carries one request. Its head is read and checked here, within a deadline that begins when the
//! connection is accepted; only then does hyper see it. So an idle connection costs little, no second request can be
//! smuggled in the body of the first, and each refusal is an error in the common form.

mod body;
mod connection;
mod head;
mod limits;
mod listener;
mod slots;
mod stream;

pub use body::{Body, read_body};
pub use connection::{Handler, Request, Response, error, json};
pub use head::read as read_head;
pub use limits::Limits;
pub use listener::{Listener, given, local, network, serve};
pub use slots::Slots;
pub use stream::{Peer, Stream};
