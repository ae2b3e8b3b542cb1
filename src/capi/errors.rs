//! Why the last call failed, in words.

use std::ffi::{CStr, c_char, c_int};

use super::guard::LastError;
use super::types::{eunomia_subject, eunomia_vm};

/// Answer of the text functions where there is no vm to ask.
const NO_VM: &CStr = c"the vm is a null pointer";
/// Answer of the text functions while the kept text belongs to another thread.
const IN_USE: &CStr = c"the vm is in use by another thread";

/// ---- Errors: of the last failed call on a vm ----
///
/// Returns one line for people that names the thing and the value, "" if no call has failed. Borrowed until
/// the next call. Never NULL: for a NULL vm, and while another thread is inside a call, a fixed text. So
/// EUNOMIA_ERR_BUSY because of another thread leaves the kept text as it was.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_errmsg(vm: *const eunomia_vm) -> *const c_char {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { last(vm, |error| error.message.as_ptr()) }.unwrap_or_else(CStr::as_ptr)
}

/// Returns the long text to it, such as the verifier's log, "" if there is none. May be megabytes. Else as
/// eunomia_errmsg.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_errdetail(vm: *const eunomia_vm) -> *const c_char {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { last(vm, |error| error.detail.as_ptr()) }.unwrap_or_else(|_| c"".as_ptr())
}

/// Returns the errno behind it, 0 if there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_errsys(vm: *const eunomia_vm) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { last(vm, |error| error.errno) }.unwrap_or(0)
}

/// Returns what kind of thing it is about, an eunomia_subject, and stores that thing's name in *name: the
/// name of a variable, map or program, or a path; "" if it is about none of these. name may be NULL. *name is
/// borrowed as eunomia_errmsg's text is.
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

/// Reads the last error, or says why it cannot be read now.
unsafe fn last<T>(vm: *const eunomia_vm, read: impl FnOnce(&LastError) -> T) -> Result<T, &'static CStr> {
    // SAFETY: the caller keeps the contract of the header.
    let vm = unsafe { vm.as_ref() }.ok_or(NO_VM)?;
    let _turn = vm.enter().ok_or(IN_USE)?;
    Ok(read(&vm.state().error))
}
