//! Polling: waits for events or a stop request, and delivers the events to a callback or into a buffer.

use std::sync::MutexGuard;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::batch::{Batch, BatchSink};
use super::callback_sink::CallbackSink;
use super::delivery::Delivery;
use super::event::{Event, EventFn, Flow, Format, outcome};
use super::interrupt::stopped;
use super::lock::{locked, try_locked};
use super::state::{Inner, Vm};
use super::wait_set::{Role, STOP};
use crate::bpf::source::{Sink, tally};
use crate::error::{Error, Result, Status};
use crate::os::poll_timeout;

/// Maximum number of events of one poll, unless the options set another one.
const BUDGET: usize = 65536;

/// The next work of a poll.
pub(super) enum Work<'a> {
    None,
    /// A stop request, or an error that a poll reports.
    Any,
    /// Events, with the lock on all deliveries.
    Events(MutexGuard<'a, Delivery>),
}

/// Delivers waiting events. Returns whether the call that delivers is done.
type Deliver<'a> = dyn FnMut(&mut Delivery) -> Result<bool> + 'a;

/// Whether the vm had a kept record, and a queue, before a drain.
struct Before {
    pending: bool,
    queue: bool,
}

impl Before {
    /// Returns whether the drain may have changed what the vm waits for.
    fn differs(&self, delivery: &Delivery) -> bool {
        self.pending != delivery.pending.is_some()
            || self.queue && delivery.queue.is_none()
            || !delivery.retired.is_empty()
    }
}

/// The end of a wait. The clock is read only by a wait, because most calls find events and do not wait.
pub(super) struct Deadline {
    timeout: Option<Duration>,
    /// The end; `None` until the first wait.
    at: Option<Instant>,
}

impl Deadline {
    /// Returns a deadline at `timeout` after the first wait; `None` is no limit.
    pub(super) fn after(timeout: Option<Duration>) -> Deadline {
        Deadline { timeout, at: None }
    }

    /// Returns a deadline at the time `at`; `None` is no limit.
    pub(super) fn until(at: Option<Instant>) -> Deadline {
        Deadline { timeout: at.map(|_| Duration::MAX), at }
    }

    /// Returns the time that is left; `None` without a limit.
    pub(super) fn left(&mut self) -> Option<Duration> {
        let timeout = self.timeout.filter(|timeout| !timeout.is_zero());
        let Some(timeout) = timeout else { return self.timeout };
        match self.at {
            Some(at) => Some(at.saturating_duration_since(Instant::now())),
            None => {
                // A time that the clock cannot hold never comes.
                self.at = Instant::now().checked_add(timeout);
                self.at.map(|_| timeout)
            }
        }
    }
}

/// The reason why a wait ended.
pub(super) enum Ready {
    Events,
    Stop,
    Timeout,
}

