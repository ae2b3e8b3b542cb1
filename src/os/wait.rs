//! Waiting for descriptors: epoll, eventfd, timerfd and poll.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use super::descriptor::own;
use super::errno::{Result, check};

/// An epoll set; each descriptor has a token.
pub struct Epoll(OwnedFd);

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Epoll {
    /// Creates an empty set.
    pub fn new() -> Result<Epoll> {
        // SAFETY: no pointers.
        own(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) }).map(Epoll)
    }

    /// Adds `fd`: level-triggered, for reading.
    pub fn add(&self, fd: RawFd, token: u64) -> Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: token };
        // SAFETY: `event` lives for the call.
        check(unsafe { libc::epoll_ctl(self.fd(), libc::EPOLL_CTL_ADD, fd, &mut event) }).map(drop)
    }

    /// Removes `fd`, if it is in the set.
    pub fn remove(&self, fd: RawFd) {
        // SAFETY: EPOLL_CTL_DEL ignores the event pointer.
        unsafe { libc::epoll_ctl(self.fd(), libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut()) };
    }

    /// Waits at most `timeout_ms` (-1: without a limit), stores the tokens of the ready descriptors and returns their
    /// number. A signal ends the wait with EINTR.
    pub fn wait(&self, tokens: &mut [u64; 16], timeout_ms: i32) -> Result<usize> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 16];
        // SAFETY: the array has space for 16 events.
        let n = check(unsafe { libc::epoll_wait(self.fd(), events.as_mut_ptr(), 16, timeout_ms) })? as usize;
        for (token, event) in tokens.iter_mut().zip(&events[..n]) {
            *token = event.u64;
        }
        Ok(n)
    }

    /// The descriptor, for the host or for another set.
    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// A descriptor that is readable between `signal` and `clear`.
pub struct EventFd(OwnedFd);

impl EventFd {
    /// Creates one that is not readable.
    pub fn new() -> Result<EventFd> {
        // SAFETY: no pointers.
        own(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) }).map(EventFd)
    }

    /// Makes it readable. Async-signal-safe: one `write`, and errno is preserved.
    pub fn signal(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: errno is thread-local and always valid; `one` has the 8 bytes that are written.
        unsafe {
            let errno = libc::__errno_location();
            let saved = *errno;
            libc::write(self.fd(), one.as_ptr().cast(), one.len());
            *errno = saved;
        }
    }

    /// Makes it unreadable. Returns whether it was readable.
    pub fn clear(&self) -> bool {
        drain(self.fd())
    }

    /// The descriptor.
    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// An event that is cleared only if it was signalled, because clearing is a system call.
pub struct Again {
    event: EventFd,
    /// The flag is set after the event was signalled. A clear in between leaves the event readable, and the next clear
    /// resets it.
    is_set: AtomicBool,
}

impl Again {
    /// Creates one that is not readable.
    pub fn new() -> Result<Again> {
        Ok(Again { event: EventFd::new()?, is_set: AtomicBool::new(false) })
    }

    /// Makes it readable.
    pub fn signal(&self) {
        self.event.signal();
        self.is_set.store(true, SeqCst);
    }

    /// Makes it unreadable.
    #[inline(always)]
    pub fn clear(&self) {
        if self.is_set.load(SeqCst) {
            self.reset();
        }
    }

    #[cold]
    fn reset(&self) {
        if self.is_set.swap(false, SeqCst) {
            self.event.clear();
        }
    }

    /// The descriptor.
    pub fn fd(&self) -> RawFd {
        self.event.fd()
    }
}

/// A descriptor that becomes readable when its timer expires.
pub struct TimerFd(OwnedFd);

impl TimerFd {
    /// Creates a disarmed timer of the monotonic clock.
    pub fn new() -> Result<TimerFd> {
        // SAFETY: no pointers.
        own(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK) })
            .map(TimerFd)
    }

    /// Arms the timer to expire once, after `delay`.
    pub fn arm(&self, delay: Duration) -> Result<()> {
        // Zero would disarm it.
        self.set(delay.max(Duration::from_nanos(1)), Duration::ZERO)
    }

    /// Arms the timer to expire after every `interval`; zero disarms it.
    pub fn arm_every(&self, interval: Duration) -> Result<()> {
        self.set(interval, interval)
    }

    fn set(&self, first: Duration, then: Duration) -> Result<()> {
        let time =
            |of: Duration| libc::timespec { tv_sec: of.as_secs() as _, tv_nsec: of.subsec_nanos() as _ };
        let spec = libc::itimerspec { it_interval: time(then), it_value: time(first) };
        // SAFETY: `spec` lives for the call; a null pointer means that the old value is not returned.
        check(unsafe { libc::timerfd_settime(self.fd(), 0, &spec, std::ptr::null_mut()) }).map(drop)
    }

    /// Makes it unreadable until the timer expires again.
    pub fn clear(&self) {
        drain(self.fd());
    }

    /// The descriptor.
    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Reads the counter of an eventfd or timerfd, which resets it. Returns whether it was set.
fn drain(fd: RawFd) -> bool {
    let mut counter = [0u8; 8];
    // SAFETY: `counter` has the 8 bytes that are requested.
    unsafe { libc::read(fd, counter.as_mut_ptr().cast(), counter.len()) == 8 }
}

/// Converts a time to the timeout of poll and epoll: in milliseconds, -1 for no limit. Rounds up, so that the last
/// millisecond is not spent polling.
pub fn poll_timeout(time: Option<Duration>) -> i32 {
    time.map_or(-1, |time| time.as_micros().div_ceil(1000).min(i32::MAX as u128) as i32)
}

/// Waits until one of the descriptors is readable and returns its index, or `None` after `time`. If `time` is `None`,
/// there is no limit.
pub fn wait_readable(fds: &[RawFd], time: Option<Duration>) -> Result<Option<usize>> {
    let mut polled: Vec<_> = fds.iter().map(|&fd| polled(fd, libc::POLLIN)).collect();
    wait(&mut polled, time)
}

pub(super) fn polled(fd: RawFd, events: libc::c_short) -> libc::pollfd {
    libc::pollfd { fd, events, revents: 0 }
}

/// Waits and returns the index of the first ready descriptor. A signal does not end the wait.
pub(super) fn wait(polled: &mut [libc::pollfd], time: Option<Duration>) -> Result<Option<usize>> {
    let deadline = time.map(|time| Instant::now() + time);
    loop {
        let ms = poll_timeout(deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())));
        // SAFETY: the array lives for the call and has that length.
        match check(unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, ms) }) {
            Ok(0) if ms == i32::MAX => {}
            Ok(_) => return Ok(polled.iter().position(|fd| fd.revents != 0)),
            Err(e) if e.0 == libc::EINTR => {}
            Err(e) => return Err(e),
        }
    }
}
