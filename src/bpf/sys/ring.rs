//! Ring buffers and perf buffers: records directly from the kernel's memory.
//!
//! libbpf calls a C function for each record. A [`Slot`] passes the Rust receiver to that function. It catches a panic of the
//! receiver, so that it does not unwind through libbpf, and resumes it afterwards.

use std::any::Any;
use std::ffi::{c_int, c_void};
use std::os::fd::RawFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed};

use libbpf_sys as b;

use super::result::{check, non_null};
use crate::os::{self, Errno};

/// Receives records. A result of false ends the batch.
pub trait Receiver {
    /// One record, 8-byte aligned and valid during the call. `cpu` is -1 for ring buffers.
    fn record(&mut self, cpu: i32, data: &[u8]) -> bool;
    /// The kernel dropped `count` records of `cpu`.
    fn lost(&mut self, cpu: i32, count: u64) -> bool;
}

/// The receiver of the current batch, as libbpf's context pointer. libbpf gets its callback once, before the type of receivers
/// is known. The callback only jumps to `call`, which is compiled for the type of the current receiver.
struct Slot<Call> {
    call: Option<Call>,
    receiver: *mut c_void,
    panic: Option<Box<dyn Any + Send>>,
    /// A copy of the perf record, because the record in the ring is only 4-byte aligned.
    aligned: Vec<u64>,
}

type RingCall = unsafe extern "C" fn(*mut c_void, *mut c_void, b::size_t) -> c_int;
type PerfCall = unsafe extern "C" fn(*mut c_void, c_int, *mut b::perf_event_header) -> b::bpf_perf_event_ret;

impl<Call> Slot<Call> {
    fn new() -> *mut Slot<Call> {
        let (receiver, aligned) = (std::ptr::null_mut(), Vec::new());
        Box::into_raw(Box::new(Slot { call: None, receiver, panic: None, aligned }))
    }

    /// Runs `consume` with `receiver` in the slot, and resumes a panic of the receiver.
    ///
    /// # Safety
    /// `slot` comes from `new` and no other batch of it is running; `call` casts the receiver to an `R`.
    unsafe fn lend<R>(
        slot: *mut Slot<Call>,
        call: Call,
        receiver: &mut R,
        consume: impl FnOnce() -> c_int,
    ) -> c_int {
        // SAFETY: the caller guarantees a valid `slot`; no reference to it exists during `consume`.
        unsafe {
            (*slot).call = Some(call);
            (*slot).receiver = std::ptr::from_mut(receiver).cast();
        }
        let ret = consume();
        // SAFETY: as above.
        let panic = unsafe {
            (*slot).call = None;
            (*slot).panic.take()
        };
        panic.map_or(ret, |payload| resume_unwind(payload))
    }

    /// Calls the receiver. Returns false also after a panic.
    ///
    /// # Safety
    /// `slot` is inside `lend` with an `R`.
    #[inline(always)]
    unsafe fn call<R>(slot: *mut Slot<Call>, work: impl FnOnce(&mut R) -> bool) -> bool {
        // SAFETY: inside `lend` the receiver is alive, and nothing else uses it.
        let receiver = unsafe { &mut *(*slot).receiver.cast::<R>() };
        match catch_unwind(AssertUnwindSafe(|| work(receiver))) {
            Ok(go_on) => go_on,
            Err(payload) => {
                // SAFETY: as above.
                unsafe { (*slot).panic = Some(payload) };
                false
            }
        }
    }
}

/// One BPF ring buffer.
pub struct Ring {
    manager: NonNull<b::ring_buffer>,
    ring: NonNull<b::ring>,
    slot: *mut Slot<RingCall>,
}

// SAFETY: libbpf does not tie a ring buffer to a thread, and `Ring` has one owner at a time.
unsafe impl Send for Ring {}

impl Ring {
    /// Maps the ring buffer of `map_fd`.
    pub fn new(map_fd: RawFd) -> os::Result<Ring> {
        let slot = Slot::new();
        // SAFETY: `slot` outlives the manager (see drop), which is checked for null.
        unsafe {
            let made =
                non_null(b::ring_buffer__new(map_fd, Some(ring_sample), slot.cast(), std::ptr::null()));
            let manager = made.inspect_err(|_| drop(Box::from_raw(slot)))?;
            let ring = NonNull::new_unchecked(b::ring_buffer__ring(manager.as_ptr(), 0));
            Ok(Ring { manager, ring, slot })
        }
    }

    /// Passes up to `limit` records to `receiver`, which counts them.
    pub fn consume<R: Receiver>(&mut self, limit: usize, receiver: &mut R) -> os::Result<()> {
        // SAFETY: the ring lives as long as its manager.
        let consume = || unsafe { b::ring__consume_n(self.ring.as_ptr(), limit as _) };
        // SAFETY: `slot` belongs to this value, and `&mut self` excludes a second batch.
        let ret = unsafe { Slot::lend(self.slot, ring_record::<R>, receiver, consume) };
        // ECANCELED means that the receiver ended the batch.
        if ret == -libc::ECANCELED { Ok(()) } else { check(ret).map(drop) }
    }

