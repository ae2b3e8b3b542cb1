//! Groups: several vms that one thread waits for with one call and one descriptor.
//!
//! A poll first looks in user space whether a member has records in its buffers or its queue, or a sampled map that is
//! due. If no member has any, the poll waits for an epoll set that contains the epoll set of each member. So an event
//! costs a system call only if the thread slept.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use super::delivery::Delivery;
use super::event::{Event, EventFn, Flow, Format, outcome};
use super::handover::Request;
use super::interrupt::{stopped, this_thread};
use super::lock::{locked, try_locked};
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
    /// The thread that polls; 0 for none.
    poller: AtomicUsize,
    /// Readable while the last poll has left something to do.
    again: Again,
    members: Mutex<Members>,
    /// The state that polls keep. The call that polls holds the lock.
    polling: Mutex<Polling>,
    /// Held while the events of one member are delivered.
    delivering: Mutex<()>,
    /// The token of that member, changed with `members` locked. Like the next one it needs no memory ordering: whoever
    /// removes a member waits for the lock on the delivery.
    current: AtomicU64,
    /// Set when that member leaves.
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
    /// Changes with the list.
    version: u64,
    /// The member that the next pass begins with, if there are that many.
    first: usize,
}

struct Member {
    vm: Weak<dyn AsVm>,
    fd: RawFd,
    token: u64,
    key: usize,
    /// Whether epoll has reported it. epoll may have reported something that cannot be seen in user space.
    is_reported: bool,
}

#[derive(Default)]
struct Polling {
    /// A member that has failed and is not yet reported, by its key.
    failure: Option<(usize, Error)>,
    /// The member that the last failed poll was about.
    failed: Option<usize>,
    /// Whether epoll has reported a member that another thread uses.
    is_busy: bool,
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

/// A member whose events are to be delivered.
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

    /// Set when the member has left the group. Then no further event is delivered.
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

    /// Removes a vm. If another thread delivers an event of a member, the call waits until the callback has returned. No event of
    /// the vm is delivered after the call.
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

    /// The same with a function that delivers the events of one member. Its callback returns [`LEFT`] when the member has left.
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
        try_locked(&self.0.polling).ok()?.failed
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

    /// Returns a descriptor that is readable when a [`poll`](Group::poll) that does not wait has something to do. It stays the
    /// same as long as the group and belongs to it. Watch it level-triggered.
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
        {
            let mut members = locked(&self.members);
            let Ok(index) = members.position(token) else { return };
            self.epoll.remove(members.list.remove(index).fd);
            members.version += 1;
            if self.current.load(Relaxed) == token {
                self.has_left.store(true, Relaxed);
            }
        }
        if self.poller.load(Relaxed) != this_thread() {
            drop(locked(&self.delivering));
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
        let (members, polling, delivering, poller, current, has_left) = Default::default();
        let owner = std::process::id();
        Ok(Shared { epoll, stop, poller, again, members, polling, delivering, current, has_left, owner })
    }

    fn poll(&self, timeout: Option<Duration>, deliver: &mut Deliver<'_>) -> Result<usize> {
        let mut deadline = Deadline::after(timeout);
        let mut polling = try_locked(&self.polling)?;
        self.poller.store(this_thread(), Relaxed);
        let _poller = AtEnd(&self.poller);
        polling.failed = None;
        self.again.clear();
        loop {
            if self.stop.take() {
                return Err(stopped());
            }
            if let Some((key, error)) = polling.failure.take() {
                polling.failed = Some(key);
                return Err(error);
            }
            let (count, ended) = self.pass(&mut polling, deliver);
            if count > 0 || ended.is_some() {
                return outcome(ended, count);
            }
            if polling.failure.is_none() {
                match self.wait(&mut deadline, std::mem::take(&mut polling.is_busy))? {
                    Ready::Stop => return Err(stopped()),
                    Ready::Timeout => return Ok(0),
                    Ready::Events => {}
                }
            }
        }
    }

