//! The life cycle of a package in a vm: open, load, attach, detach.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use super::delivery::Delivery;
use super::interrupt::Interrupt;
use super::kinds::{Kind, Kinds, check_kind};
use super::options::{self, Options};
use super::package_file;
use super::state::{Inner, Shared, Vm, system_error};
use super::wait_set::{Role, STOP, WaitSet};
use crate::bpf;
use crate::bpf::memory_account::Account;
use crate::bpf::object::OpenConfig;
use crate::bpf::session::{Config, Session};
use crate::bpf::source::Sources;
use crate::error::{Error, Result, Status};
use crate::log::{Level, Log};
use crate::os::{self, Epoll, Errno, EventFd};
use crate::package::Package;
use crate::types::Type;
use crate::wasm::{self, Module};

impl Vm {
    /// Creates an empty vm. It needs no privilege and takes a few descriptors, all of them close-on-exec.
    ///
    /// # Errors
    ///
    /// [`Status::Inval`] if an option is out of range, [`Status::System`] if the process is out of descriptors.
    ///
    /// ```
    /// use eunomia::{Options, Vm};
    ///
    /// # fn main() -> eunomia::Result<()> {
    /// let vm = Vm::new(Options::new())?;
    /// assert!(Vm::new(Options::new().perf_pages(3)).is_err()); // not a power of two
    /// # Ok(())
    /// # }
    /// ```
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
            replaceable: options.replaceable,
            kept_maps: Arc::default(),
            account: Arc::new(Account::new(options.max_kernel_memory)),
            stop: stop.fd(),
        };
        let log = Arc::new(Log::new(options.log, options.log_level.unwrap_or(Level::Warn)));
        Shared::new(log, stop, options.poll_budget, options.wasm, config).map(|shared| Vm { shared })
    }

    /// Opens the package `data` and returns its kind. The bytes are copied.
    ///
    /// `kinds` are the kinds that the caller accepts: a [`Kind`], several joined with `|`, or [`Kinds::ALL`]. Nothing is
    /// loaded into the kernel yet. After a failure the vm is empty as before.
    ///
    /// # Errors
    ///
    /// [`Status::Package`] if the package is malformed or of another kind, [`Status::State`] if the vm already holds a
    /// package.
    ///
    /// ```
    /// use eunomia::{Kind, Options, Status, Vm};
    ///
    /// # fn main() -> eunomia::Result<()> {
    /// let vm = Vm::new(Options::new())?;
    /// let error = vm.open(b"{}", Kind::Json | Kind::Wasm).unwrap_err();
    /// assert_eq!(error.status(), Status::Package);
    /// # Ok(())
    /// # }
    /// ```
    pub fn open(&self, data: &[u8], kinds: impl Into<Kinds>) -> Result<Kind> {
        self.open_kind(data, kinds.into())
    }

    fn open_kind(&self, data: &[u8], kinds: Kinds) -> Result<Kind> {
        let (mut inner, _delivery) = self.exclusive()?;
        match check_kind(data, kinds)? {
            Kind::Json => inner.open(Package::parse(data)?, &self.shared.log),
            Kind::Wasm => {
                let kind = inner.open_module(data)?;
                self.shared.has_module.store(true, SeqCst);
                Ok(kind)
            }
        }
    }

    /// Opens the package in the file `path`. See [`Vm::open`]. The message of an error begins with the path.
    ///
    /// # Errors
    ///
    /// Those of [`Vm::open`]. If the file cannot be read, [`Status::NotFound`], [`Status::Perm`] or [`Status::System`].
    ///
    /// ```no_run
    /// use eunomia::{Kind, Kinds, Options, Vm};
    ///
    /// # fn main() -> eunomia::Result<()> {
    /// let vm = Vm::new(Options::new())?;
    /// match vm.open_file("package", Kinds::ALL)? {
    ///     Kind::Wasm => println!("a WASM module"),
    ///     _ => println!("a JSON package"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn open_file(&self, path: impl AsRef<Path>, kinds: impl Into<Kinds>) -> Result<Kind> {
        let path = path.as_ref();
        let data = package_file::read(path)?;
        self.open_kind(&data, kinds.into()).map_err(|e| package_file::name_in(e, path))
    }

    /// Opens a compiled BPF object (ELF) without a package. `meta_json` is its metadata, the `*.skel.json` that `ecc` and
    /// `bpftool` write; without it the metadata comes from the object's BTF alone.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// vm.open_object(&std::fs::read("program.bpf.o")?, None)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn open_object(&self, elf: &[u8], meta_json: Option<&str>) -> Result<Kind> {
        let (mut inner, _delivery) = self.exclusive()?;
        inner.open(Package::from_object(elf, meta_json)?, &self.shared.log)
    }

    /// Creates the maps and loads the programs into the kernel, whose verifier checks them. After a failure the package is
    /// open as before, with all settings of the host.
    ///
    /// # Errors
    ///
    /// [`Status::Verifier`] if the verifier rejects a program; the detail of the error is the verifier's log.
    /// [`Status::Perm`] if a privilege is missing. [`Status::NoMem`] if the package needs more kernel memory than
    /// [`Options::max_kernel_memory`]. [`Status::Stopped`] after [`Vm::stop`].
    ///
    /// ```no_run
    /// # fn main() -> eunomia::Result<()> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// if let Err(error) = vm.load() {
    ///     eprintln!("{error}\n{}", error.detail());
    /// }
    /// # Ok(())
    /// # }
    /// ```
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
        self.watch(session, sources, delivery).map_err(|e| system_error("epoll", e))
    }

    /// Waits for the sources of a session, and counts what they lose.
    pub(super) fn watch(
        &self,
        session: &Session,
        sources: Sources,
        delivery: &mut Delivery,
    ) -> os::Result<()> {
        self.shared.counters.watch(session.lost_map(), session.prog_fds());
        delivery.shapes = sources.shapes();
        self.shared.counters.watch_sources(&delivery.shapes);
        let mut wait_set = self.shared.wait_set();
        let watched = wait_set.watch_sources(Role::Source, &self.shared.epoll, &[&sources]);
        delivery.sources = Some(sources);
        watched
    }

    /// Returns to the state after `open`, with all that the host has set, and returns `cause`.
    pub(super) fn unload(&self, inner: &mut Inner, delivery: &mut Delivery, cause: Error) -> Error {
        self.shared.counters.watch(None, Vec::new());
        // Removing descriptors cannot fail.
        let _ = self.shared.wait_set().watch_sources(Role::Source, &self.shared.epoll, &[]);
        *delivery = Delivery::default();
        if cause.status() == Status::Stopped {
            self.shared.stop.take_signalled();
        }
        match inner.session.take().map(Session::reopen) {
            Some(Err(e)) => {
                let why =
                    format!("{}; opening the package again failed too, so it is closed: {e}", cause.reason());
                cause.with_reason(why)
            }
            reopened => {
                inner.session = reopened.and_then(Result::ok);
                cause
            }
        }
    }

    /// Attaches all programs of the package, or none if one fails. Loads the package first if it is not loaded, and unloads
    /// it again if attaching then fails.
    ///
    /// # Errors
    ///
    /// [`Status::Attach`] or [`Status::NotFound`] if a program cannot be attached; the subject of the error names it.
    /// Those of [`Vm::load`].
    ///
    /// ```no_run
    /// use eunomia::{Kind, Options, Vm};
    ///
    /// # fn main() -> eunomia::Result<()> {
    /// let vm = Vm::new(Options::new())?;
    /// vm.open_file("package.json", Kind::Json)?;
    /// vm.attach()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn attach(&self) -> Result<()> {
        let (mut inner, mut delivery) = self.exclusive()?;
        if inner.session()?.is_attached() {
            return Err(Error::new(Status::State, "the package is already attached"));
        }
        let was_loaded = inner.session()?.is_loaded();
        if !was_loaded {
            self.load_locked(&mut inner, &mut delivery)?;
        }
        let session = inner.session_mut()?;
        let attached = session.attach();
        self.shared.counters.watch_also(None, session.prog_fds());
        attached.map_err(|e| if was_loaded { e } else { self.unload(&mut inner, &mut delivery, e) })
    }

    /// Detaches all programs, removes [pins](Vm::pin), and closes a version that a replace has kept. Maps, their contents and waiting events
    /// remain, and [`attach`](Vm::attach) can be called again. The next poll delivers a last round of each sampled map,
    /// unless the queue reads them.
    ///
    /// ```no_run
    /// # fn main() -> eunomia::Result<()> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// vm.attach()?;
    /// vm.detach()?;
    /// println!("{}", vm.map_get_json("totals", "0")?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn detach(&self) -> Result<()> {
        let (mut inner, mut delivery) = self.exclusive()?;
        inner.loaded()?;
        inner.session_mut()?.detach();
        if let Some(old) = inner.kept.take() {
            self.release(&inner, &mut delivery, &old);
        }
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
            inner: Mutex::new(Inner { config, session: None, kept: None, module: None, types: Vec::new() }),
            delivery: Mutex::default(),
            replacing: AtomicBool::new(false),
            membership: Mutex::default(),
            has_module: AtomicBool::new(false),
        })
    }
}

