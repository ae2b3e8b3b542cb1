//! Perf buffers: records from the memory that the kernel shares, one buffer per CPU; perf_event_open(2).

use std::ffi::{c_int, c_void};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

use libbpf_sys as b;

use super::result::check;
use super::ring::{Receiver, map, unmap};
use super::span::Spans;
use crate::os::{self, Errno};

/// One perf event array, with a buffer per online CPU.
pub struct Perf {
    events: Arc<PerfEvents>,
    /// Copies of the records that are being delivered, because the data of a record is only 4-aligned in its buffer and
    /// may wrap around.
    copies: Vec<u64>,
    /// The ends of the records of a batch in `copies`, in words, and their lengths.
    batch: Vec<(usize, usize)>,
}

/// The buffers. Only `Perf` reads records; any thread may ask for losses at any time.
pub struct PerfEvents {
    buffers: Vec<Buffer>,
    /// The map that contains the buffers, and the process that put them there; `None` if another process did.
    map: Option<(RawFd, u32)>,
    /// Whether the kernel counts the losses of each event.
    counts_lost: bool,
}

impl Perf {
    /// Opens the buffers, with `pages` (a power of two) pages per CPU, and puts them into the map, which has `entries`.
    pub fn new(map_fd: RawFd, entries: u32, pages: u32) -> os::Result<Perf> {
        let events = match PerfEvents::new(map_fd, entries, pages, true) {
            // Kernels before Linux 6.0 do not support PERF_FORMAT_LOST.
            Err(Errno(libc::EINVAL)) => PerfEvents::new(map_fd, entries, pages, false)?,
            made => made?,
        };
        Ok(Perf { events: Arc::new(events), copies: Vec::new(), batch: Vec::new() })
    }

    /// Maps buffers that another process has opened and put into the map: the CPU and the event of each.
    pub fn given(events: Vec<(i32, OwnedFd)>, pages: u32) -> os::Result<Perf> {
        let buffers = events.into_iter().map(|(cpu, event)| {
            check_event(&event)?;
            Buffer::map(event, cpu, pages)
        });
        let buffers = buffers.collect::<os::Result<Vec<_>>>()?;
        let counts_lost = buffers.iter().all(|buffer| buffer.lost().is_some());
        let events = PerfEvents { buffers, map: None, counts_lost };
        Ok(Perf { events: Arc::new(events), copies: Vec::new(), batch: Vec::new() })
    }

    /// Returns the buffers, which count losses.
    pub fn events(&self) -> &Arc<PerfEvents> {
        &self.events
    }

    /// Returns the number of per-CPU buffers.
    pub fn len(&self) -> usize {
        self.events.buffers.len()
    }

    /// Returns the descriptors that are readable when their buffers have records.
    pub fn fds(&self) -> impl Iterator<Item = RawFd> {
        self.events.buffers.iter().map(|buffer| buffer.event.as_raw_fd())
    }

    /// Returns whether a record waits. No system call. The kernel reports a descriptor as readable only once, to the
    /// first caller that asks, so only this check is reliable.
    pub fn is_ready(&self) -> bool {
        self.events.buffers.iter().any(Buffer::is_ready)
    }

    /// Passes the records of buffer `index` to `receiver` until it has enough.
    pub fn consume<R: Receiver>(&mut self, index: usize, receiver: &mut R) -> os::Result<()> {
        let Some(buffer) = self.events.buffers.get(index) else { return Ok(()) };
        loop {
            self.copies.clear();
            let Some((record, next)) = buffer.record_at(buffer.tail(), &mut self.copies)? else { break };
            // The record is released after the call, even if the call panics. If this process is killed during the call, the next
            // reader gets the record.
            let released = Released { buffer, next };
            let go_on = match record {
                Record::Sample(len) => receiver.perf_record(buffer.cpu, bytes(&self.copies, len)),
                Record::Lost(count) => receiver.lost(buffer.cpu, count),
                Record::Other => true,
            };
            drop(released);
            if !go_on {
                break;
            }
        }
        Ok(())
    }