    /// Bytes of records in the buffer.
    pub fn available(&self) -> usize {
        // SAFETY: a getter.
        unsafe { b::ring__avail_data_size(self.ring.as_ptr()) as usize }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the last use of both; the manager goes first because it points to the slot.
        unsafe {
            b::ring_buffer__free(self.manager.as_ptr());
            drop(Box::from_raw(self.slot));
        }
    }
}

unsafe extern "C" fn ring_sample(slot: *mut c_void, data: *mut c_void, size: b::size_t) -> c_int {
    // SAFETY: libbpf passes the slot and a record, and `call` checks both.
    unsafe { (*slot.cast::<Slot<RingCall>>()).call.map_or(-libc::ECANCELED, |call| call(slot, data, size)) }
}

#[cfg_attr(small, optimize(speed))]
unsafe extern "C" fn ring_record<R: Receiver>(
    slot: *mut c_void,
    data: *mut c_void,
    size: b::size_t,
) -> c_int {
    // SAFETY: inside `lend`; the record is not yet released, and records are 8-aligned.
    let go_on = unsafe {
        let data = std::slice::from_raw_parts(data.cast::<u8>(), size as usize);
        Slot::call(slot.cast::<Slot<RingCall>>(), |receiver: &mut R| receiver.record(-1, data))
    };
    if go_on { 0 } else { -libc::ECANCELED }
}

/// Offsets of data_head and data_tail in `struct perf_event_mmap_page`, perf_event_open(2).
const DATA_HEAD: usize = 1024;
const DATA_TAIL: usize = 1032;

/// One perf event array, with a buffer for each online CPU.
pub struct Perf {
    events: Arc<PerfEvents>,
}

/// Its perf events. Any thread may read their counters of lost records while another one reads records.
pub struct PerfEvents {
    buffer: NonNull<b::perf_buffer>,
    slot: *mut Slot<PerfCall>,
    owner: u32,
    /// Whether the kernel counts the lost records of each event.
    counts_lost: bool,
}

// SAFETY: as for `Ring`; only the one `Perf` uses the slot and the records, and all others read fields that do not change.
unsafe impl Send for PerfEvents {}
// SAFETY: see above.
unsafe impl Sync for PerfEvents {}

impl Perf {
    /// Opens the buffers with `pages` (a power of two) per CPU, and stores their events in the map.
    pub fn new(map_fd: RawFd, pages: u32) -> os::Result<Perf> {
        match PerfEvents::new(map_fd, pages, true) {
            // Kernels before Linux 6.0 do not support PERF_FORMAT_LOST.
            Err(Errno(libc::EINVAL)) => PerfEvents::new(map_fd, pages, false),
            opened => opened,
        }
        .map(|events| Perf { events: Arc::new(events) })
    }

    /// The events, which count lost records.
    pub fn events(&self) -> &Arc<PerfEvents> {
        &self.events
    }

    /// Number of per-CPU buffers.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// The descriptor that is readable when buffer `index` has records.
    pub fn fd(&self, index: usize) -> os::Result<RawFd> {
        self.events.fd(index)
    }

    /// Whether any buffer has a record. The kernel reports only once that a descriptor is readable.
    pub fn has_records(&self) -> bool {
        (0..self.len()).any(|index| {
            let (mut page, mut size) = (std::ptr::null_mut(), 0);
            let buffer = self.events.buffer.as_ptr();
            // SAFETY: libbpf checks the index and returns the mapping of the buffer, whose first page has both counters.
            unsafe {
                check(b::perf_buffer__buffer(buffer, index as _, &mut page, &mut size)).is_ok() && {
                    let at = |offset| &*page.byte_add(offset).cast::<AtomicU64>();
                    at(DATA_HEAD).load(Acquire) != at(DATA_TAIL).load(Relaxed)
                }
            }
        })
    }

    /// Passes the records of buffer `index` to `receiver` until it ends the batch.
    pub fn consume<R: Receiver>(&mut self, index: usize, receiver: &mut R) -> os::Result<()> {
        // SAFETY: libbpf checks the index.
        let consume = || unsafe { b::perf_buffer__consume_buffer(self.events.buffer.as_ptr(), index as _) };
        // SAFETY: `slot` belongs to this value, and `&mut self` excludes a second batch.
        let ret = unsafe { Slot::lend(self.events.slot, perf_record::<R>, receiver, consume) };
        // This value means that the receiver ended the batch.
        if ret == b::LIBBPF_PERF_EVENT_ERROR { Ok(()) } else { check(ret).map(drop) }
    }
}

