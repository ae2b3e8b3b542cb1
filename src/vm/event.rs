//! Events, and the callback that gets them.

use std::ffi::CStr;
use std::sync::Arc;

use crate::error::{Error, Result, Status};
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
    /// Time when the event was read, in nanoseconds of CLOCK_MONOTONIC. The clock is read once per batch of at most 1024
    /// records, and once per round of a sampled map, whose events all have the same time.
    pub time_ns: u64,
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

/// What a call returns whose callback ended it with `ended`, after `count` events.
pub fn end_of(ended: Option<Flow>, count: usize) -> Result<usize> {
    match ended {
        Some(Flow::Fail(value)) => {
            Err(Error::new(Status::Callback, format_args!("the callback returned {value}")))
        }
        _ => Ok(count),
    }
}
