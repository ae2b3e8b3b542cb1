//! Two processes that pass text and descriptors over a socket (SCM_RIGHTS).

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// Descriptors of one message; the kernel accepts 253.
const MOST: usize = 32;

/// Sends bytes with their length.
pub fn send(socket: &mut UnixStream, bytes: &[u8]) {
    socket.write_all(&(bytes.len() as u64).to_ne_bytes()).expect("a length is sent");
    socket.write_all(bytes).expect("bytes are sent");
}

/// Receives what `send` has sent.
pub fn receive(socket: &mut UnixStream) -> Vec<u8> {
    let mut len = [0; 8];
    socket.read_exact(&mut len).expect("a length is received");
    let mut bytes = vec![0; u64::from_ne_bytes(len) as usize];
    socket.read_exact(&mut bytes).expect("bytes are received");
    bytes
}

/// Sends descriptors.
pub fn send_fds(socket: &UnixStream, fds: &[BorrowedFd<'_>]) {
    for fds in fds.chunks(MOST) {
        let mut control = [0_u64; 64];
        let bytes = size_of::<i32>() * fds.len();
        // SAFETY: the buffer is 8-aligned and larger than MOST descriptors with their header; all pointers live for the call.
        unsafe {
            let mut byte = libc::iovec { iov_base: (&raw mut control[63]).cast(), iov_len: 1 };
            let mut message: libc::msghdr = std::mem::zeroed();
            (message.msg_iov, message.msg_iovlen) = (&raw mut byte, 1);
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(bytes as u32) as _;
            let header = libc::CMSG_FIRSTHDR(&message);
            ((*header).cmsg_level, (*header).cmsg_type) = (libc::SOL_SOCKET, libc::SCM_RIGHTS);
            (*header).cmsg_len = libc::CMSG_LEN(bytes as u32) as _;
            libc::memcpy(libc::CMSG_DATA(header).cast(), fds.as_ptr().cast(), bytes);
            assert_eq!(libc::sendmsg(socket.as_raw_fd(), &message, 0), 1, "descriptors are sent");
        }
    }
}

/// Receives `count` descriptors.
pub fn receive_fds(socket: &UnixStream, count: usize) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    while fds.len() < count {
        let (mut control, mut data) = ([0_u64; 64], 0_u8);
        // SAFETY: as above; the kernel has made new descriptors, as many as the length of the message says.
        unsafe {
            let mut byte = libc::iovec { iov_base: (&raw mut data).cast(), iov_len: 1 };
            let mut message: libc::msghdr = std::mem::zeroed();
            (message.msg_iov, message.msg_iovlen) = (&raw mut byte, 1);
            (message.msg_control, message.msg_controllen) =
                (control.as_mut_ptr().cast(), size_of_val(&control) as _);
            assert_eq!(
                libc::recvmsg(socket.as_raw_fd(), &mut message, libc::MSG_CMSG_CLOEXEC),
                1,
                "a message"
            );
            let header = libc::CMSG_FIRSTHDR(&message);
            assert!(!header.is_null(), "the message has descriptors");
            let bytes = (*header).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
            let first = libc::CMSG_DATA(header).cast::<i32>();
            let received = (0..bytes / size_of::<i32>()).map(|index| first.add(index).read_unaligned());
            fds.extend(received.map(|fd| OwnedFd::from_raw_fd(fd)));
        }
    }
    fds
}

/// Drops all capabilities permanently, in all threads.
pub fn drop_privileges() {
    const NOBODY: u32 = 65534;
    // SAFETY: numbers only, and no groups.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0, "no new privileges");
        assert_eq!(libc::setgroups(0, std::ptr::null()), 0, "no groups");
        assert_eq!(libc::setresgid(NOBODY, NOBODY, NOBODY), 0, "the group of nobody");
        assert_eq!(libc::setresuid(NOBODY, NOBODY, NOBODY), 0, "the user nobody");
    }
    let status = std::fs::read_to_string("/proc/thread-self/status").expect("the status of this thread");
    for line in ["CapInh", "CapPrm", "CapEff", "CapAmb"].map(|set| format!("{set}:\t0000000000000000\n")) {
        assert!(status.contains(&line), "{line:?} in {status}");
    }
    assert!(status.contains("NoNewPrivs:\t1\n"), "{status}");
}
