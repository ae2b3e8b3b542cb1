//! Events on their way through the guest: as JSON, as bytes, or many at once.

use std::sync::Arc;

use crate::bpf::map::{is_per_cpu, value_json};
use crate::bpf::source::{Shape, Sink};
use crate::os;
use crate::render::{Clock, hex_json};
use crate::wasm::Outlet;
use crate::wasm::run::{End, Run};
use crate::wasm::sys::instance::{Function, Guest};

/// How a guest gets events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Not at all: it has no function for them.
    Pass,
    /// `process_event` with JSON.
    Json,
    /// `process_event` with bytes.
    Raw,
    /// `process_events` with the bytes of many.
    Batch,
}

/// A guest may write so many bytes to where an event is, even if the event is shorter.
const ROOM: usize = 4096;
/// A batch that has so many bytes is handed over.
const BATCH: usize = 64 << 10;
/// Bytes of the head of a record in a batch: size, len, key_len, cpu.
const HEAD: usize = 16;
/// The len by which a guest drops a record of a batch.
const DROPPED: u32 = u32::MAX;

/// Takes the records of a program's sources.
pub struct Feed<'a, 'r> {
    run: &'a Run<'r>,
    guest: Guest<'a>,
    how: How,
    function: Option<Function<'a>>,
    shapes: Vec<Arc<Shape>>,
    /// What is handed over, and what comes back.
    bytes: Vec<u8>,
    /// The records of the batch.
    records: Vec<Record>,
    clock: Clock,
    /// The guest has trapped or is to end.
    is_over: bool,
}

/// A record in a batch, as the host remembers it.
struct Record {
    source: usize,
    cpu: i32,
    head: usize,
    len: usize,
    key_len: Option<usize>,
}

impl<'a, 'r> Feed<'a, 'r> {
    /// Hands records of the sources behind `shapes` to the guest.
    pub fn new(run: &'a Run<'r>, guest: Guest<'a>, shapes: Vec<Arc<Shape>>) -> Feed<'a, 'r> {
        let how = run.how.get();
        let name = if how == How::Batch { c"process_events" } else { c"process_event" };
        let function = guest.function(name, 3);
        let (bytes, records) = (Vec::new(), Vec::new());
        let clock = Clock::new(os::boot_time);
        Feed { run, guest, how, function, shapes, bytes, records, clock, is_over: false }
    }

    /// Whether the guest gets no more.
    pub fn is_over(&self) -> bool {
        self.is_over || self.run.is_ending()
    }

    /// Gives the records that wait to the guest.
    pub fn flush(&mut self) {
        if !self.records.is_empty() && !self.is_over() && self.hand_over_batch().is_none() {
            self.is_over = true;
        }
        self.records.clear();
        self.clock = Clock::new(os::boot_time);
        if self.how == How::Batch {
            self.bytes.clear();
        }
    }

    /// Passes on what the guest has let through; notes the end.
    fn pass(&mut self, passed: Option<()>) -> bool {
        self.is_over |= passed.is_none();
        !self.is_over
    }

    /// Puts the bytes, with a NUL behind them, into the guest's memory.
    fn put(&mut self) -> Option<u32> {
        let wanted = (self.bytes.len() + 1).max(ROOM);
        let (mut at, room) = self.run.buffer.get();
        if (room as usize) < wanted {
            let wanted = u32::try_from(wanted.next_power_of_two()).ok()?;
            let allocated = self.run.watch.call(|| {
                if room > 0 {
                    self.run.free(self.guest, at)?;
                }
                self.run.allocate(self.guest, wanted)
            });
            let Some(place) = allocated.ok()? else {
                let error = self.run.no_room(format_args!("an event of {} bytes", self.bytes.len()));
                return self.run.ends(End::Failed(error));
            };
            at = place;
            self.run.buffer.set((at, wanted));
        }
        let len = self.bytes.len();
        self.bytes.push(0);
        let written = self.guest.write(at, &self.bytes);
        self.bytes.truncate(len);
        written.map(|()| at)
    }

    /// Calls the guest with the bytes; `None` if it has come to an end.
    fn call(&mut self, args: [u32; 3]) -> Option<i32> {
        let place = if self.how == How::Batch { "process_events" } else { "process_event" };
        let function = self.function?;
        let called = self.run.watch.call(|| self.run.enter(self.guest, place, function, &args));
        called.ok().map(|verdict| verdict as i32)
    }

    /// One event by itself: `None` if the guest has come to an end, else whether it let the event through.
    fn hand_over(&mut self) -> Option<bool> {
        let at = self.put()?;
        let len = self.bytes.len() as u32;
        self.run.spoke.set(false);
        if self.call([0, at, len])? < 0 {
            self.run.outlet.borrow_mut().dropped(1);
            return Some(false);
        }
        self.run.outlet.borrow_mut().printed(self.run.spoke.get());
        if self.how == How::Raw {
            self.guest.read_into(at, &mut self.bytes)?;
            return Some(true);
        }
        let (_, room) = self.run.buffer.get();
        let text = self.guest.read_text(at, room as usize).or_else(|| self.guest.read(at, room))?;
        // The host gets text, whatever the guest has made of it.
        self.bytes = match String::from_utf8(text) {
            Ok(text) => text.into_bytes(),
            Err(e) => String::from_utf8_lossy(e.as_bytes()).into_owned().into_bytes(),
        };
        Some(true)
    }

