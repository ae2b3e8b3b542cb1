//! Messages of the last failed call.

use std::ffi::{CStr, c_char, c_int};

use super::handle::{Handle, LastError, eunomia_vm};
use super::types::eunomia_subject;

/// Message without a vm.
const NO_VM: &CStr = c"vm is null";
/// Message while the stored one belongs to another thread.
const IN_USE: &CStr = c"the vm is in use by another thread";

/// ---- Errors: the last failed call on a vm ----
///
/// Returns a one-line human-readable message that names the object and the offending value.
///
///   vm  may be NULL
///
/// Returns: the message, valid until the next call on the vm. It is never NULL. If no call has
/// failed, it is "". If vm is NULL or another thread is inside a call, it is a fixed string. A call
/// that fails because of another thread (EUNOMIA_ERR_BUSY) does not change the message. If the last
/// failed call of this thread was eunomia_replace, eunomia_prepare, eunomia_flip, eunomia_abort,
/// eunomia_commit, eunomia_rollback or eunomia_adopt, this thread gets the message of that call, even
/// while another thread is inside a call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_errmsg(vm: *const eunomia_vm) -> *const c_char {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { last(vm, |error| error.message.as_ptr()) }.unwrap_or_else(CStr::as_ptr)
}

/// Returns the long message of the last failed call, such as the verifier's log. It can be megabytes
/// long.
///
///   vm  may be NULL
///
/// Returns: the message, valid until the next call on the vm; "" if there is none. It is never NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_errdetail(vm: *const eunomia_vm) -> *const c_char {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { last(vm, |error| error.detail.as_ptr()) }.unwrap_or_else(|_| c"".as_ptr())
}

/// Returns the errno of the last failed call; 0 if it has none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_errsys(vm: *const eunomia_vm) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { last(vm, |error| error.errno) }.unwrap_or(0)
}

/// Returns what the last failed call was about.
///
///   name  receives the name of the variable, map or program, or the path, valid until the next call
///         on the vm; "" if there is none; may be NULL
///
/// Returns: an eunomia_subject.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_errsubject(vm: *const eunomia_vm, name: *mut *const c_char) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    let found = unsafe { last(vm, |error| (error.kind as c_int, error.subject.as_ptr())) };
    let (kind, text) = found.unwrap_or((eunomia_subject::EUNOMIA_SUBJECT_NONE as c_int, c"".as_ptr()));
    // SAFETY: as above: null or writable.
    if let Some(name) = unsafe { name.as_mut() } {
        *name = text;
    }
    kind
}

/// Reads the last error, or returns the message that replaces it.
unsafe fn last<T>(vm: *const eunomia_vm, read: impl Fn(&LastError) -> T) -> Result<T, &'static CStr> {
    // SAFETY: the caller keeps the contract of the header.
    let vm = unsafe { vm.as_ref() }.ok_or(NO_VM)?;
    if let Some(own) = vm.entrance().read_aside(&read) {
        return Ok(own);
    }
    let _turn = vm.entrance().enter().ok_or(IN_USE)?;
    Ok(read(&vm.entrance().state().error))
}
