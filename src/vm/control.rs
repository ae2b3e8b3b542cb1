//! What other threads may do at any time, and the queue.

use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::sync::Arc;

use super::queue::Queue;
use super::state::{Vm, system_error};
use super::stats::Stats;
use super::wait_set::Role;
use crate::error::{Error, Result, Status};
use crate::os::{Epoll, Errno};

/// Bytes of the largest queue.
const MAX_QUEUE: usize = 1 << 30;

/// For event loops: [`Vm::epoll_fd`].
impl AsFd for Vm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.epoll.as_fd()
    }
}

impl Vm {
    /// Ends the poll that is under way, or the next one, with `Err(Stopped)`; likewise a load, after the map or program that
    /// the kernel is at work on. Any thread, any signal handler;
    /// several calls before the report are one.
    pub fn stop(&self) {
        self.shared.stop.ask();
    }

    /// Holds events back in the kernel, or lets them come. Any thread.
    pub fn pause(&self, on: bool) -> Result<()> {
        // Both under the wait_set's lock: two threads that want different things leave them agreed.
        let mut wait_set = self.shared.wait_set();
        wait_set.pause(on).map_err(|e| system_error("pause", e))?;
        self.shared.stop.pause(on);
        Ok(())
    }

    /// A descriptor that is readable when `poll(0)` has something to report; the same from first to last. Any thread.
    pub fn epoll_fd(&self) -> RawFd {
        self.shared.epoll.fd()
    }

    /// The counters. Any thread.
    pub fn stats(&self) -> Stats {
        self.shared.counters.stats()
    }

    /// Starts a thread that drains the kernel's buffers into a queue of `max_bytes` (128 KiB to 1 GiB; less counts as
    /// the least), from which polls then deliver. When it is full the newest records are dropped and counted.
    pub fn queue_start(&self, max_bytes: usize) -> Result<()> {
        if max_bytes > MAX_QUEUE {
            let text = format!("a queue of {max_bytes} bytes; {MAX_QUEUE} is the most");
            return Err(Error::new(Status::Inval, text));
        }
        let (inner, mut delivery) = self.exclusive()?;
        inner.loaded()?;
        if delivery.queue.as_ref().is_some_and(Queue::is_running) {
            return Err(Error::new(Status::State, "the queue is already running"));
        }
        if delivery.queue.is_some() {
            return Err(Error::new(Status::State, "the last queue still holds events; poll them first"));
        }
        let system = |e: Errno| system_error("queue", e);
        let epoll = Arc::new(Epoll::new().map_err(system)?);
        let Some(sources) = delivery.sources.take() else {
            return Err(Error::new(Status::Internal, "the sources are gone"));
        };
        // As long as it waits for no source it moves nothing.
        let started = Queue::start(sources, Arc::clone(&epoll), max_bytes, Arc::clone(&self.shared.counters));
        let mut queue = match started {
            Ok(queue) => queue,
            Err((e, sources)) => {
                delivery.sources = sources;
                return Err(system(e));
            }
        };
        let mut wait_set = self.shared.wait_set();
        let watched = wait_set.watch(Role::Queue, &self.shared.epoll, &[queue.fd()]);
        let moved = watched.and_then(|()| wait_set.move_sources(&epoll));
        match moved {
            Ok(()) => delivery.queue = Some(queue),
            Err(_) => {
                // Closed, its descriptor leaves its set by itself.
                wait_set.forget(Role::Queue);
                delivery.sources = queue.stop();
            }
        }
        moved.map_err(system)
    }

    /// Ends that thread. What is queued is still delivered, before anything newer.
    pub fn queue_stop(&self) -> Result<()> {
        let (_inner, mut delivery) = self.exclusive()?;
        let not_running = || Error::new(Status::State, "the queue is not running");
        let queue = delivery.queue.as_mut().filter(|queue| queue.is_running()).ok_or_else(not_running)?;
        let mut wait_set = self.shared.wait_set();
        // First what may fail; the thread has the last word about what the sources hold.
        wait_set.move_sources(&self.shared.epoll).map_err(|e| system_error("queue", e))?;
        let sources = queue.stop();
        wait_set.ask_again();
        // One that holds something stays until that has been delivered.
        if delivery.queue.take_if(|queue| queue.is_empty()).is_some() {
            wait_set.forget(Role::Queue);
        }
        delivery.sources = Some(sources.ok_or_else(not_running)?);
        Ok(())
    }
}
