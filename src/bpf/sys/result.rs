//! Converts results of libbpf to `Result`.

use std::ffi::c_int;

use crate::os::{self, Errno};

/// Converts a number. A negative number is minus errno.
pub(super) fn check(ret: c_int) -> os::Result<c_int> {
    if ret < 0 { Err(Errno(-ret)) } else { Ok(ret) }
}

/// Converts a pointer. Null means failure, and errno is set.
pub(super) fn non_null<T>(pointer: *mut T) -> os::Result<std::ptr::NonNull<T>> {
    std::ptr::NonNull::new(pointer).ok_or_else(Errno::last)
}
