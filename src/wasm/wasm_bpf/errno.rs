//! Results of wasm-bpf's functions: a number, or a negative errno.

use crate::error::{Error, Status};
use crate::wasm::state::State;

/// A result for the guest: a number, or a positive errno.
pub type Result<T = i32> = std::result::Result<T, i32>;

/// Returns a result to the guest.
pub fn to_guest(result: Result) -> Option<u64> {
    Some(result.unwrap_or_else(|errno| -errno) as u32 as u64)
}

/// Logs an error and returns the errno for the guest.
pub fn log_errno(state: &State<'_>, error: Error) -> i32 {
    state.reject(&error);
    error.errno().unwrap_or(match error.status() {
        Status::NotFound => libc::ENOENT,
        Status::NoMem => libc::ENOMEM,
        Status::Perm => libc::EPERM,
        Status::Busy => libc::EBUSY,
        _ => libc::EINVAL,
    })
}
