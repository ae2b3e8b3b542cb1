//! What functions of libbpf return.

use std::ffi::c_int;

use crate::os::{self, Errno};

/// A libbpf result: negative is minus errno.
pub(super) fn check(ret: c_int) -> os::Result<c_int> {
    if ret < 0 { Err(Errno(-ret)) } else { Ok(ret) }
}

/// A libbpf pointer: null means that errno is set.
pub(super) fn non_null<T>(pointer: *mut T) -> os::Result<std::ptr::NonNull<T>> {
    std::ptr::NonNull::new(pointer).ok_or_else(Errno::last)
}
