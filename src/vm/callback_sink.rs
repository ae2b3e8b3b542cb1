//! Renders records and passes them to a callback.

use std::ffi::CStr;

use super::event::{Event, EventFn, EventKind, Flow, Format};
use super::interrupt::Interrupt;
use super::map_entry::entry_text;
use crate::bpf::source::{Shape, Sink};
use crate::os;
use crate::render::{Clock, hex_header, hex_json, hex_text};

/// An empty string, NUL-terminated like any other.
const NO_TEXT: &[u8] = c"".to_bytes();

/// Buffers that are kept from poll to poll, so that no event allocates.
#[derive(Default)]
pub struct Scratch {
    /// The text of a record. The buffer keeps its length, so that it need not be cleared for each record.
    line: Vec<u8>,
    /// Text of any other event.
    data: Vec<u8>,
    key: Vec<u8>,
    /// Per source, whether the table header has been delivered.
    has_header: Vec<bool>,
    /// [`Event::run`] of the next records. The number is kept between polls, because a callback may outlive a sink.
    run: u64,
}

/// A sink that renders records and passes them to a callback.
pub struct CallbackSink<'a, F: ?Sized> {
    format: Format,
    callback: &'a mut F,
    stop: Option<&'a Interrupt>,
    scratch: &'a mut Scratch,
    time: [u8; 8],
    clock: Clock,
    /// [`Event::time_ns`] of the next events.
    time_ns: u64,
    /// [`Event::printed`] of the next events.
    pub printed: bool,
    /// The number of events delivered.
    pub events: u64,
    /// The size of these events as the kernel wrote them.
    pub bytes: u64,
    /// The number of records that the kernel reported as dropped.
    pub lost: u64,
    /// The result of the callback, if that ended the call.
    pub ended: Option<Flow>,
}

impl<'a, F: EventFn + ?Sized> CallbackSink<'a, F> {
    /// `stop`: requests that end the batch between the turns of the sources.
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
            time_ns: 0,
            printed: false,
            events: 0,
            bytes: 0,
            lost: 0,
            ended: None,
        }
    }

    /// Calls the callback. Takes parts of `self`, because the event borrows other parts.
    #[inline(always)]
    fn call(callback: &mut F, ended: &mut Option<Flow>, event: &Event<'_>) -> bool {
        let flow = callback(event);
        if flow == Flow::Continue {
            return true;
        }
        ended.get_or_insert(flow);
        false
    }

    /// Calls the callback with the text in the scratch buffers.
    fn call_text(&mut self, source: &CStr, kind: EventKind, cpu: i32, lost: u64) -> bool {
        let Scratch { data, key, .. } = &mut *self.scratch;
        let (data, key) = (terminated(data), terminated(key));
        let (time_ns, printed) = (self.time_ns, self.printed);
        let new = Event::new(kind, self.format, source, [data, key]);
        let event = Event { lost, cpu, time_ns, printed, ..new };
        Self::call(self.callback, &mut self.ended, &event)
    }

    fn clear(&mut self) {
        self.scratch.data.clear();
        self.scratch.key.clear();
    }

    /// Delivers the table header, once per source. Returns whether the callback accepts further events.
    fn header(&mut self, source: &Shape) -> bool {
        let has_header = &mut self.scratch.has_header;
        if has_header.len() <= source.index {
            has_header.resize(source.index + 1, false);
        }
        if std::mem::replace(&mut has_header[source.index], true) {
            return true;
        }
        self.clear();
        match &source.record {
            Some(plan) => plan.text_header(&mut self.scratch.data),
            None => hex_header(&mut self.scratch.data),
        }
        self.call_text(&source.map.name, EventKind::Header, -1, 0)
    }

    /// Delivers a line that a guest printed. It is always text.
    pub fn output(&mut self, line: &[u8]) -> bool {
        self.clear();
        self.scratch.data.extend_from_slice(line);
        let (kind, format, source) = (EventKind::Output, Format::Text, c"stdout");
        let data = terminated(&mut self.scratch.data);
        let new = Event::new(kind, format, source, [data, NO_TEXT]);
        let event = Event { time_ns: os::monotonic_ns(), ..new };
        Self::call(self.callback, &mut self.ended, &event)
    }

    /// Delivers an event that is JSON already: a record of `len` bytes or, with a key, a map entry.
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

    /// Delivers a record. Code that only some records need is in other functions.
    #[inline(always)]
    fn deliver(&mut self, source: &Shape, cpu: i32, data: &[u8]) -> bool {
        self.events += 1;
        self.bytes += data.len() as u64;
        if self.format != Format::Raw {
            return self.record_text(source, cpu, data);
        }
        let ty = source.record.as_ref().map(|plan| plan.ty());
        let (time_ns, printed, run) = (self.time_ns, self.printed, self.scratch.run);
        let new = Event::new(EventKind::Sample, Format::Raw, &source.map.name, [data, NO_TEXT]);
        let event = Event { ty, cpu, time_ns, printed, run, ..new };
        Self::call(self.callback, &mut self.ended, &event)
    }

    /// Delivers a record as JSON or text. A function of its own, so that the path of a raw record stays short.
    #[inline(never)]
    #[cfg_attr(small, optimize(speed))]
    fn record_text(&mut self, source: &Shape, cpu: i32, data: &[u8]) -> bool {
        let go_on = self.format != Format::Text || self.header(source);
        let Some(plan) = &source.record else { return self.record_hex(source, cpu, data) && go_on };
        let line = &mut self.scratch.line;
        let end = match self.format {
            Format::Text => plan.text_row_at(0, &self.time, data, &self.clock, line),
            _ => plan.json_at(0, data, &self.clock, line),
        };
        line[end] = 0;
        let (time_ns, printed, run) = (self.time_ns, self.printed, self.scratch.run);
        let new = Event::new(EventKind::Sample, self.format, &source.map.name, [&line[..end], NO_TEXT]);
        let event = Event { cpu, time_ns, printed, run, ..new };
        Self::call(self.callback, &mut self.ended, &event) && go_on
    }

    /// Delivers a record whose type is unknown, as JSON or text.
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
    fn read_at(&mut self, time_ns: u64) {
        self.time_ns = time_ns;
        self.scratch.run += 1;
    }

    #[cfg_attr(small, optimize(speed))]
    fn record(&mut self, source: &Shape, cpu: i32, data: &[u8]) -> bool {
        self.deliver(source, cpu, data)
    }

    #[inline(always)]
    fn ring_record(&mut self, source: &Shape, data: &[u8]) -> bool {
        self.deliver(source, -1, data)
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
        let (map, kind) = (&source.map, EventKind::MapEntry);
        if self.format == Format::Raw {
            let (ty, time_ns, printed) = (map.value.ty(), self.time_ns, self.printed);
            let new = Event::new(kind, Format::Raw, &map.name, [value, key]);
            let event = Event { ty, time_ns, printed, ..new };
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

/// NUL-terminates the text. The slice does not include the NUL.
#[inline]
fn terminated(text: &mut Vec<u8>) -> &[u8] {
    text.push(0);
    &text[..text.len() - 1]
}
