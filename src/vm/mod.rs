//! The vm: at most one package, from bytes to events and back to nothing.
//!
//! A vm is used by one thread at a time, and two locks say so. `inner` guards the package; poll holds it while it
//! waits and lends it while callbacks run, so that they can read maps and variables. `delivery` is held for as long
//! as anything delivers, so that whatever would pull the package from under a callback answers `Busy`.

mod batch;
mod check;
mod event;
mod handover;
mod interrupt;
mod poll;
mod queue;
mod stats;
mod wait_set;

#[cfg(feature = "channel")]
mod channel;
mod control;
mod maps;
mod options;
mod owned_event;
mod wasm;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

pub use batch::{Batch, Record};
pub use check::{Checked, Outcome, Verdict, check};
pub use event::{Event, EventFn, EventKind, Flow, Format};
pub use maps::{MapInfo, SourceInfo};
pub use options::Options;
pub use owned_event::{Events, OwnedEvent};
pub use stats::Stats;

pub use crate::bpf::account::kernel_memory_limit;
pub use crate::bpf::budget::{Machine, MapSize, map_bytes, usual_limit};
pub use crate::bpf::session::{ProgCode, ProgInfo};
pub use crate::bpf::source::{LostKnown, SourceKind};
pub use crate::bpf::version as libbpf_version;
pub use crate::wasm::{Config as WasmOptions, version as wamr_version};

use crate::bpf::account::Account;
use crate::bpf::session::{Config, Session};
use crate::bpf::{
    self,
    object::{KernelBtf, OpenConfig},
};
use crate::error::{Error, Result, Status};
use crate::log::{Level, Log};
use crate::os::{Epoll, Errno, EventFd};
use crate::package::Package;
use crate::types::Type;
use crate::wasm::Module;
use interrupt::Interrupt;
use poll::Delivery;
use stats::Counters;
use wait_set::{Role, WaitSet};

/// Token of the stop request in the vm's epoll set; everything else means events.
const STOP: u64 = 0;

/// Kinds of packages; bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A JSON package, or an object with its metadata.
    Json = 1,
    /// A WASM module that carries packages.
    Wasm = 2,
}

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
    shared: Shared,
}

struct Shared {
    log: Arc<Log>,
    stop: Interrupt,
    epoll: Arc<Epoll>,
    /// Readable while a record waits that did not fit into the last `read`.
    pending: EventFd,
    wait_set: Mutex<WaitSet>,
    counters: Arc<Counters>,
    poll_budget: u32,
    wasm: WasmOptions,
    inner: Mutex<Inner>,
    delivery: Mutex<Delivery>,
}

struct Inner {
    config: SessionConfig,
    session: Option<Session>,
    /// A WASM package, which brings sessions of its own when it runs.
    module: Option<Arc<Module>>,
    /// Types that have been handed out live until the vm ends.
    types: Vec<Arc<Type>>,
}

/// Makes what a session is opened with.
type SessionConfig = Arc<dyn Fn() -> Config + Send + Sync>;

impl Shared {
    fn wait_set(&self) -> MutexGuard<'_, WaitSet> {
        locked(&self.wait_set)
    }
}

/// Locks for a short time. A panic under the lock has already been reported as such; what it guards is whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn try_locked<T>(mutex: &Mutex<T>) -> Result<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Ok(guard),
        Err(TryLockError::WouldBlock) => Err(Error::new(
            Status::Busy,
            "the vm is in use, by another thread or by the poll this call comes from",
        )),
        Err(TryLockError::Poisoned(_)) => {
            Err(Error::new(Status::Internal, "an earlier call failed inside; only destroying the vm is left"))
        }
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

    fn session(&self) -> Result<&Session> {
        self.session.as_ref().ok_or_else(|| self.nothing_open())
    }

    fn session_mut(&mut self) -> Result<&mut Session> {
        match self.session {
            Some(ref mut session) => Ok(session),
            None => Err(self.nothing_open()),
        }
    }

    /// The session, if it is loaded.
    fn loaded(&self) -> Result<&Session> {
        let session = self.session()?;
        let text = "the package is not loaded; load or attach it first";
        if session.is_loaded() { Ok(session) } else { Err(Error::new(Status::State, text)) }
    }
}

