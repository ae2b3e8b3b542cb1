//! Descriptors of our own, which are close-on-exec and above the standard three.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::errno::{Result, check};

/// Owns a fresh descriptor. A host may have closed 0 to 2; a descriptor of ours must not become its stdout.
pub(super) fn own(ret: i32) -> Result<OwnedFd> {
    let fd = check(ret)?;
    // SAFETY: the call that made `fd` has just succeeded and nobody else knows the number.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    if fd.as_raw_fd() > 2 { Ok(fd) } else { duplicate(fd.as_raw_fd()) }
}

/// A second, close-on-exec descriptor for the same file, above the standard three.
pub fn duplicate(fd: RawFd) -> Result<OwnedFd> {
    // SAFETY: fcntl takes plain numbers; a bad descriptor is answered with EBADF.
    let copy = check(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) })?;
    // SAFETY: as in `own`.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Opens `count` descriptors and closes them again; EMFILE or ENFILE if the process cannot have as many.
pub fn try_descriptors(count: usize) -> Result<()> {
    // SAFETY: no pointers.
    let first = own(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) })?;
    let more: Result<Vec<OwnedFd>> = (1..count).map(|_| duplicate(first.as_raw_fd())).collect();
    more.map(drop)
}

/// Descriptors that keep the numbers 0 to 2 taken while they live.
pub struct LowNumbers(#[allow(dead_code, reason = "held for their drop")] Vec<OwnedFd>);

/// Takes the standard three numbers as far as the host has closed them: what others (libbpf) open meanwhile must not
/// become its stdin, stdout or stderr.
pub fn take_low_numbers() -> Result<LowNumbers> {
    let mut taken = Vec::new();
    loop {
        // SAFETY: no pointers; the descriptor is new and ours alone.
        let fd = unsafe { OwnedFd::from_raw_fd(check(libc::eventfd(0, libc::EFD_CLOEXEC))?) };
        if fd.as_raw_fd() > 2 {
            return Ok(LowNumbers(taken));
        }
        taken.push(fd);
    }
}
