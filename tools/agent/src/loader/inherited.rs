//! Descriptors that this process has inherited from its parent.

/// Makes all descriptors of this process close-on-exec, except the standard ones. A loader may run for months, and with inherited
/// descriptors it would keep files and pipes of other programs open. Has no effect before Linux 5.11.
pub fn keep_from_children() {
    // SAFETY: it takes no pointer, and closes nothing in this process.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
}
