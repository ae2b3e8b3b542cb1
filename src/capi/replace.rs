//! Replaces the running package.

use std::ffi::{c_char, c_int, c_void};
use std::ptr;
use std::sync::{MutexGuard, PoisonError};

use super::args::{self, CStruct, c_string, invalid};
use super::guard::any_thread;
use super::handle::{Handle, LastError, Replacement, eunomia_vm};
use super::types::{eunomia_replace_flag, eunomia_replace_options};
use crate::error::{Error, Result, Status};
use crate::vm::{ReplaceOptions, Replaced, failure_json};

/// ---- Replacing the running package: any thread, any time ----
///
/// Replaces the package with a new version while events flow. A failure changes nothing.
///
///   data     the new package (JSON), or the new module if a WASM module is open; copied
///   len      bytes of data
///   options  NULL for the defaults
///
/// Exactly one of the two versions handles each event of the kernel. Events of the old version are
/// delivered with the types of the old version, even after this function has returned. Variables,
/// map sizes, autoload and targets that the host has set apply to the new version. A map keeps its
/// content if both versions define it alike; see eunomia_replace_flag. All other maps start empty, and
/// all other variables have their initial values. If the new package equals the running one, nothing
/// changes.
///
/// The package must be attached. With EUNOMIA_REPLACEABLE it may have any number of programs on
/// kprobes, uprobes, tracepoints, raw tracepoints, perf events, BTF tracepoints, functions (fentry,
/// fexit) and LSM hooks. In any vm it may be one program whose link the kernel can update: XDP, tcx,
/// cgroup, sk_lookup, flow dissector.
///
/// A WASM module can be replaced while its guest is running. The guest is ended, and eunomia_wasm_run
/// continues with the new guest and the same arguments. No program runs in between. The maps of the
/// guest's packages keep their content as above. The options have no effect. The report has only times:
/// load_ms for compiling the new module, flip_ms for ending the old guest.
///
/// This function may be called while another thread is inside eunomia_poll or a similar call. If no
/// other call is in progress, a failure also becomes the last error of the vm, and the strings that
/// eunomia_errmsg and similar functions returned before become invalid. eunomia_replace_report always
/// has the message of the failure.
///
/// Returns: EUNOMIA_OK, an error as for eunomia_open, eunomia_load and eunomia_attach, or
///   EUNOMIA_ERR_UNSUPPORTED  a program of the package cannot be replaced
///   EUNOMIA_ERR_NOT_FOUND    the new version lacks a variable, map or program that the host has set
///   EUNOMIA_ERR_TYPE         such a variable has another type in the new version, or a map does not fit
///                            and options has EUNOMIA_REPLACE_STRICT_MAPS
///   EUNOMIA_ERR_STATE        the package is not attached, or an old version is kept
///   EUNOMIA_ERR_BUSY         called in a callback of the vm, during another replace, or while a version
///                            is prepared
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_replace(
    vm: *mut eunomia_vm,
    data: *const c_void,
    len: usize,
    options: *const eunomia_replace_options,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe {
        any_thread(vm, |vm| {
            let options = read_options(options);
            let replaced =
                options.and_then(|options| vm.vm.replace(args::bytes(data, len, "data")?, options));
            keep(vm, replaced)
        })
    }
}

/// Returns the result of the last eunomia_replace, eunomia_prepare, eunomia_flip or eunomia_rollback, or
/// of the last failed eunomia_commit or eunomia_abort, as a JSON object. Any thread, any time, but only
/// one thread at a time.
///
/// The object has the following keys; later releases may add others. After eunomia_prepare, the times of
/// later phases are 0. After eunomia_rollback, the arrays programs and maps are empty.
///   unchanged        whether the package equals the running one; then nothing was done
///   programs         name, section, change ("swapped", "added", "moved", "dropped"; "overlap" or "gap" if
///                    options allow it)
///   doubled          events that both versions have handled because of EUNOMIA_REPLACE_ALLOW_OVERLAP; null if
///                    unknown
///   gap_ms           milliseconds in which neither version was attached because of
///                    EUNOMIA_REPLACE_ALLOW_GAP
///   maps             name, change ("carried", "migrated" or "fresh"), reason (why it is not carried)
///   migrated         name, entries (number of copied entries) and updates_lost (number of entries that
///                    the old version changed after the copy) of each migrated map
///   load_ms          milliseconds of opening, comparing, loading and attaching
///   flip_ms          milliseconds of the switch
///   grace_ms         milliseconds of the wait for programs of the old version
///   grace_complete   whether that wait was long enough; false if the kernel has no way to wait, or if
///                    nothing was done
///   events_from_old  events of the old version that were delivered after the switch, until now
/// After a failure:
///   error, detail, errno, subject_kind, subject  as the functions eunomia_err* return them
///
/// Returns: the string, valid until the next call of this function or of one of the functions above;
/// NULL before the first such call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_replace_report(vm: *mut eunomia_vm) -> *const c_char {
    // SAFETY: the caller keeps the contract of the header.
    let Some(vm) = (unsafe { vm.as_ref() }) else { return ptr::null() };
    let mut last = last(vm);
    if let Some(report) = &last.report {
        let text = c_string(report.to_json());
        last.text = text;
    }
    if last.text.is_empty() { ptr::null() } else { last.text.as_ptr() }
}