impl Vm {
    /// Waits for events, passes the first batch to `callback`, and returns how many events it had.
    ///
    /// * `timeout`: how long to wait for the first event. `None` waits without a limit, [`Duration::ZERO`] does not wait.
    ///   Rounded up to milliseconds. Returns 0 if no event came in that time.
    /// * `format`: the form of the events.
    /// * `callback`: receives each event, on this thread. It may use the maps and variables of the vm, but calls that
    ///   would deliver events, change the state of the package or drop the vm return [`Status::Busy`].
    ///
    /// One call delivers at most [`Options::poll_budget`](crate::Options::poll_budget) events. The package must be
    /// loaded.
    ///
    /// # Errors
    ///
    /// [`Status::Stopped`] reports a call of [`Vm::stop`], [`Status::Callback`] that the callback returned
    /// [`Flow::Fail`].
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// use eunomia::{Flow, Format};
    ///
    /// # fn main() -> eunomia::Result<()> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// let count = vm.poll(Some(Duration::from_millis(100)), Format::Json, |event| {
    ///     println!("{}", String::from_utf8_lossy(event.data));
    ///     Flow::Continue
    /// })?;
    /// println!("{count} events");
    /// # Ok(())
    /// # }
    /// ```
    pub fn poll(
        &self,
        timeout: Option<Duration>,
        format: Format,
        mut callback: impl FnMut(&Event<'_>) -> Flow,
    ) -> Result<usize> {
        let (count, ended) = self.poll_once(None, timeout, self.poll_budget(), format, &mut callback)?;
        outcome(ended, count)
    }

    /// Polls until [`Vm::stop`] is called or the callback returns [`Flow::End`]; both are a success. See [`Vm::poll`] for
    /// the arguments.
    ///
    /// # Errors
    ///
    /// Those of [`Vm::poll`], except [`Status::Stopped`].
    ///
    /// ```no_run
    /// use eunomia::{Flow, Format};
    ///
    /// # fn main() -> eunomia::Result<()> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// vm.run(Format::Text, |event| {
    ///     println!("{}", String::from_utf8_lossy(event.data));
    ///     Flow::Continue
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn run(&self, format: Format, mut callback: impl FnMut(&Event<'_>) -> Flow) -> Result<()> {
        loop {
            match self.poll_once(None, None, self.poll_budget(), format, &mut callback) {
                Ok((_, None)) => {}
                Ok((_, ended)) => return outcome(ended, 0).map(drop),
                Err(e) if e.status() == Status::Stopped => return Ok(()),
                Err(e) => return Err(e),
            }
        }
    }

    /// Waits and delivers at most `budget` events. Returns their number, and what the callback returned if that ended the
    /// delivery. `held`: the lock on all deliveries, if the caller has seen events under it.
    #[inline(never)]
    #[cfg_attr(small, optimize(speed))]
    pub(super) fn poll_once<'a>(
        &'a self,
        held: Option<MutexGuard<'a, Delivery>>,
        timeout: Option<Duration>,
        budget: usize,
        format: Format,
        callback: &mut impl EventFn,
    ) -> Result<(usize, Option<Flow>)> {
        let mut delivered = (0, None);
        let mut work = |delivery: &mut Delivery| {
            delivered = self.drain_into(delivery, budget, format, callback)?;
            // A poll that the callback ended returns even if it has delivered no event but only reported lost records
            // or a header.
            Ok(delivered.0 > 0 || delivered.1.is_some())
        };
        self.deliver_until(held, timeout, &mut work)?;
        Ok(delivered)
    }

    /// Passes the waiting events to `callback`.
    #[inline(always)]
    fn drain_into(
        &self,
        delivery: &mut Delivery,
        budget: usize,
        format: Format,
        callback: &mut impl EventFn,
    ) -> Result<(usize, Option<Flow>)> {
        let mut scratch = delivery.scratch.take().unwrap_or_default();
        let mut sink = CallbackSink::new(format, &mut scratch, Some(&self.shared.stop), callback);
        let drained = delivery.drain(budget, &mut sink);
        let (events, bytes, lost, ended) = (sink.events, sink.bytes, sink.lost, sink.ended);
        delivery.scratch = Some(scratch);
        self.count(events, bytes, lost);
        drained.map(|()| (events as usize, ended))
    }

    /// Waits for events like [`Vm::poll`], and packs records of one source into `buf`, as many as fit. Returns their
    /// number; `batch` describes them.
    ///
    /// With [`Format::Raw`], [`Batch::records`] iterates over the records. With the other formats each record is one line
    /// in `buf`.
    ///
    /// # Errors
    ///
    /// [`Status::TooSmall`] if the first record does not fit. It needs `batch.need` bytes and is kept for the next call.
    /// [`Status::Stopped`] reports a call of [`Vm::stop`].
    ///
    /// ```no_run
    /// use eunomia::Format;
    /// use eunomia::vm::Batch;
    ///
    /// # fn main() -> eunomia::Result<()> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// let (mut batch, mut buffer) = (Batch::default(), vec![0; 1 << 20]);
    /// vm.read(None, Format::Raw, &mut buffer, &mut batch)?;
    /// for record in batch.records(&buffer) {
    ///     println!("{} bytes", record.data.len());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn read(
        &self,
        timeout: Option<Duration>,
        format: Format,
        buf: &mut [u8],
        batch: &mut Batch,
    ) -> Result<usize> {
        let read = self.deliver(timeout, |delivery| {
            let mut line = std::mem::take(&mut delivery.line);
            let mut reader = BatchSink::new(format, buf, &mut line);
            let drained = delivery.drain(usize::MAX, &mut reader as &mut dyn Sink);
            let BatchSink { batch: stored, bytes, lost, pending, is_full, .. } = reader;
            delivery.line = line;
            delivery.pending = pending.or(delivery.pending.take());
            self.count(stored.count as u64, bytes, lost);
            drained?;
            let (count, need) = (stored.count, stored.need);
            *batch = stored;
            match is_full {
                true if count == 0 => {
                    let text = format!("the next record needs {need} bytes, the buffer has {}", buf.len());
                    Err(Error::new(Status::TooSmall, text))
                }
                _ => Ok((count > 0).then_some(count)),
            }
        })?;
        if read.is_none() {
            *batch = Batch::default();
        }
        Ok(read.unwrap_or(0))
    }

