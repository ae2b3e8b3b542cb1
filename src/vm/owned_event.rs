//! Events that a host owns and takes one by one, where a callback does not fit: from an iterator or, with the feature
//! `channel`, from a channel. Each costs allocations; [`Vm::poll`] and [`Vm::read`] cost none.

use std::borrow::Cow;
use std::collections::VecDeque;

use super::event::{Event, EventKind, Flow, Format};
use super::state::Vm;
use crate::error::{Result, Status};

/// A copy of an [`Event`] that owns its data.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OwnedEvent {
    /// The kind of the event.
    pub kind: EventKind,
    /// The form of `data` and `key`.
    pub format: Format,
    /// The name of the map that the event came through.
    pub source: String,
    /// The bytes of the record, or its text.
    pub data: Vec<u8>,
    /// The key of a map entry, else empty.
    pub key: Vec<u8>,
    /// The number of records that the kernel dropped, for [`EventKind::Lost`].
    pub lost: u64,
    /// The CPU of a perf record, or -1 if it is unknown.
    pub cpu: i32,
    /// The time when it was read, as [`Event::time_ns`].
    pub time_ns: u64,
}

impl OwnedEvent {
    /// Returns the data as a string. In raw data, bytes that are not UTF-8 are replaced by U+FFFD.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.data)
    }
}

impl From<&Event<'_>> for OwnedEvent {
    fn from(event: &Event<'_>) -> OwnedEvent {
        let &Event { kind, format, source, data, key, lost, cpu, time_ns, .. } = event;
        let source = source.to_string_lossy().into_owned();
        OwnedEvent { kind, format, source, data: data.to_vec(), key: key.to_vec(), lost, cpu, time_ns }
    }
}

/// An iterator over the events of a vm; [`Vm::events`] creates it.
#[derive(Debug)]
#[must_use]
pub struct Events<'a> {
    vm: &'a Vm,
    format: Format,
    /// Events of the last poll that have not been returned yet.
    waiting: VecDeque<OwnedEvent>,
}

impl Iterator for Events<'_> {
    type Item = Result<OwnedEvent>;

    fn next(&mut self) -> Option<Result<OwnedEvent>> {
        while self.waiting.is_empty() {
            let waiting = &mut self.waiting;
            let polled = self.vm.poll(None, self.format, |event| {
                waiting.push_back(event.into());
                Flow::Continue
            });
            match polled {
                Ok(_) => {}
                Err(error) if error.status() == Status::Stopped => return None,
                Err(error) => return Some(Err(error)),
            }
        }
        self.waiting.pop_front().map(Ok)
    }
}

impl Vm {
    /// Returns an iterator over the events. It blocks until the next event, and ends after [`Vm::stop`]. An item is an
    /// error if a poll fails.
    ///
    /// Dropping the iterator also drops the events that a poll has read and the iterator has not returned yet.
    ///
    /// ```no_run
    /// use eunomia::{Format, Kind, Options, Vm};
    ///
    /// # fn main() -> eunomia::Result<()> {
    /// let vm = Vm::new(Options::new())?;
    /// vm.open_file("package.json", Kind::Json)?;
    /// vm.attach()?;
    /// for event in vm.events(Format::Json).take(10) {
    ///     println!("{}", event?.text());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn events(&self, format: Format) -> Events<'_> {
        Events { vm: self, format, waiting: VecDeque::new() }
    }
}
