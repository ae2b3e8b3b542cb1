//! Groups: several vms that one thread waits for with one call and one descriptor.
//!
//! A poll first checks in user space whether a member has records in its buffers or its queue, or a sampled map that is
//! due. If no member has any, the poll waits for an epoll set that contains the epoll set of each member. So an event
//! costs a system call only if the thread slept.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::delivery::Delivery;
use super::event::{Event, EventFn, Flow, Format, outcome};
use super::handover::Request;
use super::interrupt::{stopped, this_thread};
use super::lock::locked;
use super::membership::{Leave, Membership};
use super::poll::{Deadline, Ready, Work};
use super::state::{Vm, system_error};
use crate::error::{Error, Result, Status};
use crate::os::{self, Again, Epoll, Errno, EventFd, poll_timeout};

/// Token of the stop request in the set of a group.
const STOP: u64 = 0;
/// Token of the event that makes the set readable after an incomplete poll.
const AGAIN: u64 = 1;
/// Token of the first member.
const FIRST: u64 = 2;
/// The value of `current` while no member delivers events.
const NONE: u64 = 0;
/// A flag in `current`: another thread waits until the member has delivered its events.
const AWAITED: u64 = 1 << 63;

/// Maximum number of events of one turn, unless the options of the vm set another one.
const TURN: usize = 1024;
/// How long a poll waits before it looks again at a member that has events and that another thread uses.
const BUSY_WAIT: Duration = Duration::from_millis(1);

/// Several vms that one thread polls together.
///
/// A vm is a member of at most one group, and leaves it when it is dropped. [`add`](Group::add),
/// [`remove`](Group::remove) and [`stop`](Group::stop) work from any thread at any time and in callbacks; one thread at
/// a time polls. Every other method can still be called on a member, also by other threads.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use eunomia::vm::Group;
/// use eunomia::{Flow, Format, Kind, Options, Vm};
///
/// # fn main() -> eunomia::Result<()> {
/// let group = Group::new()?;
/// let mut vms = Vec::new();
/// for path in ["opensnoop.json", "execsnoop.json"] {
///     let vm = Arc::new(Vm::new(Options::new())?);
///     vm.open_file(path, Kind::Json)?;
///     vm.attach()?;
///     group.add(&vm, vms.len())?;
///     vms.push(vm);
/// }
/// loop {
///     group.poll(None, Format::Json, |key, event| {
///         println!("{key}: {}", String::from_utf8_lossy(event.data));
///         Flow::Continue
///     })?;
/// }
/// # }
/// ```
pub struct Group(Arc<Shared>);

/// The state that a group and its members share.
struct Shared {
    epoll: Epoll,
    stop: Request<AtomicBool, EventFd>,
    /// The thread that polls; 0 for none. Set with `members` locked.
    poller: AtomicUsize,
    /// Readable while the last poll has left something to do.
    again: Again,
    members: Mutex<Members>,
    /// The token of the member whose events are being delivered, or `NONE`; perhaps with `AWAITED`. Set with `members` locked.
    current: AtomicU64,
    /// Notified at the end of a turn if `AWAITED` was set in `current`.
    turn_over: Condvar,
    /// Set when the current member leaves.
    has_left: AtomicBool,
    /// The process that created the group. A child has the same epoll set and must not change it.
    owner: u32,
}

#[derive(Default)]
struct Members {
    /// In the order of their tokens.
    list: Vec<Member>,
    /// Number of members that have been added.
    added: u64,
    /// Incremented when the list changes.
    version: u64,
    /// The index of the member that the next pass begins with, if there is such a member.
    first: usize,
    /// Whether the list has a member that has been dropped.
    has_dropped: bool,
    /// A member that has failed and is not yet reported, by its key.
    failure: Option<(usize, Error)>,
    /// The member that the last failed poll was about.
    failed: Option<usize>,
}

