//! Messages with descriptors over a stream socket.
//!
//! A message is a header with the length of its body and the number of its descriptors, one byte for each batch of descriptors
//! (one call of sendmsg takes at most 253), and the body.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::protocol::{MAX_DESCRIPTORS, MAX_MESSAGE};

/// Maximum number of descriptors in a batch.
const BATCH: usize = 128;
/// Size of the header in bytes: two numbers of 32 bits.
const HEADER: usize = 8;

/// Sends a message.
pub fn send(socket: &UnixStream, body: &[u8], descriptors: &[BorrowedFd]) -> io::Result<()> {
    if body.len() > MAX_MESSAGE || descriptors.len() > MAX_DESCRIPTORS {
        return Err(io::Error::other("the message is too large"));
    }
    let [len, count] = [body.len(), descriptors.len()].map(|number| (number as u32).to_le_bytes());
    let mut stream = socket;
    stream.write_all(&[len, count].concat())?;
    for batch in descriptors.chunks(BATCH) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(batch));
        rustix::io::retry_on_intr(|| {
            sendmsg(socket, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL)
        })?;
    }
    stream.write_all(body)
}

/// Receives a message; `None` if the other end is closed.
pub fn receive(socket: &UnixStream) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let mut header = [0; HEADER];
    let mut stream = socket;
    match stream.read_exact(&mut header) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        result => result?,
    }
    let number = |at: usize| header[at..at + 4].iter().rev().fold(0, |sum, byte| sum << 8 | *byte as usize);
    let (len, count) = (number(0), number(4));
    if len > MAX_MESSAGE || count > MAX_DESCRIPTORS {
        return Err(io::Error::other("the message is too large"));
    }
    let mut descriptors = Vec::new();
    for _ in 0..count.div_ceil(BATCH) {
        receive_batch(socket, &mut descriptors)?;
    }
    if descriptors.len() != count {
        return Err(io::Error::other("descriptors are missing"));
    }
    let mut body = Vec::new();
    stream.take(len as u64).read_to_end(&mut body)?;
    if body.len() != len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some((body, descriptors)))
}

fn receive_batch(socket: &UnixStream, descriptors: &mut Vec<OwnedFd>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let received = rustix::io::retry_on_intr(|| {
        recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(batch) = message {
            descriptors.extend(batch);
        }
    }
    match received.bytes == 1 && !received.flags.contains(ReturnFlags::CTRUNC) {
        true => Ok(()),
        false => Err(io::Error::other("descriptors are missing; the limit of open files may be too low")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn messages_arrive_whole_with_all_descriptors() {
        let (one, other) = UnixStream::pair().unwrap();
        let body = vec![7; 1 << 20];
        let file = std::fs::File::open("/dev/null").unwrap();
        let descriptors = vec![file.as_fd(); 3 * BATCH + 1];
        std::thread::scope(|scope| {
            scope.spawn(|| {
                send(&one, &body, &descriptors).unwrap();
                send(&one, b"", &[]).unwrap();
            });
            let (received, owned) = receive(&other).unwrap().unwrap();
            assert!(received == body && owned.len() == descriptors.len());
            assert_eq!(receive(&other).unwrap().unwrap().0, b"");
        });
        drop(one);
        assert!(receive(&other).unwrap().is_none());
    }

    #[test]
    fn a_message_that_promises_too_much_is_refused_before_it_is_stored() {
        for header in [[u32::MAX, 0], [0, u32::MAX], [MAX_MESSAGE as u32 + 1, 0], [0, 1], [5, 0]] {
            let (mut one, other) = UnixStream::pair().unwrap();
            one.write_all(&header.map(u32::to_le_bytes).concat()).unwrap();
            one.write_all(b"a").unwrap();
            drop(one);
            assert!(receive(&other).is_err(), "{header:?}");
        }
    }
}