    /// Gives each member that has events one turn. Returns the number of events, and what the callback returned if that ended the
    /// pass.
    fn pass(&self, polling: &mut Polling, deliver: &mut Deliver<'_>) -> Delivered {
        let (mut count, mut ended) = (0, None);
        let mut cursor = Cursor::default();
        while let Some(delivered) = self.step(&mut cursor, polling, deliver) {
            count += delivered.0;
            ended = delivered.1;
            let is_over = ended.is_some() || polling.failure.is_some();
            cursor.is_incomplete = is_over;
            if is_over || cursor.steps == cursor.count {
                break;
            }
        }
        if cursor.is_incomplete {
            // The descriptor stays readable, so that the host polls again: epoll may not report a second time what has
            // been left out.
            self.again.signal();
        }
        (count, ended)
    }

    /// Gives the next member that has something to do its turn. `None` if there is none. A pass begins with a member
    /// that epoll has reported, or else with the member after the one that the last pass began with.
    fn step(
        &self,
        cursor: &mut Cursor,
        polling: &mut Polling,
        deliver: &mut Deliver<'_>,
    ) -> Option<Delivered> {
        let mut members = locked(&self.members);
        if cursor.steps == 0 {
            cursor.begin(&mut members);
        }
        let count = members.list.len();
        if cursor.version != members.version || self.stop.is_asked() {
            cursor.is_incomplete = cursor.steps < count;
            return None;
        }
        while cursor.steps < count {
            // The thread that removes the member waits for this lock, and then has the last reference to the vm. So the
            // lock is released last.
            let _delivering;
            let member = members.list.get_mut(cursor.step())?;
            let Some(vm) = member.vm.upgrade() else { continue };
            let held = match vm.vm().look() {
                Work::None if !member.is_reported => continue,
                Work::Events(held) => Some(held),
                _ => None,
            };
            let turn = Turn { vm: vm.vm(), key: member.key, has_left: &self.has_left, held };
            let is_reported = std::mem::take(&mut member.is_reported);
            self.current.store(member.token, Relaxed);
            self.has_left.store(false, Relaxed);
            _delivering = locked(&self.delivering);
            drop(members);
            return Some(self.turn(turn, is_reported, polling, deliver));
        }
        None
    }

    /// Delivers the events of a member. A failure is kept for the next poll.
    fn turn(
        &self,
        turn: Turn<'_>,
        is_reported: bool,
        polling: &mut Polling,
        deliver: &mut Deliver<'_>,
    ) -> Delivered {
        let (vm, key) = (turn.vm, turn.key);
        let delivered = if vm.shared.stop.take() { Err(stopped()) } else { deliver(turn) };
        match delivered.map_err(|error| (error.status(), error)) {
            Ok((count, Some(LEFT))) if self.has_left.load(Relaxed) => return (count, None),
            Ok(delivered) => return delivered,
            Err((Status::Busy, _)) if is_reported => {
                // The other thread may be waiting for this perf buffer, whose readiness the kernel reports only once.
                vm.shared.wait_set().ask_again();
                polling.is_busy = true;
            }
            // State: not loaded.
            Err((Status::Busy | Status::State, _)) => {}
            Err((_, error)) => {
                polling.failure = Some((key, error));
                vm.leave_group();
            }
        }
        (0, None)
    }

    /// Waits until a member has something to do. The descriptor of a member that has failed stays readable while
    /// another thread uses it. Then this waits for a stop request only, and for a short time.
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

/// The progress of a pass.
#[derive(Default)]
struct Cursor {
    /// The index of the next member.
    at: usize,
    steps: usize,
    /// The number of members.
    count: usize,
    version: u64,
    /// Whether members have been left out.
    is_incomplete: bool,
}

impl Cursor {
    /// Begins a pass.
    fn begin(&mut self, members: &mut Members) {
        // The descriptors of dropped vms are closed and have thereby left the set.
        members.list.retain(|member| member.vm.strong_count() > 0);
        (self.count, self.version) = (members.list.len(), members.version);
        self.at = if members.first < self.count { members.first } else { 0 };
        members.first = self.at + 1;
    }

    /// Takes a step. Returns the index of the member.
    fn step(&mut self) -> usize {
        let at = self.at;
        self.at = if at + 1 < self.count { at + 1 } else { 0 };
        self.steps += 1;
        at
    }
}

/// Clears the thread that polls.
struct AtEnd<'a>(&'a AtomicUsize);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(0, Relaxed);
    }
}