    /// Delivers the records of the ring buffer with index `source` that begin before the position `end`, and returns
    /// their number. It does not wait. A host can use this to hand a ring buffer over to another reader. The host gets
    /// the current producer position from [`SourceInfo::positions`](super::SourceInfo) and reads up to there. The next
    /// reader starts where this one stopped. It may be in another process, if the map is pinned (see
    /// [`Options::pin_path`](crate::Options::pin_path)). Records that a killed process had not released are read again.
    ///
    /// Fewer records are delivered if the callback ends the call, or if a program has reserved a record before `end` and not
    /// submitted it yet. Discarded records after `end` may be released.
    ///
    /// # Errors
    ///
    /// Those of [`Vm::poll`]. [`Status::State`] while the queue's thread reads the sources, [`Status::Inval`] if the source is
    /// not a ring buffer.
    ///
    /// ```no_run
    /// use eunomia::{Flow, Format};
    ///
    /// # fn main() -> eunomia::Result<()> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// if let Some(positions) = vm.source_at(0)?.positions {
    ///     let count = vm.drain_to(0, positions.produced, Format::Json, |event| {
    ///         println!("{}", String::from_utf8_lossy(event.data));
    ///         Flow::Continue
    ///     })?;
    ///     println!("{count} events; the next reader begins with the first one after them");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn drain_to(
        &self,
        source: usize,
        end: u64,
        format: Format,
        mut callback: impl FnMut(&Event<'_>) -> Flow,
    ) -> Result<usize> {
        let drained = self.deliver(Some(Duration::ZERO), |delivery| {
            let kept = if delivery.sources.is_some() { delivery.take_kept(source) } else { None };
            let Delivery { sources, scratch, shapes, .. } = &mut *delivery;
            let Some(sources) = sources else {
                return Err(Error::new(Status::State, "the queue's thread reads the sources; stop it first"));
            };
            let scratch = scratch.get_or_insert_default();
            let mut deliver = CallbackSink::new(format, scratch, Some(&self.shared.stop), &mut callback);
            let go_on = kept.is_none_or(|kept| kept.deliver(&shapes[source], &mut deliver));
            let drained = if go_on { sources.drain_to(source, end, &mut deliver) } else { Ok(0) };
            let (events, bytes, lost, ended) = (deliver.events, deliver.bytes, deliver.lost, deliver.ended);
            self.count(events, bytes, lost);
            drained?;
            outcome(ended, events as usize).map(Some)
        })?;
        Ok(drained.unwrap_or(0))
    }

