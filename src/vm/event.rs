//! What a callback gets, and how a record becomes it.

use std::ffi::CStr;
use std::sync::Arc;

use super::interrupt::Interrupt;
use crate::bpf::map::{Form, is_per_cpu, value_json};
use crate::bpf::source::{Shape, Sink};
use crate::os;
use crate::package::{Sample, SampleKind};
use crate::render::{Clock, hex_header, hex_json, hex_text, linear_hist, log2_hist};
use crate::types::Type;

/// Form of the events a callback gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Bytes as the kernel wrote them.
    Raw = 0,
    /// One JSON value.
    Json = 1,
    /// One line of a table, or a histogram of several lines.
    Text = 2,
}

/// What an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A record of a ring or perf buffer, or a line or piece of an iterator's output.
    Sample = 0,
    /// The kernel dropped records.
    Lost = 1,
    /// An entry of a map.
    MapEntry = 2,
    /// The head of the text table.
    Header = 3,
    /// A line that a WASM guest printed.
    Output = 4,
    /// A sampling round is complete.
    Round = 5,
}

/// One event, borrowed for the call of the callback.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// What it is.
    pub kind: EventKind,
    /// Form of `data` and `key`.
    pub format: Format,
    /// Map, or iterator, it came through.
    pub source: &'a CStr,
    /// Raw bytes, or text; behind JSON and TEXT stands one NUL byte that the slice does not count.
    pub data: &'a [u8],
    /// Key of a map entry, else empty. In JSON `data` is `{"key":..,"value":..}` and this the key alone.
    pub key: &'a [u8],
    /// Type of raw `data`; `None` if the package does not tell.
    pub ty: Option<&'a Arc<Type>>,
    /// Number of records dropped, for [`EventKind::Lost`].
    pub lost: u64,
    /// CPU of a perf record, -1 where unknown.
    pub cpu: i32,
    /// A guest wrote to its standard output while it handled this event: a host that shows both shows it twice.
    pub printed: bool,
}

/// What a callback wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Continue,
    /// End this poll; the event counts as delivered.
    End,
    /// End this poll with `Status::Callback`; the value goes into the message.
    Fail(i32),
}

