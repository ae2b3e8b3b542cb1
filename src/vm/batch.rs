//! Events without a callback: records of one source, packed into the host's buffer.

use std::ffi::CStr;
use std::sync::Arc;

use super::event::{EventKind, Format};
use super::map_entry::entry_text;
use crate::bpf::packed::{HEADER, Packed, pack_one, padded, stride_with};
use crate::bpf::source::{Shape, Sink, SourceKind};
use crate::os;
use crate::render::{Clock, hex_json, hex_text};
use crate::types::Type;

/// The records that [`Vm::read`](super::Vm::read) or [`Vm::map_dump`](super::Vm::map_dump) stored in a buffer.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Batch {
    /// The number of bytes that they use.
    pub len: usize,
    /// The number of bytes that the next record needs, if no record fitted.
    pub need: usize,
    /// The index of the source of all records, in the version of the package that sent them; see
    /// [`Vm::source_at`](super::Vm::source_at).
    pub source: u32,
    /// The number of records.
    pub count: usize,
    /// The time when the first record was read, as [`Event::time_ns`](super::Event::time_ns).
    pub time_ns: u64,
    /// With [`Format::Raw`], the number of bytes from each record to the next one if it is the same for all; else 0.
    pub stride: usize,
    /// The name of that source. `None` without records.
    pub name: Option<Arc<CStr>>,
    /// The type of the records, or of a sampled map's values. `None` if the package does not specify it.
    pub ty: Option<Arc<Type>>,
    /// The kind of the records: [`EventKind::Sample`] or [`EventKind::MapEntry`].
    pub kind: EventKind,
}

/// One record of a raw batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record<'a> {
    /// The bytes of the record as the kernel wrote them.
    pub data: &'a [u8],
    /// The key of a map entry, else empty.
    pub key: &'a [u8],
    /// The CPU of a perf record, or -1 if it is unknown.
    pub cpu: i32,
}

impl Batch {
    /// Iterates over the records in `buf`, the buffer that was filled together with this batch, with [`Format::Raw`]. The
    /// iterator ends early if the bytes are not such records.
    ///
    /// ```no_run
    /// use eunomia::Format;
    /// use eunomia::vm::Batch;
    ///
    /// # fn main() -> eunomia::Result<()> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// let (mut batch, mut buffer) = (Batch::default(), vec![0; 1 << 20]);
    /// vm.read(None, Format::Raw, &mut buffer, &mut batch)?;
    /// let bytes: usize = batch.records(&buffer).map(|record| record.data.len()).sum();
    /// # Ok(())
    /// # }
    /// ```
    pub fn records<'a>(&self, buf: &'a [u8]) -> impl Iterator<Item = Record<'a>> {
        let mut rest = buf.get(..self.len).unwrap_or_default();
        std::iter::from_fn(move || {
            let word = |at: usize| rest.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
            let (size, len, key_len) = (word(0)? as usize, word(4)? as usize, word(8)? as usize);
            let key = HEADER + len.next_multiple_of(8);
            let record = Record {
                data: rest.get(HEADER..HEADER + len)?,
                key: rest.get(key..key + key_len)?,
                cpu: word(12)? as i32,
            };
            rest = rest.get(size..)?;
            Some(record)
        })
    }
}

/// A record that has left the kernel and did not fit into the host's buffer.
pub struct PendingRecord {
    /// The index of its source.
    pub source: usize,
    /// Its CPU, or -1 if it is unknown.
    pub cpu: i32,
    /// The time when it was read.
    pub time_ns: u64,
    /// Its key, for a map entry.
    pub key: Option<Vec<u8>>,
    /// Its bytes.
    pub data: Vec<u8>,
}

impl PendingRecord {
    /// Passes the record to `sink`.
    pub fn deliver(&self, shape: &Shape, sink: &mut (impl Sink + ?Sized)) -> bool {
        sink.read_at(self.time_ns);
        match &self.key {
            Some(key) => sink.entry(shape, key, &self.data),
            None => sink.record(shape, self.cpu, &self.data),
        }
    }
}