    /// Looks for something that a poll has to do. Costs no system call.
    pub(super) fn look(&self) -> Work<'_> {
        let stop = &self.shared.stop;
        if stop.is_asked() || stop.is_paused() || stop.is_claimed() {
            return if stop.is_asked() { Work::Any } else { Work::None };
        }
        let _peeking = stop.peeking();
        match try_locked(&self.shared.delivery) {
            Ok(delivery) if delivery.has_events() => Work::Events(delivery),
            Err(e) if e.status() != Status::Busy => Work::Any,
            _ => Work::None,
        }
    }

    /// Returns the maximum number of events of one poll.
    pub(super) fn poll_budget(&self) -> usize {
        match self.shared.poll_budget {
            0 => BUDGET,
            events => events as usize,
        }
    }

    /// Adds delivered events, their bytes, and lost records to the counters.
    pub(super) fn count(&self, events: u64, bytes: u64, lost: u64) {
        let counters = &self.shared.counters;
        tally(&counters.events, events);
        tally(&counters.bytes, bytes);
        if lost > 0 {
            counters.lost_kernel.fetch_add(lost, Relaxed);
        }
    }

    /// Waits and calls `work` until it returns a result; `None` after the timeout. The lock on the package is held while
    /// this waits and released during `work`, so that callbacks may use the vm.
    pub(super) fn deliver<T>(
        &self,
        timeout: Option<Duration>,
        mut work: impl FnMut(&mut Delivery) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        let mut done = None;
        self.deliver_all(timeout, &mut |delivery| {
            done = work(delivery)?;
            Ok(done.is_some())
        })?;
        Ok(done)
    }

    /// The body of `deliver`, compiled once.
    #[inline(never)]
    fn deliver_all(&self, timeout: Option<Duration>, work: &mut Deliver<'_>) -> Result<()> {
        self.deliver_until(None, timeout, work)
    }

    /// Returns when `work` has returned true, and after the timeout. `held`: the lock on all deliveries, if the caller has seen
    /// events under it.
    #[inline(always)]
    fn deliver_until<'a>(
        &'a self,
        held: Option<MutexGuard<'a, Delivery>>,
        timeout: Option<Duration>,
        work: &mut (impl FnMut(&mut Delivery) -> Result<bool> + ?Sized),
    ) -> Result<()> {
        let (mut delivery, mut ready) = match held {
            Some(delivery) => (delivery, Some(Ready::Events)),
            None => {
                let delivery = self.delivery()?;
                let ready = self.ready(&delivery);
                (delivery, ready)
            }
        };
        let mut deadline = Deadline::after(timeout);
        if ready.is_none() {
            // A package that has events is loaded, and no other thread closes it, so the lock on it is needed only to wait.
            try_locked(&self.shared.inner)?.readable()?;
        }
        tally(&self.shared.counters.polls, 1);
        let _polling = self.shared.stop.polling();
        loop {
            let now = match ready {
                Some(now) => now,
                None => {
                    let now;
                    (delivery, now) = self.wait_held(delivery, &mut deadline)?;
                    now
                }
            };
            match now {
                Ready::Stop => return Err(stopped()),
                Ready::Timeout => return Ok(()),
                Ready::Events => {}
            }
            let before = Before { pending: delivery.pending.is_some(), queue: delivery.queue.is_some() };
            let result = work(&mut delivery);
            if before.differs(&delivery) {
                self.after_drain(&mut delivery, before);
            }
            if result? {
                return Ok(());
            }
            ready = self.ready(&delivery);
        }
    }

    /// Returns what can be done without waiting. Waiting records need no system call. For perf buffers this is also the only
    /// reliable check, because the kernel reports them as readable once: an epoll set of the host that contains the vm's descriptor
    /// consumes the report.
    fn ready(&self, delivery: &Delivery) -> Option<Ready> {
        let stop = &self.shared.stop;
        if stop.is_paused() || stop.is_claimed() || !delivery.has_events() {
            return None;
        }
        Some(if stop.take() { Ready::Stop } else { Ready::Events })
    }

    /// Waits with both locks held. If another thread claims the locks, this thread first releases them to it.
    #[cold]
    fn wait_held<'a>(
        &'a self,
        mut delivery: MutexGuard<'a, Delivery>,
        deadline: &mut Deadline,
    ) -> Result<(MutexGuard<'a, Delivery>, Ready)> {
        let mut inner = self.relock();
        if self.shared.stop.is_claimed() {
            (inner, delivery) = self.give_way(inner, delivery);
            inner.readable()?;
            if let Some(ready) = self.ready(&delivery) {
                return Ok((delivery, ready));
            }
        }
        let ready = self.wait(deadline)?;
        drop(inner);
        Ok((delivery, ready))
    }

    /// Releases the locks to a thread that claims them, and takes them back when that is done.
    fn give_way<'a>(
        &'a self,
        inner: MutexGuard<'a, Inner>,
        delivery: MutexGuard<'a, Delivery>,
    ) -> (MutexGuard<'a, Inner>, MutexGuard<'a, Delivery>) {
        drop((delivery, inner));
        self.shared.stop.give_way();
        // The locks are taken in the same order as by the thread that claims them.
        let delivery = locked(&self.shared.delivery);
        (self.relock(), delivery)
    }

    /// Frees the retired versions that have nothing left to deliver.
    pub(super) fn drop_spent(&self, delivery: &mut Delivery) {
        let spent = delivery.take_spent();
        if spent.is_empty() {
            return;
        }
        let mut wait_set = self.shared.wait_set();
        // The descriptors must be removed before they are closed. Removing them cannot fail.
        let _ = wait_set.watch_sources(Role::Retired, &self.shared.epoll, &delivery.retired_sources());
        let _ = wait_set.watch(Role::Queue, &self.shared.epoll, &delivery.queue_fds());
        drop((wait_set, spent));
        self.shared.counters.watch_sources(&[]);
    }

    /// Takes the lock on the package back after a batch. Another thread can hold it only during one short call.
    fn relock(&self) -> MutexGuard<'_, Inner> {
        locked(&self.shared.inner)
    }

    /// Stops waiting for a queue that has ended and is empty, and waits for a record that was kept back.
    #[cold]
    fn after_drain(&self, delivery: &mut Delivery, before: Before) {
        if !delivery.retired.is_empty() {
            self.drop_spent(delivery);
        }
        if before.queue && delivery.queue.is_none() {
            self.shared.wait_set().keep(Role::Queue, &delivery.queue_fds());
        }
        match (before.pending, delivery.pending.is_some()) {
            (false, true) => self.shared.pending.signal(),
            (true, false) => {
                self.shared.pending.clear();
            }
            _ => {}
        }
    }

    /// Waits for records or a stop request. Takes the stop request.
    pub(super) fn wait(&self, deadline: &mut Deadline) -> Result<Ready> {
        let mut tokens = [0; 16];
        loop {
            let timeout_ms = poll_timeout(deadline.left());
            match self.shared.epoll.wait(&mut tokens, timeout_ms) {
                _ if self.shared.stop.take() => return Ok(Ready::Stop),
                Ok(0) if timeout_ms == i32::MAX => {}
                Ok(0) => return Ok(Ready::Timeout),
                Ok(_) if self.shared.stop.is_claimed() => return Ok(Ready::Events),
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
