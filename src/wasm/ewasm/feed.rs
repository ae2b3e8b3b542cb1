//! Passes events to the guest, as JSON, as bytes or in batches, and passes the results of the guest to the host.

use std::sync::Arc;

use crate::bpf::map::{is_per_cpu, value_json};
use crate::bpf::source::{Shape, Sink};
use crate::os;
use crate::render::{Clock, hex_json};
use crate::wasm::outlet::Outlet;
use crate::wasm::state::{EventForm, State};
use crate::wasm::sys::guest::{Function, Guest};

/// A batch of at least this many bytes is passed to the guest.
const FULL_BATCH: usize = 64 << 10;
/// Size of the header of a record in a batch: size, len, key_len, cpu.
const HEADER: usize = 16;
/// The `len` that a guest sets in the header of a record to drop the record.
const DROPPED: u32 = u32::MAX;

/// Takes the records of a program's sources.
pub struct Feed<'a, 's> {
    state: &'a State<'s>,
    guest: Guest<'a>,
    form: EventForm,
    function: Option<Function<'a>>,
    shapes: Vec<Arc<Shape>>,
    /// The bytes that are passed to the guest, and then those that the guest has written over them.
    bytes: Vec<u8>,
    /// The records of the batch.
    records: Vec<Record>,
    clock: Clock,
    /// The time when the next records were read.
    time_ns: u64,
    /// Whether the guest has trapped or must end.
    is_over: bool,
}

/// A record of a batch. The host keeps this where the guest cannot change it.
struct Record {
    source: usize,
    cpu: i32,
    time_ns: u64,
    header_at: usize,
    len: usize,
    key_len: Option<usize>,
}

impl<'a, 's> Feed<'a, 's> {
    /// Returns a feed for the records of the sources with these `shapes`.
    pub fn new(state: &'a State<'s>, guest: Guest<'a>, shapes: Vec<Arc<Shape>>) -> Feed<'a, 's> {
        let form = state.event_form.get();
        let name = if form == EventForm::Batch { c"process_events" } else { c"process_event" };
        let function = guest.function(name, 3);
        let (bytes, records) = (Vec::new(), Vec::new());
        let clock = Clock::new(os::boot_time);
        Feed { state, guest, form, function, shapes, bytes, records, clock, time_ns: 0, is_over: false }
    }

    /// Whether the guest gets no more events.
    pub fn is_over(&self) -> bool {
        self.is_over || self.state.is_ending()
    }

    /// Passes the records of an incomplete batch to the guest.
    pub fn flush(&mut self) {
        if !self.records.is_empty() && !self.is_over() && self.pass_batch().is_none() {
            self.is_over = true;
        }
        self.records.clear();
        self.clock = Clock::new(os::boot_time);
        if self.form == EventForm::Batch {
            self.bytes.clear();
        }
    }

    /// Records that the guest has ended if a record could not be passed on. Returns whether the guest is still running.
    fn note(&mut self, passed: Option<()>) -> bool {
        self.is_over |= passed.is_none();
        !self.is_over
    }

    /// Writes the bytes and a NUL to the guest's memory. Returns the address and the size of the buffer there.
    fn write(&mut self) -> Option<(u32, u32)> {
        let (at, size) = self.state.event_buffer(self.guest, self.bytes.len())?;
        let len = self.bytes.len();
        self.bytes.push(0);
        let written = self.guest.write(at, &self.bytes);
        self.bytes.truncate(len);
        written.map(|()| (at, size))
    }

    /// Calls the guest's function for events; `None` if the guest has ended.
    fn call(&mut self, args: [u32; 3]) -> Option<i32> {
        let name = if self.form == EventForm::Batch { "process_events" } else { "process_event" };
        let function = self.function?;
        let called = self.state.watch.call(|| self.state.call(self.guest, name, function, &args));
        called.ok().map(|verdict| verdict as i32)
    }

    /// Passes one event to the guest. Returns whether the guest let it through; `None` if the guest has ended.
    fn pass_event(&mut self) -> Option<bool> {
        let (at, size) = self.write()?;
        let len = self.bytes.len() as u32;
        self.state.take_printed();
        if self.call([0, at, len])? < 0 {
            self.state.outlet.borrow_mut().count_dropped(1);
            return Some(false);
        }
        self.state.outlet.borrow_mut().set_printed(self.state.take_printed());
        if self.form == EventForm::Raw {
            self.guest.read_into(at, &mut self.bytes)?;
            return Some(true);
        }
        let json = self.guest.read_string(at, size as usize).or_else(|| self.guest.read(at, size))?;
        // The host gets UTF-8, whatever the guest has written.
        self.bytes = match String::from_utf8(json) {
            Ok(json) => json.into_bytes(),
            Err(e) => String::from_utf8_lossy(e.as_bytes()).into_owned().into_bytes(),
        };
        Some(true)
    }

