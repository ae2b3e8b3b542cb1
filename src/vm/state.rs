//! The parts of a vm, its locks, and the errors that many calls share.
//!
//! One thread at a time uses a vm, and two locks enforce that. `inner` guards the package: poll holds it while it waits
//! and releases it while callbacks run, so that they can use maps and variables. `delivery` is held during a whole call
//! that delivers events, so that a call that would unload the package under a callback returns `Busy`.

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::delivery::Delivery;
use super::interrupt::{Held, Interrupt};
use super::lock::{locked, try_locked};
use super::membership::Membership;
use super::stats::Counters;
use super::version::Version;
use super::wait_set::WaitSet;
use crate::bpf::session::{Config, Session};
use crate::error::{Error, Result, Status};
use crate::log::{Level, Log};
use crate::os::{Epoll, Errno, EventFd};
use crate::types::Type;
use crate::wasm::{self, Module};

/// A handle to one eBPF package: it loads and attaches the programs, and delivers their events.
///
/// A vm holds at most one package and has a linear life cycle: [`new`](Vm::new), [`open`](Vm::open), configuration
/// (variables, arguments, targets), [`load`](Vm::load), [`attach`](Vm::attach), [`poll`](Vm::poll). Dropping the vm detaches
/// and unloads everything.
///
/// # Threads
///
/// `Vm` is `Send` and `Sync`, and one thread at a time uses it. A call does not wait: while another thread is inside a
/// call, it returns [`Status::Busy`]. In a callback, a call that would deliver events or change what the callback
/// depends on returns [`Status::Busy`] too. Maps and variables can be used there. [`stop`](Vm::stop),
/// [`pause`](Vm::pause), [`stats`](Vm::stats) and [`epoll_fd`](Vm::epoll_fd) work from any thread at any time.
///
/// # Panics
///
/// No call panics because of its arguments or the package. A panic of a callback passes through the call that delivers;
/// later calls that deliver return [`Status::Internal`].
///
/// ```no_run
/// use eunomia::{Flow, Format, Kind, Options, Vm};
///
/// # fn main() -> eunomia::Result<()> {
/// let vm = Vm::new(Options::new())?;
/// vm.open_file("package.json", Kind::Json)?;
/// vm.var_set_json("min_duration_ns", "1000000")?;
/// vm.attach()?;
/// vm.run(Format::Json, |event| {
///     println!("{}", String::from_utf8_lossy(event.data));
///     Flow::Continue
/// })
/// # }
/// ```
pub struct Vm {
    pub(super) shared: Shared,
}

pub(super) struct Shared {
    pub(super) log: Arc<Log>,
    pub(super) stop: Interrupt,
    pub(super) epoll: Arc<Epoll>,
    /// Readable while a record is kept that did not fit into the buffer of the last `read`.
    pub(super) pending: EventFd,
    pub(super) wait_set: Mutex<WaitSet>,
    pub(super) counters: Arc<Counters>,
    pub(super) poll_budget: u32,
    pub(super) wasm: wasm::Config,
    pub(super) inner: Mutex<Inner>,
    pub(super) delivery: Mutex<Delivery>,
    /// Whether a call changes versions, or a version is prepared.
    pub(super) replacing: AtomicBool,
    /// The group that the vm is in.
    pub(super) membership: Mutex<Option<Membership>>,
    /// Whether a WASM module has been opened, whose run holds the locks.
    pub(super) has_module: AtomicBool,
}

pub(super) struct Inner {
    pub(super) config: Config,
    pub(super) session: Option<Session>,
    /// The previous version, if a replace has kept it.
    pub(super) kept: Option<Version>,
    /// A WASM package, which creates its own sessions when it runs.
    pub(super) module: Option<Arc<Module>>,
    /// Types that were returned to the host live until the vm is dropped.
    pub(super) types: Vec<Arc<Type>>,
}

impl Shared {
    pub(super) fn wait_set(&self) -> MutexGuard<'_, WaitSet> {
        locked(&self.wait_set)
    }
}

