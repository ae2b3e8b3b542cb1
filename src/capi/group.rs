//! Groups: many vms that one thread polls with one call.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::ManuallyDrop;
use std::ptr::{self, null_mut};
use std::sync::Arc;

use super::args::{self, CStruct, invalid, non_null, store};
use super::events::receiver_until;
use super::guard::{any_thread, guard};
use super::handle::{Handle, eunomia_group, eunomia_vm};
use super::lifecycle::refuse;
use super::panic;
use super::types::{eunomia_event_fn, eunomia_options};
use crate::error::{Error, Result, Status};
use crate::vm::{Group, Turn};

/// ---- Groups: many vms, polled by one thread with one call ----
///
/// Creates an empty group.
///
///   out  receives the group; free it with eunomia_group_destroy
///
/// A group costs less than a loop over the descriptors of its vms, because it finds waiting records
/// without a system call. A vm is in at most one group. Every other function may still be called on
/// a vm in a group.
///
/// On failure errno is set.
///
/// Returns: EUNOMIA_OK or
///   EUNOMIA_ERR_INVAL   out is NULL
///   EUNOMIA_ERR_SYSTEM  no file descriptor is left
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_group_new(out: *mut *mut eunomia_group) -> c_int {
    let made = panic::catch(|| non_null(out, "out").and_then(|_| Group::new()));
    match made.unwrap_or_else(|text| Err(Error::new(Status::Internal, text))) {
        // SAFETY: the caller keeps the contract of the header.
        Ok(group) => unsafe { out.write(Box::into_raw(Box::new(eunomia_group::new(group)))) },
        Err(error) => return refuse(&eunomia_options::zero(), &error),
    }
    0
}

/// Frees the group. Its vms leave it and stay as they are.
///
///   group  may be NULL
///
/// If a call of eunomia_group_poll is in progress, the function does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_group_destroy(group: *mut eunomia_group) {
    // SAFETY: the caller keeps the contract of the header.
    if unsafe { group.as_ref() }.is_some_and(|group| !group.entrance().is_in_use()) {
        // SAFETY: made by `Box::into_raw` in `eunomia_group_new`, and no call is in progress.
        drop(unsafe { Box::from_raw(group) });
    }
}

/// Adds a vm to the group, in any state of its life cycle. Any thread, any time, also in callbacks.
///
///   vm      the vm; it leaves the group when it is destroyed
///   member  returned in eunomia_event.member with each event of the vm, such as a pointer to the
///           host's own data about it; may be NULL
///
/// A failure of this call sets no message.
///
/// Returns: EUNOMIA_OK or
///   EUNOMIA_ERR_STATE   the vm is in a group already
///   EUNOMIA_ERR_SYSTEM  a system call failed
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_group_add(
    group: *mut eunomia_group,
    vm: *mut eunomia_vm,
    member: *mut c_void,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { any_thread(group, |group| add(&group.group, vm, member)) }
}

/// # Safety
/// `vm` is null or lives until the return.
unsafe fn add(group: &Group, vm: *mut eunomia_vm, member: *mut c_void) -> Result<()> {
    non_null(vm, "vm")?;
    // SAFETY: made by `Arc::into_raw` in `eunomia_new`, and not destroyed.
    let held = ManuallyDrop::new(unsafe { Arc::from_raw(vm.cast_const()) });
    let weak = Arc::downgrade(&held);
    group.add_held(&held.vm, weak, member.expose_provenance())
}

/// Removes a vm from the group. Any thread, any time, also in callbacks.
///
/// If another thread is in a callback for an event of the vm, the call waits until that has returned, so
/// the callback must not wait for this thread. No event of the vm is delivered after the call.
///
/// A failure of this call sets no message.
///
/// Returns: EUNOMIA_OK or
///   EUNOMIA_ERR_NOT_FOUND  the vm is not in this group
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_group_remove(group: *mut eunomia_group, vm: *mut eunomia_vm) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { any_thread(group, |group| group.group.remove(&(*non_null(vm, "vm")?).vm)) }
}