struct Member {
    vm: Weak<dyn AsVm>,
    fd: RawFd,
    token: u64,
    key: usize,
    /// Whether epoll has reported it. epoll may have reported something that cannot be seen in user space.
    is_reported: bool,
}

/// The reference to a vm that a group holds.
pub(crate) trait AsVm: Send + Sync {
    /// Returns the vm.
    fn vm(&self) -> &Vm;
}

impl AsVm for Vm {
    fn vm(&self) -> &Vm {
        self
    }
}

/// A member that delivers events next.
pub(crate) struct Turn<'a> {
    vm: &'a Vm,
    key: usize,
    has_left: &'a AtomicBool,
    /// The lock on all deliveries of the vm, if events have been seen.
    held: Option<MutexGuard<'a, Delivery>>,
}

/// The number of events that a member has delivered, and what the callback returned if that ended the delivery.
type Delivered = (usize, Option<Flow>);

/// Delivers the events of a member.
pub(crate) type Deliver<'a> = dyn FnMut(Turn<'_>) -> Result<Delivered> + 'a;

impl<'a> Turn<'a> {
    /// The key that the member was added with.
    pub(crate) fn key(&self) -> usize {
        self.key
    }

    /// Returns a flag that is set when the member has left the group. No event of the member is delivered after that.
    pub(crate) fn has_left(&self) -> &'a AtomicBool {
        self.has_left
    }

    /// Passes the waiting events to `callback`. Does not wait.
    pub(crate) fn deliver(self, format: Format, callback: &mut impl EventFn) -> Result<Delivered> {
        let budget = match self.vm.shared.poll_budget {
            0 => TURN,
            events => events as usize,
        };
        self.vm.poll_once(self.held, Some(Duration::ZERO), budget, format, callback)
    }
}

