//! Ring buffers: records straight from the memory that the kernel shares.

use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use super::span::{Span, Spans};
use crate::bpf::packed::{HEADER as HEADER_SIZE, Packed, header, pack, padded, stride_with};
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

/// Bytes that are copied at a time if records have different lengths.
const BLOCK: usize = 32;
/// Bytes of the blocks that are always copied.
const BLOCKS: usize = 2 * BLOCK;
/// Maximum size of a record that is copied in blocks. It is less than a page, the minimum size of a ring buffer.
const MOST_IN_BLOCKS: usize = 512;

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
                let (size, to) = (HEADER_SIZE + padded(run.len), &mut space[packed.used..]);
                // SAFETY: the reader passes a run of submitted records, which are not yet released.
                let taken = unsafe {
                    match run.count {
                        1 if run.len <= MOST_IN_BLOCKS && to.len() >= size + BLOCKS => {
                            shared.pack_one(run, to)
                        }
                        _ => shared.pack_run(run.position, run.len, run.count, to),
                    }
                };
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
/// positions, so the next reader, even in another process, starts where the previous one stopped.
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
    /// The mask that selects the offset of a record in the data: a multiple of 8 below the size.
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
        // SAFETY: see above.
        unsafe { std::slice::from_raw_parts(self.data_at(position), len) }
    }

    /// Returns the data of the record whose header ends at `position`.
    #[inline(always)]
    fn data_at(&self, position: u64) -> *const u8 {
        // SAFETY: the header is within the data, and so is what follows, because the data is mapped twice.
        unsafe { self.at(position.wrapping_sub(HEADER)).add(HEADER as usize).as_ptr() }
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

    /// Stores `count` records of `len` bytes from `position` in `space`, as many as fit, and returns their number. This
    /// function is not inlined and uses no struct, so that the loop over records of different lengths can keep its
    /// variables in registers.
    ///
    /// # Safety
    /// As for `record_of`.
    #[inline(never)]
    #[cfg_attr(small, optimize(speed))]
    unsafe fn pack_run(&self, position: u64, len: usize, count: usize, space: &mut [u8]) -> usize {
        let run = Run { position, len, step: HEADER + padded(len) as u64, count };
        // SAFETY: see above.
        pack(space, len, count, |index| unsafe { self.record_of(run, index) })
    }

    /// Stores the first record of a run in `space` and returns 1. It copies whole blocks, because the processor cannot
    /// predict a branch on the length if lengths change without a pattern. The bytes that are copied in excess stay
    /// within `BLOCKS` bytes after the record.
    ///
    /// # Safety
    /// As for `record`. The record has at most `MOST_IN_BLOCKS` bytes, and `space` has `BLOCKS` bytes more than it needs.
    #[inline(always)]
    unsafe fn pack_one(&self, run: Run, space: &mut [u8]) -> usize {
        let (len, to) = (run.len, space.as_mut_ptr());
        // SAFETY: `space` is large enough, as required above. All reads are within the data, because it is mapped twice and is much larger
        // than such a record with the blocks. The bytes after the record may change during the copy, but they are not used.
        unsafe {
            let from = self.data_at(run.position);
            to.cast::<[u8; HEADER_SIZE]>().write(header(HEADER_SIZE + padded(len), len, 0, -1));
            let to = to.add(HEADER_SIZE);
            // These loops use no iterators, because the code of iterators is compiled for size.
            let copy = |at: usize| {
                let block = from.add(at).cast::<[u8; BLOCK]>().read();
                to.add(at).cast::<[u8; BLOCK]>().write(block);
            };
            copy(0);
            copy(BLOCK);
            let mut at = BLOCKS;
            while at < len {
                copy(at);
                at += BLOCK;
            }
            if len > 0 {
                // The last eight bytes again, with zeros for padding.
                let last = (len - 1) & !7;
                let word = u64::from_le_bytes(from.add(last).cast::<[u8; 8]>().read());
                let kept = word & (u64::MAX >> (8 * (8 - (len - last))));
                to.add(last).cast::<[u8; 8]>().write(kept.to_le_bytes());
            }
        }
        1
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
