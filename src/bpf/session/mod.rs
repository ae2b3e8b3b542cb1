//! A running package: its object, its links, and what the host has set. This file has its life cycle.

mod arguments;
mod attach;
mod describe;
mod export;
pub mod iterator;
mod load;
pub mod lookup;
pub mod migrate;
mod pins;
pub mod replace;
pub mod test_run;

use std::ffi::CStr;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;

use super::alternatives::Alternatives;
use super::constants::map_type;
use super::diagnose;
use super::dispatch::{Dispatcher, Generation};
use super::event_maps::{Export, exports, is_buffer};
use super::map::Map;
use super::memory_account::{Account, Charge};
use super::object::{OpenConfig, Opened, Phase};
use super::replace::maps::fitting;
use super::source::{Shape, Sources};
use super::sys::attach::Link;
use super::sys::object::{ProgRef, possible_cpus};
use crate::error::{Error, Result, Status};
use crate::log::{Level, Log};
use crate::os;
use crate::package::{Meta, NameIndex, Package, Target};
use crate::types::Type;

/// Pages of a perf buffer per CPU, if neither host nor package specifies them.
const DEFAULT_PERF_PAGES: u32 = 64;

/// Options of the host for a session.
#[derive(Clone)]
pub struct Config {
    /// Options for opening the object.
    pub open: OpenConfig,
    /// Pages of a perf buffer per CPU; 0 uses the setting of the package.
    pub perf_pages: u32,
    /// Whether a program without a hook is skipped if another program has its hook.
    pub skip_missing_hooks: bool,
    /// Whether programs are attached through dispatchers, so that the package can be replaced while it runs.
    pub replaceable: bool,
    /// Maps of an earlier run, which packages use again as far as they fit.
    pub kept_maps: Arc<Vec<Arc<Map>>>,
    /// The account that kernel memory is charged to.
    pub account: Arc<Account>,
    /// A descriptor that becomes readable when the host stops the vm. That ends a load.
    pub stop: RawFd,
}

/// A package from open to destroy. Fields are dropped in this order: links before the object, because no program may run on
/// maps that are being freed.
pub struct Session {
    /// Removes the pins of this version on drop, so that they do not keep its programs attached.
    pins: Option<Box<dyn Send + Sync>>,
    progs: Vec<Prog>,
    alternatives: Alternatives,
    struct_ops: Vec<Link>,
    /// The number that the dispatchers read. The next version uses the same one.
    generation: Option<Arc<Generation>>,
    opened: Opened,
    /// The kernel memory of maps and programs, charged before load.
    charge: Option<Charge>,
    package: Package,
    config: Config,
    log: Arc<Log>,
    attached: bool,
    shapes: Vec<Arc<Shape>>,
    /// The values that the host has set before load. A retry after a failed load sets them again.
    set_vars: Vec<Option<Vec<u8>>>,
    /// The command line.
    args: Vec<String>,
    /// The indices of the variables whose value was set last by the command line.
    set_by_args: Vec<usize>,
    /// The sizes of maps that the host has set before load, by index.
    set_sizes: Vec<(usize, u32)>,
    /// The programs for which the host has set before load whether they are loaded, by index.
    set_autoload: Vec<(usize, bool)>,
    /// Whether another version is running, and this one will take over its hooks.
    is_successor: bool,
    /// Whether the dispatchers call no program.
    is_suspended: bool,
    /// The process that has loaded the package, and the process that reads its events.
    place: Place,
    /// Maps of the running version that this one uses, by index.
    carried: Vec<(usize, Arc<Map>)>,
    /// Maps of the running version whose entries this one copies, by index.
    grown: Vec<(usize, Arc<Map>)>,
    /// While programs of another version run on the same hooks: the descriptor that makes the kernel count runs, and
    /// the count at the start.
    overlap: Option<(OwnedFd, u64)>,
    /// The text that replaces the help, if the last command line requested it.
    requested_text: Option<String>,
}

/// The roles of processes for a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// This process loads the package and reads its events.
    Here,
    /// This process has loaded the package; another one reads its events.
    ReadElsewhere,
    /// Another process has loaded the package; this process reads its events.
    LoadedElsewhere,
}

/// The state of a program that libbpf does not have.
struct Prog {
    name: Arc<CStr>,
    section: Arc<CStr>,
    targets: Vec<Target>,
    target_json: Arc<CStr>,
    links: Vec<Link>,
    /// The loaded program, if another process has loaded it.
    given: Option<OwnedFd>,
    /// The program that is attached instead, if the package is replaceable. It stays when the package is detached.
    dispatcher: Option<Dispatcher>,
}

