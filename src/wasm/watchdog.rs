//! The thread that ends guests: at once when `stop` is called, and when one call into them takes too long.
//!
//! One thread serves all guests of the process. It runs only while a guest runs. It sleeps on the stop descriptors of the
//! vms and on a timer for each guest. The timer runs only while events are passed to the guest, so a guest that waits for
//! events causes no wakeups.

use std::cell::Cell;
use std::os::fd::RawFd;
use std::sync::atomic::{
    AtomicBool, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release, Ordering::SeqCst,
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::sys::stopper::Stopper;
use crate::os::{self, Epoll, EventFd, Thread, TimerFd};

/// The reason why a guest was stopped, for its [`Stopper`].
pub mod cause {
    /// `stop` was called.
    pub const STOP: u32 = 1;
    /// One call took too long.
    pub const BUDGET: u32 = 2;
}

/// Number of times that the thread finds the same call in progress before the call has used up its time.
const CHECKS: u64 = 4;

/// Token of the descriptor that wakes the thread.
const WAKE: u64 = 0;

/// Watches a guest. Dropping it ends the watch.
pub struct Watch {
    entry: Arc<Entry>,
    watchdog: Arc<Watchdog>,
    is_armed: Cell<bool>,
}

/// A guest under watch.
struct Entry {
    /// Token of the stop descriptor; the next number is the token of the timer. Tokens are not used again.
    token: u64,
    stopper: Arc<Stopper>,
    stop_fd: RawFd,
    timer: TimerFd,
    /// Time between two checks.
    interval: Duration,
    /// Incremented by one when a call begins and when it ends, so it is odd during a call. A nested call increments it by two.
    calls: AtomicU64,
    /// The value of `calls` at the last check, and the number of consecutive checks that have found this value.
    seen: Mutex<(u64, u64)>,
}

impl Watch {
    /// Watches a guest. It ends when `stop_fd` becomes readable and when a call takes longer than `budget`.
    pub fn new(stopper: Arc<Stopper>, stop_fd: RawFd, budget: Duration) -> os::Result<Watch> {
        static NEXT: AtomicU64 = AtomicU64::new(WAKE + 1);
        let watchdog = Watchdog::get_or_start()?;
        let (token, timer) = (NEXT.fetch_add(2, SeqCst), TimerFd::new()?);
        let (calls, seen) = (AtomicU64::new(0), Mutex::new((0, 0)));
        let interval = budget / CHECKS as u32;
        let entry = Arc::new(Entry { token, stopper, stop_fd, timer, interval, calls, seen });
        watchdog.shared.guests().push(Arc::clone(&entry));
        let watch = Watch { entry, watchdog, is_armed: Cell::new(false) };
        watch.watchdog.shared.epoll.add(watch.entry.timer.fd(), token + 1)?;
        watch.watchdog.shared.epoll.add(stop_fd, token)?;
        Ok(watch)
    }

    /// Runs the timer while `work` calls into the guest, any number of times. Can be nested.
    pub fn armed<T>(&self, work: impl FnOnce() -> T) -> T {
        if self.is_armed.replace(true) {
            return work();
        }
        let Entry { timer, interval, .. } = &*self.entry;
        // Setting the timer can fail only for invalid arguments. `stop` works without it.
        let _ = timer.arm_every(*interval);
        let done = work();
        let _ = timer.arm_every(Duration::ZERO);
        self.is_armed.set(false);
        done
    }

    /// Counts the time that `work` takes as the time of one call. A nested call has a time of its own.
    #[inline]
    pub fn call<T>(&self, work: impl FnOnce() -> T) -> T {
        let steps = if self.is_in_call() { 2 } else { 1 };
        self.entry.step(steps);
        let done = work();
        self.entry.step(steps);
        done
    }

    /// Runs `work`, which is code of the host within a call, without counting its time.
    pub fn pause<T>(&self, work: impl FnOnce() -> T) -> T {
        if !self.is_in_call() {
            return work();
        }
        self.entry.step(1);
        let done = work();
        self.entry.step(1);
        done
    }

    /// Returns how long the guest may sleep before `is_over` has to be checked; `None`: no time limit applies.
    pub fn max_sleep(&self) -> Option<Duration> {
        self.is_in_call().then_some(self.entry.interval)
    }

    /// Whether the guest is to end.
    pub fn is_over(&self) -> bool {
        self.entry.stopper.cause() != 0
    }

    fn is_in_call(&self) -> bool {
        self.entry.calls.load(Relaxed) % 2 == 1
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let shared = &self.watchdog.shared;
        shared.guests().retain(|guest| guest.token != self.entry.token);
        shared.epoll.remove(self.entry.stop_fd);
        shared.epoll.remove(self.entry.timer.fd());
    }
}

impl Entry {
    /// Records that a call begins or ends. Only the guest's thread does this, so no locked instruction is needed.
    #[inline]
    fn step(&self, steps: u64) {
        self.calls.store(self.calls.load(Relaxed) + steps, Release);
    }

    /// Stops the guest if its call has been in progress for too long.
    fn check(&self) {
        self.timer.clear();
        let calls = self.calls.load(Acquire);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen = if seen.0 == calls { (calls, seen.1 + 1) } else { (calls, 0) };
        if calls % 2 == 1 && seen.1 >= CHECKS {
            self.stopper.stop(cause::BUDGET);
        }
    }
}

/// The thread. It ends with the last guest.
struct Watchdog {
    shared: Arc<Shared>,
    /// Its drop waits for the end of the thread. Guests are dropped on the threads that ran them, never on this one.
    _thread: Thread,
}

struct Shared {
    epoll: Epoll,
    wake: EventFd,
    is_ending: AtomicBool,
    guests: Mutex<Vec<Arc<Entry>>>,
}

impl Watchdog {
    /// Returns the thread of this process. Starts it if it does not run.
    fn get_or_start() -> os::Result<Arc<Watchdog>> {
        static WATCHDOG: Mutex<Weak<Watchdog>> = Mutex::new(Weak::new());
        let mut watchdog = WATCHDOG.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = watchdog.upgrade() {
            return Ok(running);
        }
        let new = Arc::new(Watchdog::start()?);
        *watchdog = Arc::downgrade(&new);
        Ok(new)
    }

    fn start() -> os::Result<Watchdog> {
        let (epoll, wake) = (Epoll::new()?, EventFd::new()?);
        epoll.add(wake.fd(), WAKE)?;
        let (is_ending, guests) = (AtomicBool::new(false), Mutex::default());
        let shared = Arc::new(Shared { epoll, wake, is_ending, guests });
        let body = Arc::clone(&shared);
        let thread = Thread::spawn(c"eunomia-watch", Box::new(move || body.run()))?;
        Ok(Watchdog { shared, _thread: thread })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.shared.is_ending.store(true, SeqCst);
        self.shared.wake.signal();
    }
}

impl Shared {
    fn run(&self) {
        let mut tokens = [0; 16];
        while !self.is_ending.load(SeqCst) {
            let ready = self.epoll.wait(&mut tokens, -1).unwrap_or(0);
            let guests = self.guests();
            for token in &tokens[..ready] {
                for guest in guests.iter() {
                    self.serve(guest, *token);
                }
            }
        }
    }

    fn serve(&self, guest: &Entry, token: u64) {
        if token == guest.token {
            // The descriptor stays readable until the vm has reported the stop. Once is enough here.
            self.epoll.remove(guest.stop_fd);
            guest.stopper.stop(cause::STOP);
        } else if token == guest.token + 1 {
            guest.check();
        }
    }

    fn guests(&self) -> MutexGuard<'_, Vec<Arc<Entry>>> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