impl PerfEvents {
    fn new(map_fd: RawFd, pages: u32, counts_lost: bool) -> os::Result<PerfEvents> {
        let slot = Slot::new();
        let mut attr = b::perf_event_attr {
            size: size_of::<b::perf_event_attr>() as u32,
            type_: b::PERF_TYPE_SOFTWARE,
            config: b::PERF_COUNT_SW_BPF_OUTPUT as u64,
            sample_type: b::PERF_SAMPLE_RAW as u64,
            read_format: if counts_lost { PERF_FORMAT_LOST } else { 0 },
            ..Default::default()
        };
        attr.__bindgen_anon_1.sample_period = 1;
        attr.__bindgen_anon_2.wakeup_events = 1;
        // SAFETY: `attr` lives for the call, `slot` outlives the buffer (see drop).
        unsafe {
            let made = non_null(b::perf_buffer__new_raw(
                map_fd,
                pages as _,
                &mut attr,
                Some(perf_event),
                slot.cast(),
                std::ptr::null(),
            ));
            let buffer = made.inspect_err(|_| drop(Box::from_raw(slot)))?;
            Ok(PerfEvents { buffer, slot, owner: std::process::id(), counts_lost })
        }
    }

    fn len(&self) -> usize {
        // SAFETY: a getter.
        unsafe { b::perf_buffer__buffer_cnt(self.buffer.as_ptr()) as usize }
    }

    fn fd(&self, index: usize) -> os::Result<RawFd> {
        // SAFETY: libbpf checks the index.
        check(unsafe { b::perf_buffer__buffer_fd(self.buffer.as_ptr(), index as _) })
    }

    /// Number of records that were lost for lack of space, including those that the kernel reports in a record. `None` if the
    /// kernel does not count them.
    pub fn lost(&self) -> Option<u64> {
        let lost = |index| {
            // The counter of the event, which stays 0, and the counter of lost records.
            let mut counters = [0; 16];
            let read = self.fd(index).and_then(|fd| os::read(fd, &mut counters));
            read.map_or(0, |_| u64::from_ne_bytes(counters[8..].try_into().unwrap_or_default()))
        };
        self.counts_lost.then(|| (0..self.len()).map(lost).sum())
    }
}

/// From linux/perf_event.h, since Linux 6.0.
const PERF_FORMAT_LOST: u64 = 1 << 4;

impl Drop for PerfEvents {
    fn drop(&mut self) {
        // In a child of fork this would disable the parent's events too. There it ends with the process.
        if self.owner != std::process::id() {
            return;
        }
        // SAFETY: as for `Ring`.
        unsafe {
            b::perf_buffer__free(self.buffer.as_ptr());
            drop(Box::from_raw(self.slot));
        }
    }
}

/// `struct { struct perf_event_header header; u32 size; char data[]; }`, perf_event_open(2), PERF_SAMPLE_RAW.
const SAMPLE_HEADER: usize = size_of::<b::perf_event_header>() + size_of::<u32>();

unsafe extern "C" fn perf_event(
    slot: *mut c_void,
    cpu: c_int,
    event: *mut b::perf_event_header,
) -> b::bpf_perf_event_ret {
    // SAFETY: libbpf passes the slot and a record, and `call` checks both.
    unsafe {
        let call = (*slot.cast::<Slot<PerfCall>>()).call;
        call.map_or(b::LIBBPF_PERF_EVENT_ERROR, |call| call(slot, cpu, event))
    }
}

#[cfg_attr(small, optimize(speed))]
unsafe extern "C" fn perf_record<R: Receiver>(
    slot: *mut c_void,
    cpu: c_int,
    event: *mut b::perf_event_header,
) -> b::bpf_perf_event_ret {
    let slot: *mut Slot<PerfCall> = slot.cast();
    // SAFETY: inside `lend`; libbpf passes one whole record of `size` bytes, including its header.
    let go_on = unsafe {
        match (*event).type_ {
            b::PERF_RECORD_SAMPLE => {
                let available = ((*event).size as usize).saturating_sub(SAMPLE_HEADER);
                let reported = event.add(1).cast::<u32>().read_unaligned() as usize;
                let len = reported.min(available);
                let aligned = &mut (*slot).aligned;
                aligned.resize(len.div_ceil(8), 0);
                let copy: *mut u8 = aligned.as_mut_ptr().cast();
                std::ptr::copy_nonoverlapping(event.cast::<u8>().add(SAMPLE_HEADER), copy, len);
                let data = std::slice::from_raw_parts(copy, len);
                Slot::call(slot, |receiver: &mut R| receiver.record(cpu, data))
            }
            b::PERF_RECORD_LOST if (*event).size as usize >= size_of_val(&*event) + 16 => {
                let count = event.add(1).cast::<u64>().add(1).read_unaligned();
                Slot::call(slot, |receiver: &mut R| receiver.lost(cpu, count))
            }
            _ => true,
        }
    };
    if go_on { b::LIBBPF_PERF_EVENT_CONT } else { b::LIBBPF_PERF_EVENT_ERROR }
}