impl Group {
    /// Creates an empty group.
    ///
    /// # Errors
    ///
    /// [`Status::System`] if the process is out of descriptors.
    ///
    /// ```
    /// # fn main() -> eunomia::Result<()> {
    /// let group = eunomia::vm::Group::new()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn new() -> Result<Group> {
        let shared = Shared::new().map_err(|e| system_error("descriptors of the group", e))?;
        Ok(Group(Arc::new(shared)))
    }

    /// Adds a vm, in any state of its life cycle. `key` is passed to the callback with its events.
    ///
    /// The group does not keep the vm alive.
    ///
    /// # Errors
    ///
    /// [`Status::State`] if the vm is in a group already.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// # fn main() -> eunomia::Result<()> {
    /// let (group, vm) = (eunomia::vm::Group::new()?, Arc::new(eunomia::Vm::new(eunomia::Options::new())?));
    /// group.add(&vm, 0)?;
    /// assert!(group.add(&vm, 1).is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn add(&self, vm: &Arc<Vm>, key: usize) -> Result<()> {
        let held = Arc::downgrade(vm);
        self.add_held(vm, held, key)
    }

    /// Adds a vm that is held by another object.
    pub(crate) fn add_held(&self, vm: &Vm, held: Weak<dyn AsVm>, key: usize) -> Result<()> {
        let mut membership = locked(&vm.shared.membership);
        if membership.as_ref().is_some_and(Membership::is_alive) {
            return Err(Error::new(Status::State, "the vm is in a group already; remove it there first"));
        }
        let mut members = locked(&self.0.members);
        let (fd, token) = (vm.epoll_fd(), FIRST + members.added);
        self.0.epoll.add(fd, token).map_err(|e| system_error("group", e))?;
        members.list.push(Member { vm: held, fd, token, key, is_reported: false });
        members.added += 1;
        members.version += 1;
        let group = Arc::downgrade(&self.0);
        *membership = Some(Membership::new(group, token));
        Ok(())
    }

    /// Removes a vm. If another thread delivers events of the vm, the call waits until the callback has returned. No
    /// event of the vm is delivered after the call.
    ///
    /// # Errors
    ///
    /// [`Status::NotFound`] if the vm is not in this group.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// # fn main() -> eunomia::Result<()> {
    /// let (group, vm) = (eunomia::vm::Group::new()?, Arc::new(eunomia::Vm::new(eunomia::Options::new())?));
    /// group.add(&vm, 0)?;
    /// group.remove(&vm)?;
    /// assert!(group.remove(&vm).is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn remove(&self, vm: &Vm) -> Result<()> {
        let found = locked(&vm.shared.membership).take_if(|membership| membership.is_in(&self.0));
        let none = || Error::new(Status::NotFound, "the vm is not in this group");
        found.ok_or_else(none).map(Membership::leave)
    }

    /// Waits for events of the members, passes them to `callback` with the key of the member, and returns their number.
    ///
    /// * `timeout`: how long to wait for the first event. `None` waits without a limit, [`Duration::ZERO`] does not wait.
    ///   Rounded up to milliseconds. Returns 0 if no event came in that time.
    /// * `format`: the form of the events.
    /// * `callback`: receives each event, on this thread. The rules of [`Vm::poll`] apply to the member that the event is from.
    ///
    /// In each call, every member with events delivers at most [`Options::poll_budget`](crate::Options::poll_budget)
    /// events (by default 1024), so that a busy member does not delay the others. A member that is not loaded, is
    /// paused, or is in use by another thread is skipped.
    ///
    /// # Errors
    ///
    /// [`Status::Stopped`] reports a call of [`Group::stop`], [`Status::Callback`] that the callback returned [`Flow::Fail`],
    /// [`Status::Busy`] that another thread polls the group. Any other error is that of a member, which has left the group;
    /// [`Group::failed`] returns its key. [`Vm::stop`] of a member is reported in this way, too. The other members are not affected.
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// use eunomia::{Flow, Format};
    ///
    /// # fn main() -> eunomia::Result<()> {
    /// # let group = eunomia::vm::Group::new()?;
    /// let count = group.poll(Some(Duration::from_millis(100)), Format::Json, |key, event| {
    ///     println!("{key}: {}", String::from_utf8_lossy(event.data));
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
        mut callback: impl FnMut(usize, &Event<'_>) -> Flow,
    ) -> Result<usize> {
        self.poll_turns(timeout, &mut |turn| {
            let (key, has_left) = (turn.key(), turn.has_left());
            let mut callback = |event: &Event<'_>| match callback(key, event) {
                Flow::Continue if has_left.load(Relaxed) => LEFT,
                flow => flow,
            };
            turn.deliver(format, &mut callback)
        })
    }

    /// Polls like `poll`, with a function that delivers the events of one member. The callback of that function returns
    /// [`LEFT`] when the member has left.
    pub(crate) fn poll_turns(&self, timeout: Option<Duration>, deliver: &mut Deliver<'_>) -> Result<usize> {
        self.0.poll(timeout, deliver)
    }

    /// Returns the key of the member that the last failed poll was about. `None` if it was about the group, or if the last poll
    /// has not failed.
    ///
    /// ```
    /// # fn main() -> eunomia::Result<()> {
    /// assert_eq!(eunomia::vm::Group::new()?.failed(), None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn failed(&self) -> Option<usize> {
        locked(&self.0.members).failed
    }

    /// Ends the poll in progress, or else the next one, with [`Status::Stopped`]. Several calls before the next report are one
    /// request. Any thread may call it at any time, and so may a signal handler.
    ///
    /// ```
    /// use eunomia::{Flow, Format, Status};
    ///
    /// # fn main() -> eunomia::Result<()> {
    /// let group = eunomia::vm::Group::new()?;
    /// group.stop();
    /// let error = group.poll(None, Format::Raw, |_, _| Flow::Continue).unwrap_err();
    /// assert_eq!(error.status(), Status::Stopped);
    /// # Ok(())
    /// # }
    /// ```
    pub fn stop(&self) {
        self.0.stop.ask();
    }

    /// Returns a descriptor that is readable when a [`poll`](Group::poll) that does not wait has something to do. It belongs
    /// to the group and stays the same until the group is dropped. Watch it level-triggered.
    ///
    /// ```
    /// # fn main() -> eunomia::Result<()> {
    /// assert!(eunomia::vm::Group::new()?.epoll_fd() >= 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn epoll_fd(&self) -> RawFd {
        self.0.epoll.fd()
    }
}