    #[cfg_attr(small, optimize(speed))]
    fn one_record(&mut self, source: &Shape, cpu: i32, data: &[u8]) -> Option<()> {
        self.bytes.clear();
        if self.how == How::Raw {
            self.bytes.extend_from_slice(data);
            let through = self.hand_over()?;
            return if through {
                self.run.deliver(|to| to.record(source, cpu, &self.bytes))
            } else {
                Some(())
            };
        }
        match &source.record {
            Some(plan) => {
                plan.json(data, &self.clock, &mut self.bytes);
            }
            None => hex_json(data, &mut self.bytes),
        }
        let through = self.hand_over()?;
        let deliver = |to: &mut dyn Outlet| to.json(source, cpu, None, &self.bytes, data.len());
        if through { self.run.deliver(deliver) } else { Some(()) }
    }

    fn one_entry(&mut self, source: &Shape, key: &[u8], value: &[u8]) -> Option<()> {
        self.bytes.clear();
        if self.how == How::Raw {
            let value_at = push_padded(&mut self.bytes, key);
            self.bytes.extend_from_slice(value);
            let through = self.hand_over()?;
            let (key, value) = (&self.bytes[..key.len()], &self.bytes[value_at..]);
            return if through { self.run.deliver(|to| to.entry(source, key, value)) } else { Some(()) };
        }
        let map = &source.map;
        self.bytes.extend_from_slice(b"{\"key\":");
        map.key.json(key, &self.clock, &mut self.bytes);
        self.bytes.extend_from_slice(b",\"value\":");
        value_json(&map.value, is_per_cpu(map.kind), value, &self.clock, &mut self.bytes);
        self.bytes.push(b'}');
        let through = self.hand_over()?;
        let len = key.len() + value.len();
        let deliver = |to: &mut dyn Outlet| to.json(source, -1, Some(key), &self.bytes, len);
        if through { self.run.deliver(deliver) } else { Some(()) }
    }

    /// Appends a record to the batch, and hands that over if it is large enough.
    #[cfg_attr(small, optimize(speed))]
    fn add(&mut self, source: &Shape, cpu: i32, data: &[u8], key: Option<&[u8]>) -> Option<()> {
        let head = self.bytes.len();
        let key_bytes = key.unwrap_or_default();
        let size = HEAD + data.len().next_multiple_of(8) + key_bytes.len().next_multiple_of(8);
        for number in [size as u32, data.len() as u32, key_bytes.len() as u32, cpu as u32] {
            self.bytes.extend_from_slice(&number.to_ne_bytes());
        }
        push_padded(&mut self.bytes, data);
        push_padded(&mut self.bytes, key_bytes);
        let (source, len, key_len) = (source.index, data.len(), key.map(<[u8]>::len));
        self.records.push(Record { source, cpu, head, len, key_len });
        if self.bytes.len() < BATCH {
            return Some(());
        }
        let handed_over = self.hand_over_batch();
        self.bytes.clear();
        self.records.clear();
        handed_over
    }

    #[cfg_attr(small, optimize(speed))]
    fn hand_over_batch(&mut self) -> Option<()> {
        let at = self.put()?;
        let (len, count) = (self.bytes.len() as u32, self.records.len());
        if self.call([at, len, count as u32])? < 0 {
            self.run.outlet.borrow_mut().dropped(count as u64);
            return Some(());
        }
        self.guest.read_into(at, &mut self.bytes)?;
        let mut dropped = 0;
        let passed = self.records.iter().try_for_each(|record| {
            let is_dropped = self.bytes[record.head + 4..record.head + 8] == DROPPED.to_ne_bytes();
            dropped += u64::from(is_dropped);
            if is_dropped { Some(()) } else { self.pass_on(record) }
        });
        self.run.outlet.borrow_mut().dropped(dropped);
        passed
    }

    /// A record of a batch goes on to the host; where it is and how long, the guest cannot change.
    #[cfg_attr(small, optimize(speed))]
    fn pass_on(&self, record: &Record) -> Option<()> {
        let (source, data_at) = (&*self.shapes[record.source], record.head + HEAD);
        let data = &self.bytes[data_at..data_at + record.len];
        let Some(key_len) = record.key_len else {
            return self.run.deliver(|to| to.record(source, record.cpu, data));
        };
        let key_at = data_at + record.len.next_multiple_of(8);
        let key = &self.bytes[key_at..key_at + key_len];
        self.run.deliver(|to| to.entry(source, key, data))
    }
}

/// Appends bytes, padded to a multiple of 8; where the next ones go.
fn push_padded(bytes: &mut Vec<u8>, part: &[u8]) -> usize {
    bytes.extend_from_slice(part);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes.len()
}

impl Sink for Feed<'_, '_> {
    fn record(&mut self, source: &Shape, cpu: i32, data: &[u8]) -> bool {
        let passed = match self.how {
            How::Pass => self.run.deliver(|to| to.record(source, cpu, data)),
            How::Batch => self.add(source, cpu, data, None),
            How::Json | How::Raw => self.one_record(source, cpu, data),
        };
        self.pass(passed)
    }

    fn lost(&mut self, source: &Shape, cpu: i32, count: u64) -> bool {
        let passed = self.run.deliver(|to| to.lost(source, cpu, count));
        self.pass(passed)
    }

    fn entry(&mut self, source: &Shape, key: &[u8], value: &[u8]) -> bool {
        let passed = match self.how {
            How::Pass => self.run.deliver(|to| to.entry(source, key, value)),
            How::Batch => self.add(source, -1, value, Some(key)),
            How::Json | How::Raw => self.one_entry(source, key, value),
        };
        self.pass(passed)
    }

    fn round(&mut self, source: &Shape) -> bool {
        self.flush();
        if self.is_over() {
            return false;
        }
        let passed = self.run.deliver(|to| to.round(source));
        self.pass(passed)
    }

    fn interrupted(&self) -> bool {
        self.is_over() || self.run.outlet.borrow().interrupted()
    }
}
