//! Calls that other threads may make at any time, and the queue.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;

use super::lock::locked;
use super::queue::{Cell, Queue};
use super::state::{Vm, system_error};
use super::stats::Stats;
use super::wait_set::Role;
use crate::error::{Error, Result, Status};
use crate::os::{Epoll, Errno};

/// Maximum size of a queue in bytes.
const MAX_QUEUE: usize = 1 << 30;

/// The descriptor of [`Vm::epoll_fd`], for event loops.
impl AsFd for Vm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.epoll.as_fd()
    }
}

/// The descriptor of [`Vm::epoll_fd`], for event loops.
impl AsRawFd for Vm {
    fn as_raw_fd(&self) -> RawFd {
        self.epoll_fd()
    }
}

impl Vm {
    /// Ends the poll in progress, or else the next one, with [`Status::Stopped`]. It also ends a load, after the map or
    /// program that the kernel is working on. Several calls before the next report are one request.
    ///
    /// Any thread may call it at any time, and so may a signal handler.
    ///
    /// ```no_run
    /// use std::sync::Arc;
    ///
    /// use eunomia::{Flow, Format, Options, Vm};
    ///
    /// # fn main() -> eunomia::Result<()> {
    /// let vm = Arc::new(Vm::new(Options::new())?);
    /// let stopped = Arc::clone(&vm);
    /// std::thread::spawn(move || {
    ///     let _ = std::io::stdin().read_line(&mut String::new());
    ///     stopped.stop();
    /// });
    /// vm.run(Format::Json, |_| Flow::Continue)?; // returns when Enter is pressed
    /// # Ok(())
    /// # }
    /// ```
    pub fn stop(&self) {
        self.shared.stop.ask();
    }

    /// Pauses or resumes the delivery of events. While it is paused, events stay in the kernel's buffers, which drop
    /// records when they are full. Any thread may call it at any time.
    ///
    /// ```no_run
    /// # fn main() -> eunomia::Result<()> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// vm.pause(true)?;
    /// // Write the output file anew.
    /// vm.pause(false)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn pause(&self, on: bool) -> Result<()> {
        // The request and the wait set are changed under one lock, so that they agree after opposite requests of two
        // threads.
        let mut wait_set = self.shared.wait_set();
        wait_set.pause(on).map_err(|e| system_error("pause", e))?;
        self.shared.stop.pause(on);
        Ok(())
    }

    /// Suspends (`true`) or resumes all programs, in one step. Suspended programs stay attached, but they do not run.
    /// Hits of their hooks in that time are not counted as lost. The suspension stays in effect over detach and attach;
    /// a [`replace`](Vm::replace) ends it. All programs must be attached through dispatchers: see
    /// [`Options::replaceable`](crate::Options::replaceable).
    ///
    /// # Errors
    ///
    /// [`Status::Unsupported`] if a program has no dispatcher, or none is attached; [`Status::State`] if no package is loaded.
    ///
    /// ```no_run
    /// # fn main() -> eunomia::Result<()> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new().replaceable(true))?;
    /// vm.attach()?;
    /// vm.suspend(true)?; // the hooks cost a few nanoseconds
    /// vm.suspend(false)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn suspend(&self, on: bool) -> Result<()> {
        let (mut inner, _delivery) = self.exclusive()?;
        inner.loaded()?;
        inner.session_mut()?.suspend(on)
    }

    /// Returns a descriptor that is readable when there are events or a stop request: a [`poll`](Vm::poll) would return
    /// at once. Any event loop can watch it. It belongs to the vm and stays the same until the vm is dropped. `AsFd`
    /// returns it, too. Any thread may call it at any time.
    ///
    /// ```
    /// # fn main() -> eunomia::Result<()> {
    /// let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// assert!(vm.epoll_fd() >= 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn epoll_fd(&self) -> RawFd {
        self.shared.epoll.fd()
    }

    /// Returns the event counters. Any thread may call it at any time.
    ///
    /// ```
    /// # fn main() -> eunomia::Result<()> {
    /// let stats = eunomia::Vm::new(eunomia::Options::new())?.stats();
    /// assert_eq!((stats.events, stats.lost_kernel), (0, 0));
    /// # Ok(())
    /// # }
    /// ```
    pub fn stats(&self) -> Stats {
        self.shared.counters.stats()
    }

    /// Starts a thread that reads the kernel's buffers into a queue of `max_bytes`, from which polls then deliver events. A host
    /// that is busy for long then loses fewer records. When the queue is full, the newest records are dropped and counted in
    /// [`Stats::lost_queue`].
    ///
    /// The size is at least 128 KiB (a smaller value is raised) and at most 1 GiB. The package must be loaded.
    ///
    /// ```no_run
    /// # fn main() -> eunomia::Result<()> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// vm.attach()?;
    /// vm.queue_start(64 << 20)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn queue_start(&self, max_bytes: usize) -> Result<()> {
        if max_bytes > MAX_QUEUE {
            let text = format!("a queue of {max_bytes} bytes; the maximum is {MAX_QUEUE}");
            return Err(Error::new(Status::Inval, text));
        }
        let (inner, mut delivery) = self.exclusive()?;
        inner.readable()?;
        if delivery.queue.as_ref().is_some_and(Queue::is_running) {
            return Err(Error::new(Status::State, "the queue is already running"));
        }
        if delivery.queue.is_some() {
            return Err(Error::new(Status::State, "the previous queue still holds events; poll them first"));
        }
        let system = |e: Errno| system_error("queue", e);
        let epoll = Arc::new(Epoll::new().map_err(system)?);
        let cell = Cell::default();
        let mut held = locked(&cell);
        let counters = Arc::clone(&self.shared.counters);
        let queue = Queue::start(&cell, Arc::clone(&epoll), max_bytes, counters).map_err(system)?;
        let mut wait_set = self.shared.wait_set();
        let retired = delivery.queue_fds();
        let watched = wait_set.watch(Role::Queue, &self.shared.epoll, &[&*retired, &[queue.fd()]].concat());
        if let Err(e) = watched.and_then(|()| wait_set.move_sources(&epoll)) {
            // A descriptor that is closed leaves its epoll set by itself.
            wait_set.keep(Role::Queue, &retired);
            drop(held);
            return Err(system(e));
        }
        *held = delivery.sources.take();
        delivery.queue = Some(queue);
        Ok(())
    }

    /// Ends the thread of the queue. Later polls deliver what is queued first, before newer events. `Err(State)` if the queue
    /// is not running.
    ///
    /// ```no_run
    /// # fn main() -> eunomia::Result<()> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// vm.queue_start(64 << 20)?;
    /// vm.queue_stop()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn queue_stop(&self) -> Result<()> {
        let (_inner, mut delivery) = self.exclusive()?;
        let not_running = || Error::new(Status::State, "the queue is not running");
        let queue = delivery.queue.as_mut().filter(|queue| queue.is_running()).ok_or_else(not_running)?;
        let mut wait_set = self.shared.wait_set();
        // The calls that may fail come first. The thread ends before the sources are asked for their state.
        wait_set.move_sources(&self.shared.epoll).map_err(|e| system_error("queue", e))?;
        let sources = queue.stop();
        wait_set.ask_again();
        // A queue that holds events stays until they have been delivered.
        if delivery.queue.take_if(|queue| queue.is_empty()).is_some() {
            wait_set.keep(Role::Queue, &delivery.queue_fds());
        }
        delivery.sources = Some(sources.ok_or_else(not_running)?);
        Ok(())
    }
}