/// The descriptor of [`Group::epoll_fd`], for event loops.
impl AsFd for Group {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.epoll.as_fd()
    }
}

/// The descriptor of [`Group::epoll_fd`], for event loops.
impl AsRawFd for Group {
    fn as_raw_fd(&self) -> RawFd {
        self.epoll_fd()
    }
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").field("epoll_fd", &self.epoll_fd()).finish_non_exhaustive()
    }
}

impl Vm {
    /// Returns whether this thread delivers events of the vm: the caller is a callback.
    #[cfg(feature = "capi")]
    pub(crate) fn is_delivering(&self) -> bool {
        self.shared.stop.is_polling()
    }

    /// Leaves the group, if the vm is in one. See [`Group::remove`].
    pub(crate) fn leave_group(&self) {
        let found = locked(&self.shared.membership).take();
        if let Some(membership) = found {
            membership.leave();
        }
    }
}

impl Leave for Shared {
    fn leave(&self, token: u64) {
        if self.owner != std::process::id() {
            return;
        }
        let mut members = locked(&self.members);
        let Ok(index) = members.position(token) else { return };
        self.epoll.remove(members.list.remove(index).fd);
        members.version += 1;
        if self.current.load(Acquire) != token {
            return;
        }
        self.has_left.store(true, Relaxed);
        if self.poller.load(Relaxed) != this_thread() {
            while self.await_turn(token) {
                members = self.turn_over.wait(members).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

impl Members {
    fn position(&self, token: u64) -> std::result::Result<usize, usize> {
        self.list.binary_search_by_key(&token, |member| member.token)
    }
}

/// The result of a callback after its member has left the group.
pub(crate) const LEFT: Flow = Flow::Fail(0);

impl Shared {
    fn new() -> os::Result<Shared> {
        let (epoll, stop, again) = (Epoll::new()?, EventFd::new()?, Again::new()?);
        epoll.add(stop.fd(), STOP)?;
        epoll.add(again.fd(), AGAIN)?;
        let stop = Request::new(AtomicBool::new(false), stop);
        let (members, turn_over, poller, current, has_left) = Default::default();
        let owner = std::process::id();
        Ok(Shared { epoll, stop, poller, again, members, current, turn_over, has_left, owner })
    }

    #[inline(never)]
    #[cfg_attr(small, optimize(speed))]
    fn poll(&self, timeout: Option<Duration>, deliver: &mut Deliver<'_>) -> Result<usize> {
        let mut members = locked(&self.members);
        let _poller = self.enter(&members)?;
        let mut deadline = Deadline::after(timeout);
        self.again.clear();
        loop {
            members.failed = None;
            if self.stop.take() {
                return Err(stopped());
            }
            if let Some((key, error)) = members.failure.take() {
                members.failed = Some(key);
                return Err(error);
            }
            let pass = self.pass(members, deliver);
            if pass.events > 0 || pass.ended.is_some() {
                return outcome(pass.ended, pass.events);
            }
            if !pass.has_failed {
                match self.wait(&mut deadline, pass.is_busy)? {
                    Ready::Stop => return Err(stopped()),
                    Ready::Timeout => return Ok(0),
                    Ready::Events => {}
                }
            }
            members = locked(&self.members);
        }
    }

    /// Makes this thread the one that polls, with the members locked.
    fn enter(&self, _: &MutexGuard<'_, Members>) -> Result<AtEnd<'_>> {
        if self.poller.load(Acquire) != 0 {
            let text = "another thread polls the group, or the call comes from a callback of it";
            return Err(Error::new(Status::Busy, text));
        }
        self.poller.store(this_thread(), Relaxed);
        Ok(AtEnd(&self.poller))
    }

    /// Gives each member that has events one turn.
    fn pass<'a>(&'a self, mut members: MutexGuard<'a, Members>, deliver: &mut Deliver<'_>) -> Pass {
        let mut pass = Pass::begin(&mut members);
        while self.step(members, &mut pass, deliver) {
            members = locked(&self.members);
        }
        if pass.is_incomplete {
            // The descriptor stays readable, so that the host polls again: epoll may not report the skipped members a
            // second time.
            self.again.signal();
        }
        pass
    }

    /// Gives the next member that has something to do its turn. Returns whether the pass continues.
    fn step<'a>(
        &'a self,
        mut members: MutexGuard<'a, Members>,
        pass: &mut Pass,
        deliver: &mut Deliver<'_>,
    ) -> bool {
        if pass.version != members.version || self.stop.is_asked() {
            pass.is_incomplete = pass.steps < members.list.len();
            return false;
        }
        while pass.steps < pass.size {
            // The thread that removes the member waits for the end of its turn, and then has the last reference to the
            // vm. So `_current`, which ends the turn, is declared first and dropped last.
            let _current;
            let Members { list, has_dropped, .. } = &mut *members;
            let Some(member) = list.get_mut(pass.step()) else { return false };
            let Some(held) = member.vm.upgrade() else {
                *has_dropped = true;
                continue;
            };
            let vm = held.vm();
            let held = match vm.look() {
                Work::None if !member.is_reported => continue,
                Work::Events(held) => Some(held),
                _ => None,
            };
            let is_reported = std::mem::take(&mut member.is_reported);
            let turn = Turn { vm, key: member.key, has_left: &self.has_left, held };
            _current = self.begin_turn(member.token);
            drop(members);
            self.turn(turn, is_reported, pass, deliver);
            pass.is_incomplete = pass.is_over();
            return !pass.is_over() && pass.steps < pass.size;
        }
        false
    }

    fn begin_turn(&self, token: u64) -> Current<'_> {
        self.current.store(token, Relaxed);
        self.has_left.store(false, Relaxed);
        Current(self)
    }

    /// Marks the turn of a member as awaited. Returns false if the turn has ended.
    fn await_turn(&self, token: u64) -> bool {
        let awaited = token | AWAITED;
        let before = self.current.compare_exchange(token, awaited, Acquire, Acquire);
        before.is_ok() || before == Err(awaited)
    }

    /// Delivers the events of a member.
    fn turn(&self, turn: Turn<'_>, is_reported: bool, pass: &mut Pass, deliver: &mut Deliver<'_>) {
        let (vm, key) = (turn.vm, turn.key);
        let delivered = if vm.shared.stop.take() { Err(stopped()) } else { deliver(turn) };
        match delivered {
            Ok((events, ended)) => {
                pass.events += events;
                pass.ended = ended.filter(|flow| *flow != LEFT || !self.has_left.load(Relaxed));
            }
            Err(error) => self.note_failure(error, vm, key, is_reported, pass),
        }
    }

    /// Keeps the failure of a member for the next poll.
    #[cold]
    fn note_failure(&self, error: Error, vm: &Vm, key: usize, is_reported: bool, pass: &mut Pass) {
        match error.status() {
            Status::Busy if is_reported => {
                // The other thread may be waiting for this perf buffer, whose readiness the kernel reports only once.
                vm.shared.wait_set().ask_again();
                pass.is_busy = true;
            }
            // State: not loaded.
            Status::Busy | Status::State => {}
            _ => {
                pass.has_failed = true;
                locked(&self.members).failure = Some((key, error));
                vm.leave_group();
            }
        }
    }

    /// Waits until a member has something to do. If another thread uses a member that epoll has reported (`is_busy`),
    /// the descriptor of that member stays readable. This function then waits only for a stop request, and only for a
    /// short time.
    #[cold]
    fn wait(&self, deadline: &mut Deadline, is_busy: bool) -> Result<Ready> {
        let mut tokens = [0; 16];
        loop {
            let left = deadline.left();
            if is_busy && left == Some(Duration::ZERO) {
                return Ok(Ready::Timeout);
            }
            let waited = match is_busy {
                true => os::wait_readable(&[self.stop.event().fd()], Some(BUSY_WAIT)).map(|_| 1),
                false => self.epoll.wait(&mut tokens, poll_timeout(left)),
            };
            match waited {
                _ if self.stop.take() => return Ok(Ready::Stop),
                Ok(0) if left.is_some_and(|left| poll_timeout(Some(left)) < i32::MAX) => {
                    return Ok(Ready::Timeout);
                }
                Ok(n) if tokens[..n].contains(&STOP) && self.stop.take_signalled() => return Ok(Ready::Stop),
                Ok(n) => {
                    self.again.clear();
                    self.note_reports(&tokens[..n]);
                    return Ok(Ready::Events);
                }
                Err(Errno(libc::EINTR)) => {}
                Err(e) => return Err(system_error("epoll", e)),
            }
        }
    }

    /// Marks the members that epoll has reported. The next pass begins with one of them.
    fn note_reports(&self, tokens: &[u64]) {
        let mut members = locked(&self.members);
        for token in tokens {
            if let Ok(index) = members.position(*token) {
                members.list[index].is_reported = true;
                members.first = index;
            }
        }
    }
}

/// The progress of a pass. It begins with a member that epoll has reported, or else with the member after the one that the
/// last pass began with.
struct Pass {
    /// The index of the next member.
    at: usize,
    steps: usize,
    /// The number of members.
    size: usize,
    version: u64,
    /// The number of events that have been delivered.
    events: usize,
    /// The result of the callback, if it ended the pass.
    ended: Option<Flow>,
    /// Whether a member has failed.
    has_failed: bool,
    /// Whether epoll has reported a member that another thread uses.
    is_busy: bool,
    /// Whether members have been left out.
    is_incomplete: bool,
}

impl Pass {
    fn begin(members: &mut Members) -> Pass {
        if std::mem::take(&mut members.has_dropped) {
            // Their descriptors are closed and have thereby left the set.
            members.list.retain(|member| member.vm.strong_count() > 0);
        }
        let (size, version) = (members.list.len(), members.version);
        let at = if members.first < size { members.first } else { 0 };
        members.first = at + 1;
        let (steps, events, ended) = (0, 0, None);
        Pass {
            at,
            steps,
            size,
            version,
            events,
            ended,
            has_failed: false,
            is_busy: false,
            is_incomplete: false,
        }
    }

    /// Takes a step. Returns the index of the member.
    fn step(&mut self) -> usize {
        let at = self.at;
        self.at = if at + 1 < self.size { at + 1 } else { 0 };
        self.steps += 1;
        at
    }

    /// Whether a callback or a failure has ended the pass.
    fn is_over(&self) -> bool {
        self.ended.is_some() || self.has_failed
    }
}

/// The turn of the current member, until it is dropped.
struct Current<'a>(&'a Shared);

impl Drop for Current<'_> {
    fn drop(&mut self) {
        if self.0.current.swap(NONE, Release) & AWAITED != 0 {
            // The thread that set the mark holds the lock until it waits.
            drop(locked(&self.0.members));
            self.0.turn_over.notify_all();
        }
    }
}

/// Clears the number of the thread that polls when it is dropped.
struct AtEnd<'a>(&'a AtomicUsize);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(0, Release);
    }
}
