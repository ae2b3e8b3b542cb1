//! Pull instead of callback: records of one source, packed into the host's buffer.

use super::event::Format;
use super::map_entry::entry_text;
use crate::bpf::source::{Shape, Sink};
use crate::os;
use crate::render::{Clock, hex_json, hex_text};

/// Length of `eunomia_record`: size, len, key_len, cpu, four bytes each.
const HEAD: usize = 16;

/// What `read` stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Bytes used.
    pub len: usize,
    /// Bytes the next record needs, if none fitted.
    pub need: usize,
    /// The source all records came from.
    pub source: u32,
    /// Number of records.
    pub count: usize,
    /// When the first record was read, as [`Event::time_ns`](super::Event::time_ns).
    pub time_ns: u64,
}

/// One record of a raw batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The bytes as the kernel wrote them.
    pub data: &'a [u8],
    /// Key of a map entry, else empty.
    pub key: &'a [u8],
    /// CPU of a perf record, -1 where unknown.
    pub cpu: i32,
}

impl Batch {
    /// The records that [`Vm::read`](super::Vm::read) or [`Vm::map_dump`](super::Vm::map_dump) stored in `buf` as
    /// [`Format::Raw`].
    pub fn records<'a>(&self, buf: &'a [u8]) -> impl Iterator<Item = Record<'a>> {
        let mut rest = buf.get(..self.len).unwrap_or_default();
        std::iter::from_fn(move || {
            let word = |at: usize| rest.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
            let (size, len, key_len) = (word(0)? as usize, word(4)? as usize, word(8)? as usize);
            let key = HEAD + len.next_multiple_of(8);
            let record = Record {
                data: rest.get(HEAD..HEAD + len)?,
                key: rest.get(key..key + key_len)?,
                cpu: word(12)? as i32,
            };
            rest = rest.get(size..)?;
            Some(record)
        })
    }
}

/// A record that has left the kernel and found no room yet.
pub struct PendingRecord {
    /// Its source.
    pub source: usize,
    /// Its CPU, -1 where unknown.
    pub cpu: i32,
    /// When it was read.
    pub time_ns: u64,
    /// Its key, for a map entry.
    pub key: Option<Vec<u8>>,
    /// Its bytes.
    pub data: Vec<u8>,
}

impl PendingRecord {
    /// Hands it on.
    pub fn deliver(&self, shape: &Shape, sink: &mut impl Sink) -> bool {
        sink.read_at(self.time_ns);
        match &self.key {
            Some(key) => sink.entry(shape, key, &self.data),
            None => sink.record(shape, self.cpu, &self.data),
        }
    }
}

/// Packs records into a buffer.
pub struct BatchSink<'a> {
    format: Format,
    buf: &'a mut [u8],
    line: &'a mut Vec<u8>,
    time: [u8; 8],
    clock: Clock,
    /// When the next records were read.
    time_ns: u64,
    /// What has been stored so far.
    pub batch: Batch,
    /// Bytes of the stored records as the kernel wrote them.
    pub bytes: u64,
    /// Records that the kernel reported as dropped.
    pub lost: u64,
    /// The record that came after those that fitted.
    pub pending: Option<PendingRecord>,
    /// Whether that record came from another source.
    other: bool,
    /// Whether to add up what everything would need instead of keeping the first record that does not fit.
    measure: bool,
}

impl<'a> BatchSink<'a> {
    /// Packs into `buf` until it is full or another source comes.
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
            other: false,
            measure: false,
        }
    }

    /// Goes on counting in `batch.need` behind the end of `buf`.
    pub fn measuring(self) -> BatchSink<'a> {
        BatchSink { measure: true, ..self }
    }

    #[cfg_attr(small, optimize(speed))]
    fn take(&mut self, source: &Shape, cpu: i32, key: Option<&[u8]>, data: &[u8]) -> bool {
        self.other = self.batch.count > 0 && self.batch.source != source.index as u32;
        if !self.other {
            let len = self.render(source, cpu, key, data);
            self.batch.need += len;
            let end = self.batch.len + len;
            if let Some(room) = self.buf.get_mut(self.batch.len..end) {
                room.copy_from_slice(&self.line[..len]);
                (self.batch.len, self.batch.source) = (end, source.index as u32);
                if self.batch.count == 0 {
                    self.batch.time_ns = self.time_ns;
                }
                self.batch.count += 1;
                self.bytes += (key.map_or(0, <[u8]>::len) + data.len()) as u64;
                return true;
            }
            if self.measure {
                return true;
            }
        }
        self.pending = Some(PendingRecord {
            source: source.index,
            cpu,
            time_ns: self.time_ns,
            key: key.map(<[u8]>::to_vec),
            data: data.to_vec(),
        });
        false
    }

    /// Writes the record at the beginning of `line`, over what it holds; says how many bytes. A line that were cleared for
    /// each record would have its room made and zeroed for each, which takes several times what writing it does.
    #[cfg_attr(small, optimize(speed))]
    fn render(&mut self, source: &Shape, cpu: i32, key: Option<&[u8]>, data: &[u8]) -> usize {
        let end = match (key, &source.record, self.format) {
            (.., Format::Raw) => return self.render_raw(cpu, key.unwrap_or_default(), data),
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

    /// Entries of maps, and records whose type is unknown.
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

    /// `eunomia_record`, the data, then the key; each part begins 8-aligned.
    #[cfg_attr(small, optimize(speed))]
    fn render_raw(&mut self, cpu: i32, key: &[u8], data: &[u8]) -> usize {
        self.line.clear();
        let size = HEAD + data.len().next_multiple_of(8) + key.len().next_multiple_of(8);
        for number in [size as u32, data.len() as u32, key.len() as u32, cpu as u32] {
            self.line.extend_from_slice(&number.to_ne_bytes());
        }
        for part in [data, key] {
            self.line.extend_from_slice(part);
            self.line.resize(self.line.len().next_multiple_of(8), 0);
        }
        self.line.len()
    }
}

impl Sink for BatchSink<'_> {
    fn read_at(&mut self, time_ns: u64) {
        self.time_ns = time_ns;
    }

    #[cfg_attr(small, optimize(speed))]
    fn record(&mut self, source: &Shape, cpu: i32, data: &[u8]) -> bool {
        self.take(source, cpu, None, data)
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
        self.pending.is_some()
    }

    /// The source whose record ended a batch of another one comes first in the next batch; one that filled the
    /// buffer has had its turn.
    fn keeps_turn(&self) -> bool {
        self.other
    }
}
