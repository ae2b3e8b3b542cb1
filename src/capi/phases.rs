//! A replace in phases: prepare, flip, and commit or roll back.

use std::ffi::{c_int, c_void};
use std::mem;
use std::sync::PoisonError;

use super::args;
use super::guard::any_thread;
use super::handle::eunomia_vm;
use super::replace::{keep, read_options, told};
use super::types::eunomia_replace_options;
use crate::error::{Error, Result, Status};
use crate::vm::{Prepared, Replaced};

/// ---- Replacing in phases: any thread, any time ----
///
/// These functions are the steps of eunomia_replace. They are for hosts that switch several things at the
/// same moment, or that want to be able to return to the old version. Like eunomia_replace they do not take the turn of eunomia_poll, and they store
/// their failures in the same way.
///
///   prepare, flip                           is eunomia_replace
///   prepare, abort                          changes nothing
///   prepare with KEEP_OLD, flip, commit     ends the old version later
///   prepare with KEEP_OLD, flip, rollback   returns to the old version
///
/// Does everything of eunomia_replace that can fail or takes long: opens, compares and loads the new
/// version, and attaches it to added hooks, where it does not run yet. The running version goes on.
///
///   data     the new package (JSON), copied
///   len      bytes of data
///   options  NULL for the defaults
///
/// The vm keeps the prepared version until eunomia_flip, eunomia_abort or eunomia_destroy. Meanwhile
/// eunomia_replace, eunomia_commit and eunomia_rollback return EUNOMIA_ERR_BUSY. What the host sets after
/// this call does not reach the prepared version. eunomia_replace_report returns what will happen to
/// programs and maps. If the package equals the running one, it says so, and eunomia_flip does nothing.
///
/// Returns: as eunomia_replace.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_prepare(
    vm: *mut eunomia_vm,
    data: *const c_void,
    len: usize,
    options: *const eunomia_replace_options,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe {
        any_thread(vm, |vm| {
            let options = read_options(options);
            let prepared =
                options.and_then(|options| vm.vm.prepare(args::bytes(data, len, "data")?, options));
            keep(vm, prepared.map(|prepared| hold(vm, prepared)))
        })
    }
}

/// Switches to the prepared version, waits for programs of the old one and closes that, unless
/// EUNOMIA_REPLACE_KEEP_OLD was given. Events that the old version has sent are delivered by later calls.
/// eunomia_replace_report has the times.
///
/// After a failure the old version runs as before, and the prepared one has been given up.
///
/// Returns: EUNOMIA_OK or
///   EUNOMIA_ERR_STATE   no version is prepared, or the package has been detached
///   EUNOMIA_ERR_BUSY    called in a callback of the vm
///   EUNOMIA_ERR_ATTACH  the kernel refuses a program
///   EUNOMIA_ERR_SYSTEM  no file descriptor or memory is left
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_flip(vm: *mut eunomia_vm) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe {
        any_thread(vm, |vm| {
            let flipped = take(vm).and_then(Prepared::flip);
            keep(vm, flipped)
        })
    }
}

/// Gives the prepared version up. The running version has not noticed it.
///
/// Returns: EUNOMIA_OK or
///   EUNOMIA_ERR_STATE  no version is prepared
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_abort(vm: *mut eunomia_vm) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { any_thread(vm, |vm| told(vm, take(vm).map(drop))) }
}

/// Ends the old version that EUNOMIA_REPLACE_KEEP_OLD has kept. Events that it has sent are still
/// delivered. eunomia_detach does the same.
///
/// Returns: EUNOMIA_OK or
///   EUNOMIA_ERR_STATE  no old version is kept
///   EUNOMIA_ERR_BUSY   called in a callback of the vm, during a replace, or while a version is prepared
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_commit(vm: *mut eunomia_vm) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { any_thread(vm, |vm| told(vm, vm.vm.commit())) }
}

/// Returns to the old version that is kept, without loading anything. The programs of the newer version
/// stop, and it is closed. Maps that both use keep their content; other maps of the old version have the
/// content that they had at the replace.
///
/// After a failure the newer version runs, and the old one is still kept.
///
/// Returns: as eunomia_commit or
///   EUNOMIA_ERR_STATE   also if the package has been detached
///   EUNOMIA_ERR_ATTACH  the kernel refuses a program
///   EUNOMIA_ERR_SYSTEM  no file descriptor or memory is left
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_rollback(vm: *mut eunomia_vm) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { any_thread(vm, |vm| keep(vm, vm.vm.rollback())) }
}

/// Returns whether every event of older versions has been delivered and none can follow.
///
/// Returns: 1 if it is so (also if nothing was ever replaced), 0 if not, or
///   EUNOMIA_ERR_BUSY  called in a callback of the vm
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_drained(vm: *mut eunomia_vm) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { any_thread(vm, |vm| vm.vm.drained()) }
}

/// Keeps the version until it is taken, and returns its report. No other one can be there, because a prepared version has the
/// turn of all replaces.
fn hold(vm: &eunomia_vm, prepared: Prepared<'_>) -> Replaced {
    let report = prepared.report().clone();
    // SAFETY: the version refers to `vm.vm`, which does not move or end before `eunomia_destroy` has dropped the version.
    let prepared = unsafe { mem::transmute::<Prepared<'_>, Prepared<'static>>(prepared) };
    *vm.prepared.lock().unwrap_or_else(PoisonError::into_inner) = Some(prepared);
    report
}

/// Returns the prepared version, which does not outlive the call.
fn take(vm: &eunomia_vm) -> Result<Prepared<'_>> {
    let prepared = vm.prepared.lock().unwrap_or_else(PoisonError::into_inner).take();
    prepared.ok_or_else(none_prepared)
}

fn none_prepared() -> Error {
    Error::new(Status::State, "no version is prepared; prepare one first")
}
