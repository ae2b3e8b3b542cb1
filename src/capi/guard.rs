//! The entry of every function of the C interface into a vm or group: null check, one thread at a time, poisoning,
//! panics, errors.

use std::ffi::c_int;
use std::sync::atomic::Ordering::Relaxed;

use super::handle::Handle;
use super::panic;
use super::status::eunomia_status;
use crate::error::{Error, Result, Status};
use crate::vm::Kind;

/// Runs `call` if no other thread is inside the vm or group, and returns its result as a status.
///
/// # Safety
/// `handle` is null or lives until the return.
pub(super) unsafe fn guard<H: Handle, R: ReturnCode>(
    handle: *const H,
    call: impl FnOnce(&H) -> Result<R>,
) -> c_int {
    // SAFETY: as required above.
    unsafe { guarded(handle, &mut once(call)) }
}

/// The body of `guard`, compiled once per type of handle instead of once per function.
///
/// # Safety
/// As for [`guard`].
unsafe fn guarded<H: Handle>(handle: *const H, call: &mut Call<'_, H>) -> c_int {
    // SAFETY: as required above.
    let Some(handle) = (unsafe { handle.as_ref() }) else { return Status::Inval as c_int };
    let entrance = handle.entrance();
    let Some(_turn) = entrance.enter() else { return Status::Busy as c_int };
    if entrance.is_poisoned() {
        return Status::Internal as c_int;
    }
    finish(handle, panic::catch(|| call(handle)))
}

/// The work of one C function, with its result as C gets it.
type Call<'a, H> = dyn FnMut(&H) -> Result<c_int> + 'a;

/// Wraps a closure that is called only once, so that it can be called through a reference.
fn once<H, R: ReturnCode>(call: impl FnOnce(&H) -> Result<R>) -> impl FnMut(&H) -> Result<c_int> {
    let mut call = Some(call);
    move |handle| call.take().map_or(Ok(0), |call| call(handle).map(ReturnCode::code))
}

/// Converts the result or the panic of a call to a status. A vm that was poisoned in a callback keeps the first error.
fn finish<H: Handle>(handle: &H, end: std::result::Result<Result<c_int>, String>) -> c_int {
    let entrance = handle.entrance();
    match end {
        Ok(Ok(code)) => code,
        Ok(Err(_)) if entrance.is_poisoned() => Status::Internal as c_int,
        Ok(Err(error)) => entrance.store_error(error) as c_int,
        Err(panic) => entrance.store_error(Error::new(poison(handle, &panic), panic)) as c_int,
    }
}

/// Marks the handle as unusable after a panic and logs the panic.
fn poison<H: Handle>(handle: &H, panic: &str) -> Status {
    handle.entrance().poisoned().store(true, Relaxed);
    handle.log_panic(panic);
    Status::Internal
}

/// Runs `call` for any thread at any time. The call takes no turn, so it does not touch the stored error, which another
/// thread may be reading.
///
/// # Safety
/// `handle` is null or lives until the return.
pub(super) unsafe fn any_thread<H: Handle, R: ReturnCode>(
    handle: *const H,
    call: impl FnOnce(&H) -> Result<R>,
) -> c_int {
    // SAFETY: as required above.
    unsafe { unguarded(handle, &mut once(call)) }
}

/// The body of `any_thread`.
///
/// # Safety
/// As for [`guard`].
unsafe fn unguarded<H: Handle>(handle: *const H, call: &mut Call<'_, H>) -> c_int {
    // SAFETY: as required above.
    let Some(handle) = (unsafe { handle.as_ref() }) else { return Status::Inval as c_int };
    match panic::catch(|| call(handle)) {
        Ok(Ok(code)) => code,
        Ok(Err(error)) => error.status() as c_int,
        Err(panic) => poison(handle, &panic) as c_int,
    }
}

/// A result that C gets as a number >= 0.
pub(super) trait ReturnCode {
    fn code(self) -> c_int;
}

impl ReturnCode for () {
    fn code(self) -> c_int {
        eunomia_status::EUNOMIA_OK as c_int
    }
}

impl ReturnCode for usize {
    fn code(self) -> c_int {
        c_int::try_from(self).unwrap_or(c_int::MAX)
    }
}

impl ReturnCode for bool {
    fn code(self) -> c_int {
        c_int::from(self)
    }
}

impl ReturnCode for Kind {
    fn code(self) -> c_int {
        self as c_int
    }
}