impl Session {
    /// Opens a package and sets the values in its metadata. Nothing is loaded.
    pub fn open(package: Package, mut config: Config, log: Arc<Log>) -> Result<Session> {
        config.open.name.clone_from(&package.meta.obj_name);
        let opened = Opened::open(&package, &mut config.open, &log)?;
        let by_name = package.meta.prog_index();
        let progs = opened.object.progs().map(|prog| Prog::new(prog, &package.meta, &by_name)).collect();
        let alternatives = Alternatives::new(opened.object.progs(), &package.meta, &by_name);
        if package.meta.debug_verbose {
            log.set_level(Level::Debug);
        }
        let carried = fitting(&opened.maps, &config.kept_maps);
        let mut session = Session {
            pins: None,
            progs,
            alternatives,
            struct_ops: Vec::new(),
            generation: None,
            opened,
            charge: None,
            package,
            config,
            log,
            attached: false,
            shapes: Vec::new(),
            set_vars: Vec::new(),
            args: Vec::new(),
            set_by_args: Vec::new(),
            set_sizes: Vec::new(),
            set_autoload: Vec::new(),
            is_successor: false,
            is_suspended: false,
            place: Place::Here,
            carried,
            grown: Vec::new(),
            overlap: None,
            requested_text: None,
        };
        session.set_all()?;
        Ok(session)
    }

    /// Applies the settings of package and host to a newly opened object.
    fn set_all(&mut self) -> Result<()> {
        self.set_sizes.iter().try_for_each(|(map, count)| self.opened.set_max_entries(*map, *count))?;
        self.reuse_carried()?;
        let mut valued = self.package.meta.vars.iter().filter_map(|var| Some((var, var.value.as_ref()?)));
        valued.try_for_each(|(var, value)| self.opened.set_var_json(&var.name, value))?;
        for (var, bytes) in self.opened.vars.iter().zip(&self.set_vars) {
            bytes.as_ref().map_or(Ok(()), |bytes| self.opened.set_var(&var.name, bytes))?;
        }
        let mut progs = self.opened.object.progs().enumerate();
        progs.try_for_each(|(index, prog)| set_autoload(prog, self.alternatives.is_loaded_next(index)))
    }

    /// Whether maps and programs are loaded.
    pub fn is_loaded(&self) -> bool {
        matches!(self.opened.phase, Phase::Loaded | Phase::Imported)
    }

    /// Whether programs are attached.
    pub fn is_attached(&self) -> bool {
        self.attached
    }

    /// Loads the object and opens the sources. After a failure the session must be reopened.
    pub fn load(&mut self) -> Result<Sources> {
        self.load_sharing(None)
    }

    /// Loads the object and interns the types of events and map values: each is replaced by an equal type from `kept`,
    /// or added to `kept`.
    pub fn load_sharing(&mut self, kept: Option<&mut Vec<Arc<Type>>>) -> Result<Sources> {
        let _low = self.reserve_descriptors()?;
        let (exports, pages) = (self.exports(kept)?, self.perf_pages());
        self.load_object()?;
        let sources = Sources::open(exports, &self.opened.maps, pages)?;
        self.shapes = sources.shapes();
        Ok(sources)
    }

    /// Finds the maps that deliver events, before there is another user of them. See `load_sharing` for `kept`.
    fn exports(&mut self, kept: Option<&mut Vec<Arc<Type>>>) -> Result<Vec<Export>> {
        let maps = &self.opened.maps;
        let mut exports = exports(&self.package, &self.opened.btf, &self.opened.formats, maps, &self.log)?;
        if let Some(kept) = kept {
            exports
                .iter_mut()
                .filter_map(|export| export.record.as_mut())
                .for_each(|plan| plan.intern_type(kept));
            self.opened.share_map_types(kept)?;
        }
        Ok(exports)
    }

    /// Loads the object without opening sources. The caller opens them by map.
    pub fn load_without_sources(&mut self) -> Result<()> {
        let _low = self.reserve_descriptors()?;
        self.load_object()
    }

    /// Loads the object once its kernel memory is within the limit.
    fn load_object(&mut self) -> Result<()> {
        let charge = self.take_charge()?;
        self.load_what_works()?;
        self.map_carried()?;
        self.charge = Some(charge);
        Ok(())
    }

