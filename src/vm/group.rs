//! Groups: several vms that one thread waits for with one call and one descriptor.
//!
//! A poll first looks at each member in user space: what waits in its buffers, its queue, or is due. Only if nothing waits does it wait
//! for an epoll set that contains the epoll set of each member. So an event costs a system call only if the thread slept.

use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use super::event::{Event, EventFn, Flow, Format, outcome};
use super::interrupt::Interrupt;
use super::lock::{locked, try_locked};
use super::membership::{Leave, Membership};
use super::poll::{Deadline, Ready};
use super::state::{Vm, system_error};
use crate::error::{Error, Result, Status};
use crate::os::{self, Again, Epoll, Errno, poll_timeout};

/// Token of the stop request in the set of a group.
const STOP: u64 = 0;
/// Token of the event that makes the set readable after an incomplete poll.
const AGAIN: u64 = 1;
/// Token of the first member.
const FIRST: u64 = 2;

/// How long a poll waits at most while another thread uses a member that has events.
const BUSY_WAIT: Duration = Duration::from_millis(10);

/// Several vms that one thread polls together.
///
/// A vm is a member of at most one group, and leaves it when it is dropped. [`add`](Group::add), [`remove`](Group::remove)
/// and [`stop`](Group::stop) work from any thread at any time and in callbacks; one thread at a time polls. Members can still be used
/// in every other way, also from other threads.
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

/// What a group and its members share.
struct Shared {
    epoll: Epoll,
    stop: Interrupt,
    /// Readable while the last poll has left something to do.
    again: Again,
    members: Mutex<Members>,
    /// What polls remember. Held by the call that polls.
    polling: Mutex<Polling>,
    /// Held while the events of one member are delivered.
    delivering: Mutex<()>,
    /// The process that created the group. A child has the same epoll set and must not change it.
    owner: u32,
}

#[derive(Default)]
struct Members {
    /// In the order of their tokens.
    list: Vec<Arc<Member>>,
    /// Number of members that have been added.
    added: u64,
    /// Changes with the list.
    version: u64,
    /// The member that the next poll begins with.
    first: usize,
}

struct Member {
    vm: Weak<Vm>,
    fd: RawFd,
    token: u64,
    key: usize,
    /// Set when it leaves the group.
    has_left: AtomicBool,
    /// Whether epoll has reported it. A report may be for something that cannot be seen in user space.
    is_reported: AtomicBool,
    /// The pass in which it had its last turn.
    pass: AtomicUsize,
}

#[derive(Default)]
struct Polling {
    /// Members that have failed and are not yet reported, with their keys.
    failures: Vec<(usize, Error)>,
    /// The member that the last failed poll was about.
    failed: Option<usize>,
    /// Whether epoll has reported members.
    has_reports: bool,
    /// Reported members that another thread uses.
    busy: Vec<Arc<Member>>,
}

/// A member whose events are to be delivered.
pub(crate) struct Turn<'a> {
    vm: &'a Vm,
    member: &'a Member,
}

/// What a member has delivered: `None` if another thread uses it.
type Delivered = Option<(usize, Option<Flow>)>;

/// Delivers the events of a member.
pub(crate) type Deliver<'a> = dyn FnMut(&Turn<'_>) -> Result<Delivered> + 'a;

impl Turn<'_> {
    /// The key that the member was added with.
    pub(crate) fn key(&self) -> usize {
        self.member.key
    }

    /// Set when the member has left the group. Then no further event is delivered.
    pub(crate) fn has_left(&self) -> &AtomicBool {
        &self.member.has_left
    }

    /// Passes the waiting events to `callback`. Does not wait.
    pub(crate) fn deliver(&self, format: Format, callback: &mut impl EventFn) -> Result<Delivered> {
        self.vm.poll_now(format, callback)
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
        let system = |e: Errno| system_error("descriptors of the group", e);
        let shared = Shared {
            epoll: Epoll::new().map_err(system)?,
            stop: Interrupt::new().map_err(system)?,
            again: Again::new().map_err(system)?,
            members: Mutex::default(),
            polling: Mutex::default(),
            delivering: Mutex::default(),
            owner: std::process::id(),
        };
        shared.epoll.add(shared.stop.fd(), STOP).map_err(system)?;
        shared.epoll.add(shared.again.fd(), AGAIN).map_err(system)?;
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
        let mut membership = locked(&vm.shared.membership);
        if membership.as_ref().is_some_and(Membership::is_alive) {
            return Err(Error::new(Status::State, "the vm is in a group already; remove it there first"));
        }
        let mut members = locked(&self.0.members);
        let (fd, token) = (vm.epoll_fd(), FIRST + members.added);
        self.0.epoll.add(fd, token).map_err(|e| system_error("group", e))?;
        let (has_left, is_reported, pass) = Default::default();
        let vm_ref = Arc::downgrade(vm);
        members.list.push(Arc::new(Member { vm: vm_ref, fd, token, key, has_left, is_reported, pass }));
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
    /// Each member with events has one turn per call. It delivers at most
    /// [`Options::poll_budget`](crate::Options::poll_budget) events, or 1024 by default, so that one with many events does not keep
    /// the others waiting. A member that is not loaded or is paused has no turn, nor has one that another thread uses.
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
            let mut callback = |event: &Event<'_>| match callback(turn.key(), event) {
                Flow::Continue if turn.has_left().load(SeqCst) => LEFT,
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
            let member = members.list.remove(index);
            members.version += 1;
            member.has_left.store(true, SeqCst);
            self.epoll.remove(member.fd);
        }
        if !self.stop.is_polling() {
            drop(locked(&self.delivering));
        }
    }
}

