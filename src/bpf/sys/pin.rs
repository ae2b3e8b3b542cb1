//! Names of maps, programs and links in a BPF file system, which keep them in the kernel without a process.

use std::ffi::CStr;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use libbpf_sys as b;

use super::result::check;
use crate::os::{self, Errno};

/// Gives a map, program or link a name. Fails with EINVAL if the descriptor is of something else.
pub fn pin(fd: RawFd, path: &CStr) -> os::Result<()> {
    // SAFETY: the path is a C string, and the kernel checks the descriptor.
    check(unsafe { b::bpf_obj_pin(fd, path.as_ptr()) }).map(drop)
}

/// Opens what has that name.
pub fn open_pin(path: &CStr) -> os::Result<OwnedFd> {
    // SAFETY: the path is a C string; the descriptor is new, and nothing else knows it.
    unsafe { check(b::bpf_obj_get(path.as_ptr())).map(|fd| OwnedFd::from_raw_fd(fd)) }
}

/// Returns the id of the program that a link runs. Fails with EINVAL if the descriptor is not of a link.
pub fn program_of(link: RawFd) -> os::Result<u32> {
    let mut info = b::bpf_link_info::default();
    let mut size = size_of_val(&info) as u32;
    // SAFETY: `info` has `size` bytes; the kernel fills what it knows.
    check(unsafe { b::bpf_link_get_info_by_fd(link, &mut info, &mut size) })?;
    Ok(info.prog_id)
}

/// Returns the number in an element of an array; `None` if it is empty. For a program array it is the id of the program.
pub fn number_at(map: RawFd, index: u32) -> os::Result<Option<u32>> {
    let (key, mut value) = ((&raw const index).cast(), 0_u32);
    // SAFETY: keys and values of the maps of a dispatcher have four bytes; the kernel copies at most the value of the map, which
    // the caller has checked.
    match check(unsafe { b::bpf_map_lookup_elem(map, key, (&raw mut value).cast()) }) {
        Ok(_) => Ok(Some(value)),
        Err(Errno(libc::ENOENT)) => Ok(None),
        Err(e) => Err(e),
    }
}