/// A sink that packs records into a buffer.
pub struct BatchSink<'a> {
    format: Format,
    buf: &'a mut [u8],
    line: &'a mut Vec<u8>,
    time: [u8; 8],
    clock: Clock,
    /// The time when the next records were read.
    time_ns: u64,
    /// The records stored so far.
    pub batch: Batch,
    /// The size of the stored records as the kernel wrote them.
    pub bytes: u64,
    /// The number of records that the kernel reported as dropped.
    pub lost: u64,
    /// The first record that did not fit.
    pub pending: Option<PendingRecord>,
    /// Whether there is a record that did not fit. It may have stayed in its buffer.
    pub is_full: bool,
    /// Whether the record that did not fit is from another source.
    other: bool,
    /// Whether to add up the size of all records instead of keeping the first one that does not fit.
    measure: bool,
}

impl<'a> BatchSink<'a> {
    /// Packs records into `buf` until it is full or a record comes from another source.
    pub fn new(format: Format, buf: &'a mut [u8], line: &'a mut Vec<u8>) -> BatchSink<'a> {
        let time = if format == Format::Text { os::local_time() } else { [0; 8] };
        let batch = Batch::default();
        BatchSink {
            format,
            buf,
            line,
            time,
            clock: Clock::new(os::boot_time),
            time_ns: 0,
            batch,
            bytes: 0,
            lost: 0,
            pending: None,
            is_full: false,
            other: false,
            measure: false,
        }
    }

    /// Makes the sink add up the size of all records in `batch.need`, also after the end of `buf`.
    pub fn measuring(self) -> BatchSink<'a> {
        BatchSink { measure: true, ..self }
    }

    #[cfg_attr(small, optimize(speed))]
    fn take(&mut self, source: &Shape, cpu: i32, key: Option<&[u8]>, data: &[u8]) -> bool {
        if self.begin(source) {
            let is_stored = match self.format {
                Format::Raw => self.store_raw(cpu, key.unwrap_or_default(), data),
                _ => self.store_text(source, key, data),
            };
            if is_stored || self.measure {
                return true;
            }
        }
        self.keep(source, cpu, key, data)
    }

    /// Returns whether the batch can have records of `source`: all its records have the source of the first one.
    #[inline(always)]
    fn begin(&mut self, source: &Shape) -> bool {
        if self.batch.count == 0 {
            self.describe(source);
        }
        self.other = self.batch.source != source.index as u32;
        !self.other
    }

    /// Stores the source of the first record in the batch. Its name and type are stored too, because a later replace
    /// changes what the index means.
    #[inline(never)]
    fn describe(&mut self, source: &Shape) {
        let batch = &mut self.batch;
        (batch.source, batch.time_ns) = (source.index as u32, self.time_ns);
        batch.kind = match source.kind {
            SourceKind::Map => EventKind::MapEntry,
            _ => EventKind::Sample,
        };
        batch.name = Some(Arc::clone(&source.map.name));
        batch.ty = source.ty().map(Arc::clone);
    }

    /// Keeps a record that cannot be stored, which ends the batch.
    fn keep(&mut self, source: &Shape, cpu: i32, key: Option<&[u8]>, data: &[u8]) -> bool {
        self.is_full = true;
        self.pending = Some(PendingRecord {
            source: source.index,
            cpu,
            time_ns: self.time_ns,
            key: key.map(<[u8]>::to_vec),
            data: data.to_vec(),
        });
        false
    }

    /// Stores a record with its header. Returns false if it does not fit.
    #[inline(always)]
    fn store_raw(&mut self, cpu: i32, key: &[u8], data: &[u8]) -> bool {
        let size = HEADER + padded(data.len()) + padded(key.len());
        let stride = stride_with(self.batch.stride, self.batch.count, size);
        let Some(record) = self.reserve(size, key.len() + data.len()) else { return false };
        pack_one(record, cpu, key, data);
        self.batch.stride = stride;
        true
    }

    /// Stores a record as a line. Returns false if it does not fit.
    #[cfg_attr(small, optimize(speed))]
    fn store_text(&mut self, source: &Shape, key: Option<&[u8]>, data: &[u8]) -> bool {
        let len = self.render(source, key, data);
        let line = std::mem::take(self.line);
        let free = self.reserve(len, key.map_or(0, <[u8]>::len) + data.len());
        let is_stored = free.map(|free| free.copy_from_slice(&line[..len])).is_some();
        *self.line = line;
        is_stored
    }

    /// Returns space for the next record, of `size` bytes, and counts the record. `bytes`: the size of the record as
    /// the kernel wrote it.
    #[inline(always)]
    fn reserve(&mut self, size: usize, bytes: usize) -> Option<&mut [u8]> {
        self.batch.need += size;
        let free = self.buf.get_mut(self.batch.len..self.batch.len + size)?;
        self.batch.len += size;
        self.batch.count += 1;
        self.bytes += bytes as u64;
        Some(free)
    }

    /// Writes the record to the beginning of `line` and returns the length of the text. The line is not cleared:
    /// clearing it would grow and zero it again for each record, which takes several times as long as writing the
    /// record.
    #[cfg_attr(small, optimize(speed))]
    fn render(&mut self, source: &Shape, key: Option<&[u8]>, data: &[u8]) -> usize {
        let end = match (key, &source.record, self.format) {
            (None, Some(plan), Format::Text) => plan.text_row_at(0, &self.time, data, &self.clock, self.line),
            (None, Some(plan), _) => plan.json_at(0, data, &self.clock, self.line),
            _ => self.render_other(source, key, data),
        };
        match self.line.get_mut(end) {
            Some(scratch) => *scratch = b'\n',
            None => self.line.push(b'\n'),
        }
        end + 1
    }

    /// Writes a map entry, or a record whose type is unknown.
    fn render_other(&mut self, source: &Shape, key: Option<&[u8]>, data: &[u8]) -> usize {
        let line = &mut *self.line;
        line.clear();
        match (key, self.format) {
            (Some(key), _) => {
                let mut text = Vec::new();
                source.map.key.json(key, &self.clock, &mut text);
                entry_text(source, self.format, &self.time, &self.clock, &text, data, line);
            }
            (None, Format::Text) => hex_text(&self.time, data, line),
            (None, _) => hex_json(data, line),
        }
        line.len()
    }
}

