//! Delivery of events to a callback or buffer, and its control: stop, pause, queue, statistics.

use std::ffi::{c_char, c_int, c_void};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::args::{self, CStruct, Out};
use super::guard::{any_thread, guard};
use super::handle::{Handle, Returned, eunomia_vm};
use super::types::{eunomia_batch, eunomia_batch_fn, eunomia_event, eunomia_event_fn, eunomia_records};
use super::types::{eunomia_stats, eunomia_type};
use crate::error::{Result, Status};
use crate::types::Type;
use crate::vm::{Batch, Event, Flow, Records, Stats};

/// ---- Events ----
///
/// Waits for events and calls a function for each of them.
///
///   timeout_ms  milliseconds to wait; 0 does not wait, a negative value waits without limit
///   format      an eunomia_format
///   callback    called for each event, in this thread
///   arg         first argument of callback; may be NULL
///
/// The call waits until there are events, delivers at most options.poll_budget of them, and returns.
/// A signal does not end the wait. A sampled map delivers at each interval, so a loop "until poll
/// returns 0" ends only if timeout_ms is below the interval.
///
/// Returns: the number of events, 0 after the timeout, or
///   EUNOMIA_ERR_STOPPED   eunomia_stop was called
///   EUNOMIA_ERR_CALLBACK  callback returned a value < 0
///   EUNOMIA_ERR_STATE     the package is not loaded
///   EUNOMIA_ERR_SYSTEM    a system call failed
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_poll(
    vm: *mut eunomia_vm,
    timeout_ms: c_int,
    format: u32,
    callback: eunomia_event_fn,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe {
        guard(vm, |vm| {
            vm.vm.poll(args::timeout(timeout_ms), args::format(format)?, receiver(vm, callback, arg)?)
        })
    }
}

/// Waits for events as eunomia_poll does, and calls a function for each batch of raw records. This is the
/// fastest way to receive many events.
///
///   timeout_ms  milliseconds to wait; 0 does not wait, a negative value waits without limit
///   callback    called for each batch, in this thread
///   arg         first argument of callback; may be NULL
///
/// A batch has at most 256 records of one ring buffer, or of one CPU of a perf buffer, or one map
/// entry. Records of a ring buffer are not copied: they are in the memory that the kernel wrote them
/// to, and the kernel reuses that memory only after the callback has returned. With
/// eunomia_queue_start, a batch has one record.
///
/// Returns: the number of events, 0 after the timeout, or
///   EUNOMIA_ERR_STOPPED   eunomia_stop was called
///   EUNOMIA_ERR_CALLBACK  callback returned a value < 0
///   EUNOMIA_ERR_STATE     the package is not loaded
///   EUNOMIA_ERR_SYSTEM    a system call failed
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_poll_batch(
    vm: *mut eunomia_vm,
    timeout_ms: c_int,
    callback: eunomia_batch_fn,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe {
        guard(vm, |vm| {
            let call = callback.ok_or_else(|| args::invalid("callback is null"))?;
            vm.vm.poll_batch(args::timeout(timeout_ms), |of| flow(over(vm), call(arg, &records(of))))
        })
    }
}

/// Polls until eunomia_stop is called or callback returns a value > 0.
///
///   format    an eunomia_format
///   callback  called for each event, in this thread
///   arg       first argument of callback; may be NULL
///
/// Returns: EUNOMIA_OK or
///   EUNOMIA_ERR_CALLBACK  callback returned a value < 0
///   EUNOMIA_ERR_STATE     the package is not loaded
///   EUNOMIA_ERR_SYSTEM    a system call failed
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_run(
    vm: *mut eunomia_vm,
    format: u32,
    callback: eunomia_event_fn,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { guard(vm, |vm| vm.vm.run(args::format(format)?, receiver(vm, callback, arg)?)) }
}

/// Returns a file descriptor for the host's event loop. Any thread, any time.
///
/// The descriptor is readable when eunomia_poll with a timeout of 0 has something to do, which
/// includes reporting a stop. Watch it level-triggered. It stays the same until eunomia_destroy. Do
/// not read from it or close it.
///
/// Returns: the descriptor, or EUNOMIA_ERR_INVAL if vm is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_epoll_fd(vm: *const eunomia_vm) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    let vm = unsafe { vm.as_ref() };
    vm.map_or(Status::Inval as c_int, |vm| vm.vm.epoll_fd())
}

/// Requests a stop. Any thread, any time, and signal handlers. Preserves errno.
///
///   vm  may be NULL
///
/// A stop ends a running eunomia_poll, eunomia_poll_batch, eunomia_read, eunomia_load, eunomia_attach
/// or eunomia_wasm_run with EUNOMIA_ERR_STOPPED, and eunomia_run with EUNOMIA_OK. If none of them is
/// running, it ends the next one. A load stops when the kernel has created the current map or program.
/// Several stops before one of these calls ends have the effect of one.
///
/// Before eunomia_destroy, make sure that no signal handler can still pass this vm; NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_stop(vm: *mut eunomia_vm) {
    // SAFETY: the caller keeps the contract of the header. No guard here: this runs in signal handlers.
    if let Some(vm) = unsafe { vm.as_ref() } {
        vm.vm.stop();
    }
}

