//! Stop, queue and sources in one wait, and the way from there to the host.

use std::sync::MutexGuard;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::batch::{Batch, BatchSink};
use super::callback_sink::CallbackSink;
use super::delivery::Delivery;
use super::event::{EventFn, Flow, Format};
use super::lock::locked;
use super::state::{Inner, Vm};
use super::wait_set::{Role, STOP};
use crate::bpf::source::Sources;
use crate::error::{Error, Result, Status};
use crate::os::poll_timeout;

/// Events of one poll unless the options say otherwise.
const BUDGET: usize = 65536;

/// How a wait ended.
pub(super) enum Ready {
    Events,
    Stop,
    Nothing,
}

impl Vm {
    /// Waits for the first non-empty batch, delivers it and says how many events it had; 0 after `timeout_ms`
    /// (-1: never). `Err(Stopped)` reports a call of `stop`.
    pub fn poll(
        &self,
        timeout_ms: i32,
        format: Format,
        callback: &mut (impl EventFn + ?Sized),
    ) -> Result<usize> {
        self.poll_once(timeout_ms, format, callback).map(|(count, _)| count)
    }

    /// Polls until `stop` is called or the callback ends it.
    pub fn run(&self, format: Format, callback: &mut (impl EventFn + ?Sized)) -> Result<()> {
        loop {
            match self.poll_once(-1, format, callback) {
                Ok((_, Some(Flow::End))) => return Ok(()),
                Ok(_) => {}
                Err(e) if e.status == Status::Stopped => return Ok(()),
                Err(e) => return Err(e),
            }
        }
    }

    fn poll_once(
        &self,
        timeout_ms: i32,
        format: Format,
        callback: &mut (impl EventFn + ?Sized),
    ) -> Result<(usize, Option<Flow>)> {
        let budget = match self.shared.poll_budget {
            0 => BUDGET,
            events => events as usize,
        };
        self.deliver(timeout_ms, |delivery| {
            let mut scratch = std::mem::take(&mut delivery.scratch);
            let mut deliver = CallbackSink::new(format, &mut scratch, Some(&self.shared.stop), callback);
            let drained = delivery.drain(budget, &mut deliver);
            let (events, bytes, lost, ended) = (deliver.events, deliver.bytes, deliver.lost, deliver.ended);
            delivery.scratch = scratch;
            self.count(events, bytes, lost);
            drained?;
            match ended {
                Some(Flow::Fail(value)) => {
                    Err(Error::new(Status::Callback, format_args!("the callback returned {value}")))
                }
                // What ends the poll counts as something even if it was no event (lost records, a table's head).
                ended => Ok((events > 0 || ended.is_some()).then_some((events as usize, ended))),
            }
        })
        .map(|result| result.unwrap_or((0, None)))
    }

