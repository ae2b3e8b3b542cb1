//! What a thread waits for: epoll, eventfd, timerfd and poll.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use super::descriptor::own;
use super::errno::{Result, check};

/// A set of descriptors to wait for, each with a token.
pub struct Epoll(OwnedFd);

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Epoll {
    /// An empty set.
    pub fn new() -> Result<Epoll> {
        // SAFETY: no pointers.
        own(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) }).map(Epoll)
    }

    /// Adds `fd`, readable, level-triggered.
    pub fn add(&self, fd: RawFd, token: u64) -> Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: token };
        // SAFETY: `event` lives for the call.
        check(unsafe { libc::epoll_ctl(self.fd(), libc::EPOLL_CTL_ADD, fd, &mut event) }).map(drop)
    }

    /// Takes `fd` out; one that is not in it is no error.
    pub fn remove(&self, fd: RawFd) {
        // SAFETY: EPOLL_CTL_DEL ignores the event pointer.
        unsafe { libc::epoll_ctl(self.fd(), libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut()) };
    }

    /// Waits up to `timeout_ms` (-1: for ever) and stores the tokens of what is ready. EINTR is an error like any other.
    pub fn wait(&self, tokens: &mut [u64; 16], timeout_ms: i32) -> Result<usize> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 16];
        // SAFETY: the array holds the 16 events the kernel is told of.
        let n = check(unsafe { libc::epoll_wait(self.fd(), events.as_mut_ptr(), 16, timeout_ms) })? as usize;
        for (token, event) in tokens.iter_mut().zip(&events[..n]) {
            *token = event.u64;
        }
        Ok(n)
    }

    /// The descriptor, for nesting and for the host.
    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// A descriptor that is readable between `signal` and `clear`.
pub struct EventFd(OwnedFd);

impl EventFd {
    /// A cleared one.
    pub fn new() -> Result<EventFd> {
        // SAFETY: no pointers.
        own(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) }).map(EventFd)
    }

    /// Makes it readable. Async-signal-safe: one `write`, errno kept.
    pub fn signal(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: errno is thread-local and always there; `one` holds the 8 bytes that are written.
        unsafe {
            let errno = libc::__errno_location();
            let saved = *errno;
            libc::write(self.fd(), one.as_ptr().cast(), one.len());
            *errno = saved;
        }
    }

    /// Makes it unreadable; whether it was readable.
    pub fn clear(&self) -> bool {
        drain(self.fd())
    }

    /// The descriptor.
    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// A descriptor that becomes readable at a time.
pub struct TimerFd(OwnedFd);

impl TimerFd {
    /// A disarmed timer on the monotonic clock.
    pub fn new() -> Result<TimerFd> {
        // SAFETY: no pointers.
        own(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK) })
            .map(TimerFd)
    }

    /// Arms it to fire once after `delay`.
    pub fn arm(&self, delay: Duration) -> Result<()> {
        // Zero would disarm it: what is due now fires after a nanosecond.
        self.set(delay.max(Duration::from_nanos(1)), Duration::ZERO)
    }

    /// Arms it to fire after every `interval`; zero disarms it.
    pub fn arm_every(&self, interval: Duration) -> Result<()> {
        self.set(interval, interval)
    }

    fn set(&self, first: Duration, then: Duration) -> Result<()> {
        let time =
            |of: Duration| libc::timespec { tv_sec: of.as_secs() as _, tv_nsec: of.subsec_nanos() as _ };
        let spec = libc::itimerspec { it_interval: time(then), it_value: time(first) };
        // SAFETY: `spec` lives for the call; the old value is not asked for.
        check(unsafe { libc::timerfd_settime(self.fd(), 0, &spec, std::ptr::null_mut()) }).map(drop)
    }

    /// Forgets that it fired.
    pub fn clear(&self) {
        drain(self.fd());
    }

    /// The descriptor.
    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Reads the counter of an eventfd or timerfd away; whether there was one.
fn drain(fd: RawFd) -> bool {
    let mut counter = [0u8; 8];
    // SAFETY: `counter` has room for the 8 bytes that are asked for.
    unsafe { libc::read(fd, counter.as_mut_ptr().cast(), counter.len()) == 8 }
}

/// Waits until one of the descriptors is readable and says which; `None` after the time, for ever without one.
pub fn wait_readable(fds: &[RawFd], time: Option<Duration>) -> Result<Option<usize>> {
    let mut polled: Vec<_> = fds.iter().map(|&fd| polled(fd, libc::POLLIN)).collect();
    wait(&mut polled, time)
}

pub(super) fn polled(fd: RawFd, events: libc::c_short) -> libc::pollfd {
    libc::pollfd { fd, events, revents: 0 }
}

/// The first of those that are ready; signals do not end the wait.
pub(super) fn wait(polled: &mut [libc::pollfd], time: Option<Duration>) -> Result<Option<usize>> {
    let deadline = time.map(|time| Instant::now() + time);
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let ms = left.map_or(-1, |left| left.as_micros().div_ceil(1000).min(i32::MAX as u128) as i32);
        // SAFETY: the array lives for the call and has that length.
        match check(unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, ms) }) {
            Ok(0) if ms == i32::MAX => {}
            Ok(_) => return Ok(polled.iter().position(|fd| fd.revents != 0)),
            Err(e) if e.0 == libc::EINTR => {}
            Err(e) => return Err(e),
        }
    }
}