impl Members {
    fn position(&self, token: u64) -> std::result::Result<usize, usize> {
        self.list.binary_search_by_key(&token, |member| member.token)
    }
}

/// What a callback returns after its member has left the group.
pub(crate) const LEFT: Flow = Flow::Fail(0);

/// What a pass over the members has found.
#[derive(Default)]
struct Pass {
    count: usize,
    /// What the callback returned, if that ended the pass.
    ended: Option<Flow>,
    /// Whether members may have been left out.
    is_incomplete: bool,
}

/// How far a pass has come.
struct Cursor {
    first: usize,
    steps: usize,
    version: u64,
    only_reported: bool,
}

impl Shared {
    fn poll(&self, timeout: Option<Duration>, deliver: &mut Deliver<'_>) -> Result<usize> {
        let mut deadline = Deadline::after(timeout);
        let mut polling = try_locked(&self.polling)?;
        let _poller = self.stop.polling();
        polling.failed = None;
        self.again.clear();
        loop {
            if self.stop.take() {
                return Err(stopped());
            }
            let pass = self.pass(&mut polling, deliver);
            if pass.is_incomplete || (pass.count > 0 && !polling.failures.is_empty()) {
                // Whoever waits for the descriptor polls again: what has been left out may not be reported a second time.
                self.again.signal();
            }
            if pass.count > 0 || pass.ended.is_some() {
                return outcome(pass.ended, pass.count);
            }
            if let Some((key, error)) = polling.failures.pop() {
                polling.failed = Some(key);
                return Err(error);
            }
            match self.wait(&mut polling, &mut deadline)? {
                Ready::Stop => return Err(stopped()),
                Ready::Timeout => return Ok(0),
                Ready::Events => {}
            }
        }
    }

    /// Gives each member that has events one turn, the reported ones first.
    fn pass(&self, polling: &mut Polling, deliver: &mut Deliver<'_>) -> Pass {
        let mut pass = Pass::default();
        let mut cursor = self.begin();
        for only_reported in [true, false] {
            if only_reported && !mem::take(&mut polling.has_reports) {
                continue;
            }
            (cursor.steps, cursor.only_reported) = (0, only_reported);
            while let Some((member, vm)) = self.next(&mut cursor, &mut pass) {
                self.turn(&member, &vm, polling, &mut pass, deliver);
                if pass.ended.is_some() {
                    pass.is_incomplete = true;
                    return pass;
                }
            }
        }
        pass
    }

    /// Begins a pass. Each begins with another member.
    fn begin(&self) -> Cursor {
        let mut members = locked(&self.members);
        // The descriptors of dropped vms are closed and have thereby left the set.
        if members.list.iter().any(|member| member.vm.strong_count() == 0) {
            members.list.retain(|member| member.vm.strong_count() > 0);
        }
        members.first = members.first.wrapping_add(1);
        Cursor { first: members.first, steps: 0, version: members.version, only_reported: false }
    }

    /// Returns the next member that has something to do.
    fn next(&self, cursor: &mut Cursor, pass: &mut Pass) -> Option<(Arc<Member>, Arc<Vm>)> {
        let members = locked(&self.members);
        let count = members.list.len();
        if cursor.version != members.version || self.stop.is_asked() {
            pass.is_incomplete |= cursor.steps < count;
            return None;
        }
        while cursor.steps < count {
            let member = &members.list[(cursor.first.wrapping_add(cursor.steps)) % count];
            cursor.steps += 1;
            let is_reported = member.is_reported.load(SeqCst);
            let is_next =
                if cursor.only_reported { is_reported } else { member.pass.load(SeqCst) != cursor.first };
            if is_next {
                let vm = member.vm.upgrade().filter(|vm| is_reported || vm.has_work());
                if let Some(vm) = vm {
                    member.pass.store(cursor.first, SeqCst);
                    return Some((Arc::clone(member), vm));
                }
            }
        }
        None
    }

