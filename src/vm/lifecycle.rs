//! The life cycle of a package in a vm: open, load, attach, detach.

use std::sync::{Arc, Mutex};

use super::delivery::Delivery;
use super::interrupt::Interrupt;
use super::kinds::{Kind, check_kinds};
use super::options::{self, Options};
use super::state::{Inner, Shared, Vm, system_error};
use super::wait_set::{Role, STOP, WaitSet};
use crate::bpf::memory_account::Account;
use crate::bpf::object::OpenConfig;
use crate::bpf::session::{Config, Session};
use crate::bpf::{self};
use crate::error::{Error, Result, Status};
use crate::log::{Level, Log};
use crate::os::{Epoll, Errno, EventFd};
use crate::package::Package;
use crate::types::Type;
use crate::wasm::{self, Module};

impl Vm {
    /// An empty vm.
    pub fn new(options: Options) -> Result<Vm> {
        let perf_pages = options::checked_perf_pages(options.perf_pages)?;
        bpf::init(options.libbpf_sections)?;
        let stop = Interrupt::new().map_err(no_descriptors)?;
        let config = Config {
            open: OpenConfig {
                btf_path: options.btf_path,
                pin_path: options.pin_path,
                libbpf_sections: options.libbpf_sections,
                ..OpenConfig::default()
            },
            perf_pages,
            skip_missing_hooks: options.skip_missing_hooks,
            account: Arc::new(Account::new(options.max_kernel_memory)),
            stop: stop.fd(),
        };
        let log = Arc::new(Log::new(options.log, options.log_level.unwrap_or(Level::Warn)));
        Shared::new(log, stop, options.poll_budget, options.wasm, config).map(|shared| Vm { shared })
    }

    /// Opens a package of one of `kinds` (bits of [`Kind`]) and says which. On failure the vm stays empty.
    pub fn open(&self, data: &[u8], kinds: u32) -> Result<Kind> {
        let (mut inner, _delivery) = self.exclusive()?;
        match check_kinds(data, kinds)? {
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
        watched.map_err(|e| system_error("epoll", e))
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
        sampled.map_err(|e| system_error("timer of sampled maps", e))
    }
}

fn no_descriptors(e: Errno) -> Error {
    system_error("descriptors of the vm", e)
}

impl Shared {
    fn new(
        log: Arc<Log>,
        stop: Interrupt,
        poll_budget: u32,
        wasm: wasm::Config,
        config: Config,
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
        let mut config = self.config.clone();
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
