//! Events on their way to a receiver of OTLP, as logs. The memory for them is bounded; what does not fit is counted.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use eunomia::render::Plan;
use eunomia::types::Type;
use eunomia_records::{Filter, record_clock};
use serde_saphyr::Spanned;
use tokio::sync::Notify;

use crate::config::{self, About, Problem};

/// Maximum size of the events that wait, in bytes, and the size of an event in addition to its text.
const MAX_BYTES: usize = 8 << 20;
const OVERHEAD: usize = 64;
/// Maximum number of events in one body.
const BATCH: usize = 4096;

/// The events that wait for the receiver.
#[derive(Default)]
pub struct Queue {
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<Event>,
    bytes: usize,
    counts: Counts,
}

/// The number of events by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The receiver has accepted them.
    pub sent: u64,
    /// The receiver has refused them.
    pub rejected: u64,
    /// There was no space for them, or the receiver could not be reached.
    pub dropped: u64,
}

/// An event that waits.
pub struct Event {
    /// When it was read, in nanoseconds since 1970.
    pub time: u64,
    /// Where it comes from.
    pub source: Arc<Source>,
    /// The event.
    pub json: Vec<u8>,
}

/// A stream of events.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// The name of the program.
    pub program: String,
    /// The name of the stream.
    pub stream: String,
}

/// Passes the events of one stream to the queue.
pub struct Log {
    source: Arc<Source>,
    filter: Option<Filter>,
    plan: Plan,
    queue: Arc<Queue>,
}

impl Log {
    /// Compiles the logs of a program for the type of the events.
    pub fn new(
        wanted: &Spanned<config::Logs>,
        (program, stream): (&str, &str),
        ty: &Arc<Type>,
        queue: &Arc<Queue>,
    ) -> Result<Log, Problem> {
        let about = format!("program {program:?}: logs");
        let filter = wanted.value.condition.as_deref().map(|text| Filter::parse(text, ty, &[])).transpose();
        let filter = filter.about(wanted.referenced, format_args!("{about}: where"))?;
        let plan = Plan::new(ty).map_err(|error| error.message().to_owned());
        let plan = plan.about(wanted.referenced, &about)?;
        let source = Arc::new(Source { program: program.to_owned(), stream: stream.to_owned() });
        Ok(Log { source, filter, plan, queue: Arc::clone(queue) })
    }

    /// Adds an event to the queue. Returns whether the condition accepts it.
    pub fn note(&self, record: &[u8]) -> bool {
        if self.filter.as_ref().is_some_and(|filter| !filter.accepts(record)) {
            return false;
        }
        let mut json = Vec::new();
        self.plan.json(record, &record_clock::clock(), &mut json);
        self.queue.add(Event { time: nanoseconds(), source: Arc::clone(&self.source), json });
        true
    }
}

impl Queue {
    fn add(&self, event: Event) {
        let mut waiting = self.lock();
        let size = event.json.len() + OVERHEAD;
        if waiting.bytes + size > MAX_BYTES {
            waiting.counts.dropped += 1;
            return;
        }
        waiting.bytes += size;
        waiting.events.push_back(event);
        if waiting.events.len() == 1 {
            self.filled.notify_one();
        }
    }

    /// Waits until there are events.
    pub async fn wait(&self) {
        while self.lock().events.is_empty() {
            self.filled.notified().await;
        }
    }

    /// Removes the oldest events.
    pub fn take(&self) -> Vec<Event> {
        let mut waiting = self.lock();
        let count = waiting.events.len().min(BATCH);
        let taken: Vec<Event> = waiting.events.drain(..count).collect();
        waiting.bytes -= taken.iter().map(|event| event.json.len() + OVERHEAD).sum::<usize>();
        taken
    }

    /// Adds to the counts.
    pub fn count(&self, more: Counts) {
        let counts = &mut self.lock().counts;
        counts.sent += more.sent;
        counts.rejected += more.rejected;
        counts.dropped += more.dropped;
    }

    /// The number of events by outcome.
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nanoseconds since 1970.
pub fn nanoseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_beyond_the_memory_are_counted() {
        let queue = Queue::default();
        let source = Arc::new(Source { program: String::new(), stream: String::new() });
        let size = 1 << 20;
        for number in 0..10 {
            queue.add(Event { time: number, source: Arc::clone(&source), json: vec![0; size - OVERHEAD] });
        }
        assert_eq!(queue.counts(), Counts { dropped: 2, ..Counts::default() });
        assert_eq!(
            queue.take().iter().map(|event| event.time).collect::<Vec<_>>(),
            (0..8).collect::<Vec<_>>()
        );
        queue.add(Event { time: 11, source, json: vec![0; size] });
        assert_eq!((queue.take().len(), queue.lock().bytes), (1, 0));
    }
}