impl Vm {
    pub(super) fn inner(&self) -> Result<MutexGuard<'_, Inner>> {
        self.unless_busy(&self.shared.inner, Held::Both)
    }

    /// Must not be called with `inner` locked.
    pub(super) fn delivery(&self) -> Result<MutexGuard<'_, Delivery>> {
        self.unless_busy(&self.shared.delivery, Held::Delivery)
    }

    /// Locks without waiting for another call, except for the moments in which a group looks for events, or a replace has the lock.
    /// The other thread then has at least the locks `held`, so it does not wait for one that this thread has.
    fn unless_busy<'a, T>(&self, mutex: &'a Mutex<T>, held: Held) -> Result<MutexGuard<'a, T>> {
        let mut is_first = true;
        loop {
            match try_locked(mutex) {
                // The second try succeeds if a group or a replace has released the lock since the first.
                Err(e)
                    if e.status() == Status::Busy
                        && (self.shared.stop.is_peeked()
                            || self.shared.stop.has_given_way(held)
                            || std::mem::take(&mut is_first)) => {}
                locked => return locked,
            }
        }
    }

    /// Takes both locks, so that no event is delivered while the caller holds them.
    pub(super) fn exclusive(&self) -> Result<(MutexGuard<'_, Inner>, MutexGuard<'_, Delivery>)> {
        let delivery = self.delivery()?;
        Ok((try_locked(&self.shared.inner)?, delivery))
    }

    /// Writes a line to the vm's log, for hosts that wrap the vm. See [`Options::log`](crate::Options::log).
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    ///
    /// use eunomia::{Level, Options, Vm};
    ///
    /// # fn main() -> eunomia::Result<()> {
    /// let lines = Arc::new(Mutex::new(Vec::new()));
    /// let kept = Arc::clone(&lines);
    /// let vm = Vm::new(Options::new().log(move |_, line| kept.lock().unwrap().push(line.to_owned())))?;
    /// vm.log(Level::Warn, "the configuration is old");
    /// assert_eq!(*lines.lock().unwrap(), ["the configuration is old"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn log(&self, level: Level, line: &str) {
        self.shared.log.write(level, line);
    }

    /// Returns whether no call on the vm is in progress, in this thread or another. A host that shares the vm with callbacks
    /// can check it before it drops the vm.
    ///
    /// ```
    /// # fn main() -> eunomia::Result<()> {
    /// assert!(eunomia::Vm::new(eunomia::Options::new())?.is_idle());
    /// # Ok(())
    /// # }
    /// ```
    pub fn is_idle(&self) -> bool {
        self.exclusive().map_or_else(|e| e.status() != Status::Busy, |_| true)
    }
}

impl Inner {
    fn nothing_open(&self) -> Error {
        let text = match self.module {
            Some(_) => "the package is a WASM module, whose programs are its own; run it with wasm_run",
            None => "no package is open",
        };
        Error::new(Status::State, text)
    }

    pub(super) fn session(&self) -> Result<&Session> {
        self.session.as_ref().ok_or_else(|| self.nothing_open())
    }

    /// Returns the session, to change it; fails if another process has loaded it.
    pub(super) fn session_mut(&mut self) -> Result<&mut Session> {
        let session = self.opened_mut()?;
        session.check_own().map(|()| session)
    }

    /// Returns the session, also one that another process has loaded.
    pub(super) fn opened_mut(&mut self) -> Result<&mut Session> {
        match self.session {
            Some(ref mut session) => Ok(session),
            None => Err(self.nothing_open()),
        }
    }

    /// Returns the session if it is loaded.
    pub(super) fn loaded(&self) -> Result<&Session> {
        let session = self.session()?;
        let text = "the package is not loaded; load or attach it first";
        if session.is_loaded() { Ok(session) } else { Err(Error::new(Status::State, text)) }
    }

    /// Returns the session if it is loaded and its events are read here.
    pub(super) fn readable(&self) -> Result<&Session> {
        let session = self.loaded()?;
        session.check_reader().map(|()| session)
    }
}

impl fmt::Debug for Vm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vm").field("epoll_fd", &self.epoll_fd()).field("stats", &self.stats()).finish()
    }
}

impl Drop for Vm {
    /// Detaches first, then frees the buffers, then maps and programs.
    fn drop(&mut self) {
        let inner = self.shared.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = &mut inner.session {
            session.detach();
        }
        inner.kept = None;
        self.shared.counters.watch(None, Vec::new());
        *self.shared.delivery.get_mut().unwrap_or_else(PoisonError::into_inner) = Delivery::default();
        inner.session = None;
    }
}

/// Returns an error with the errno of `e`.
pub(super) fn system_error(what: &str, e: Errno) -> Error {
    Error::sys(Status::System, e.0, format_args!("{what}: {e}"))
}

/// Returns an error for an index that is out of range.
pub(super) fn out_of_range(what: &str, index: usize, count: usize) -> Error {
    Error::new(Status::NotFound, format_args!("{what} {index}: there are {count}"))
}

/// Converts JSON of the renderers, which is always UTF-8, into a string.
pub(super) fn json_text(json: Vec<u8>) -> String {
    String::from_utf8(json).unwrap_or_default()
}
