//! Descriptors that this process has got from the one that started it.

/// Makes programs that this process starts get none of its descriptors but the standard ones: a loader may run for months, and
/// would keep files and pipes of others open. Before Linux 5.11, descriptors that are passed on by mistake are passed on further.
pub fn keep_from_children() {
    // SAFETY: it takes no pointer, and closes nothing in this process.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
}