/// A callback. Not a trait object: what delivers is compiled for the callback's own type, so that a callback which
/// makes another form of the event fills it in directly.
pub trait EventFn: FnMut(&Event<'_>) -> Flow {}

impl<F: FnMut(&Event<'_>) -> Flow + ?Sized> EventFn for F {}

/// A text of no bytes, with a NUL behind it as behind any other.
const NO_TEXT: &[u8] = c"".to_bytes();

/// Buffers that live from poll to poll, so that no event allocates.
#[derive(Default)]
pub struct Scratch {
    /// The text of a record. It keeps its length, which saves clearing it anew for each.
    line: Vec<u8>,
    /// Any other text.
    data: Vec<u8>,
    key: Vec<u8>,
    /// Sources whose table head has been delivered.
    headed: Vec<bool>,
}

/// Renders records and hands them to a callback.
pub struct CallbackSink<'a, F: ?Sized> {
    format: Format,
    callback: &'a mut F,
    stop: Option<&'a Interrupt>,
    scratch: &'a mut Scratch,
    time: [u8; 8],
    clock: Clock,
    /// [`Event::printed`] of the next events.
    pub printed: bool,
    /// Events delivered.
    pub events: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Records that the kernel reported as dropped.
    pub lost: u64,
    /// What the callback last wanted, if not to go on.
    pub ended: Option<Flow>,
}

impl<'a, F: EventFn + ?Sized> CallbackSink<'a, F> {
    /// `stop`: ends the batch between turns when asked for.
    pub fn new(
        format: Format,
        scratch: &'a mut Scratch,
        stop: Option<&'a Interrupt>,
        callback: &'a mut F,
    ) -> CallbackSink<'a, F> {
        let time = if format == Format::Text { os::local_time() } else { [0; 8] };
        CallbackSink {
            format,
            callback,
            stop,
            scratch,
            time,
            clock: Clock::new(os::boot_time),
            printed: false,
            events: 0,
            bytes: 0,
            lost: 0,
            ended: None,
        }
    }

    /// Hands on an event; takes parts of `self`, since the event borrows others.
    #[inline(always)]
    fn call(callback: &mut F, ended: &mut Option<Flow>, event: &Event<'_>) -> bool {
        let flow = callback(event);
        if flow == Flow::Continue {
            return true;
        }
        ended.get_or_insert(flow);
        false
    }

    /// Hands on the text that is in the scratch buffers.
    fn call_text(&mut self, source: &CStr, kind: EventKind, cpu: i32, lost: u64) -> bool {
        let Scratch { data, key, .. } = &mut *self.scratch;
        let (data, key, printed) = (terminated(data), terminated(key), self.printed);
        let event = Event { kind, format: self.format, source, data, key, ty: None, lost, cpu, printed };
        Self::call(self.callback, &mut self.ended, &event)
    }

    fn clear(&mut self) {
        self.scratch.data.clear();
        self.scratch.key.clear();
    }

    /// Delivers the head of the table, once for each source; whether to go on after the row that it was for.
    fn head(&mut self, source: &Shape) -> bool {
        let headed = &mut self.scratch.headed;
        if headed.len() <= source.index {
            headed.resize(source.index + 1, false);
        }
        if std::mem::replace(&mut headed[source.index], true) {
            return true;
        }
        self.clear();
        match &source.record {
            Some(plan) => plan.text_header(&mut self.scratch.data),
            None => hex_header(&mut self.scratch.data),
        }
        self.call_text(&source.map.name, EventKind::Header, -1, 0)
    }

    /// A line that a guest printed; always text.
    pub fn output(&mut self, line: &[u8]) -> bool {
        self.clear();
        self.scratch.data.extend_from_slice(line);
        let (kind, format, source) = (EventKind::Output, Format::Text, c"stdout");
        let data = terminated(&mut self.scratch.data);
        let printed = false;
        let event = Event { kind, format, source, data, key: NO_TEXT, ty: None, lost: 0, cpu: -1, printed };
        Self::call(self.callback, &mut self.ended, &event)
    }

    /// An event that is JSON already: a record of `len` bytes, or with its key an entry.
    #[cfg_attr(small, optimize(speed))]
    pub fn json(&mut self, source: &Shape, cpu: i32, key: Option<&[u8]>, json: &[u8], len: usize) -> bool {
        self.events += 1;
        self.bytes += len as u64;
        self.clear();
        self.scratch.data.extend_from_slice(json);
        let Some(key) = key else {
            return self.call_text(&source.map.name, EventKind::Sample, cpu, 0);
        };
        source.map.key.json(key, &self.clock, &mut self.scratch.key);
        self.call_text(&source.map.name, EventKind::MapEntry, cpu, 0)
    }

    /// A record as text of either kind; apart, so that the path of a raw record stays short.
    #[inline(never)]
    #[cfg_attr(small, optimize(speed))]
    fn record_text(&mut self, source: &Shape, cpu: i32, data: &[u8]) -> bool {
        let go_on = self.format != Format::Text || self.head(source);
        let Some(plan) = &source.record else { return self.record_hex(source, cpu, data) && go_on };
        let line = &mut self.scratch.line;
        let end = match self.format {
            Format::Text => plan.text_row_at(0, &self.time, data, &self.clock, line),
            _ => plan.json_at(0, data, &self.clock, line),
        };
        line[end] = 0;
        let (kind, format, source) = (EventKind::Sample, self.format, &*source.map.name);
        let (data, key, printed) = (&line[..end], NO_TEXT, self.printed);
        let event = Event { kind, format, source, data, key, ty: None, lost: 0, cpu, printed };
        Self::call(self.callback, &mut self.ended, &event) && go_on
    }

    /// A record whose type is unknown, as text of either kind.
    fn record_hex(&mut self, source: &Shape, cpu: i32, data: &[u8]) -> bool {
        self.clear();
        match self.format {
            Format::Text => hex_text(&self.time, data, &mut self.scratch.data),
            _ => hex_json(data, &mut self.scratch.data),
        }
        self.call_text(&source.map.name, EventKind::Sample, cpu, 0)
    }
}

