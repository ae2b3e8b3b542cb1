//! Requests of other threads to stop, to pause, or to release the locks for a moment.
//!
//! A stop request remains until it is reported once, and a signal handler may make it. A pause request ends the batch in
//! progress; the wait set holds back the next ones.

use crate::os::{self, Epoll, EventFd};
use std::os::fd::RawFd;
use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicUsize, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
    Ordering::SeqCst,
};
use std::sync::{Mutex, MutexGuard, OnceLock};

use super::handover::Request;
use super::lock::locked;
use super::wait_set::CLAIM;
use crate::error::{Error, Status};

/// The requests to the thread that delivers events.
pub struct Interrupt {
    request: Request<AtomicBool, EventFd>,
    paused: AtomicBool,
    claim: Claim,
    /// The thread that polls; 0 for none. Each thread only compares it with itself, which needs no ordering.
    poller: AtomicUsize,
    /// Whether a group looks for events, which takes the lock on all deliveries for a moment.
    peeking: AtomicBool,
}

/// Returns the error that reports a stop request.
pub fn stopped() -> Error {
    Error::new(Status::Stopped, "stop was called")
}

/// A mark that a group looks for events. Dropping it clears the mark.
pub struct Peeking<'a>(&'a AtomicBool);

impl Drop for Peeking<'_> {
    fn drop(&mut self) {
        self.0.store(false, Release);
    }
}

/// A mark that the calling thread is the one that polls. Dropping it clears the mark.
pub struct Polling<'a>(&'a AtomicUsize);

impl Drop for Polling<'_> {
    fn drop(&mut self) {
        self.0.store(0, Relaxed);
    }
}

/// How a thread that replaces the package takes the locks of the vm from a thread that polls.
#[derive(Default)]
struct Claim {
    is_made: AtomicBool,
    /// The locks that the claiming thread has.
    held: AtomicU8,
    /// Held while the claim is made. The polling thread waits for it after it has released its locks.
    turn: Mutex<()>,
    /// Readable while a thread claims the locks. The first claim creates it.
    event: OnceLock<EventFd>,
}

/// The locks that a claiming thread has, in the order in which it takes them.
#[derive(Clone, Copy)]
pub enum Held {
    /// The lock on all deliveries.
    Delivery = 1,
    /// Also the lock on the package.
    Both = 2,
}

/// A claim of the locks. Dropping it withdraws the claim; release the locks first.
pub struct Claimed<'a>(&'a Claim, #[allow(dead_code, reason = "held for its drop")] MutexGuard<'a, ()>);

impl Claimed<'_> {
    /// Stores which locks this thread has.
    pub fn has(&self, held: Held) {
        self.0.held.store(held as u8, SeqCst);
    }
}

impl Drop for Claimed<'_> {
    fn drop(&mut self) {
        self.0.held.store(0, SeqCst);
        self.0.is_made.store(false, SeqCst);
        self.0.event.get().map(EventFd::clear);
    }
}

impl Interrupt {
    /// Creates the state in which nothing is requested.
    pub fn new() -> os::Result<Interrupt> {
        let request = Request::new(AtomicBool::new(false), EventFd::new()?);
        let (paused, peeking) = (AtomicBool::new(false), AtomicBool::new(false));
        Ok(Interrupt { request, paused, claim: Claim::default(), poller: AtomicUsize::new(0), peeking })
    }

    /// Requests a stop. Async-signal-safe: one `write` and an atomic store.
    pub fn ask(&self) {
        self.request.ask();
    }

    /// Returns whether a stop is requested.
    pub fn is_asked(&self) -> bool {
        self.request.is_asked()
    }

    /// Marks a look for events.
    pub fn peeking(&self) -> Peeking<'_> {
        self.peeking.store(true, Relaxed);
        Peeking(&self.peeking)
    }

    /// Returns whether a group looks for events.
    pub fn is_peeked(&self) -> bool {
        self.peeking.load(Acquire)
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
        self.request.is_asked() || self.paused.load(SeqCst) || self.is_claimed()
    }

    /// Returns the descriptor that is readable while another thread claims the locks. Adds the descriptor to `epoll`
    /// when it is created.
    #[inline(never)]
    pub fn claim_fd(&self, epoll: &Epoll) -> os::Result<RawFd> {
        let turn = locked(&self.claim.turn);
        self.claim_event(epoll, &turn)
    }

    fn claim_event(&self, epoll: &Epoll, _turn: &MutexGuard<'_, ()>) -> os::Result<RawFd> {
        if let Some(event) = self.claim.event.get() {
            return Ok(event.fd());
        }
        let event = EventFd::new()?;
        epoll.add(event.fd(), CLAIM)?;
        Ok(self.claim.event.get_or_init(|| event).fd())
    }

    /// Makes a thread that polls release its locks. `epoll` is the set that the polling thread waits for.
    pub fn claim(&self, epoll: &Epoll) -> os::Result<Claimed<'_>> {
        let turn = locked(&self.claim.turn);
        self.claim_event(epoll, &turn)?;
        self.claim.is_made.store(true, SeqCst);
        self.claim.event.get().map(EventFd::signal);
        Ok(Claimed(&self.claim, turn))
    }

    /// Returns whether another thread claims the locks.
    pub fn is_claimed(&self) -> bool {
        self.claim.is_made.load(SeqCst)
    }

    /// Marks this thread as the one that polls.
    pub fn polling(&self) -> Polling<'_> {
        self.poller.store(this_thread(), Relaxed);
        Polling(&self.poller)
    }

    /// Returns whether this thread polls: the caller is a callback.
    pub fn is_polling(&self) -> bool {
        self.poller.load(Relaxed) == this_thread()
    }

    /// If another thread has claimed the locks and has at least `held`, waits until it has released them and returns true.
    pub fn has_given_way(&self, held: Held) -> bool {
        /// A claiming thread records a lock right after it has taken it.
        const TRIES: u32 = 100;
        for _ in 0..TRIES {
            if !self.is_claimed() {
                return false;
            }
            if self.claim.held.load(SeqCst) >= held as u8 {
                self.give_way();
                return true;
            }
            std::thread::yield_now();
        }
        false
    }

    /// Waits until the claim is withdrawn. The caller has released its locks.
    pub fn give_way(&self) {
        drop(locked(&self.claim.turn));
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

/// Returns a number for the calling thread that no other running thread has.
pub fn this_thread() -> usize {
    thread_local!(static HERE: u8 = const { 0 });
    HERE.with(|here| std::ptr::from_ref(here).addr())
}
