//! One running package: its object, its links, and what the host has set.

mod arguments;
mod attach;
pub mod contents;
mod describe;
pub mod iterator;
mod load;

use std::ffi::CStr;
use std::os::fd::RawFd;
use std::sync::Arc;

use super::alternatives::Alternatives;
use super::constants::map_type;
use super::diagnose;
use super::export::{Export, exports, is_buffer};
use super::map::Map;
use super::memory_account::{Account, Charge};
use super::object::{OpenConfig, Opened, Phase};
use super::source::{Shape, Sources};
use super::sys::attach::Link;
use super::sys::object::{ProgRef, possible_cpus};
use crate::error::{Error, Result, Status};
use crate::log::{Level, Log};
use crate::os;
use crate::package::{Meta, NameIndex, Package, Target};
use crate::types::Type;

/// Pages of a perf buffer per CPU, if neither host nor package says.
const USUAL_PERF_PAGES: u32 = 64;

/// What a session needs to know of its host.
#[derive(Clone)]
pub struct Config {
    /// How to open the object; the package's name goes into `name`.
    pub open: OpenConfig,
    /// Pages of a perf buffer per CPU; 0: the package's word.
    pub perf_pages: u32,
    /// Whether a program without a hook is skipped where another one has one.
    pub skip_missing_hooks: bool,
    /// From where kernel memory is taken.
    pub account: Arc<Account>,
    /// Readable while the host wants to stop, which ends a load.
    pub stop: RawFd,
}

/// A package from open to destroy. The order of the fields is that in which they end: links come before the object,
/// since nothing may run on maps that are going away.
pub struct Session {
    progs: Vec<Prog>,
    alternatives: Alternatives,
    struct_ops: Vec<Link>,
    opened: Opened,
    /// What maps and programs have taken, from before load on.
    charge: Option<Charge>,
    package: Package,
    config: Config,
    log: Arc<Log>,
    attached: bool,
    shapes: Vec<Arc<Shape>>,
    /// What the host set each variable to before load: a failed load starts over from here.
    set_vars: Vec<Option<Vec<u8>>>,
    /// The same for sizes of maps, by their places.
    set_sizes: Vec<(usize, u32)>,
    /// The text that the last command line asked for in place of the help.
    asked: Option<String>,
}

/// What belongs to a program beside libbpf's side of it.
struct Prog {
    name: Arc<CStr>,
    section: Arc<CStr>,
    targets: Vec<Target>,
    target_json: Arc<CStr>,
    links: Vec<Link>,
}

impl Session {
    /// Opens a package and sets the values it brings. Nothing reaches the kernel.
    pub fn open(package: Package, mut config: Config, log: Arc<Log>) -> Result<Session> {
        let opened = Opened::open(&package, &mut config.open, &log)?;
        let told = package.meta.prog_index();
        let progs = opened.object.progs().map(|prog| Prog::new(prog, &package.meta, &told)).collect();
        let alternatives = Alternatives::new(opened.object.progs(), &package.meta, &told);
        if package.meta.debug_verbose {
            log.set_level(Level::Debug);
        }
        let mut session = Session {
            progs,
            alternatives,
            struct_ops: Vec::new(),
            opened,
            charge: None,
            package,
            config,
            log,
            attached: false,
            shapes: Vec::new(),
            set_vars: Vec::new(),
            set_sizes: Vec::new(),
            asked: None,
        };
        session.set_all()?;
        Ok(session)
    }

    /// Sets in a freshly opened object what package and host have set.
    fn set_all(&mut self) -> Result<()> {
        self.set_sizes.iter().try_for_each(|(map, count)| self.opened.set_max_entries(*map, *count))?;
        let mut valued = self.package.meta.vars.iter().filter_map(|var| Some((var, var.value.as_ref()?)));
        valued.try_for_each(|(var, value)| self.opened.set_var_json(&var.name, value))?;
        for (var, bytes) in self.opened.vars.iter().zip(&self.set_vars) {
            bytes.as_ref().map_or(Ok(()), |bytes| self.opened.set_var(&var.name, bytes))?;
        }
        let mut progs = self.opened.object.progs().enumerate();
        progs.try_for_each(|(index, prog)| set_autoload(prog, self.alternatives.is_loaded_next(index)))
    }

    /// Whether maps and programs are in the kernel.
    pub fn is_loaded(&self) -> bool {
        self.opened.phase == Phase::Loaded
    }

    /// Whether programs are attached.
    pub fn is_attached(&self) -> bool {
        self.attached
    }

    /// Loads, and opens the sources. After a failure the session is of no use until it is reopened.
    pub fn load(&mut self) -> Result<Sources> {
        self.load_sharing(None)
    }