impl<F: EventFn + ?Sized> Sink for CallbackSink<'_, F> {
    #[inline(always)]
    #[cfg_attr(small, optimize(speed))]
    fn record(&mut self, source: &Shape, cpu: i32, data: &[u8]) -> bool {
        self.events += 1;
        self.bytes += data.len() as u64;
        if self.format != Format::Raw {
            return self.record_text(source, cpu, data);
        }
        let ty = source.record.as_ref().map(|plan| plan.ty());
        let (kind, format, source) = (EventKind::Sample, Format::Raw, &*source.map.name);
        let printed = self.printed;
        let event = Event { kind, format, source, data, key: NO_TEXT, ty, lost: 0, cpu, printed };
        Self::call(self.callback, &mut self.ended, &event)
    }

    fn lost(&mut self, source: &Shape, cpu: i32, count: u64) -> bool {
        self.lost += source.uncounted(count);
        self.clear();
        let text = match self.format {
            Format::Raw => String::new(),
            Format::Json => format!("{{\"lost\":{count},\"cpu\":{cpu}}}"),
            Format::Text => format!("lost {count} events on CPU {cpu}"),
        };
        self.scratch.data.extend_from_slice(text.as_bytes());
        self.call_text(&source.map.name, EventKind::Lost, cpu, count)
    }

    fn entry(&mut self, source: &Shape, key: &[u8], value: &[u8]) -> bool {
        self.events += 1;
        self.bytes += (key.len() + value.len()) as u64;
        let (map, format, kind) = (&source.map, self.format, EventKind::MapEntry);
        if format == Format::Raw {
            let (source, ty, printed) = (&*map.name, map.value.ty(), self.printed);
            let event = Event { kind, format, source, data: value, key, ty, lost: 0, cpu: -1, printed };
            return Self::call(self.callback, &mut self.ended, &event);
        }
        self.clear();
        map.key.json(key, &self.clock, &mut self.scratch.key);
        let Scratch { key, data, .. } = &mut *self.scratch;
        entry_text(source, self.format, &self.time, &self.clock, key, value, data);
        self.call_text(&map.name, kind, -1, 0)
    }

    fn round(&mut self, source: &Shape) -> bool {
        self.clear();
        self.call_text(&source.map.name, EventKind::Round, -1, 0)
    }

    fn interrupted(&self) -> bool {
        self.ended.is_some() || self.stop.is_some_and(Interrupt::ends_batch)
    }
}

/// The text with a NUL behind it, which the slice does not count.
#[inline]
fn terminated(text: &mut Vec<u8>) -> &[u8] {
    text.push(0);
    &text[..text.len() - 1]
}

/// Appends an entry, with its key rendered already, as JSON or text.
pub fn entry_text(
    source: &Shape,
    format: Format,
    time: &[u8],
    clock: &Clock,
    key: &[u8],
    value: &[u8],
    out: &mut Vec<u8>,
) {
    let (form, per_cpu) = (&source.map.value, is_per_cpu(source.map.kind));
    if format == Format::Json {
        out.extend_from_slice(b"{\"key\":");
        out.extend_from_slice(key);
        out.extend_from_slice(b",\"value\":");
        value_json(form, per_cpu, value, clock, out);
        return out.push(b'}');
    }
    let is_histogram = |sample: &&Sample| sample.kind != SampleKind::DefaultKv;
    if let Some(sample) = source.sample.as_ref().filter(is_histogram) {
        if let Some(slots) = slots(form, per_cpu, value) {
            return histogram(form, sample, clock, key, value, &slots, out);
        }
    }
    out.extend_from_slice(time);
    out.extend_from_slice(b"  ");
    out.extend_from_slice(key);
    out.push(b' ');
    value_json(form, per_cpu, value, clock, out);
}

/// The slots of a histogram, summed over the CPUs of a per-CPU map.
fn slots(form: &Form, per_cpu: bool, value: &[u8]) -> Option<Vec<u64>> {
    let plan = form.plan.as_ref()?;
    let stride = if per_cpu { form.size.next_multiple_of(8) } else { form.size };
    let mut sum: Option<Vec<u64>> = None;
    for value in value.chunks(stride.max(1)) {
        let slots = plan.slots(value)?;
        match &mut sum {
            None => sum = Some(slots),
            Some(sum) => sum.iter_mut().zip(slots).for_each(|(sum, slot)| *sum = sum.saturating_add(slot)),
        }
    }
    sum
}

fn histogram(
    form: &Form,
    sample: &Sample,
    clock: &Clock,
    key: &[u8],
    value: &[u8],
    slots: &[u64],
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"key = ");
    out.extend_from_slice(key);
    out.push(b'\n');
    if let Some(plan) = &form.plan {
        plan.text_members(&value[..form.size], "slots", clock, out);
    }
    match sample.kind {
        SampleKind::LinearHist => linear_hist(slots, &sample.unit, out),
        _ => log2_hist(slots, &sample.unit, out),
    }
}
