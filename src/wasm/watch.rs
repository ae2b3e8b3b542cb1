//! The thread that ends guests: at once when `stop` is called, and when one call into them takes too long.
//!
//! There is one for all guests of the process, and none while no guest runs. It sleeps on the stop descriptors of the
//! vms and on a timer for each guest. The timer runs only while events are handed to the guest, so one that waits for
//! events wakes nobody up.

use std::cell::Cell;
use std::os::fd::RawFd;
use std::sync::atomic::{
    AtomicBool, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release, Ordering::SeqCst,
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::sys::instance::Stopper;
use crate::os::{self, Epoll, EventFd, Thread, TimerFd};

/// Why a guest was stopped, for its [`Stopper`].
pub mod cause {
    /// `stop` was called.
    pub const STOP: u32 = 1;
    /// One call took too long.
    pub const BUDGET: u32 = 2;
}

/// Looks at a call that is under way so many times before it has used up its time.
const LOOKS: u64 = 4;

/// Token of the descriptor that wakes the thread.
const WAKE: u64 = 0;

/// A guest under watch, until it is dropped.
pub struct Watch {
    watched: Arc<Watched>,
    dog: Arc<Dog>,
    is_armed: Cell<bool>,
}

struct Watched {
    /// Token of the stop descriptor; the next one is that of the timer. Never used again.
    token: u64,
    stopper: Arc<Stopper>,
    stop_fd: RawFd,
    timer: TimerFd,
    look: Duration,
    /// Goes up when a call begins and when it ends, nested ones by two: odd inside.
    calls: AtomicU64,
    /// `calls` at the last look, and how often that has been seen.
    seen: Mutex<(u64, u64)>,
}

impl Watch {
    /// Watches a guest: `stop_fd` is readable when it is to end, and no call may take longer than `budget`.
    pub fn new(stopper: Arc<Stopper>, stop_fd: RawFd, budget: Duration) -> os::Result<Watch> {
        static NEXT: AtomicU64 = AtomicU64::new(WAKE + 1);
        let dog = Dog::wake_up()?;
        let (token, timer) = (NEXT.fetch_add(2, SeqCst), TimerFd::new()?);
        let (calls, seen) = (AtomicU64::new(0), Mutex::new((0, 0)));
        let look = budget / LOOKS as u32;
        let watched = Arc::new(Watched { token, stopper, stop_fd, timer, look, calls, seen });
        dog.shared.guests().push(Arc::clone(&watched));
        let watch = Watch { watched, dog, is_armed: Cell::new(false) };
        watch.dog.shared.epoll.add(watch.watched.timer.fd(), token + 1)?;
        watch.dog.shared.epoll.add(stop_fd, token)?;
        Ok(watch)
    }

    /// Has the timer run while `work` calls into the guest, any number of times. May be nested.
    pub fn armed<T>(&self, work: impl FnOnce() -> T) -> T {
        if self.is_armed.replace(true) {
            return work();
        }
        let Watched { timer, look, .. } = &*self.watched;
        // A timer that cannot be set is a bug in the arguments, and stop still works.
        let _ = timer.arm_every(*look);
        let done = work();
        let _ = timer.arm_every(Duration::ZERO);
        self.is_armed.set(false);
        done
    }

    /// Counts the time that `work` takes as that of one call. Of nested ones each has its own time.
    #[inline]
    pub fn call<T>(&self, work: impl FnOnce() -> T) -> T {
        let steps = if self.is_inside() { 2 } else { 1 };
        self.watched.step(steps);
        let done = work();
        self.watched.step(steps);
        done
    }

    /// How long the guest may sleep before it is asked whether the call that it is in `is_over`; `None`: it is in none.
    pub fn nap(&self) -> Option<Duration> {
        self.is_inside().then_some(self.watched.look)
    }

    /// Whether the guest is to end.
    pub fn is_over(&self) -> bool {
        self.watched.stopper.cause() != 0
    }

    fn is_inside(&self) -> bool {
        self.watched.calls.load(Relaxed) % 2 == 1
    }

    /// Does not count the time that `work` takes: it is the host's, inside a call.
    pub fn pause<T>(&self, work: impl FnOnce() -> T) -> T {
        if !self.is_inside() {
            return work();
        }
        self.watched.step(1);
        let done = work();
        self.watched.step(1);
        done
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let shared = &self.dog.shared;
        shared.guests().retain(|guest| guest.token != self.watched.token);
        shared.epoll.remove(self.watched.stop_fd);
        shared.epoll.remove(self.watched.timer.fd());
    }
}

impl Watched {
    /// A call begins or ends. Only the guest's thread does this, so that no locked instruction is needed.
    #[inline]
    fn step(&self, steps: u64) {
        self.calls.store(self.calls.load(Relaxed) + steps, Release);
    }

    fn look(&self) {
        self.timer.clear();
        let calls = self.calls.load(Acquire);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen = if seen.0 == calls { (calls, seen.1 + 1) } else { (calls, 0) };
        if calls % 2 == 1 && seen.1 >= LOOKS {
            self.stopper.stop(cause::BUDGET);
        }
    }
}

/// The thread, which ends when the last guest is gone.
struct Dog {
    shared: Arc<Shared>,
    /// Waited for at the end. Guests are dropped on the threads that ran them, never on this one.
    _thread: Thread,
}

struct Shared {
    epoll: Epoll,
    wake: EventFd,
    ending: AtomicBool,
    guests: Mutex<Vec<Arc<Watched>>>,
}

impl Dog {
    /// The one of this process.
    fn wake_up() -> os::Result<Arc<Dog>> {
        static DOG: Mutex<Weak<Dog>> = Mutex::new(Weak::new());
        let mut dog = DOG.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(awake) = dog.upgrade() {
            return Ok(awake);
        }
        let new = Arc::new(Dog::new()?);
        *dog = Arc::downgrade(&new);
        Ok(new)
    }

    fn new() -> os::Result<Dog> {
        let (epoll, wake) = (Epoll::new()?, EventFd::new()?);
        epoll.add(wake.fd(), WAKE)?;
        let (ending, guests) = (AtomicBool::new(false), Mutex::default());
        let shared = Arc::new(Shared { epoll, wake, ending, guests });
        let body = Arc::clone(&shared);
        let thread = Thread::spawn(c"eunomia-watch", Box::new(move || body.run()))?;
        Ok(Dog { shared, _thread: thread })
    }
}

impl Drop for Dog {
    fn drop(&mut self) {
        self.shared.ending.store(true, SeqCst);
        self.shared.wake.signal();
    }
}

impl Shared {
    fn run(&self) {
        let mut tokens = [0; 16];
        while !self.ending.load(SeqCst) {
            let ready = self.epoll.wait(&mut tokens, -1).unwrap_or(0);
            let guests = self.guests();
            for token in &tokens[..ready] {
                for guest in guests.iter() {
                    self.serve(guest, *token);
                }
            }
        }
    }

    fn serve(&self, guest: &Watched, token: u64) {
        if token == guest.token {
            // It stays readable until the vm has reported it; once is enough here.
            self.epoll.remove(guest.stop_fd);
            guest.stopper.stop(cause::STOP);
        } else if token == guest.token + 1 {
            guest.look();
        }
    }

    fn guests(&self) -> MutexGuard<'_, Vec<Arc<Watched>>> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