impl Sink for BatchSink<'_> {
    fn read_at(&mut self, time_ns: u64) {
        self.time_ns = time_ns;
    }

    fn record(&mut self, source: &Shape, cpu: i32, data: &[u8]) -> bool {
        self.take(source, cpu, None, data)
    }

    fn space(&mut self, source: &Shape) -> Option<&mut [u8]> {
        if self.format != Format::Raw {
            return None;
        }
        let start = if self.begin(source) { self.batch.len } else { self.buf.len() };
        Some(self.buf.get_mut(start..).unwrap_or_default())
    }

    fn packed(&mut self, packed: Packed) -> bool {
        if packed.count > 0 {
            self.batch.stride = stride_with(self.batch.stride, self.batch.count, packed.stride);
        }
        self.batch.len += packed.used;
        self.batch.need += packed.used + packed.missing;
        self.batch.count += packed.count;
        self.bytes += packed.bytes as u64;
        self.is_full = packed.missing > 0;
        !self.is_full
    }

    fn lost(&mut self, source: &Shape, _cpu: i32, count: u64) -> bool {
        self.lost += source.uncounted(count);
        true
    }

    fn entry(&mut self, source: &Shape, key: &[u8], value: &[u8]) -> bool {
        self.take(source, -1, Some(key), value)
    }

    fn round(&mut self, _source: &Shape) -> bool {
        true
    }

    fn interrupted(&self) -> bool {
        self.is_full
    }

    /// A source whose record ended the batch of another source comes first in the next batch. A source that filled the
    /// buffer has had its turn.
    fn keeps_turn(&self) -> bool {
        self.other
    }
}