fn last(vm: &eunomia_vm) -> MutexGuard<'_, Replacement> {
    vm.replaced.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) unsafe fn read_options(from: *const eunomia_replace_options) -> Result<ReplaceOptions> {
    let mut given = eunomia_replace_options::zero();
    if !from.is_null() {
        // SAFETY: the caller keeps the contract of the header.
        unsafe { args::read_struct(from, &mut given, "options") }?;
    }
    replace_options(given.flags, given.reserved)
}

fn replace_options(flags: u32, reserved: u32) -> Result<ReplaceOptions> {
    use eunomia_replace_flag::*;
    let has = |flag: eunomia_replace_flag| flags & flag as u32 != 0;
    if flags & !KNOWN == 0 && reserved == 0 {
        return Ok(ReplaceOptions {
            ordered: has(EUNOMIA_REPLACE_ORDERED),
            fresh_maps: has(EUNOMIA_REPLACE_FRESH_MAPS),
            strict_maps: has(EUNOMIA_REPLACE_STRICT_MAPS),
            fresh_vars: has(EUNOMIA_REPLACE_FRESH_VARS),
            keep_old: has(EUNOMIA_REPLACE_KEEP_OLD),
            migrate_maps: has(EUNOMIA_REPLACE_MIGRATE_MAPS),
            carry_data: has(EUNOMIA_REPLACE_CARRY_DATA),
            allow_overlap: has(EUNOMIA_REPLACE_ALLOW_OVERLAP),
            allow_gap: has(EUNOMIA_REPLACE_ALLOW_GAP),
        });
    }
    let text = "expected a bitmask of eunomia_replace_flag and 0";
    Err(invalid(format_args!("options.flags is {flags:#x}, options.reserved is {reserved}, {text}")))
}

const KNOWN: u32 = eunomia_replace_flag::EUNOMIA_REPLACE_FRESH_MAPS as u32
    | eunomia_replace_flag::EUNOMIA_REPLACE_STRICT_MAPS as u32
    | eunomia_replace_flag::EUNOMIA_REPLACE_FRESH_VARS as u32
    | eunomia_replace_flag::EUNOMIA_REPLACE_ORDERED as u32
    | eunomia_replace_flag::EUNOMIA_REPLACE_KEEP_OLD as u32
    | eunomia_replace_flag::EUNOMIA_REPLACE_MIGRATE_MAPS as u32
    | eunomia_replace_flag::EUNOMIA_REPLACE_CARRY_DATA as u32
    | eunomia_replace_flag::EUNOMIA_REPLACE_ALLOW_OVERLAP as u32
    | eunomia_replace_flag::EUNOMIA_REPLACE_ALLOW_GAP as u32;

/// Keeps the result for `eunomia_replace_report`.
pub(super) fn keep(vm: &eunomia_vm, replaced: Result<Replaced>) -> Result<()> {
    let report = told(vm, replaced)?;
    *last(vm) = Replacement { report: Some(report), ..Replacement::default() };
    Ok(())
}

/// Keeps the error of a call that any thread may make. The error that it returns has only the status.
pub(super) fn told<T>(vm: &eunomia_vm, result: Result<T>) -> Result<T> {
    result.map_err(|error| Error::new(keep_failure(vm, error), ""))
}

/// Keeps the error for the report, and for this thread.
fn keep_failure(vm: &eunomia_vm, error: Error) -> Status {
    let status = error.status();
    let error = LastError::new(error);
    let texts = [&error.message, &error.detail, &error.subject].map(|text| text.to_string_lossy());
    let text = failure_json(&texts, error.errno, error.kind as u32);
    *last(vm) = Replacement { report: None, text: c_string(text) };
    vm.entrance().store_aside(error);
    status
}
