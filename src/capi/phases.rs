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
/// These functions are the steps of eunomia_replace, for hosts that switch several things at the same
/// moment, or that may have to return to the old version. Like eunomia_replace, they may be called while
/// another thread is inside eunomia_poll, and they report failures in the same way.
///
///   prepare, flip                           does the same as eunomia_replace
///   prepare, abort                          changes nothing
///   prepare with KEEP_OLD, flip, commit     ends the old version later
///   prepare with KEEP_OLD, flip, rollback   returns to the old version
///
/// Prepares a new version: does the part of eunomia_replace that can fail or takes long. It opens, compares
/// and loads the new version, and attaches its programs to hooks that only the new version has. These
/// programs do not run before eunomia_flip. The running version keeps running.
///
///   data     the new package (JSON), copied
///   len      bytes of data
///   options  NULL for the defaults
///
/// The vm keeps the prepared version until eunomia_flip, eunomia_abort or eunomia_destroy. Until then,
/// eunomia_replace, eunomia_commit and eunomia_rollback return EUNOMIA_ERR_BUSY. Settings that the host
/// changes after this call do not apply to the prepared version. eunomia_replace_report returns what will
/// happen to programs and maps. If the package equals the running one, "unchanged" is true in the
/// report, and eunomia_flip does nothing.
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

/// Switches to the prepared version and waits until no program of the old version is running. Then it
/// closes the old version, unless options had EUNOMIA_REPLACE_KEEP_OLD. Later calls of eunomia_poll
/// deliver the remaining events of the old version. eunomia_replace_report returns the times.
///
/// After a failure the old version runs as before, and the prepared version has been unloaded.
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

/// Unloads the prepared version. The running version is not affected.
///
/// Returns: EUNOMIA_OK or
///   EUNOMIA_ERR_STATE  no version is prepared
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_abort(vm: *mut eunomia_vm) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { any_thread(vm, |vm| told(vm, take(vm).map(drop))) }
}

/// Closes the old version that EUNOMIA_REPLACE_KEEP_OLD has kept. Its remaining events are still
/// delivered. eunomia_detach closes it as well.
///
/// Returns: EUNOMIA_OK or
///   EUNOMIA_ERR_STATE  no old version is kept
///   EUNOMIA_ERR_BUSY   called in a callback of the vm, during a replace, or while a version is prepared
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_commit(vm: *mut eunomia_vm) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { any_thread(vm, |vm| told(vm, vm.vm.commit())) }
}

/// Switches back to the old version that is kept, without loading anything. The newer version is closed
/// when none of its programs is running. Maps that both versions use keep their content; other maps of
/// the old version have the content that they had at the replace.
///
/// After a failure the newer version still runs, and the old version is still kept.
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

/// Returns whether all events of older versions have been delivered and no further ones can follow.
///
/// Returns: 1 if so, or if no package was ever replaced; 0 if not; or
///   EUNOMIA_ERR_BUSY  called in a callback of the vm
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_drained(vm: *mut eunomia_vm) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { any_thread(vm, |vm| vm.vm.drained()) }
}

/// Stores the version until it is taken, and returns its report. No other version is stored, because only one at a time can be
/// prepared.
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

pub(super) fn none_prepared() -> Error {
    Error::new(Status::State, "no version is prepared; prepare one first")
}