    /// Passes the records of buffer `index` to `receiver` in batches until it has enough. This function is compiled once for all
    /// receivers.
    pub fn consume_batches(&mut self, index: usize, receiver: &mut dyn Receiver) -> os::Result<()> {
        let Perf { events, copies, batch } = self;
        let Some(buffer) = events.buffers.get(index) else { return Ok(()) };
        loop {
            copies.clear();
            batch.clear();
            let most = receiver.limit().clamp(1, Spans::MOST);
            let (mut next, mut total) = (buffer.tail(), 0);
            while batch.len() < most {
                let (record, after) = match buffer.record_at(next, copies) {
                    Ok(Some(found)) => found,
                    Err(damaged) if batch.is_empty() => return Err(damaged),
                    // The records before the damaged one are delivered first.
                    _ => break,
                };
                match record {
                    Record::Sample(len) => {
                        let len = receiver.unpadded(len);
                        total += len;
                        batch.push((copies.len(), len));
                    }
                    Record::Lost(_) if !batch.is_empty() => break,
                    Record::Lost(count) => {
                        buffer.release(after);
                        if !receiver.lost(buffer.cpu, count) {
                            return Ok(());
                        }
                    }
                    Record::Other => {}
                }
                next = after;
            }
            // The records are released on drop, so that none is delivered again after a panic of the callback.
            let released = Released { buffer, next };
            if batch.is_empty() {
                return Ok(());
            }
            let mut spans = Spans::new();
            let starts = [0].into_iter().chain(batch.iter().map(|(end, _)| *end));
            for (index, (start, (_, len))) in starts.zip(batch.iter()).enumerate() {
                spans.put(index, bytes(&copies[start..], *len));
            }
            // SAFETY: the loop has stored that many spans.
            let go_on = receiver.records(buffer.cpu, unsafe { spans.first(batch.len()) }, total);
            drop(released);
            if !go_on {
                return Ok(());
            }
        }
    }
}

/// Releases the records before `next`.
struct Released<'a> {
    buffer: &'a Buffer,
    next: u64,
}

impl Drop for Released<'_> {
    fn drop(&mut self) {
        self.buffer.release(self.next);
    }
}

/// Offsets of data_head and data_tail in `struct perf_event_mmap_page`, perf_event_open(2).
const DATA_HEAD: usize = 1024;
const DATA_TAIL: usize = 1032;

/// Bytes of `struct perf_event_header`.
const HEADER: usize = size_of::<b::perf_event_header>();
/// Bytes before the data of a PERF_RECORD_SAMPLE with PERF_SAMPLE_RAW: the header, and the size in 4 bytes.
const SAMPLE_HEADER: usize = HEADER + 4;
/// Bytes of a PERF_RECORD_LOST: header, id and number.
const LOST_RECORD: usize = HEADER + 16;

/// The buffer of one CPU.
struct Buffer {
    event: OwnedFd,
    page: NonNull<u8>,
    data: NonNull<u8>,
    /// Bytes of data, a power of two.
    size: usize,
    cpu: i32,
}

// SAFETY: the mapping is tied to no thread.
unsafe impl Send for Buffer {}
// SAFETY: only the owner of `Perf` reads records; positions are atomic.
unsafe impl Sync for Buffer {}

enum Record {
    /// The number of bytes, which have been copied.
    Sample(usize),
    Lost(u64),
    Other,
}

impl Buffer {
    fn new(cpu: i32, pages: u32, read_format: u64) -> os::Result<Buffer> {
        let buffer = Buffer::map(open(cpu, read_format)?, cpu, pages)?;
        // SAFETY: a request without an argument.
        check(unsafe { libc::ioctl(buffer.event.as_raw_fd(), ENABLE, 0) })?;
        Ok(buffer)
    }

    fn map(event: OwnedFd, cpu: i32, pages: u32) -> os::Result<Buffer> {
        let page_size = os::page_size() as usize;
        let size = pages as usize * page_size;
        let page = map(event.as_raw_fd(), libc::PROT_READ | libc::PROT_WRITE, 0, page_size + size)?;
        // SAFETY: the data begins one page into the mapping.
        let data = unsafe { page.add(page_size) };
        Ok(Buffer { event, page, data, size, cpu })
    }

    /// Returns the number of lost records; `None` if the kernel does not count them.
    fn lost(&self) -> Option<u64> {
        // The event's own counter, which stays 0, then the number of lost records.
        let mut counters = [0; 16];
        let read = os::read(self.event.as_raw_fd(), &mut counters).ok()?;
        (read == counters.len()).then(|| u64::from_ne_bytes(counters[8..].try_into().unwrap_or_default()))
    }

