//! Events that a host owns and takes one by one, where a callback does not fit: from an iterator, or with the feature
//! `channel` from a channel. Each costs an allocation; [`Vm::poll`] and [`Vm::read`] cost none.

use std::collections::VecDeque;

use super::event::{Event, EventKind, Flow, Format};
use super::state::Vm;
use crate::error::{Result, Status};

/// An [`Event`] with what it points to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedEvent {
    /// What it is.
    pub kind: EventKind,
    /// Form of `data` and `key`.
    pub format: Format,
    /// Map it came through.
    pub source: String,
    /// Raw bytes, or text.
    pub data: Vec<u8>,
    /// Key of a map entry, else empty.
    pub key: Vec<u8>,
    /// Number of records dropped, for [`EventKind::Lost`].
    pub lost: u64,
    /// CPU of a perf record, -1 where unknown.
    pub cpu: i32,
    /// When it was read, as [`Event::time_ns`].
    pub time_ns: u64,
}

impl OwnedEvent {
    /// The data as text; of raw data what is UTF-8.
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
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

/// The events of a vm, see [`Vm::events`].
pub struct Events<'a> {
    vm: &'a Vm,
    format: Format,
    waiting: VecDeque<OwnedEvent>,
}

impl Iterator for Events<'_> {
    type Item = Result<OwnedEvent>;

    fn next(&mut self) -> Option<Result<OwnedEvent>> {
        while self.waiting.is_empty() {
            let waiting = &mut self.waiting;
            let mut keep = |event: &Event<'_>| {
                waiting.push_back(event.into());
                Flow::Continue
            };
            match self.vm.poll(-1, self.format, &mut keep) {
                Ok(_) => {}
                Err(error) if error.status == Status::Stopped => return None,
                Err(error) => return Some(Err(error)),
            }
        }
        self.waiting.pop_front().map(Ok)
    }
}

impl Vm {
    /// The events one by one; waits for each, and ends after [`Vm::stop`]. Whoever drops the iterator drops with it what
    /// a poll has brought and nobody has taken.
    ///
    /// ```no_run
    /// use eunomia::{Format, Kind, Options, Vm};
    ///
    /// # fn main() -> eunomia::Result<()> {
    /// let vm = Vm::new(Options::default())?;
    /// vm.open_file("package.json", Kind::Json as u32)?;
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
