//! How every function of the C interface enters the vm: null check, one thread at a time, poisoning, panics, errors.

use std::ffi::c_int;

use super::handle::eunomia_vm;
use super::panic;
use super::types::eunomia_status;
use crate::error::{Error, Result, Status};
use crate::vm::Kind;

/// Runs `call` if no other thread is inside the vm, and returns its result as a status.
///
/// # Safety
/// `vm` is null or lives until the return.
pub(super) unsafe fn guard<R: ReturnCode>(
    vm: *const eunomia_vm,
    call: impl FnOnce(&eunomia_vm) -> Result<R>,
) -> c_int {
    // SAFETY: as required above.
    unsafe { guarded(vm, &mut once(call)) }
}

/// The body of `guard`, compiled once instead of once per function.
///
/// # Safety
/// As for [`guard`].
unsafe fn guarded(vm: *const eunomia_vm, call: &mut Call<'_>) -> c_int {
    // SAFETY: as required above.
    let Some(vm) = (unsafe { vm.as_ref() }) else { return Status::Inval as c_int };
    let Some(_turn) = vm.enter() else { return Status::Busy as c_int };
    if vm.is_poisoned() {
        return Status::Internal as c_int;
    }
    finish(vm, panic::catch(|| call(vm)))
}

/// The work of one C function, with its result as C gets it.
type Call<'a> = dyn FnMut(&eunomia_vm) -> Result<c_int> + 'a;

/// Makes a closure that is called once callable through a reference.
fn once<R: ReturnCode>(
    call: impl FnOnce(&eunomia_vm) -> Result<R>,
) -> impl FnMut(&eunomia_vm) -> Result<c_int> {
    let mut call = Some(call);
    move |vm| call.take().map_or(Ok(0), |call| call(vm).map(ReturnCode::code))
}

/// Turns the end of a call into its status. A vm that was poisoned in a callback keeps the first error.
fn finish(vm: &eunomia_vm, end: std::result::Result<Result<c_int>, String>) -> c_int {
    match end {
        Ok(Ok(code)) => code,
        Ok(Err(_)) if vm.is_poisoned() => Status::Internal as c_int,
        Ok(Err(error)) => vm.store_error(error) as c_int,
        Err(panic) => vm.store_error(Error::new(vm.poison(&panic), panic)) as c_int,
    }
}

/// Runs `call` for any thread at any time. It takes no turn and so does not touch the stored error, which
/// another thread may be reading.
///
/// # Safety
/// `vm` is null or lives until the return.
pub(super) unsafe fn any_thread<R: ReturnCode>(
    vm: *const eunomia_vm,
    call: impl FnOnce(&eunomia_vm) -> Result<R>,
) -> c_int {
    // SAFETY: as required above.
    unsafe { unguarded(vm, &mut once(call)) }
}

/// The body of `any_thread`.
///
/// # Safety
/// As for [`guard`].
unsafe fn unguarded(vm: *const eunomia_vm, call: &mut Call<'_>) -> c_int {
    // SAFETY: as required above.
    let Some(vm) = (unsafe { vm.as_ref() }) else { return Status::Inval as c_int };
    match panic::catch(|| call(vm)) {
        Ok(Ok(code)) => code,
        Ok(Err(error)) => error.status() as c_int,
        Err(panic) => vm.poison(&panic) as c_int,
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
