//! Requests of other threads to stop or to pause.
//!
//! A stop request remains until it is reported once, and a signal handler may make it. A pause request ends the batch in
//! progress; the wait set holds back the next ones.

use crate::os::{self, EventFd};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::handover::Request;

/// The requests to the thread that delivers events.
pub struct Interrupt {
    request: Request<AtomicBool, EventFd>,
    paused: AtomicBool,
}

impl Interrupt {
    /// Without a request.
    pub fn new() -> os::Result<Interrupt> {
        let request = Request::new(AtomicBool::new(false), EventFd::new()?);
        Ok(Interrupt { request, paused: AtomicBool::new(false) })
    }

    /// Requests a stop. Async-signal-safe: an atomic store and one `write`.
    pub fn ask(&self) {
        self.request.ask();
    }

    /// Requests a pause, or withdraws the request.
    pub fn pause(&self, on: bool) {
        self.paused.store(on, SeqCst);
    }

    /// Returns whether a pause is requested.
    pub fn is_paused(&self) -> bool {
        self.paused.load(SeqCst)
    }

    /// Returns whether the batch in progress must end.
    pub fn ends_batch(&self) -> bool {
        self.request.is_asked() || self.paused.load(SeqCst)
    }

    /// Takes the stop request, to report it.
    pub fn take(&self) -> bool {
        self.request.take()
    }

    /// Takes the stop request after its descriptor was found readable.
    pub fn take_signalled(&self) -> bool {
        self.request.take_signalled()
    }

    /// The descriptor that is readable while a stop is requested.
    pub fn fd(&self) -> RawFd {
        self.request.event().fd()
    }
}
