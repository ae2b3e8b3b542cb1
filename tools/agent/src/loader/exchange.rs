//! Requests and replies over a socket, in the messages of [`protocol`](super::protocol).

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use eunomia::Status;

use super::channel;
use super::protocol::{Failure, MAX_DESCRIPTORS, MAX_MESSAGE, Reply, Request};

/// Sends a request and waits for its reply.
pub fn request(
    socket: &UnixStream,
    request: &Request,
    descriptors: &[BorrowedFd],
) -> io::Result<(Reply, Vec<OwnedFd>)> {
    channel::send(socket, &request.encode(), descriptors)?;
    let (message, descriptors) = channel::receive(socket)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok((Reply::decode(&message).ok_or(io::ErrorKind::InvalidData)?, descriptors))
}

/// Receives a request; `None` if the other end is closed.
pub fn receive(socket: &UnixStream) -> io::Result<Option<(Request, Vec<OwnedFd>)>> {
    let Some((message, descriptors)) = channel::receive(socket)? else { return Ok(None) };
    let malformed = || io::Error::other("a malformed request was sent");
    Ok(Some((Request::decode(&message).ok_or_else(malformed)?, descriptors)))
}

/// Sends a reply, or an error if it is too large.
pub fn reply(socket: &UnixStream, reply: &Reply, descriptors: &[BorrowedFd]) -> io::Result<()> {
    let body = reply.encode();
    if body.len() <= MAX_MESSAGE && descriptors.len() <= MAX_DESCRIPTORS {
        return channel::send(socket, &body, descriptors);
    }
    let text = format!(
        "the reply has {} bytes and {} descriptors, more than {MAX_MESSAGE} or {MAX_DESCRIPTORS}",
        body.len(),
        descriptors.len()
    );
    channel::send(socket, &Reply::Failed(Failure::new(Status::Unsupported, text)).encode(), &[])
}

/// Whether the other end has closed the connection.
pub fn is_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_reply_that_is_too_large_is_replaced_by_an_error() {
        let (one, other) = UnixStream::pair().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        let many = vec![file.as_fd(); MAX_DESCRIPTORS + 1];
        for (text, descriptors, found) in [
            ("x".repeat(MAX_MESSAGE), &many[..0], "33554448 bytes and 0 descriptors"),
            (String::new(), &many, "16 bytes and 4097 descriptors"),
        ] {
            reply(&one, &Reply::Text(text), descriptors).unwrap();
            let (message, _) = channel::receive(&other).unwrap().unwrap();
            let Some(Reply::Failed(failure)) = Reply::decode(&message) else { panic!("no failure") };
            assert_eq!(failure.message, format!("the reply has {found}, more than 33554432 or 4096"));
        }
    }
}