    fn position(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: both positions are 8-aligned in the mapped first page, which the kernel accesses atomically.
        unsafe { self.page.add(offset).cast().as_ref() }
    }

    fn is_ready(&self) -> bool {
        self.position(DATA_HEAD).load(Acquire) != self.position(DATA_TAIL).load(Relaxed)
    }

    /// Returns the position of the next record.
    fn tail(&self) -> u64 {
        self.position(DATA_TAIL).load(Relaxed)
    }

    /// Lets the kernel overwrite all records before `position`.
    fn release(&self, position: u64) {
        self.position(DATA_TAIL).store(position, Release);
    }

    /// Returns the record at `position`, and the position after it. Appends its data to `into`. EBADMSG: the memory is damaged.
    #[cfg_attr(small, optimize(speed))]
    fn record_at(&self, position: u64, into: &mut Vec<u64>) -> os::Result<Option<(Record, u64)>> {
        let left = self.position(DATA_HEAD).load(Acquire).wrapping_sub(position);
        if left == 0 {
            return Ok(None);
        }
        // SAFETY: records are 8-aligned, so a header, 8 bytes, does not wrap around.
        let header: b::perf_event_header = unsafe { self.at(position & !7).cast().read() };
        let size = header.size as usize;
        if size < HEADER || size as u64 > left || size > self.size {
            return Err(Errno(libc::EBADMSG));
        }
        let record = match header.type_ {
            b::PERF_RECORD_SAMPLE if size >= SAMPLE_HEADER => {
                let mut len = [0; 4];
                self.copy(position + HEADER as u64, &mut len);
                let len = (u32::from_ne_bytes(len) as usize).min(size - SAMPLE_HEADER);
                let start = into.len();
                into.resize(start + len.div_ceil(8), 0);
                self.copy(position + SAMPLE_HEADER as u64, bytes_mut(&mut into[start..], len));
                Record::Sample(len)
            }
            b::PERF_RECORD_LOST if size >= LOST_RECORD => {
                let mut count = [0; 8];
                self.copy(position + HEADER as u64 + 8, &mut count);
                Record::Lost(u64::from_ne_bytes(count))
            }
            _ => Record::Other,
        };
        Ok(Some((record, position + size as u64)))
    }

    fn at(&self, position: u64) -> NonNull<u8> {
        // SAFETY: the offset is below `size`, a power of two.
        unsafe { self.data.add(position as usize & (self.size - 1)) }
    }

    /// Copies the bytes at `position`, at most the size of the buffer. They may wrap around its end.
    #[inline(always)]
    fn copy(&self, position: u64, into: &mut [u8]) {
        let start = position as usize & (self.size - 1);
        let first = into.len().min(self.size - start);
        let (head, tail) = into.split_at_mut(first);
        // SAFETY: `start + first` is at most `size`, and so is the length of `tail`.
        unsafe {
            std::ptr::copy_nonoverlapping(self.data.as_ptr().add(start), head.as_mut_ptr(), head.len());
            std::ptr::copy_nonoverlapping(self.data.as_ptr(), tail.as_mut_ptr(), tail.len());
        }
    }
}

/// Returns the first `len` bytes of `words`, or all bytes if there are fewer.
fn bytes(words: &[u64], len: usize) -> &[u8] {
    let len = len.min(size_of_val(words));
    // SAFETY: numbers have no padding, and the length is within the slice.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), len) }
}

/// Returns the first `len` bytes of `words`, or all bytes if there are fewer.
fn bytes_mut(words: &mut [u64], len: usize) -> &mut [u8] {
    let len = len.min(size_of_val(words));
    // SAFETY: any bytes are valid numbers, and the length is within the slice.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), len) }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        unmap(self.page, os::page_size() as usize + self.size);
    }
}

/// PERF_EVENT_IOC_ENABLE.
const ENABLE: libc::Ioctl = 0x2400;
/// PERF_FORMAT_LOST, since Linux 6.0.
const FORMAT_LOST: u64 = 1 << 4;

/// PERF_EVENT_IOC_ID.
const ID: libc::Ioctl = 0x8008_2407_u32 as libc::Ioctl;

/// Fails with ENOTTY if a descriptor is not a perf event.
fn check_event(event: &OwnedFd) -> os::Result<()> {
    let mut id = 0_u64;
    // SAFETY: the request writes a number of 64 bits.
    check(unsafe { libc::ioctl(event.as_raw_fd(), ID, &raw mut id) }).map(drop)
}