impl Inner {
    fn open(&mut self, package: Package, log: &Arc<Log>) -> Result<Kind> {
        self.check_empty()?;
        self.session = Some(Session::open(package, self.config.clone(), Arc::clone(log))?);
        self.keep_types();
        Ok(Kind::Json)
    }

    fn open_module(&mut self, data: &[u8]) -> Result<Kind> {
        self.check_empty()?;
        self.module = Some(Arc::new(Module::open(data)?));
        Ok(Kind::Wasm)
    }

    pub(super) fn check_empty(&self) -> Result<()> {
        if self.session.is_some() || self.module.is_some() {
            return Err(Error::new(Status::State, "a package is already open in this vm"));
        }
        Ok(())
    }

    /// Keeps every type that a call can return, so that it stays valid as long as the vm.
    pub(super) fn keep_types(&mut self) {
        let types = self.session.as_ref().map(types_of).unwrap_or_default();
        self.types.extend(types);
        self.types.sort_unstable_by_key(|ty| Arc::as_ptr(ty).addr());
        self.types.dedup_by(|a, b| Arc::ptr_eq(a, b));
    }
}

/// Returns the types of the maps and records of a session.
fn types_of(session: &Session) -> Vec<Arc<Type>> {
    let maps = session.maps().iter().flat_map(|map| [map.key.ty(), map.value.ty()]);
    let records = session.shapes().iter().map(|shape| shape.record.as_ref().map(|plan| plan.ty()));
    maps.chain(records).flatten().map(Arc::clone).collect()
}
