//! What a vm consists of, and who may use it.
//!
//! A vm is used by one thread at a time, and two locks say so. `inner` guards the package; poll holds it while it
//! waits and lends it while callbacks run, so that they can read maps and variables. `delivery` is held for as long
//! as anything delivers, so that whatever would pull the package from under a callback answers `Busy`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::delivery::Delivery;
use super::interrupt::Interrupt;
use super::lock::{locked, try_locked};
use super::stats::Counters;
use super::wait_set::WaitSet;
use crate::bpf::session::{Config, Session};
use crate::error::{Error, Result, Status};
use crate::log::{Level, Log};
use crate::os::{Epoll, Errno, EventFd};
use crate::types::Type;
use crate::wasm::{self, Module};

/// Runs one package. Every method answers `Busy` when another thread, or a poll further up this thread's stack,
/// is in the way; `stop`, `pause`, `stats` and `epoll_fd` never are. Dropping it detaches and unloads everything. A callback
/// that panics does so through the call that delivers; what delivers after that answers `Internal`.
///
/// ```no_run
/// use eunomia::{Event, Flow, Format, Kind, Options, Vm};
///
/// # fn main() -> eunomia::Result<()> {
/// let vm = Vm::new(Options::default())?;
/// vm.open_file("package.json", Kind::Json as u32)?;
/// vm.var_set_json("min_duration_ns", "1000000")?;
/// vm.attach()?;
/// vm.run(Format::Json, &mut |event: &Event| {
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
    /// Readable while a record waits that did not fit into the last `read`.
    pub(super) pending: EventFd,
    pub(super) wait_set: Mutex<WaitSet>,
    pub(super) counters: Arc<Counters>,
    pub(super) poll_budget: u32,
    pub(super) wasm: wasm::Config,
    pub(super) inner: Mutex<Inner>,
    pub(super) delivery: Mutex<Delivery>,
}

pub(super) struct Inner {
    pub(super) config: Config,
    pub(super) session: Option<Session>,
    /// A WASM package, which brings sessions of its own when it runs.
    pub(super) module: Option<Arc<Module>>,
    /// Types that have been handed out live until the vm ends.
    pub(super) types: Vec<Arc<Type>>,
}

impl Shared {
    pub(super) fn wait_set(&self) -> MutexGuard<'_, WaitSet> {
        locked(&self.wait_set)
    }
}

impl Vm {
    pub(super) fn inner(&self) -> Result<MutexGuard<'_, Inner>> {
        try_locked(&self.shared.inner)
    }

    pub(super) fn delivery(&self) -> Result<MutexGuard<'_, Delivery>> {
        try_locked(&self.shared.delivery)
    }

    /// Both locks: nothing is being delivered.
    pub(super) fn exclusive(&self) -> Result<(MutexGuard<'_, Inner>, MutexGuard<'_, Delivery>)> {
        Ok((self.inner()?, self.delivery()?))
    }

    /// Writes a line to the vm's log, for those who wrap it.
    pub fn log(&self, level: Level, line: &str) {
        self.shared.log.write(level, line);
    }

    /// Whether nothing of it is in use, so that it may be dropped.
    pub fn is_idle(&self) -> bool {
        self.exclusive().map_or_else(|e| e.status != Status::Busy, |_| true)
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

    pub(super) fn session_mut(&mut self) -> Result<&mut Session> {
        match self.session {
            Some(ref mut session) => Ok(session),
            None => Err(self.nothing_open()),
        }
    }

    /// The session, if it is loaded.
    pub(super) fn loaded(&self) -> Result<&Session> {
        let session = self.session()?;
        let text = "the package is not loaded; load or attach it first";
        if session.is_loaded() { Ok(session) } else { Err(Error::new(Status::State, text)) }
    }
}

impl Drop for Vm {
    /// Links go first, then the buffers, then maps and programs.
    fn drop(&mut self) {
        let inner = self.shared.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = &mut inner.session {
            session.detach();
        }
        self.shared.counters.watch(None, Vec::new());
        *self.shared.delivery.get_mut().unwrap_or_else(PoisonError::into_inner) = Delivery::default();
        inner.session = None;
    }
}

/// An error with the errno of `e`.
pub fn system_error(what: &str, e: Errno) -> Error {
    Error::sys(Status::System, e.0, format_args!("{what}: {e}"))
}

/// An error for an index beyond the end.
pub fn out_of_range(what: &str, index: usize, count: usize) -> Error {
    Error::new(Status::NotFound, format_args!("{what} {index}: there are {count}"))
}

/// The JSON that the renderers write, which is always UTF-8.
pub fn json_text(json: Vec<u8>) -> String {
    String::from_utf8(json).unwrap_or_default()
}