    #[cfg_attr(small, optimize(speed))]
    fn pass_record(&mut self, source: &Shape, cpu: i32, data: &[u8]) -> Option<()> {
        self.bytes.clear();
        if self.form == EventForm::Raw {
            self.bytes.extend_from_slice(data);
            let is_passed = self.pass_event()?;
            return if is_passed {
                self.state.deliver(|to| to.record(source, cpu, &self.bytes))
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
        let is_passed = self.pass_event()?;
        let deliver = |to: &mut dyn Outlet| to.json(source, cpu, None, &self.bytes, data.len());
        if is_passed { self.state.deliver(deliver) } else { Some(()) }
    }

    fn pass_entry(&mut self, source: &Shape, key: &[u8], value: &[u8]) -> Option<()> {
        self.bytes.clear();
        if self.form == EventForm::Raw {
            let value_at = push_padded(&mut self.bytes, key);
            self.bytes.extend_from_slice(value);
            let is_passed = self.pass_event()?;
            let (key, value) = (&self.bytes[..key.len()], &self.bytes[value_at..]);
            return if is_passed { self.state.deliver(|to| to.entry(source, key, value)) } else { Some(()) };
        }
        let map = &source.map;
        self.bytes.extend_from_slice(b"{\"key\":");
        map.key.json(key, &self.clock, &mut self.bytes);
        self.bytes.extend_from_slice(b",\"value\":");
        value_json(&map.value, is_per_cpu(map.kind), value, &self.clock, &mut self.bytes);
        self.bytes.push(b'}');
        let is_passed = self.pass_event()?;
        let len = key.len() + value.len();
        let deliver = |to: &mut dyn Outlet| to.json(source, -1, Some(key), &self.bytes, len);
        if is_passed { self.state.deliver(deliver) } else { Some(()) }
    }

    /// Appends a record to the batch, and passes the batch to the guest if it is full.
    #[cfg_attr(small, optimize(speed))]
    fn add(&mut self, source: &Shape, cpu: i32, data: &[u8], key: Option<&[u8]>) -> Option<()> {
        let header_at = self.bytes.len();
        let key_bytes = key.unwrap_or_default();
        let size = HEADER + data.len().next_multiple_of(8) + key_bytes.len().next_multiple_of(8);
        for number in [size as u32, data.len() as u32, key_bytes.len() as u32, cpu as u32] {
            self.bytes.extend_from_slice(&number.to_ne_bytes());
        }
        push_padded(&mut self.bytes, data);
        push_padded(&mut self.bytes, key_bytes);
        let (source, len, key_len) = (source.index, data.len(), key.map(<[u8]>::len));
        self.records.push(Record { source, cpu, time_ns: self.time_ns, header_at, len, key_len });
        if self.bytes.len() < FULL_BATCH {
            return Some(());
        }
        let passed = self.pass_batch();
        self.bytes.clear();
        self.records.clear();
        passed
    }

    #[cfg_attr(small, optimize(speed))]
    fn pass_batch(&mut self) -> Option<()> {
        let (at, _) = self.write()?;
        let (len, count) = (self.bytes.len() as u32, self.records.len());
        if self.call([at, len, count as u32])? < 0 {
            self.state.outlet.borrow_mut().count_dropped(count as u64);
            return Some(());
        }
        self.guest.read_into(at, &mut self.bytes)?;
        let mut dropped = 0;
        let delivered = self.records.iter().try_for_each(|record| {
            let is_dropped = self.bytes[record.header_at + 4..record.header_at + 8] == DROPPED.to_ne_bytes();
            dropped += u64::from(is_dropped);
            if is_dropped { Some(()) } else { self.deliver(record) }
        });
        let mut outlet = self.state.outlet.borrow_mut();
        outlet.count_dropped(dropped);
        // Events outside of the batch, such as the end of a round, have the current time.
        outlet.read_at(self.time_ns);
        delivered
    }

    /// Delivers a record of a batch to the host. Its position and length are those that the host has kept.
    #[cfg_attr(small, optimize(speed))]
    fn deliver(&self, record: &Record) -> Option<()> {
        let (source, data_at) = (&*self.shapes[record.source], record.header_at + HEADER);
        let data = &self.bytes[data_at..data_at + record.len];
        let Some(key_len) = record.key_len else {
            return self.state.deliver(|to| {
                to.read_at(record.time_ns);
                to.record(source, record.cpu, data)
            });
        };
        let key_at = data_at + record.len.next_multiple_of(8);
        let key = &self.bytes[key_at..key_at + key_len];
        self.state.deliver(|to| {
            to.read_at(record.time_ns);
            to.entry(source, key, data)
        })
    }
}

/// Appends bytes and padding up to a multiple of 8. Returns the new length.
fn push_padded(bytes: &mut Vec<u8>, part: &[u8]) -> usize {
    bytes.extend_from_slice(part);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes.len()
}

impl Sink for Feed<'_, '_> {
    fn read_at(&mut self, time_ns: u64) {
        self.time_ns = time_ns;
        self.state.outlet.borrow_mut().read_at(time_ns);
    }

    fn record(&mut self, source: &Shape, cpu: i32, data: &[u8]) -> bool {
        let passed = match self.form {
            EventForm::Bypass => self.state.deliver(|to| to.record(source, cpu, data)),
            EventForm::Batch => self.add(source, cpu, data, None),
            EventForm::Json | EventForm::Raw => self.pass_record(source, cpu, data),
        };
        self.note(passed)
    }

    fn lost(&mut self, source: &Shape, cpu: i32, count: u64) -> bool {
        let passed = self.state.deliver(|to| to.lost(source, cpu, count));
        self.note(passed)
    }

    fn entry(&mut self, source: &Shape, key: &[u8], value: &[u8]) -> bool {
        let passed = match self.form {
            EventForm::Bypass => self.state.deliver(|to| to.entry(source, key, value)),
            EventForm::Batch => self.add(source, -1, value, Some(key)),
            EventForm::Json | EventForm::Raw => self.pass_entry(source, key, value),
        };
        self.note(passed)
    }

    fn round(&mut self, source: &Shape) -> bool {
        self.flush();
        if self.is_over() {
            return false;
        }
        let passed = self.state.deliver(|to| to.round(source));
        self.note(passed)
    }

    fn interrupted(&self) -> bool {
        self.is_over() || self.state.outlet.borrow().interrupted()
    }
}
