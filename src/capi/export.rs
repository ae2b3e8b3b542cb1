//! A package in two processes: the descriptors that one passes to the other.

use std::ffi::{c_int, c_void};
use std::os::fd::IntoRawFd;
use std::slice;
use std::sync::PoisonError;

use super::args::{self, CStruct, Out, c_string, invalid};
use super::guard::{any_thread, guard};
use super::handle::{Returned, eunomia_vm};
use super::phases::none_prepared;
use super::replace::told;
use super::types::{eunomia_export_flag, eunomia_exported};
use crate::error::Result;
use crate::os;
use crate::vm::Exported;

/// ---- A package in two processes ----
///
/// One process, the loader, has the capabilities that loading requires. Another one, the reader, has none
/// and gets the events. The loader passes three things to the reader, for example through a socket: the
/// bytes of the package, the description, and the descriptors (SCM_RIGHTS, at most 253 in a message).
///
///   step          loader                                  reader
///   start         attach, export                          new, import, poll
///   new version   prepare, export (EXPORT_PREPARED)       adopt
///                 flip                                    polls both versions
///                 drained: whether the reader has read    commit
///                 all events of the old version
///   or instead    abort, or rollback                      rollback
///
/// The reader adopts a version before the loader flips. A reader reads maps and variables, and gets
/// events by every function that delivers them; calls that change the package return EUNOMIA_ERR_STATE.
/// It needs no capability from Linux 6.0 on. On older kernels, map calls need CAP_BPF unless the sysctl
/// kernel.unprivileged_bpf_disabled is 0.
///
/// Copies descriptors of the package for another process. With the first export this vm stops reading:
/// eunomia_poll, eunomia_run, eunomia_read and similar calls, eunomia_queue_start and eunomia_replace
/// return EUNOMIA_ERR_STATE from then on. All other calls work as before. A later export is for another
/// reader, which continues where the previous reader has stopped; only one may read at a time.
///
///   flags  bitmask of eunomia_export_flag
///   out    receives the descriptors and their description
///
/// The descriptors are the caller's: close them after they have been sent. They are close-on-exec. The
/// array that has their numbers and the description are valid until the next call on the vm. Keep the
/// vm: eunomia_destroy detaches the package, and programs can write to a perf buffer only as long as
/// the process that opened it has it mapped.
///
/// Returns: EUNOMIA_OK or
///   EUNOMIA_ERR_STATE   the package is not loaded, or is imported; the vm is in a group; there are events
///                       that the reader would miss (in the queue, kept for the next eunomia_read, or of an
///                       old version); with EUNOMIA_EXPORT_PREPARED: no version is prepared, it is the
///                       running one, or the running one is not exported
///   EUNOMIA_ERR_SYSTEM  no file descriptor is left
/// After a failure the vm reads as before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_export(
    vm: *mut eunomia_vm,
    flags: u32,
    out: *mut eunomia_exported,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe {
        guard(vm, |vm| {
            let out = Out::new(out, "out")?;
            out.write(pass(vm, export(vm, flags)?));
            Ok(())
        })
    }
}

/// Makes an empty vm the reader of a package that another process has loaded, instead of eunomia_open,
/// eunomia_load and eunomia_attach. After a failure the vm is empty as before.
///
///   data      the package, copied
///   len       bytes of data
///   exported  the description that the loader has sent, and the descriptors in the same order. Both are
///             copied: close the descriptors after the call, also after a failure.
///
/// Of the options of the vm, those for log, paths and polling apply. eunomia_destroy detaches nothing.
///
/// Returns: EUNOMIA_OK or
///   EUNOMIA_ERR_INVAL    the descriptors belong to another package, do not match the description, or
///                        are too few
///   EUNOMIA_ERR_PACKAGE  the package is malformed
///   EUNOMIA_ERR_PERM     the kernel refuses access
///   EUNOMIA_ERR_STATE    the vm has a package already
///   EUNOMIA_ERR_SYSTEM   a system call failed
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_import(
    vm: *mut eunomia_vm,
    data: *const c_void,
    len: usize,
    exported: *const eunomia_exported,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { guard(vm, |vm| vm.vm.open_exported(args::bytes(data, len, "data")?, receive(exported)?)) }
}

/// Makes the vm of a reader read the next version of its package, too. It polls the buffers of both
/// versions and delivers the events of each with their own types. Any thread may call it, also while another
/// one polls.
///
///   data, len, exported  as for eunomia_import
///
/// The loader flips after this. When its eunomia_flip has returned, call eunomia_commit: the old buffers are
/// closed as soon as they are empty. If the loader unloads the new version or rolls back, call
/// eunomia_rollback. Errors are reported as for eunomia_replace.
///
/// Returns: as eunomia_import or
///   EUNOMIA_ERR_STATE  the vm was not imported, or still has an old version
///   EUNOMIA_ERR_BUSY   called in a callback of the vm, or during another such call
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_adopt(
    vm: *mut eunomia_vm,
    data: *const c_void,
    len: usize,
    exported: *const eunomia_exported,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe {
        any_thread(vm, |vm| {
            let given = args::bytes(data, len, "data").and_then(|data| Ok((data, receive(exported)?)));
            told(vm, given.and_then(|(data, exported)| vm.vm.adopt(data, exported)))
        })
    }
}

fn export(vm: &eunomia_vm, flags: u32) -> Result<Exported> {
    use eunomia_export_flag::*;
    let has = |flag: eunomia_export_flag| flags & flag as u32 != 0;
    if flags & !(EUNOMIA_EXPORT_PREPARED as u32 | EUNOMIA_EXPORT_ALL as u32) != 0 {
        return Err(invalid(format_args!("flags is {flags:#x}, expected a bitmask of eunomia_export_flag")));
    }
    let exported = if has(EUNOMIA_EXPORT_PREPARED) {
        let mut prepared = vm.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        prepared.as_mut().ok_or_else(none_prepared)?.export()?
    } else {
        vm.vm.export()?
    };
    Ok(if has(EUNOMIA_EXPORT_ALL) { exported } else { exported.for_reader() })
}

/// Passes the descriptors to the caller, who closes them. The vm keeps the array and the description.
fn pass(vm: &eunomia_vm, exported: Exported) -> eunomia_exported {
    let text = c_string(exported.description());
    let fds: Vec<c_int> = exported.into_fds().map(IntoRawFd::into_raw_fd).collect();
    // Both are on the heap, so moving their owner does not move them.
    let passed =
        eunomia_exported { size: 0, description: text.as_ptr(), fds: fds.as_ptr(), count: fds.len() };
    vm.keep(Returned::Exported(text, fds));
    passed
}

/// Copies what another process has exported.
///
/// # Safety
/// `from` is null or keeps the contract of the header.
unsafe fn receive(from: *const eunomia_exported) -> Result<Exported> {
    let mut given = eunomia_exported::zero();
    // SAFETY: as required above.
    let (description, fds) = unsafe {
        args::read_struct(from, &mut given, "exported")?;
        let len = given.count.saturating_mul(size_of::<c_int>());
        args::bytes(given.fds.cast(), len, "exported.fds")?;
        let fds = if len == 0 { &[] } else { slice::from_raw_parts(given.fds, given.count) };
        (args::string(given.description, "exported.description")?, fds)
    };
    Exported::read(description, fds.len(), &mut |index| {
        let fd = fds[index];
        os::duplicate(fd).map_err(|e| invalid(format_args!("exported.fds[{index}]: descriptor {fd}: {e}")))
    })
}
