//! The server's end: starts the loader and sends it requests, one at a time.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::{Mutex, PoisonError};

use eunomia::vm::Exported;
use http::StatusCode;

use super::channel;
use super::protocol::{Reply, Request};
use crate::error::{ApiError, Result};

/// Sends requests to the loader. Calls block.
pub struct Client {
    socket: Mutex<UnixStream>,
}

/// Starts `command` as the loader: a process that calls [`serve`](super::serve) with its standard input. It is in a process
/// group of its own, so that Ctrl-C ends the server first.
pub fn start(mut command: Command) -> io::Result<(Client, Child)> {
    let (own, other) = UnixStream::pair()?;
    let child = command.stdin(OwnedFd::from(other)).process_group(0).spawn()?;
    Ok((Client { socket: Mutex::new(own) }, child))
}

impl Client {
    /// Sends a request that loads or prepares a package, and returns the descriptors for reading its events.
    pub fn load(&self, request: &Request) -> Result<Exported> {
        match self.call(request)? {
            (Reply::Loaded { description }, descriptors) => {
                Exported::from_parts(&description, descriptors).map_err(|e| broken(&e))
            }
            _ => Err(broken(&"an unexpected reply")),
        }
    }

    /// Sends a request that has no result.
    pub fn run(&self, request: &Request) -> Result<()> {
        match self.call(request)? {
            (Reply::Done, _) => Ok(()),
            _ => Err(broken(&"an unexpected reply")),
        }
    }

    /// Sends a request for a text.
    pub fn text(&self, request: &Request) -> Result<String> {
        match self.call(request)? {
            (Reply::Text(text), _) => Ok(text),
            _ => Err(broken(&"an unexpected reply")),
        }
    }

    fn call(&self, request: &Request) -> Result<(Reply, Vec<OwnedFd>)> {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = channel::send(&socket, &request.encode(), &[]);
        let received = sent.and_then(|()| channel::receive(&socket)).and_then(|received| {
            let (message, descriptors) = received.ok_or(io::ErrorKind::UnexpectedEof)?;
            let reply = Reply::decode(&message).ok_or(io::ErrorKind::InvalidData)?;
            Ok((reply, descriptors))
        });
        match received {
            Ok((Reply::Failed(failure), _)) => Err(failure.into()),
            Ok(reply) => Ok(reply),
            Err(error) => {
                // What follows on the socket has no known meaning. The loader notices, and the server notices that it has ended.
                let _ = socket.shutdown(std::net::Shutdown::Both);
                Err(broken(&error))
            }
        }
    }
}

fn broken(error: &dyn std::fmt::Display) -> ApiError {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", format_args!("the loader failed: {error}"))
}