impl Vm {
    /// An empty vm.
    pub fn new(options: Options) -> Result<Vm> {
        let log = Arc::new(Log::new(options.log, options.log_level.unwrap_or(Level::Warn)));
        let made = options::checked_perf_pages(options.perf_pages)
            .and_then(|perf_pages| bpf::init().map(|()| perf_pages))
            .and_then(|perf_pages| {
                let stop = Interrupt::new().map_err(no_descriptors)?;
                let (account, stop_fd) = (Arc::new(Account::new(options.max_kernel_memory)), stop.fd());
                let (btf_path, pin_path) = (options.btf_path, options.pin_path);
                let skip_missing_hooks = options.skip_missing_hooks;
                let config = move || Config {
                    open: OpenConfig {
                        name: String::new(),
                        btf_path: btf_path.clone(),
                        pin_path: pin_path.clone(),
                        kernel_btf: KernelBtf::default(),
                        hooks: Default::default(),
                        weak_kfuncs: false,
                    },
                    perf_pages,
                    skip_missing_hooks,
                    account: Arc::clone(&account),
                    stop: stop_fd,
                };
                Shared::new(Arc::clone(&log), stop, options.poll_budget, options.wasm, Arc::new(config))
            });
        made.map(|shared| Vm { shared })
    }

    fn inner(&self) -> Result<MutexGuard<'_, Inner>> {
        try_locked(&self.shared.inner)
    }

    fn delivery(&self) -> Result<MutexGuard<'_, Delivery>> {
        try_locked(&self.shared.delivery)
    }

    /// Both locks: nothing is being delivered.
    fn exclusive(&self) -> Result<(MutexGuard<'_, Inner>, MutexGuard<'_, Delivery>)> {
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

    /// Opens a package of one of `kinds` (bits of [`Kind`]) and says which. On failure the vm stays empty.
    pub fn open(&self, data: &[u8], kinds: u32) -> Result<Kind> {
        let (mut inner, _delivery) = self.exclusive()?;
        match options::check_kinds(data, kinds)? {
            Kind::Json => inner.open(Package::parse(data)?, &self.shared.log),
            Kind::Wasm => inner.open_module(data),
        }
    }

    /// Opens a package from a file.
    pub fn open_file(&self, path: &str, kinds: u32) -> Result<Kind> {
        self.open(&options::read_package(path)?, kinds)
    }

    /// Opens an object with metadata (`*.skel.json`) of its own, or with none: then its BTF tells everything.
    pub fn open_object(&self, elf: &[u8], meta_json: Option<&str>) -> Result<Kind> {
        let (mut inner, _delivery) = self.exclusive()?;
        inner.open(Package::from_object(elf, meta_json)?, &self.shared.log)
    }

    /// Creates the maps and has the kernel verify the programs. After a failure the package is open as before.
    /// `Err(Stopped)` reports a call of `stop`, which ends a load after the map or program at work.
    pub fn load(&self) -> Result<()> {
        let (mut inner, mut delivery) = self.exclusive()?;
        self.load_locked(&mut inner, &mut delivery)
    }

    fn load_locked(&self, inner: &mut Inner, delivery: &mut Delivery) -> Result<()> {
        let session = inner.session_mut()?;
        if session.is_loaded() {
            return Err(Error::new(Status::State, "the package is already loaded"));
        }
        self.start(session, delivery).map_err(|e| self.unload(inner, delivery, e))?;
        inner.keep_types();
        Ok(())
    }

    fn start(&self, session: &mut Session, delivery: &mut Delivery) -> Result<()> {
        let sources = session.load()?;
        self.shared.counters.watch(session.lost_map(), session.prog_fds());
        delivery.shapes = sources.shapes();
        self.shared.counters.watch_sources(&delivery.shapes);
        let mut wait_set = self.shared.wait_set();
        let watched = wait_set.watch_sources(&self.shared.epoll, &[&sources]);
        delivery.sources = Some(sources);
        watched.map_err(|e| options::system("epoll", e))
    }

    /// After a failure back to what `open` left, with what the host has set.
    fn unload(&self, inner: &mut Inner, delivery: &mut Delivery, cause: Error) -> Error {
        self.shared.counters.watch(None, Vec::new());
        // Nothing is added, so nothing can fail.
        let _ = self.shared.wait_set().watch_sources(&self.shared.epoll, &[]);
        *delivery = Delivery::default();
        if cause.status == Status::Stopped {
            self.shared.stop.take_signalled();
        }
        match inner.session.take().map(Session::reopen) {
            Some(Err(e)) => {
                let why =
                    format!("{}; opening the package again failed too, it is closed: {e}", cause.reason());
                cause.with_reason(why)
            }
            reopened => {
                inner.session = reopened.and_then(Result::ok);
                cause
            }
        }
    }

    /// Attaches all programs or none. Loads first if that has not been done, and unloads again if attaching fails.
    pub fn attach(&self) -> Result<()> {
        let (mut inner, mut delivery) = self.exclusive()?;
        if inner.session()?.is_attached() {
            return Err(Error::new(Status::State, "the package is already attached"));
        }
        let was_loaded = inner.session()?.is_loaded();
        if !was_loaded {
            self.load_locked(&mut inner, &mut delivery)?;
        }
        let attached = inner.session_mut()?.attach();
        attached.map_err(|e| if was_loaded { e } else { self.unload(&mut inner, &mut delivery, e) })
    }

    /// Releases all links. Maps, their contents and waiting events stay; the next poll delivers a last round of each sampled
    /// map, unless the queue reads them.
    pub fn detach(&self) -> Result<()> {
        let (mut inner, mut delivery) = self.exclusive()?;
        inner.loaded()?;
        inner.session_mut()?.detach();
        let sampled = delivery.sources.as_mut().map_or(Ok(()), |sources| sources.sample_now());
        sampled.map_err(|e| options::system("timer of sampled maps", e))
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

fn no_descriptors(e: Errno) -> Error {
    options::system("descriptors of the vm", e)
}

impl Shared {
    fn new(
        log: Arc<Log>,
        stop: Interrupt,
        poll_budget: u32,
        wasm: WasmOptions,
        config: SessionConfig,
    ) -> Result<Shared> {
        let epoll = Arc::new(Epoll::new().map_err(no_descriptors)?);
        epoll.add(stop.fd(), STOP).map_err(no_descriptors)?;
        let pending = EventFd::new().map_err(no_descriptors)?;
        let mut wait_set = WaitSet::default();
        wait_set.watch(Role::Pending, &epoll, &[pending.fd()]).map_err(no_descriptors)?;
        Ok(Shared {
            log,
            stop,
            epoll,
            pending,
            wait_set: Mutex::new(wait_set),
            counters: Arc::default(),
            poll_budget,
            wasm,
            inner: Mutex::new(Inner { config, session: None, module: None, types: Vec::new() }),
            delivery: Mutex::default(),
        })
    }
}

impl Inner {
    fn open(&mut self, package: Package, log: &Arc<Log>) -> Result<Kind> {
        self.check_empty()?;
        let mut config = (self.config)();
        config.open.name = package.meta.obj_name.clone();
        self.session = Some(Session::open(package, config, Arc::clone(log))?);
        self.keep_types();
        Ok(Kind::Json)
    }

    fn open_module(&mut self, data: &[u8]) -> Result<Kind> {
        self.check_empty()?;
        self.module = Some(Arc::new(Module::open(data)?));
        Ok(Kind::Wasm)
    }

    fn check_empty(&self) -> Result<()> {
        if self.session.is_some() || self.module.is_some() {
            return Err(Error::new(Status::State, "a package is already open in this vm"));
        }
        Ok(())
    }

    /// Keeps every type that the vm can hand out.
    fn keep_types(&mut self) {
        let types = self.session.as_ref().map(types_of);
        self.types.extend(types.unwrap_or_default());
    }
}

/// Every type that comes with maps and records of a session.
fn types_of(session: &Session) -> Vec<Arc<Type>> {
    let maps = session.maps().iter().flat_map(|map| [map.key.ty(), map.value.ty()]);
    let records = session.shapes().iter().map(|shape| shape.record.as_ref().map(|plan| plan.ty()));
    maps.chain(records).flatten().map(Arc::clone).collect()
}
