//! Events to the host's callback or buffer, and what steers their flow.

use std::ffi::{c_char, c_int, c_void};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::args::{self, CStruct, Out};
use super::guard::{any_thread, guard};
use super::types::{eunomia_batch, eunomia_event, eunomia_event_fn, eunomia_stats, eunomia_type, eunomia_vm};
use crate::error::{Result, Status};
use crate::types::Type;
use crate::vm::{Batch, Event, Flow, Stats};

/// ---- Events ----
///
/// Waits for events and calls fn for each, at most options.poll_budget. Returns after the first batch that
/// was not empty, or after timeout_ms (0: at once, negative: never), the number of events (0 at the
/// timeout), or STOPPED. fn is used only during the call. A sampled map delivers at each interval, so "until
/// poll returns 0" ends only with a timeout below the interval.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_poll(
    vm: *mut eunomia_vm,
    timeout_ms: c_int,
    format: u32,
    r#fn: eunomia_event_fn,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { guard(vm, |vm| vm.vm.poll(timeout_ms, args::format(format)?, &mut receiver(vm, r#fn, arg)?)) }
}

/// Polls until eunomia_stop, or until fn returns above 0, then returns 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_run(
    vm: *mut eunomia_vm,
    format: u32,
    r#fn: eunomia_event_fn,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { guard(vm, |vm| vm.vm.run(args::format(format)?, &mut receiver(vm, r#fn, arg)?)) }
}

/// Returns a descriptor for the host's own event loop: readable when eunomia_poll(0) has something to do,
/// a stop included. Level-triggered use. The same from eunomia_new to eunomia_destroy; do not read from or
/// close it. Any thread, any time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_epoll_fd(vm: *const eunomia_vm) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    let vm = unsafe { vm.as_ref() };
    vm.map_or(Status::Inval as c_int, |vm| vm.vm.epoll_fd())
}

/// Ends the poll that is waiting, or the next one, with STOPPED (eunomia_run with 0); likewise a load, after the map or
/// program that the kernel is at work on. Kept until reported once; several before that count as one. Any thread, any time, and in signal handlers: errno stays as it
/// was. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_stop(vm: *mut eunomia_vm) {
    // SAFETY: the caller keeps the contract of the header. Nothing else here: this runs in signal handlers.
    if let Some(vm) = unsafe { vm.as_ref() } {
        vm.vm.stop();
    }
}

/// Pauses delivery (on not 0) or goes on (0). Records stay in the kernel's buffers meanwhile, and
/// eunomia_epoll_fd is not readable for them. Any thread, any time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_pause(vm: *mut eunomia_vm, on: c_int) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { any_thread(vm, |vm| vm.vm.pause(on != 0)) }
}

/// Writes the ledger. Set out->size first. Any thread, any time.
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

/// Stores the waiting records of one source in buf, as many as fit, for hosts whose callbacks are dear.
/// RAW: an eunomia_record before each, and buf must be 8-aligned; JSON and TEXT: one line each. Returns the number of records, 0 at the
/// timeout, or STOPPED. TOO_SMALL: the next record takes out->need bytes and is kept for the next call.
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
            batch(out, |batch| vm.vm.read(timeout_ms, format, buf, batch))
        })
    }
}

/// Runs `fill` and writes what it tells: all of it on success, the needed bytes if they were missing.
///
/// # Safety
/// As for [`Out::new`].
pub(super) unsafe fn batch<R>(
    out: *mut eunomia_batch,
    fill: impl FnOnce(&mut Batch) -> Result<R>,
) -> Result<R> {
    // SAFETY: as demanded above.
    let (out, mut batch) = (unsafe { Out::new(out, "out") }?, Batch::default());
    let done = fill(&mut batch);
    let Batch { len, need, source, count, time_ns } = batch;
    match &done {
        Ok(_) => out.write(eunomia_batch { size: 0, len, need, source, count: count as u32, time_ns }),
        Err(error) if error.status == Status::TooSmall => out.write(eunomia_batch { need, ..out.current() }),
        Err(_) => {}
    }
    done
}

/// Starts a thread that moves records from the kernel to memory while the host is busy. Holds max_bytes, at
/// most 1 GiB; less than 128 KiB counts as 128 KiB. When it is full the newest records are dropped and counted
/// in stats.lost_queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_queue_start(vm: *mut eunomia_vm, max_bytes: usize) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { guard(vm, |vm| vm.vm.queue_start(max_bytes)) }
}

/// Ends that thread. What has been queued is still delivered, before anything newer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_queue_stop(vm: *mut eunomia_vm) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { guard(vm, |vm| vm.vm.queue_stop()) }
}

/// Runs an attached iterator program to its end and gives fn each line it wrote (TEXT), or each piece if it
/// writes bytes (RAW). Returns their number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_iter_each(
    vm: *mut eunomia_vm,
    prog: *const c_char,
    r#fn: eunomia_event_fn,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { guard(vm, |vm| vm.vm.iter_each(args::text(prog, "prog")?, &mut receiver(vm, r#fn, arg)?)) }
}

/// The host's function as the vm calls it. One event struct serves the whole poll; nothing is allocated.
pub(super) fn receiver(
    vm: &eunomia_vm,
    call: eunomia_event_fn,
    arg: *mut c_void,
) -> Result<impl FnMut(&Event<'_>) -> Flow> {
    let call = call.ok_or_else(|| args::invalid("fn is null"))?;
    let mut event = eunomia_event { size: mem::size_of::<eunomia_event>(), ..CStruct::zero() };
    Ok(move |of: &Event<'_>| {
        fill(&mut event, of);
        // SAFETY: the host gave function and argument for this.
        flow(vm, unsafe { call(arg, &event) })
    })
}

#[inline]
fn fill(event: &mut eunomia_event, of: &Event<'_>) {
    (event.kind, event.format) = (of.kind as u32, of.format as u32);
    event.source = of.source.as_ptr();
    (event.data, event.len) = (of.data.as_ptr().cast(), of.data.len());
    (event.key, event.key_len) = (of.key.as_ptr().cast(), of.key.len());
    event.r#type = type_pointer(of.ty);
    (event.lost, event.cpu, event.time_ns) = (of.lost, of.cpu, of.time_ns);
}

/// What the callback's answer means. A vm that died inside it goes no further.
#[inline]
fn flow(vm: &eunomia_vm, answer: c_int) -> Flow {
    match answer {
        _ if vm.poisoned.load(Ordering::Relaxed) => Flow::Fail(answer),
        0 => Flow::Continue,
        1.. => Flow::End,
        _ => Flow::Fail(answer),
    }
}

/// A type as C holds it. The vm keeps what it points to until destroy.
pub(super) fn type_pointer(ty: Option<&Arc<Type>>) -> *const eunomia_type {
    ty.map_or(std::ptr::null(), |ty| Arc::as_ptr(ty).cast())
}
