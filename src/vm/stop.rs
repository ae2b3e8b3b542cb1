//! Requests from other threads. Stop: sticky until it is reported once, and safe to make from a signal handler.
//! Pause: ends a batch that is under way; the gate holds back the next ones.

use crate::os::{self, EventFd};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// A flag for those who work, an eventfd for those who wait.
pub struct Stop {
    asked: AtomicBool,
    paused: AtomicBool,
    event: EventFd,
}

impl Stop {
    /// Nothing asked for.
    pub fn new() -> os::Result<Stop> {
        Ok(Stop { asked: AtomicBool::new(false), paused: AtomicBool::new(false), event: EventFd::new()? })
    }

    /// Asks to stop. Async-signal-safe: an atomic store and one `write`.
    pub fn ask(&self) {
        self.asked.store(true, SeqCst);
        self.event.signal();
    }

    /// Has batches that are under way end, or lets them go on.
    pub fn pause(&self, on: bool) {
        self.paused.store(on, SeqCst);
    }

    /// Whether events are held back.
    pub fn is_paused(&self) -> bool {
        self.paused.load(SeqCst)
    }

    /// Whether a batch that is under way is to end.
    pub fn ends_batch(&self) -> bool {
        self.asked.load(SeqCst) || self.paused.load(SeqCst)
    }

    /// Takes the request, to report it. What counts is the descriptor: a request whose write is still to come is
    /// reported when it has come, and one that comes in between is reported with this one.
    pub fn take(&self) -> bool {
        self.asked.swap(false, SeqCst) && self.event.clear()
    }

    /// The same after the descriptor was seen readable, whatever the flag says.
    pub fn take_signalled(&self) -> bool {
        self.asked.store(false, SeqCst);
        self.event.clear()
    }

    /// Readable while a request stands.
    pub fn fd(&self) -> RawFd {
        self.event.fd()
    }
}