/// Pauses or resumes the delivery of events. Any thread, any time.
///
///   on  not 0 to pause, 0 to resume
///
/// During a pause, records stay in the kernel's buffers and do not make eunomia_epoll_fd readable.
///
/// Returns: EUNOMIA_OK or
///   EUNOMIA_ERR_SYSTEM  a system call failed
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_pause(vm: *mut eunomia_vm, on: c_int) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { any_thread(vm, |vm| vm.vm.pause(on != 0)) }
}

/// Returns the event counters. Any thread, any time.
///
///   out  receives the counters; set out->size first
///
/// Returns: EUNOMIA_OK.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_stats_get(vm: *const eunomia_vm, out: *mut eunomia_stats) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe {
        any_thread(vm, |vm| {
            let out = Out::new(out, "out")?;
            out.write(stats(vm.vm.stats()));
            Ok(())
        })
    }
}

fn stats(of: Stats) -> eunomia_stats {
    let Stats { events, bytes, lost_kernel, lost_queue, guest_dropped, malformed, .. } = of;
    let Stats { polls, replaces, run_count, run_ns, lost_known, .. } = of;
    let lost_known = lost_known as u32;
    let dropped = eunomia_stats { lost_kernel, lost_queue, guest_dropped, malformed, ..CStruct::zero() };
    eunomia_stats { events, bytes, polls, replaces, run_count, run_ns, lost_known, ..dropped }
}

/// Waits for records and stores as many records of one source as fit in a buffer. Use it instead of
/// eunomia_poll where callbacks are expensive, as from many other languages.
///
///   timeout_ms  milliseconds to wait; 0 does not wait, a negative value waits without limit
///   format      an eunomia_format
///   buf         the buffer; must be 8-byte aligned for RAW
///   cap         bytes of buf
///   out         receives what was stored; set out->size first
///
/// In RAW, an eunomia_record precedes each record in buf. In JSON and TEXT, each record is one
/// line. If all records in buf have the same size, out->stride is the distance between them: record
/// i begins at i * stride. Otherwise out->stride is 0.
///
/// Returns: the number of records, 0 after the timeout, or
///   EUNOMIA_ERR_TOO_SMALL  the next record needs out->need bytes; it is kept for the next call
///   EUNOMIA_ERR_STOPPED    eunomia_stop was called
///   EUNOMIA_ERR_STATE      the package is not loaded
///   EUNOMIA_ERR_SYSTEM     a system call failed
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_read(
    vm: *mut eunomia_vm,
    timeout_ms: c_int,
    format: u32,
    buf: *mut c_void,
    cap: usize,
    out: *mut eunomia_batch,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe {
        guard(vm, |vm| {
            let format = args::format(format)?;
            let buf = args::records_mut(buf, cap, format)?;
            batch(vm, out, |batch| vm.vm.read(args::timeout(timeout_ms), format, buf, batch))
        })
    }
}

/// Runs `fill` and writes the batch on success, or the required size if the buffer was too small.
///
/// # Safety
/// As for [`Out::new`].
pub(super) unsafe fn batch<R>(
    vm: &eunomia_vm,
    out: *mut eunomia_batch,
    fill: impl FnOnce(&mut Batch) -> Result<R>,
) -> Result<R> {
    // SAFETY: as required above.
    let (out, mut batch) = (unsafe { Out::new(out, "out") }?, Batch::default());
    let done = fill(&mut batch);
    let Batch { len, need, source, count, time_ns, stride, kind, .. } = batch;
    let (count, stride, kind) = (count as u32, stride as u32, kind as u32);
    match &done {
        Ok(_) => {
            let name = batch.name.as_ref().map_or(std::ptr::null(), |name| name.as_ptr());
            let of = eunomia_batch { name, r#type: type_pointer(batch.ty.as_ref()), ..CStruct::zero() };
            out.write(eunomia_batch { len, need, source, count, time_ns, stride, kind, ..of });
            vm.keep(Returned::Batch(batch));
        }
        Err(error) if error.status() == Status::TooSmall => {
            out.write(eunomia_batch { need, ..out.current() })
        }
        Err(_) => {}
    }
    done
}

/// Starts a thread that moves records from the kernel's buffers to a queue in memory while the host
/// is busy.
///
///   max_bytes  capacity of the queue, at most 1 GiB; a value below 128 KiB is raised to 128 KiB
///
/// When the queue is full, new records are dropped and counted in eunomia_stats.lost_queue.
///
/// Returns: EUNOMIA_OK or
///   EUNOMIA_ERR_INVAL   max_bytes is more than 1 GiB
///   EUNOMIA_ERR_STATE   the package is not loaded, the thread is running already, or the records of
///                       an earlier queue have not all been delivered
///   EUNOMIA_ERR_SYSTEM  a system call failed
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_queue_start(vm: *mut eunomia_vm, max_bytes: usize) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { guard(vm, |vm| vm.vm.queue_start(max_bytes)) }
}