/// Waits for events of all vms of the group and calls a function for each of them.
///
///   timeout_ms  milliseconds to wait; 0 does not wait, a negative value waits without limit
///   format      an eunomia_format
///   callback    called for each event, in this thread; eunomia_event.member is the vm's member
///   arg         first argument of callback; may be NULL
///
/// In each call, every vm with events delivers at most options.poll_budget events (by default
/// 1024), so that a busy vm does not delay the others. A vm that is not loaded, is paused or is in
/// use by another thread is skipped.
///
/// The callback may add, remove and destroy vms, but it must not destroy the vm that its event
/// comes from. A vm that fails leaves the group, and a later call of eunomia_group_poll returns its
/// error. eunomia_group_errmsg then returns its message and member. The other vms are not affected.
/// eunomia_stop on a vm of the group is reported in the same way, as EUNOMIA_ERR_STOPPED.
///
/// Returns: the number of events, 0 after the timeout, or
///   EUNOMIA_ERR_STOPPED   eunomia_group_stop was called, or eunomia_stop on a vm of the group
///   EUNOMIA_ERR_CALLBACK  callback returned a value < 0
///   EUNOMIA_ERR_BUSY      another thread polls the group, or this is a callback of it
///   EUNOMIA_ERR_SYSTEM    a system call failed
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_group_poll(
    group: *mut eunomia_group,
    timeout_ms: c_int,
    format: u32,
    callback: eunomia_event_fn,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { guard(group, |group| poll(group, timeout_ms, format, callback, arg)) }
}

fn poll(
    group: &eunomia_group,
    timeout_ms: c_int,
    format: u32,
    callback: eunomia_event_fn,
    arg: *mut c_void,
) -> Result<usize> {
    let format = args::format(format)?;
    callback.ok_or_else(|| invalid("callback is null"))?;
    group.group.poll_turns(args::timeout(timeout_ms), &mut |turn: Turn<'_>| {
        let mut receiver = receiver_until(turn.has_left(), callback, arg, pointer(turn.key()))?;
        turn.deliver(format, &mut receiver)
    })
}

/// Requests a stop. Any thread, any time, and signal handlers. Preserves errno.
///
///   group  may be NULL
///
/// A stop ends a running eunomia_group_poll, or else the next one, with EUNOMIA_ERR_STOPPED. Several
/// stops before that call ends have the effect of one. The vms are not stopped.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_group_stop(group: *mut eunomia_group) {
    // SAFETY: the caller keeps the contract of the header. No guard here: this runs in signal handlers.
    if let Some(group) = unsafe { group.as_ref() } {
        group.group.stop();
    }
}

/// Returns a file descriptor for the host's event loop. Any thread, any time.
///
/// The descriptor is readable when eunomia_group_poll with a timeout of 0 has something to do. Watch it
/// level-triggered. It stays the same until eunomia_group_destroy. Do not read from it or close it.
///
/// Returns: the descriptor, or EUNOMIA_ERR_INVAL if group is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_group_epoll_fd(group: *const eunomia_group) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    let group = unsafe { group.as_ref() };
    group.map_or(Status::Inval as c_int, |group| group.group.epoll_fd())
}

/// Returns a one-line human-readable message about the last failed eunomia_group_poll.
///
///   group   may be NULL
///   member  receives the member of the vm that failed and left the group, or NULL if no vm
///           failed; may be NULL
///
/// Returns: the message, valid until the next call on the group. It is never NULL. If no call has
/// failed, it is "". If group is NULL or another thread is inside a call, it is a fixed string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_group_errmsg(
    group: *const eunomia_group,
    member: *mut *mut c_void,
) -> *const c_char {
    // SAFETY: the caller keeps the contract of the header.
    let (failed, message) = last(unsafe { group.as_ref() });
    // SAFETY: as above.
    unsafe { store(member, failed.map_or(null_mut(), pointer)) };
    message
}

/// Returns the key of the member that failed, and the message.
fn last(group: Option<&eunomia_group>) -> (Option<usize>, *const c_char) {
    const NO_GROUP: &CStr = c"group is null";
    const IN_USE: &CStr = c"the group is in use by another thread";
    let Some(group) = group else { return (None, NO_GROUP.as_ptr()) };
    let Some(_turn) = group.entrance().enter() else { return (None, IN_USE.as_ptr()) };
    (group.group.failed(), group.entrance().state().error.message.as_ptr())
}

/// Returns the pointer that the key was made from.
fn pointer(key: usize) -> *mut c_void {
    ptr::with_exposed_provenance_mut(key)
}