    /// Loads; the types of events and of values in maps are those among `kept`, where they are equal, or added there.
    pub fn load_sharing(&mut self, kept: Option<&mut Vec<Arc<Type>>>) -> Result<Sources> {
        let _low = self.descriptors()?;
        let maps = &self.opened.maps;
        let mut exports = exports(&self.package, &self.opened.btf, &self.opened.formats, maps, &self.log)?;
        if let Some(kept) = kept {
            exports
                .iter_mut()
                .filter_map(|export| export.record.as_mut())
                .for_each(|plan| plan.intern_type(kept));
            self.opened.share_value_types(kept)?;
        }
        let pages = self.perf_pages();
        self.load_object()?;
        let sources = Sources::open(exports, &self.opened.maps, pages)?;
        self.shapes = sources.shapes();
        Ok(sources)
    }

    /// Loads without opening a source: who wants one names its map.
    pub fn load_without_sources(&mut self) -> Result<()> {
        let _low = self.descriptors()?;
        self.load_object()
    }

    /// Loads the object once its kernel memory is within the limit.
    fn load_object(&mut self) -> Result<()> {
        let pages = self.perf_pages();
        let charge = self.config.account.take(&self.opened, &self.package.object, pages)?;
        self.load_what_works()?;
        self.charge = Some(charge);
        Ok(())
    }

    /// The records of one map, a ring or perf buffer; without a type.
    pub fn open_source(&self, map: usize) -> Result<Sources> {
        let maps = &self.opened.maps;
        let is_buffer = maps.get(map).is_some_and(|map| is_buffer(map));
        if !is_buffer {
            return Err(Error::sys(
                Status::Inval,
                libc::EINVAL,
                "the map is no ring buffer and no perf buffer",
            ));
        }
        Sources::open(vec![Export { map, record: None, sample: None }], maps, self.perf_pages())
    }

    fn perf_pages(&self) -> u32 {
        match self.config.perf_pages {
            0 => self.package.meta.perf_buffer_pages.unwrap_or(USUAL_PERF_PAGES),
            host => host,
        }
    }

    /// Makes sure that loading will not run out of descriptors. libbpf finds out what the kernel can do by trying, and
    /// would remember for the whole process that it cannot what failed for want of a descriptor.
    fn descriptors(&self) -> Result<os::LowNumbers> {
        const SPARE: usize = 8;
        let (maps, progs) = (self.opened.maps.len(), self.progs.len());
        // Of a perf buffer one for each CPU; the number of CPUs is known, since it was asked for at open.
        let cpus = |map: &Arc<Map>| {
            if map.kind == map_type::PERF_EVENT_ARRAY { possible_cpus().unwrap_or(1) } else { 1 }
        };
        let count = progs + maps + self.opened.maps.iter().map(cpus).sum::<usize>() + SPARE;
        let low = os::try_descriptors(count).and_then(|()| os::take_low_numbers());
        low.map_err(|e| {
            Error::sys(Status::System, e.0, format_args!("loading takes {count} file descriptors: {e}"))
        })
    }

    /// Back to the state before load, with everything that the host had set.
    pub fn reopen(mut self) -> Result<Session> {
        self.alternatives.forget();
        if self.opened.phase != Phase::Opened {
            self.detach();
            self.shapes = Vec::new();
            self.opened = self.opened.reopen(&self.package.object, &self.config.open, &self.log)?;
            self.charge = None;
        }
        self.set_all()?;
        Ok(self)
    }

    /// Whether the host lets a program, the last one that was tried of the chain of `first`, be skipped that failed so:
    /// its hook is not there.
    fn may_skip(&self, first: usize, last: usize, e: &Error) -> bool {
        self.config.skip_missing_hooks
            && self.progs[last].target_json.is_empty()
            && !self.alternatives.is_required(first)
            && diagnose::lacks_hook(e, &self.progs[last].section.to_string_lossy())
    }

    /// Lets go of all links, the last one first; maps and their contents stay.
    pub fn detach(&mut self) {
        self.struct_ops.clear();
        self.progs.iter_mut().rev().for_each(|prog| prog.links.drain(..).rev().for_each(drop));
        self.attached = false;
    }
}

impl Prog {
    fn new(raw: ProgRef<'_>, meta: &Meta, places: &NameIndex) -> Prog {
        let name = raw.name();
        let told = places.get(&name.to_string_lossy()).map(|place| &meta.progs[place]);
        let targets = vec![told.map(|told| told.target.clone()).unwrap_or_default()];
        let (section, target_json) = (raw.section().into(), c_text(""));
        Prog { name: name.into(), section, targets, target_json, links: Vec::new() }
    }
}

fn set_autoload(prog: ProgRef<'_>, on: bool) -> Result<()> {
    prog.set_autoload(on)
        .map_err(|e| prog.about(Error::sys(Status::System, e.0, format_args!("autoload: {e}")), ""))
}

/// A C string; JSON text has no NUL bytes in it.
fn c_text(text: &str) -> Arc<CStr> {
    std::ffi::CString::new(text).unwrap_or_default().into()
}
