//! File descriptors of the library. They are close-on-exec, and never 0, 1 or 2.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::errno::{Result, check};

/// Takes ownership of a descriptor that a call has just returned. If the host has closed 0, 1 or 2, the kernel reuses
/// these numbers; the descriptor is moved then, so that it does not become the host's standard output.
pub(super) fn own(ret: i32) -> Result<OwnedFd> {
    let fd = check(ret)?;
    // SAFETY: the call that returned `fd` has succeeded, and nothing else knows the number.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    if fd.as_raw_fd() > 2 { Ok(fd) } else { duplicate(fd.as_raw_fd()) }
}

/// Duplicates a descriptor; the copy is close-on-exec and above 2.
pub fn duplicate(fd: RawFd) -> Result<OwnedFd> {
    // SAFETY: fcntl gets numbers only; it returns EBADF for an invalid descriptor.
    let copy = check(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) })?;
    // SAFETY: as in `own`.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Opens `count` descriptors and closes them again. Returns EMFILE or ENFILE if the process cannot have that many.
pub fn try_descriptors(count: usize) -> Result<()> {
    // SAFETY: no pointers.
    let first = own(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) })?;
    let more: Result<Vec<OwnedFd>> = (1..count).map(|_| duplicate(first.as_raw_fd())).collect();
    more.map(drop)
}

/// Descriptors that occupy the numbers 0, 1 and 2 until they are dropped.
pub struct LowNumbers(#[allow(dead_code, reason = "held for their drop")] Vec<OwnedFd>);

/// Occupies those of the numbers 0, 1 and 2 that the host has closed. What libbpf opens until the result is dropped does
/// not become the host's standard input, output or error.
pub fn take_low_numbers() -> Result<LowNumbers> {
    let mut taken = Vec::new();
    loop {
        // SAFETY: no pointers; the descriptor is new, and nothing else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(check(libc::eventfd(0, libc::EFD_CLOEXEC))?) };
        if fd.as_raw_fd() > 2 {
            return Ok(LowNumbers(taken));
        }
        taken.push(fd);
    }
}
