//! Requests from other threads. Stop: sticky until it is reported once, and safe to make from a signal handler.
//! Pause: ends a batch that is under way; the wait_set holds back the next ones.

use crate::os::{self, EventFd};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::handover::Request;

/// What is asked of those who deliver.
pub struct Interrupt {
    request: Request<AtomicBool, EventFd>,
    paused: AtomicBool,
}

impl Interrupt {
    /// Nothing asked for.
    pub fn new() -> os::Result<Interrupt> {
        let request = Request::new(AtomicBool::new(false), EventFd::new()?);
        Ok(Interrupt { request, paused: AtomicBool::new(false) })
    }

    /// Asks to stop. Async-signal-safe: an atomic store and one `write`.
    pub fn ask(&self) {
        self.request.ask();
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
        self.request.is_asked() || self.paused.load(SeqCst)
    }

    /// Takes the request, to report it.
    pub fn take(&self) -> bool {
        self.request.take()
    }

    /// The same after the descriptor was seen readable.
    pub fn take_signalled(&self) -> bool {
        self.request.take_signalled()
    }

    /// Readable while a request stands.
    pub fn fd(&self) -> RawFd {
        self.request.event().fd()
    }
}