/// Stops the queue's thread. Later polls first deliver the records that are still in the queue.
///
/// Returns: EUNOMIA_OK or
///   EUNOMIA_ERR_STATE  the thread is not running
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_queue_stop(vm: *mut eunomia_vm) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { guard(vm, |vm| vm.vm.queue_stop()) }
}

/// Runs an attached iterator program and calls a function for its output.
///
///   prog      name of the program
///   callback  called for each line of text (TEXT), or for each piece of binary output (RAW)
///   arg       first argument of callback; may be NULL
///
/// Returns: the number of lines or pieces, or
///   EUNOMIA_ERR_NOT_FOUND  no such program
///   EUNOMIA_ERR_INVAL      the program is not an iterator
///   EUNOMIA_ERR_STATE      the program is not attached
///   EUNOMIA_ERR_CALLBACK   callback returned a value < 0
///   EUNOMIA_ERR_SYSTEM     a system call failed
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_iter_each(
    vm: *mut eunomia_vm,
    prog: *const c_char,
    callback: eunomia_event_fn,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { guard(vm, |vm| vm.vm.iter_each(args::string(prog, "prog")?, receiver(vm, callback, arg)?)) }
}

/// A number that no run has.
const NO_RUN: u64 = u64::MAX;

/// Returns the host's callback in the form that the vm calls.
pub(super) fn receiver(
    vm: &eunomia_vm,
    call: eunomia_event_fn,
    arg: *mut c_void,
) -> Result<impl FnMut(&Event<'_>) -> Flow> {
    receiver_until(over(vm), call, arg, std::ptr::null_mut())
}

/// Like `receiver`, for an object that delivers nothing more once `over` is set. All events of a poll use one struct;
/// nothing is allocated.
pub(super) fn receiver_until(
    over: &AtomicBool,
    call: eunomia_event_fn,
    arg: *mut c_void,
    member: *mut c_void,
) -> Result<impl FnMut(&Event<'_>) -> Flow> {
    let call = call.ok_or_else(|| args::invalid("callback is null"))?;
    let mut event = eunomia_event { size: mem::size_of::<eunomia_event>(), member, ..CStruct::zero() };
    // The run that `event` is filled in for.
    let mut filled = NO_RUN;
    Ok(move |of: &Event<'_>| {
        if of.run != filled {
            fill(&mut event, of);
            filled = if of.run == 0 { NO_RUN } else { of.run };
        }
        (event.data, event.len) = (of.data.as_ptr().cast(), of.data.len());
        // SAFETY: the host passed function and argument for this.
        flow(over, unsafe { call(arg, &event) })
    })
}

/// Fills in all members except the data.
#[inline]
fn fill(event: &mut eunomia_event, of: &Event<'_>) {
    (event.kind, event.format) = (of.kind as u32, of.format as u32);
    event.source = of.source.as_ptr();
    (event.key, event.key_len) = (of.key.as_ptr().cast(), of.key.len());
    event.r#type = type_pointer(of.ty);
    (event.lost, event.cpu, event.time_ns) = (of.lost, of.cpu, of.time_ns);
}

/// Converts a batch. Its spans have the layout of C.
fn records(of: &Records<'_>) -> eunomia_records {
    eunomia_records {
        size: mem::size_of::<eunomia_records>(),
        kind: of.kind as u32,
        source_index: of.source_index as u32,
        source: of.source.as_ptr(),
        spans: of.data.as_ptr().cast(),
        count: of.data.len(),
        key: of.key.as_ptr().cast(),
        key_len: of.key.len(),
        r#type: type_pointer(of.ty),
        lost: of.lost,
        cpu: of.cpu,
        reserved: 0,
        time_ns: of.time_ns,
    }
}

/// Returns the flag that is set when a vm was poisoned in a callback.
fn over(vm: &eunomia_vm) -> &AtomicBool {
    vm.entrance().poisoned()
}

/// Converts the callback's return value. Once `over` is set, nothing more is delivered.
#[inline]
fn flow(over: &AtomicBool, value: c_int) -> Flow {
    match value {
        _ if over.load(Relaxed) => Flow::Fail(value),
        0 => Flow::Continue,
        1.. => Flow::End,
        _ => Flow::Fail(value),
    }
}

/// Returns a type as C holds it. The vm keeps it alive until destroy.
pub(super) fn type_pointer(ty: Option<&Arc<Type>>) -> *const eunomia_type {
    ty.map_or(std::ptr::null(), |ty| Arc::as_ptr(ty).cast())
}