    /// Charges the kernel memory that this package needs.
    fn take_charge(&self) -> Result<Charge> {
        let (pages, dispatchers) = (self.perf_pages(), self.dispatcher_count());
        self.config.account.take(&self.opened, &self.package.object, pages, dispatchers)
    }

    /// The number of programs that are to have a dispatcher.
    fn dispatcher_count(&self) -> u64 {
        let progs = self.opened.object.progs().enumerate().filter(|_| self.config.replaceable);
        progs.filter(|(index, prog)| prog.autoload() && self.why_not_dispatched(*index).is_none()).count()
            as u64
    }

    /// Opens a ring or perf buffer as a source of untyped records.
    pub fn open_source(&self, map: usize) -> Result<Sources> {
        let maps = &self.opened.maps;
        let is_buffer = maps.get(map).is_some_and(|map| is_buffer(map));
        if !is_buffer {
            return Err(Error::sys(Status::Inval, libc::EINVAL, "not a ring buffer or perf buffer"));
        }
        Sources::open(vec![Export { map, record: None, sample: None, given: None }], maps, self.perf_pages())
    }

    fn perf_pages(&self) -> u32 {
        match self.config.perf_pages {
            0 => self.package.meta.perf_buffer_pages.unwrap_or(DEFAULT_PERF_PAGES),
            host => host,
        }
    }

    /// Checks that load will not run out of descriptors, and occupies the low numbers. libbpf tests for kernel features and
    /// caches the results for the process; a test that fails for lack of a descriptor would be cached as a missing feature.
    fn reserve_descriptors(&self) -> Result<os::LowNumbers> {
        const SPARE: usize = 8;
        let (maps, progs) = (self.opened.maps.len(), self.progs.len());
        // A perf buffer needs one descriptor for each CPU. Open has already read the number of CPUs.
        let cpus = |map: &Arc<Map>| {
            if map.kind == map_type::PERF_EVENT_ARRAY { possible_cpus().unwrap_or(1) } else { 1 }
        };
        let count = progs + maps + self.opened.maps.iter().map(cpus).sum::<usize>() + SPARE;
        let low = os::try_descriptors(count).and_then(|()| os::take_low_numbers());
        low.map_err(|e| {
            Error::sys(Status::System, e.0, format_args!("loading needs {count} file descriptors: {e}"))
        })
    }

    /// Returns to the state before load, with all settings of the host.
    pub fn reopen(mut self) -> Result<Session> {
        self.alternatives.forget();
        if self.opened.phase != Phase::Opened {
            self.detach();
            self.progs.iter_mut().for_each(|prog| (prog.given, prog.dispatcher) = (None, None));
            self.shapes = Vec::new();
            self.opened = self.opened.reopen(&self.package.object, &self.config.open, &self.log)?;
            self.charge = None;
        }
        self.set_all()?;
        Ok(self)
    }

    /// Whether a chain of programs may be skipped after its program `last` failed with `e`: the host allows it and the hook does
    /// not exist.
    fn may_skip(&self, first: usize, last: usize, e: &Error) -> bool {
        self.config.skip_missing_hooks
            && self.progs[last].target_json.is_empty()
            && !self.alternatives.is_required(first)
            && diagnose::lacks_hook(e, &self.progs[last].section.to_string_lossy())
    }

    /// Detaches all programs in reverse order and removes the pins. Maps keep their contents.
    pub fn detach(&mut self) {
        self.pins = None;
        self.struct_ops.clear();
        self.progs.iter_mut().rev().for_each(|prog| prog.links.drain(..).rev().for_each(drop));
        self.attached = false;
    }
}

impl Prog {
    fn new(raw: ProgRef<'_>, meta: &Meta, by_name: &NameIndex) -> Prog {
        let name = raw.name();
        let meta = by_name.get(&name.to_string_lossy()).map(|index| &meta.progs[index]);
        let targets = vec![meta.map(|meta| meta.target.clone()).unwrap_or_default()];
        let (section, target_json) = (raw.section().into(), c_text(""));
        let (name, links) = (name.into(), Vec::new());
        Prog { name, section, targets, target_json, links, given: None, dispatcher: None }
    }
}

fn set_autoload(prog: ProgRef<'_>, on: bool) -> Result<()> {
    prog.set_autoload(on)
        .map_err(|e| prog.about(Error::sys(Status::System, e.0, format_args!("autoload: {e}")), ""))
}

/// Converts to a C string. JSON contains no NUL bytes.
fn c_text(text: &str) -> Arc<CStr> {
    std::ffi::CString::new(text).unwrap_or_default().into()
}
