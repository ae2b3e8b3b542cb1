//! Events, and the callback that receives them.

use std::ffi::CStr;
use std::sync::Arc;

use crate::error::{Error, Result, Status};
use crate::types::Type;

/// The form in which events are delivered. The numbers are those of the C interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// The bytes as the kernel wrote them.
    Raw = 0,
    /// One JSON value.
    Json = 1,
    /// One line of a table, or a histogram of several lines.
    Text = 2,
}

/// The kind of an event. The numbers are those of the C interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventKind {
    /// A record of a ring buffer or perf buffer, or a line or piece of a BPF iterator's output.
    #[default]
    Sample = 0,
    /// The kernel dropped records; [`Event::lost`] is their number.
    Lost = 1,
    /// An entry of a map.
    MapEntry = 2,
    /// The header of the table, with [`Format::Text`] only. It precedes the first row of each source.
    Header = 3,
    /// A line that a WASM guest printed.
    Output = 4,
    /// The end of a sampling round: all entries of the map have been delivered.
    Round = 5,
}

/// One event. It borrows its data, which is valid until the callback returns; [`OwnedEvent`](crate::OwnedEvent) is a
/// copy that can be kept.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Event<'a> {
    /// The kind of the event.
    pub kind: EventKind,
    /// The form of `data` and `key`.
    pub format: Format,
    /// The name of the map that the event came through, or of the iterator.
    pub source: &'a CStr,
    /// The bytes of the record, or its text. JSON and text are UTF-8, and a NUL byte follows them that is not part of the
    /// slice.
    pub data: &'a [u8],
    /// The key of a map entry, else empty. With [`Format::Json`], `data` is `{"key":..,"value":..}` and `key` is the key
    /// alone.
    pub key: &'a [u8],
    /// The type of raw `data`. `None` if the package does not specify it.
    pub ty: Option<&'a Arc<Type>>,
    /// The number of records that the kernel dropped, for [`EventKind::Lost`].
    pub lost: u64,
    /// The CPU of a perf record, or -1 if it is unknown.
    pub cpu: i32,
    /// Time when the event was read, in nanoseconds of CLOCK_MONOTONIC. The clock is read once per batch of at most 1024
    /// records, and once per round of a sampled map, whose events all have the same time.
    pub time_ns: u64,
    /// Whether a WASM guest wrote to its standard output while it handled this event. A host that shows both the output
    /// and the event would show it twice.
    pub printed: bool,
    /// Not 0 for records. Events with the same number differ only in `data` and `printed`, so code that converts events
    /// need not convert the rest again.
    #[cfg_attr(not(feature = "capi"), allow(dead_code, reason = "only the C interface reads it"))]
    pub(crate) run: u64,
}

impl<'a> Event<'a> {
    /// Returns an event without a type, a CPU or a time.
    #[inline(always)]
    pub(crate) fn new(
        kind: EventKind,
        format: Format,
        source: &'a CStr,
        [data, key]: [&'a [u8]; 2],
    ) -> Event<'a> {
        let (ty, lost, cpu, time_ns, printed, run) = (None, 0, -1, 0, false, 0);
        Event { kind, format, source, data, key, ty, lost, cpu, time_ns, printed, run }
    }
}

/// The result of a callback: whether the call that delivers continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flow {
    /// Continue the call.
    Continue,
    /// End the call with success. The event is counted as delivered.
    End,
    /// End the call with [`Status::Callback`]. The value becomes part of the message.
    Fail(i32),
}

/// Any function that receives events. The code that delivers is compiled for each type of callback, so that a callback
/// which converts events can be inlined into it.
pub(crate) trait EventFn: FnMut(&Event<'_>) -> Flow {}

impl<F: FnMut(&Event<'_>) -> Flow + ?Sized> EventFn for F {}

/// Returns the outcome of a call that delivered `count` events and that the callback may have ended.
#[inline(always)]
pub(super) fn outcome(ended: Option<Flow>, count: usize) -> Result<usize> {
    match ended {
        Some(Flow::Fail(value)) => Err(failed(value)),
        _ => Ok(count),
    }
}

#[cold]
fn failed(value: i32) -> Error {
    Error::new(Status::Callback, format_args!("the callback returned {value}"))
}
