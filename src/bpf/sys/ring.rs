//! Ring buffers: records straight from the memory that the kernel shares.

use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use super::span::{Span, Spans};
use crate::bpf::packed::{HEADER as HEADER_SIZE, Packed, pack, padded, stride_with};
use crate::bpf::ring_protocol::{Damaged, HEADER, Memory, Reader, Run};
use crate::os::{self, Errno};

/// Receives records. Returning `false` ends the batch after this record.
pub trait Receiver {
    /// Receives one record of a ring buffer, 8-aligned and borrowed for the call.
    fn record(&mut self, data: &[u8]) -> bool;
    /// Receives one record of a perf buffer, 8-aligned and borrowed for the call.
    fn perf_record(&mut self, cpu: i32, data: &[u8]) -> bool;
    /// Reports that the kernel dropped `count` records of `cpu`.
    fn lost(&mut self, cpu: i32, count: u64) -> bool;
    /// Receives several records of a ring buffer (`cpu` is -1) or perf buffer, borrowed for the call. `bytes` is the
    /// sum of their lengths.
    fn records(&mut self, cpu: i32, records: &[Span<'_>], bytes: usize) -> bool;
    /// Returns the maximum number of records of the next call.
    fn limit(&self) -> usize;
    /// Returns the length of a perf record without the padding of up to seven bytes that the kernel appends.
    fn unpadded(&self, len: usize) -> usize;
}

/// One BPF ring buffer.
pub struct Ring {
    shared: Arc<Shared>,
    reader: Reader,
}

impl Ring {
    /// Maps the ring buffer `map_fd`, which has `size` bytes.
    pub fn new(map_fd: RawFd, size: u32) -> os::Result<Ring> {
        let shared = Shared::new(map_fd, size as usize)?;
        let reader = Reader::new(shared.consumed(), size.into());
        Ok(Ring { shared: Arc::new(shared), reader })
    }

    /// Returns the memory, which has the positions.
    pub fn memory(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Passes submitted records to `receiver` until it has enough. Returns whether records may be left.
    #[inline(always)]
    pub fn consume<R: Receiver>(&mut self, receiver: &mut R) -> os::Result<bool> {
        let shared = &*self.shared;
        let take = |position, len| {
            // SAFETY: the reader passes a submitted record, which is not yet released.
            receiver.record(unsafe { shared.record(position, len) })
        };
        self.reader.consume(shared, take).map_err(|Damaged| Errno(libc::EBADMSG))
    }

    /// Passes submitted records to `receiver` in batches until it has enough. Returns whether records may be left.
    #[inline(always)]
    pub fn consume_batches<R: Receiver>(&mut self, receiver: &mut R) -> os::Result<bool> {
        let shared = &*self.shared;
        let mut spans = Spans::new();
        let consumed = self.reader.consume_batches(
            shared,
            &mut spans,
            receiver.limit().clamp(1, Spans::MOST),
            |spans, index, run| {
                for i in 0..run.count {
                    // SAFETY: the reader passes a run of submitted records, which are released after the second function has
                    // returned.
                    spans.put(index + i, unsafe { shared.record_of(run, i) });
                }
                run.count
            },
            |spans, count, bytes, most| {
                // SAFETY: the reader has stored the first `count` spans.
                let go_on = receiver.records(-1, unsafe { spans.first(count) }, bytes);
                *most = receiver.limit().clamp(1, Spans::MOST);
                go_on
            },
        );
        consumed.map_err(|Damaged| Errno(libc::EBADMSG))
    }

    /// Stores submitted records in `space`, as many as fit and at most `most`. The others stay in the ring buffer.
    #[inline(never)]
    #[cfg_attr(small, optimize(speed))]
    pub fn pack(&mut self, space: &mut [u8], most: usize) -> os::Result<Packed> {
        let (shared, mut packed) = (&*self.shared, Packed::default());
        let consumed = self.reader.consume_batches(
            shared,
            &mut packed,
            most.max(1),
            |packed, index, run| {
                let size = HEADER_SIZE + padded(run.len);
                // SAFETY: the reader passes a run of submitted records, which are not yet released.
                let record = |i| unsafe { shared.record_of(run, i) };
                let taken = pack(&mut space[packed.used..], run.len, run.count, record);
                if taken > 0 {
                    packed.stride = stride_with(packed.stride, index, size);
                }
                packed.used += taken * size;
                packed.missing = if taken < run.count { size } else { 0 };
                taken
            },
            |packed, count, bytes, _| {
                (packed.count, packed.bytes) = (count, bytes);
                false
            },
        );
        consumed.map(|_| packed).map_err(|Damaged| Errno(libc::EBADMSG))
    }

    /// Passes submitted records that begin before the position `end` to `receiver` until it has enough, and releases each after
    /// its call.
    pub fn consume_to(&mut self, end: u64, receiver: &mut dyn Receiver) -> os::Result<()> {
        let shared = &*self.shared;
        let mut data: &[u8] = &[];
        let consumed = self.reader.consume_batches(
            shared,
            &mut data,
            1,
            |data, _, run| {
                if run.position - HEADER >= end {
                    return 0;
                }
                // SAFETY: the reader passes a submitted record, which is released after the second function has returned.
                *data = unsafe { shared.record_of(run, 0) };
                1
            },
            |data, _, _, _| receiver.record(data),
        );
        consumed.map(drop).map_err(|Damaged| Errno(libc::EBADMSG))
    }

    /// Returns whether a submitted record waits. No system call.
    pub fn is_ready(&self) -> bool {
        self.reader.is_ready(&*self.shared)
    }
}

/// Positions in a ring buffer: the number of bytes, with the headers of records, since it was created. The kernel keeps both
/// positions, so the next reader, even in another process, starts where the last one stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Positions {
    /// The first byte that no reader has released.
    pub consumed: u64,
    /// The end of the last record that a program has reserved.
    pub produced: u64,
}

/// The two mappings of a ring buffer. One is the page with the consumer position, which this process writes. The other
/// is the page with the producer position, followed by the data twice, so that a record that wraps around is
/// contiguous.
pub struct Shared {
    consumer: NonNull<AtomicU64>,
    producer: NonNull<AtomicU64>,
    data: NonNull<u8>,
    page: usize,
    /// Selects the offset of a record in the data: 8-aligned, and less than the size.
    mask: usize,
}

// SAFETY: the mappings are tied to no thread, and `Ring` has one owner at a time.
unsafe impl Send for Shared {}
// SAFETY: positions are atomic, and only the owner of `Ring` reads records.
unsafe impl Sync for Shared {}

impl Shared {
    fn new(map_fd: RawFd, size: usize) -> os::Result<Shared> {
        let page = os::page_size() as usize;
        let consumer = map(map_fd, libc::PROT_READ | libc::PROT_WRITE, 0, page)?;
        let produced =
            map(map_fd, libc::PROT_READ, page, page + 2 * size).inspect_err(|_| unmap(consumer, page))?;
        // SAFETY: the data begins one page into a mapping of more than one page.
        let data = unsafe { produced.add(page) };
        Ok(Shared { consumer: consumer.cast(), producer: produced.cast(), data, page, mask: (size - 1) & !7 })
    }

    /// Returns the published consumer position.
    fn consumed(&self) -> u64 {
        // SAFETY: mapped and aligned to a page.
        unsafe { self.consumer.as_ref() }.load(Ordering::Acquire)
    }

    /// Returns both positions.
    pub fn positions(&self) -> Positions {
        // Read in this order, so that `consumed` is never the larger one.
        let consumed = self.consumed();
        Positions { consumed, produced: self.producer() }
    }

    /// Returns the size of the data.
    fn size(&self) -> usize {
        self.mask + 8
    }

    /// Returns `len` bytes at `position`.
    ///
    /// # Safety
    /// The reader has checked that the record is within the data area, and it is not yet released.
    #[inline(always)]
    unsafe fn record(&self, position: u64, len: usize) -> &[u8] {
        // SAFETY: see above; the header is within the data, and so is what follows, because the data is mapped twice.
        unsafe {
            let data = self.at(position.wrapping_sub(HEADER)).add(HEADER as usize);
            std::slice::from_raw_parts(data.as_ptr(), len)
        }
    }

    /// Returns record `index` of a run.
    ///
    /// # Safety
    /// As for `record`.
    #[inline(always)]
    unsafe fn record_of(&self, run: Run, index: usize) -> &[u8] {
        // SAFETY: see above.
        unsafe { self.record(run.position.wrapping_add(run.step * index as u64), run.len) }
    }

    #[inline(always)]
    fn at(&self, position: u64) -> NonNull<u8> {
        // SAFETY: the mask selects an offset in the data.
        unsafe { self.data.add(position as usize & self.mask) }
    }
}

impl Memory for Shared {
    #[inline(always)]
    fn producer(&self) -> u64 {
        // SAFETY: mapped, aligned to a page, and written atomically by the kernel.
        unsafe { self.producer.as_ref() }.load(Ordering::Acquire)
    }

    #[inline(always)]
    fn header(&self, position: u64) -> u32 {
        // SAFETY: records are 8-aligned, and 8 bytes at an offset below `size` are within the data.
        unsafe { self.at(position).cast::<AtomicU32>().as_ref() }.load(Ordering::Acquire)
    }

    #[inline(always)]
    fn publish(&self, position: u64) {
        // SAFETY: mapped for writing and aligned to a page.
        unsafe { self.consumer.as_ref() }.store(position, Ordering::Release);
    }

    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        unmap(self.consumer.cast(), self.page);
        unmap(self.producer.cast(), self.page + 2 * self.size());
    }
}

/// Maps shared memory of the kernel.
pub(super) fn map(fd: RawFd, access: i32, offset: usize, len: usize) -> os::Result<NonNull<u8>> {
    // SAFETY: a new mapping at an address that the kernel chooses.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), len, access, libc::MAP_SHARED, fd, offset as _) };
    if start == libc::MAP_FAILED {
        return Err(Errno::last());
    }
    NonNull::new(start.cast()).ok_or(Errno(libc::ENOMEM))
}

/// Unmaps what `map` returned.
pub(super) fn unmap(start: NonNull<u8>, len: usize) {
    // SAFETY: called once for each mapping of this file, when nothing refers to it any more.
    unsafe { libc::munmap(start.as_ptr().cast(), len) };
}
