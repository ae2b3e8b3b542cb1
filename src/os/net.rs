//! Network interfaces.

use std::ffi::CStr;

use super::errno::{Errno, Result};

/// Returns the index of a network interface.
pub fn interface_index(name: &str) -> Result<u32> {
    let name = std::ffi::CString::new(name)?;
    // SAFETY: `name` is NUL-terminated.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(Errno::last()),
        index => Ok(index),
    }
}

/// Returns the name of the network interface with that index; ENXIO or ENODEV if there is none.
pub fn interface_name(index: u32) -> Result<String> {
    let mut name = [0; libc::IF_NAMESIZE];
    // SAFETY: `name` has the length that the call requires.
    let found = unsafe { libc::if_indextoname(index, name.as_mut_ptr()) };
    if found.is_null() {
        return Err(Errno::last());
    }
    // SAFETY: the call has written a NUL-terminated name.
    Ok(unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned())
}