/// Opens an event that BPF programs on `cpu` write to, with a wake-up per record.
fn open(cpu: i32, read_format: u64) -> os::Result<OwnedFd> {
    let mut attr = b::perf_event_attr {
        size: size_of::<b::perf_event_attr>() as u32,
        type_: b::PERF_TYPE_SOFTWARE,
        config: b::PERF_COUNT_SW_BPF_OUTPUT as u64,
        sample_type: b::PERF_SAMPLE_RAW as u64,
        read_format,
        ..Default::default()
    };
    attr.__bindgen_anon_1.sample_period = 1;
    attr.__bindgen_anon_2.wakeup_events = 1;
    perf_event_open(&attr, -1, cpu)
}

/// Opens an event; perf_event_open(2). `pid` -1: all processes, `cpu` -1: all CPUs.
pub(super) fn perf_event_open(attr: &b::perf_event_attr, pid: i32, cpu: i32) -> os::Result<OwnedFd> {
    /// The crate libc lacks it.
    const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 8;
    let no_group: c_int = -1;
    // SAFETY: `attr` lives for the call and has its size.
    let fd = os::check(unsafe {
        libc::syscall(libc::SYS_perf_event_open, attr, pid, cpu, no_group, PERF_FLAG_FD_CLOEXEC) as c_int
    })?;
    // SAFETY: a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

impl PerfEvents {
    fn new(map_fd: RawFd, entries: u32, pages: u32, counts_lost: bool) -> os::Result<PerfEvents> {
        let read_format = if counts_lost { FORMAT_LOST } else { 0 };
        let mut events =
            PerfEvents { buffers: Vec::new(), map: Some((map_fd, std::process::id())), counts_lost };
        for cpu in online_cpus()?.into_iter().filter(|cpu| *cpu < entries) {
            let buffer = Buffer::new(cpu as i32, pages, read_format)?;
            let fd = buffer.event.as_raw_fd();
            events.buffers.push(buffer);
            let (key, value) = ((&raw const cpu).cast::<c_void>(), (&raw const fd).cast());
            // SAFETY: key and value of a perf event array have four bytes each.
            check(unsafe { b::bpf_map_update_elem(map_fd, key, value, 0) })?;
        }
        Ok(events)
    }

    /// Returns the number of all lost records, including those that a record reports; `None` if the kernel does not
    /// count them.
    pub fn lost(&self) -> Option<u64> {
        self.counts_lost.then(|| self.buffers.iter().filter_map(Buffer::lost).sum())
    }

    /// Passes each event on: its CPU, the pages of data in its buffer, and its descriptor.
    pub fn list(&self, list: &mut dyn FnMut(i32, u32, RawFd)) {
        for buffer in &self.buffers {
            list(buffer.cpu, (buffer.size / os::page_size() as usize) as u32, buffer.event.as_raw_fd());
        }
    }
}

impl Drop for PerfEvents {
    fn drop(&mut self) {
        // In a child of fork this would take the events from the parent's map.
        let Some((map_fd, owner)) = self.map else { return };
        if owner != std::process::id() {
            return;
        }
        for buffer in &self.buffers {
            // SAFETY: the key has four bytes. If it fails, the entry stays until the map is freed.
            unsafe { b::bpf_map_delete_elem(map_fd, (&raw const buffer.cpu).cast()) };
        }
    }
}

/// Returns the online CPUs.
fn online_cpus() -> os::Result<Vec<u32>> {
    let text = os::read_text("/sys/devices/system/cpu/online")?;
    cpu_list(&text).ok_or(Errno(libc::EINVAL))
}

/// Parses a list of the kernel such as "0-3,8,10-11".
fn cpu_list(text: &str) -> Option<Vec<u32>> {
    const MOST: u32 = 1 << 16;
    let mut cpus = Vec::new();
    for range in text.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last > MOST {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::cpu_list;

    #[test]
    fn cpu_lists_have_numbers_and_ranges() {
        assert_eq!(cpu_list("0\n"), Some(vec![0]));
        assert_eq!(cpu_list("0-2,5,7-8\n"), Some(vec![0, 1, 2, 5, 7, 8]));
        for wrong in ["", "x", "3-1", "0-4000000000", "-1"] {
            assert_eq!(cpu_list(wrong), None, "{wrong:?}");
        }
    }
}