    /// Delivers the events of a member. One that fails leaves the group.
    fn turn(
        &self,
        member: &Arc<Member>,
        vm: &Vm,
        polling: &mut Polling,
        pass: &mut Pass,
        deliver: &mut Deliver<'_>,
    ) {
        let _delivering = locked(&self.delivering);
        let has_left = || member.has_left.load(SeqCst);
        if has_left() {
            return;
        }
        let is_reported = member.is_reported.swap(false, SeqCst);
        let stop = &vm.shared.stop;
        let delivered = if stop.take() { Err(stopped()) } else { deliver(&Turn { vm, member }) };
        match delivered {
            // A report without events may be that of a stop request whose flag has been taken.
            Ok(Some((0, None))) if is_reported && stop.take_signalled() => {
                self.fail(member, vm, polling, stopped())
            }
            Ok(Some((count, ended))) => {
                pass.count += count;
                pass.ended = ended.filter(|flow| *flow != LEFT || !has_left());
            }
            Ok(None) if is_reported => polling.busy.push(Arc::clone(member)),
            Ok(None) => {}
            Err(error) => self.fail(member, vm, polling, error),
        }
    }

    fn fail(&self, member: &Arc<Member>, vm: &Vm, polling: &mut Polling, error: Error) {
        polling.failures.insert(0, (member.key, error));
        // In the meantime the vm may have joined another group.
        if !member.has_left.load(SeqCst) {
            vm.leave_group();
        }
    }

    /// Waits until a member has something to do. A member that is busy in another thread is left out for a short time, because the
    /// descriptor of a vm stays readable until its events are delivered.
    fn wait(&self, polling: &mut Polling, deadline: &mut Deadline) -> Result<Ready> {
        let busy = mem::take(&mut polling.busy);
        for member in &busy {
            self.epoll.remove(member.fd);
            // The other thread may be one that waits, and a report of a perf buffer was for it.
            member.vm.upgrade().inspect(|vm| vm.shared.wait_set().ask_again());
        }
        let ready = self.wait_for(polling, deadline, !busy.is_empty());
        let returned = busy.iter().try_for_each(|member| self.watch_again(member));
        returned.map_err(|e| system_error("group", e))?;
        ready
    }

    fn watch_again(&self, member: &Member) -> os::Result<()> {
        let _members = locked(&self.members);
        match member.vm.upgrade().filter(|_| !member.has_left.load(SeqCst)) {
            Some(_vm) => self.epoll.add(member.fd, member.token),
            None => Ok(()),
        }
    }

    fn wait_for(&self, polling: &mut Polling, deadline: &mut Deadline, is_short: bool) -> Result<Ready> {
        let mut tokens = [0; 16];
        loop {
            let left = deadline.left();
            let most = Some(BUSY_WAIT).filter(|_| is_short);
            let timeout_ms = poll_timeout(left.into_iter().chain(most).min());
            match self.epoll.wait(&mut tokens, timeout_ms) {
                _ if self.stop.take() => return Ok(Ready::Stop),
                Ok(0) if timeout_ms == i32::MAX => {}
                Ok(0) if is_short && left.is_none_or(|left| left > BUSY_WAIT) => return Ok(Ready::Events),
                Ok(0) => return Ok(Ready::Timeout),
                Ok(n) if tokens[..n].contains(&STOP) && self.stop.take_signalled() => return Ok(Ready::Stop),
                Ok(n) => {
                    self.again.clear();
                    self.note_reports(&tokens[..n]);
                    polling.has_reports = true;
                    return Ok(Ready::Events);
                }
                Err(e) if e.0 == libc::EINTR => {}
                Err(e) => return Err(system_error("epoll", e)),
            }
        }
    }

    /// Marks the members that epoll has reported.
    fn note_reports(&self, tokens: &[u64]) {
        let members = locked(&self.members);
        for token in tokens {
            if let Ok(index) = members.position(*token) {
                members.list[index].is_reported.store(true, SeqCst);
            }
        }
    }
}

fn stopped() -> Error {
    Error::new(Status::Stopped, "stop was called")
}