    /// Fills `buf` with records of one source and says how many. `Err(TooSmall)`: the first does not fit, needs
    /// `batch.need` bytes and is kept.
    ///
    /// ```no_run
    /// use eunomia::vm::Batch;
    /// use eunomia::{Format, Options, Vm};
    ///
    /// # fn main() -> eunomia::Result<()> {
    /// # let vm = Vm::new(Options::default())?;
    /// let (mut batch, mut buffer) = (Batch::default(), vec![0; 1 << 20]);
    /// vm.read(-1, Format::Raw, &mut buffer, &mut batch)?;
    /// for record in batch.records(&buffer) {
    ///     println!("{} bytes", record.data.len());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn read(&self, timeout_ms: i32, format: Format, buf: &mut [u8], batch: &mut Batch) -> Result<usize> {
        let read = self.deliver(timeout_ms, |delivery| {
            let mut line = std::mem::take(&mut delivery.line);
            let mut reader = BatchSink::new(format, buf, &mut line);
            let drained = delivery.drain(usize::MAX, &mut reader);
            let BatchSink { batch: stored, bytes, lost, pending, .. } = reader;
            delivery.line = line;
            delivery.pending = pending.or(delivery.pending.take());
            self.count(stored.count as u64, bytes, lost);
            drained?;
            *batch = stored;
            match &delivery.pending {
                Some(_) if stored.count == 0 => {
                    let text =
                        format!("the next record needs {} bytes, the buffer has {}", stored.need, buf.len());
                    Err(Error::new(Status::TooSmall, text))
                }
                _ => Ok((stored.count > 0).then_some(stored.count)),
            }
        })?;
        if read.is_none() {
            *batch = Batch::default();
        }
        Ok(read.unwrap_or(0))
    }

    /// Adds to the counters.
    pub(super) fn count(&self, events: u64, bytes: u64, lost: u64) {
        let counters = &self.shared.counters;
        counters.events.fetch_add(events, Relaxed);
        counters.bytes.fetch_add(bytes, Relaxed);
        counters.lost_kernel.fetch_add(lost, Relaxed);
    }

    /// Waits and works until `work` has something to show; `None` after the timeout. The vm's lock is held while
    /// waiting and lent while working, when callbacks may use the vm.
    fn deliver<T>(
        &self,
        timeout_ms: i32,
        mut work: impl FnMut(&mut Delivery) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        let deadline = u64::try_from(timeout_ms).ok().map(|ms| Instant::now() + Duration::from_millis(ms));
        let mut inner = self.inner()?;
        let mut delivery = self.delivery()?;
        inner.loaded()?;
        self.shared.counters.polls.fetch_add(1, Relaxed);
        loop {
            // A host that waits for the vm's descriptor in a set of its own has used up what the kernel tells of perf buffers.
            let has_records = delivery.sources.as_ref().is_some_and(Sources::has_records);
            let ready = match has_records && !self.shared.stop.is_paused() {
                true if self.shared.stop.take() => Ready::Stop,
                true => Ready::Events,
                false => self.wait(deadline)?,
            };
            match ready {
                Ready::Stop => return Err(Error::new(Status::Stopped, "stop was called")),
                Ready::Nothing => return Ok(None),
                Ready::Events => {}
            }
            let had_pending = delivery.pending.is_some();
            drop(inner);
            let result = work(&mut delivery);
            inner = self.relock();
            self.after_drain(&delivery, had_pending);
            match result {
                Ok(None) => {}
                result => return result,
            }
        }
    }

    /// Takes the lock back after a batch; whoever has it now keeps it for one short call.
    fn relock(&self) -> MutexGuard<'_, Inner> {
        locked(&self.shared.inner)
    }

    /// A queue that has ended and been emptied is no longer waited for; a record that was kept back is.
    fn after_drain(&self, delivery: &Delivery, had_pending: bool) {
        if delivery.queue.is_none() {
            self.shared.wait_set().forget(Role::Queue);
        }
        match (had_pending, delivery.pending.is_some()) {
            (false, true) => self.shared.pending.signal(),
            (true, false) => {
                self.shared.pending.clear();
            }
            _ => {}
        }
    }

    /// Waits for records, or for a request to stop, which is taken.
    pub(super) fn wait(&self, deadline: Option<Instant>) -> Result<Ready> {
        let mut tokens = [0; 16];
        loop {
            let timeout = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let timeout_ms = poll_timeout(timeout);
            match self.shared.epoll.wait(&mut tokens, timeout_ms) {
                _ if self.shared.stop.take() => return Ok(Ready::Stop),
                Ok(0) if timeout_ms == i32::MAX => {}
                Ok(0) => return Ok(Ready::Nothing),
                Ok(n) if tokens[..n].contains(&STOP) => {
                    if self.shared.stop.take_signalled() {
                        return Ok(Ready::Stop);
                    }
                    if n > 1 {
                        return Ok(Ready::Events);
                    }
                }
                Ok(_) => return Ok(Ready::Events),
                Err(e) if e.0 == libc::EINTR => {}
                Err(e) => return Err(Error::sys(Status::System, e.0, format_args!("epoll: {e}"))),
            }
        }
    }
}
