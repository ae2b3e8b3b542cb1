//! One running package: its object, its links, and what the host has set.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use serde_json::Value;

use super::memory_account::{Account, Charge, Need};
use super::attach::{attach, attach_struct_ops, is_attachable};
use super::export::{Export, LOST_MAP, exports, is_buffer};
use super::map::{Map, kind};
use super::object::{LoadFailure, OpenConfig, Opened, Phase, Var};
use super::diagnose;
use super::dry_run::expect;
use super::skipped::Skipped;
use super::source::{Shape, Sources};
use super::sys::attach::Link;
use super::sys::map::MapFd;
use super::sys::object::{INSTRUCTION, MapRef, ProgFacts, ProgRef, possible_cpus, prog_facts};
use super::alternatives::Alternatives;
use crate::error::{Error, Result, Status};
use crate::log::{Level, Log};
use crate::os::{self, Errno};
use crate::package::args::{self, ArgText, Parsed};
use crate::package::{MAPS, Meta, Package, Places, Target, compact, members};
use crate::types::{Type, parse_text};

/// Tries to load a package, each without one more program: as many as programs may have variants, twice, and one.
const MAX_TRIES: usize = 2 * 256 + 1;
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

/// Attaches a program.
type Make<'a> = &'a dyn Fn(&Session, usize) -> Result<Vec<Link>>;

/// What is known about a program.
pub struct ProgInfo {
    /// The C function's name.
    pub name: Arc<CStr>,
    /// Its ELF section.
    pub section: Arc<CStr>,
    /// The target that the host has set, as JSON; empty if none.
    pub target: Arc<CStr>,
    /// BPF_PROG_TYPE_*.
    pub kind: u32,
    /// Whether load loads it, unless it turns out to be of no use on this kernel.
    pub autoload: bool,
    /// Whether it is in the kernel.
    pub loaded: bool,
    /// Whether it is attached.
    pub attached: bool,
    /// The kernel's id, 0 before load.
    pub id: u32,
    /// Runs and nanoseconds, where the kernel counts them (sysctl kernel.bpf_stats_enabled).
    pub run_count: u64,
    /// See `run_count`.
    pub run_ns: u64,
}

/// The code of a program.
pub struct ProgCode {
    /// BPF_* of what it attaches to (`enum bpf_attach_type`), as its section says; 0 where the type of the program says all.
    pub attach_type: u32,
    /// Its instructions (`struct bpf_insn`): as compiled; once it is loaded, as the kernel got them, with the functions that
    /// it calls.
    pub instructions: Vec<[u8; INSTRUCTION]>,
}

impl Session {
    /// Opens a package and sets the values it brings. Nothing reaches the kernel.
    pub fn open(package: Package, mut config: Config, log: Arc<Log>) -> Result<Session> {
        let opened = Opened::open(&package, &mut config.open, &log)?;
        let told = package.meta.prog_places();
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
                .for_each(|plan| plan.share_type(kept));
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

    /// Loads without the programs that this kernel cannot load and that the package can do without. libbpf names one
    /// program at a time, and each costs a try, or two: for the whole log of one that the verifier rejects, it is asked again.
    fn load_what_works(&mut self) -> Result<()> {
        let (mut tries, mut traced) = (0, None);
        while let Err(failure) = self.opened.load(&self.config.open, &self.log, traced, self.config.stop) {
            if failure.lacks_kfunc && !self.config.open.weak_kfuncs {
                self.config.open.weak_kfuncs = true;
            } else {
                tries += 1;
                let prog = failure.prog.filter(|_| tries < MAX_TRIES);
                let Some(index) = prog else { return Err(failure.error) };
                if traced.is_none() && failure.error.status == Status::Verifier {
                    traced = Some(index);
                } else {
                    traced = None;
                    self.go_without(index, failure.error)?;
                }
            }
            self.opened.renew(&self.package.object, &self.config.open, &self.log)?;
            self.set_all()?;
        }
        Ok(())
    }

    /// Takes a program that would not load out of the next try; an error if the package cannot do without it.
    fn go_without(&mut self, index: usize, cause: Error) -> Result<()> {
        if !self.alternatives.is_loaded_next(index) {
            return Err(cause);
        }
        self.alternatives.note(index, &cause, &self.log);
        let first = self.alternatives.first(index);
        let is_replaced = self.alternatives.chain(first).any(|index| self.alternatives.is_loaded_next(index));
        if is_replaced || self.may_skip(first, index, &cause) && self.alternatives.is_any_left() {
            return Ok(());
        }
        Err(self.alternatives.none_left(first, cause))
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
            if map.kind == kind::PERF_EVENT_ARRAY { possible_cpus().unwrap_or(1) } else { 1 }
        };
        let count = progs + maps + self.opened.maps.iter().map(cpus).sum::<usize>() + SPARE;
        let low = os::has_room(count).and_then(|()| os::take_low_numbers());
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

    /// Attaches every loaded program and struct_ops map, or nothing.
    pub fn attach(&mut self) -> Result<()> {
        let _low = low_numbers()?;
        let attached = self.attach_all(&Session::make_links).and_then(|()| self.attach_maps());
        match attached {
            Ok(()) => self.attached = true,
            Err(_) => self.detach(),
        }
        attached
    }

    /// Has `make` attach each program, or the first of its variants that it can.
    fn attach_all(&mut self, make: Make<'_>) -> Result<()> {
        let tails = self.tails();
        for index in 0..self.progs.len() {
            if self.alternatives.is_fallback(index) {
                continue;
            }
            if let Err((last, e)) = self.attach_first(index, make, &tails)
                && !self.may_skip(index, last, &e)
            {
                return Err(self.alternatives.none_left(index, e));
            }
        }
        self.check_skipped()
    }

    fn make_links(&self, index: usize) -> Result<Vec<Link>> {
        let attached = attach(self.opened.object.prog(index), &self.progs[index].targets, &self.log);
        attached.map_err(|e| self.of_host(index, e))
    }

    /// A target that is not there is an argument of the host's that is wrong, where it is not the package's.
    fn of_host(&self, index: usize, e: Error) -> Error {
        let is_wrong = e.status == Status::NotFound && !self.progs[index].target_json.is_empty();
        if is_wrong { e.as_status(Status::Inval) } else { e }
    }

    fn attach_maps(&mut self) -> Result<()> {
        let object = &self.opened.object;
        for map in object.maps().filter(|map| map.kind() == kind::STRUCT_OPS && map.fd().is_some()) {
            let link = attach_struct_ops(map.name(), &self.log, || map.attach_struct_ops())?;
            self.struct_ops.push(link);
        }
        Ok(())
    }

    /// Decides like `attach` which programs would be used, if each could be attached but for what `expect` says.
    pub fn rehearse(&mut self, expect: &dyn Fn(usize) -> Result<()>) -> Result<()> {
        self.attach_all(&|_, index| expect(index).map(|()| Vec::new()))
    }

    /// Why a program, which is not loaded, could not be attached.
    pub fn expect(&self, index: usize) -> Result<()> {
        let prog = self.opened.object.prog(index);
        if !prog.autoattach() || !is_attachable(prog) {
            return Ok(());
        }
        self.progs[index]
            .targets
            .iter()
            .try_for_each(|target| expect(prog, target))
            .map_err(|e| self.of_host(index, e))
    }

    /// Whether programs of the object can call others by way of a map.
    pub fn has_tail_calls(&self) -> bool {
        self.opened.maps.iter().any(|map| map.kind == kind::PROG_ARRAY)
    }

    /// Why a program is not used; none if it is, or was not tried.
    pub fn cause(&self, index: usize) -> Option<&Error> {
        self.alternatives.cause(index)
    }

    /// Loads the `wanted` programs alone, and all maps but those called as in `without`. False if they loaded and have gone
    /// again, because a program array should hold another one.
    pub fn load_alone(&mut self, wanted: &[bool], without: &[&str]) -> Result<bool, LoadFailure> {
        let failed = |error| LoadFailure { error, prog: None, lacks_kfunc: false };
        let _low = self.descriptors().map_err(failed)?;
        let mut traced = None;
        loop {
            for (prog, wanted) in self.opened.object.progs().zip(wanted) {
                set_autoload(prog, *wanted).map_err(failed)?;
            }
            for map in self.opened.object.maps() {
                let is_left_out = without.contains(&&*map.name().to_string_lossy());
                if is_left_out || map.kind() == kind::STRUCT_OPS {
                    // What fails here fails when it is loaded.
                    let _ = map.set_autocreate(!is_left_out);
                }
            }
            let pages = self.perf_pages();
            let charge = self.config.account.take(&self.opened, &self.package.object, pages);
            self.charge = Some(charge.map_err(failed)?);
            match self.opened.load(&self.config.open, &self.log, traced, self.config.stop) {
                Err(failure) if failure.lacks_kfunc && !self.config.open.weak_kfuncs => {
                    self.config.open.weak_kfuncs = true;
                }
                Err(failure) if failure.prog.is_none() && failure.error.errno == libc::EBADF => {
                    return Ok(false);
                }
                Err(LoadFailure { error, prog: Some(prog), .. })
                    if error.status == Status::Verifier && traced.is_none() =>
                {
                    traced = Some(prog);
                }
                loaded => return loaded.map(|()| true),
            }
            self.charge = None;
            self.opened.renew(&self.package.object, &self.config.open, &self.log).map_err(failed)?;
        }
    }

    /// Whether the host lets a program, the last one that was tried of the chain of `first`, be skipped that failed so:
    /// its hook is not there.
    fn may_skip(&self, first: usize, last: usize, e: &Error) -> bool {
        self.config.skip_missing_hooks
            && self.progs[last].target_json.is_empty()
            && !self.alternatives.is_required(first)
            && diagnose::lacks_hook(e, &self.progs[last].section.to_string_lossy())
    }

    /// Attaches a program, or the first of those to try after it that can be attached; an error comes with the last one.
    /// One of `tails` need not be.
    fn attach_first(
        &mut self,
        first: usize,
        make: Make<'_>,
        tails: &[[u8; 4]],
    ) -> Result<(), (usize, Error)> {
        let (mut next, mut failed) = (Some(first), Ok(()));
        while let Some(index) = next {
            next = self.alternatives.next(index);
            if !self.is_attachable(index) {
                continue;
            }
            match make(self, index) {
                Ok(links) => {
                    self.progs[index].links = links;
                    self.alternatives.is_used(index);
                    return Ok(());
                }
                Err(e) if e.hint.is_some() && tails.contains(&self.prog_info(index).id.to_ne_bytes()) => {}
                Err(e) => {
                    self.alternatives.note(index, &e, &self.log);
                    failed = Err((index, e));
                }
            }
        }
        failed
    }

    fn is_attachable(&self, index: usize) -> bool {
        let raw = self.opened.object.prog(index);
        raw.fd().is_some() && raw.autoattach() && is_attachable(raw)
    }

    /// The ids of the programs that are there to be called by others: program arrays hold them since they were loaded.
    fn tails(&self) -> Vec<[u8; 4]> {
        /// Slots of all arrays that are looked at.
        const MOST: u32 = 1 << 16;
        let (mut ids, mut left) = (Vec::new(), MOST);
        for map in self.opened.maps.iter().filter(|map| map.kind == kind::PROG_ARRAY) {
            let Ok(fd) = map.fd() else { continue };
            let count = map.max_entries.min(left);
            left -= count;
            for slot in 0..count {
                let mut id = [0; 4];
                if fd.lookup(&slot.to_ne_bytes(), &mut id).is_ok() {
                    ids.push(id);
                }
            }
        }
        ids
    }

    /// Says what was skipped, in one line for each cause; an error if what is left can do nothing.
    fn check_skipped(&self) -> Result<()> {
        let works = |index: usize| self.alternatives.cause(index).is_none() && self.is_attachable(index);
        let firsts = (0..self.progs.len()).filter(|&index| !self.alternatives.is_fallback(index));
        let (mut count, mut skipped, mut is_any_left) = (0, Vec::new(), false);
        for first in firsts {
            count += usize::from(self.alternatives.chain(first).any(|index| self.alternatives.is_wanted(index)));
            let cause = self.alternatives.chain(first).filter_map(|index| self.alternatives.cause(index)).last();
            match cause {
                _ if self.alternatives.chain(first).any(works) => is_any_left = true,
                Some(cause) => skipped.push(cause),
                None => {}
            }
        }
        if skipped.is_empty() {
            return Ok(());
        }
        let skipped = Skipped::new(skipped, count);
        if !is_any_left {
            return Err(skipped.error(""));
        }
        if !self.alternatives.says_required() && !self.may_deliver() {
            return Err(skipped.error("; the others deliver no events"));
        }
        skipped.log(&self.log);
        Ok(())
    }

    /// Whether a program that is left can send an event; yes without maps that deliver, or with maps in maps.
    fn may_deliver(&self) -> bool {
        let object = &self.opened.object;
        let is_outer = |map: &MapRef<'_>| [kind::ARRAY_OF_MAPS, kind::HASH_OF_MAPS].contains(&map.kind());
        let mut fds: Vec<RawFd> = object.maps().filter(is_outer).filter_map(MapRef::fd).collect();
        let delivers = |map: &Arc<Map>| self.shapes.iter().any(|shape| Arc::ptr_eq(&shape.map, map));
        let maps = object.maps().zip(&self.opened.maps).filter(|(_, map)| delivers(map));
        fds.extend(maps.filter_map(|(raw, _)| raw.fd()));
        let mut left = object.progs().enumerate().filter(|(index, _)| self.alternatives.cause(*index).is_none());
        self.shapes.is_empty() || left.any(|(_, prog)| prog.fd().is_some() && prog.uses_map(&fds))
    }

    /// Attaches one loaded program, in addition to what is attached.
    pub fn attach_prog(&mut self, name: &str) -> Result<()> {
        let index = self.prog_index(name)?;
        let _low = low_numbers()?;
        let links = self.make_links(index)?;
        self.progs[index].links.extend(links);
        Ok(())
    }

    /// Lets go of all links, the last one first; maps and their contents stay.
    pub fn detach(&mut self) {
        self.struct_ops.clear();
        self.progs.iter_mut().rev().for_each(|prog| prog.links.drain(..).rev().for_each(drop));
        self.attached = false;
    }

    /// The object's variables.
    pub fn vars(&self) -> &[Var] {
        &self.opened.vars
    }

    /// Sets a variable from its bytes.
    pub fn set_var(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.opened.set_var(name, bytes)?;
        self.remember(name)
    }

    /// Sets a variable from JSON.
    pub fn set_var_json(&mut self, name: &str, value: &Value) -> Result<()> {
        self.opened.set_var_json(name, value)?;
        self.remember(name)
    }

    fn remember(&mut self, name: &str) -> Result<()> {
        if !self.is_loaded() {
            let (index, bytes) = (self.opened.var_index(name)?, self.opened.var_bytes(name)?);
            self.set_vars.resize(self.opened.vars.len(), None);
            self.set_vars[index] = Some(bytes);
        }
        Ok(())
    }

    /// A variable's bytes.
    pub fn var_bytes(&self, name: &str) -> Result<Vec<u8>> {
        self.opened.var_bytes(name)
    }

    /// A variable as JSON.
    pub fn var_json(&self, name: &str) -> Result<Vec<u8>> {
        self.opened.var_json(name)
    }

    /// The object's maps.
    pub fn maps(&self) -> &[Arc<Map>] {
        &self.opened.maps
    }

    /// The map of that name; of a data section also without its prefix (`.rodata`).
    pub fn map(&self, name: &str) -> Result<&Arc<Map>> {
        self.map_index(name).map(|index| &self.maps()[index])
    }

    fn map_index(&self, name: &str) -> Result<usize> {
        let maps = self.maps();
        let by_name = maps.iter().position(|map| map.label() == name);
        let names = || maps.iter().map(|map| map.label().into_owned());
        by_name.ok_or_else(|| Error::unknown("map", name, &mut names()))
    }

    /// Sets the number of entries of a map, before load.
    pub fn set_max_entries(&mut self, name: &str, count: u32) -> Result<()> {
        let index = self.map_index(name)?;
        if self.is_loaded() {
            return Err(Error::new(Status::State, "its size is decided before load").about_map(name));
        }
        self.opened.set_max_entries(index, count)?;
        self.set_sizes.retain(|(map, _)| *map != index);
        self.set_sizes.push((index, count));
        Ok(())
    }

    /// Bytes of kernel memory that a map takes when it is full.
    pub fn map_bytes(&self, map: &Map) -> u64 {
        map.bytes(self.perf_pages(), &self.opened.machine)
    }

    /// The sources, once loaded.
    pub fn shapes(&self) -> &[Arc<Shape>] {
        &self.shapes
    }

    /// The map in which the object counts reservations that failed, if it does.
    pub fn lost_map(&self) -> Option<Arc<MapFd>> {
        self.map(LOST_MAP).ok()?.fd().ok().cloned()
    }

    /// Number of programs.
    pub fn prog_count(&self) -> usize {
        self.progs.len()
    }

    /// Where the program of that name stands.
    pub fn prog_index(&self, name: &str) -> Result<usize> {
        let found = self.progs.iter().position(|prog| prog.name.to_bytes() == name.as_bytes());
        let names = || self.progs.iter().map(|prog| prog.name.to_string_lossy().into_owned());
        found.ok_or_else(|| Error::unknown("program", name, &mut names()))
    }

    /// What is known about program `index`.
    pub fn prog_info(&self, index: usize) -> ProgInfo {
        let (prog, raw) = (&self.progs[index], self.opened.object.prog(index));
        let facts = raw.fd().map_or(ProgFacts::default(), |fd| prog_facts(&fd).unwrap_or_default());
        ProgInfo {
            name: Arc::clone(&prog.name),
            section: Arc::clone(&prog.section),
            target: Arc::clone(&prog.target_json),
            kind: raw.kind(),
            autoload: self.alternatives.is_wanted(index),
            loaded: raw.fd().is_some(),
            attached: !prog.links.is_empty(),
            id: facts.id,
            run_count: facts.run_count,
            run_ns: facts.run_ns,
        }
    }

    /// The instructions of program `index`.
    pub fn prog_code(&self, index: usize) -> ProgCode {
        let prog = self.opened.object.prog(index);
        ProgCode { attach_type: prog.expected_attach_type(), instructions: prog.instructions().to_vec() }
    }

    /// Where map `index` is pinned when it is made.
    pub fn pin_path(&self, index: usize) -> Option<&CStr> {
        self.opened.object.map(index).pin_path()
    }

    /// The number by which instructions name map `index` once it is loaded.
    pub fn map_number(&self, index: usize) -> Option<RawFd> {
        self.opened.object.map(index).fd()
    }

    /// Descriptors of the loaded programs, to count runs while the session is busy; valid as long as the session is loaded.
    pub fn prog_fds(&self) -> Vec<RawFd> {
        self.opened.object.progs().filter_map(ProgRef::fd).collect()
    }

    /// Whether load loads the program.
    pub fn set_autoload(&mut self, name: &str, on: bool) -> Result<()> {
        let index = self.prog_index(name)?;
        if self.is_loaded() {
            let text = "what to load is decided before load";
            return Err(Error::new(Status::State, text).about_program(name, ""));
        }
        set_autoload(self.opened.object.prog(index), on)?;
        self.alternatives.set_wanted(index, on);
        Ok(())
    }

    /// Where the program attaches, in place of what the package says.
    pub fn set_target(&mut self, name: &str, json: &str) -> Result<()> {
        let index = self.prog_index(name)?;
        if self.attached {
            let text = "its target is decided before attach";
            return Err(Error::new(Status::State, text).about_program(name, ""));
        }
        let about = |e: Error| e.as_status(Status::Inval).about_program(name, "");
        let bad = |e| about(Error::new(Status::Inval, e).at("target"));
        let value: Value = serde_json::from_slice(json.as_bytes()).map_err(bad)?;
        let targets = Target::parse(&value, "target").map_err(about)?;
        let prog = &mut self.progs[index];
        (prog.targets, prog.target_json) = (targets, c_text(&compact(&value)));
        Ok(())
    }

    /// Sets variables from the package's command line. `true`: help or version is asked for instead.
    pub fn set_args(&mut self, argv: &[String]) -> Result<bool> {
        let specs = args::specs(&self.package.meta);
        self.asked = None;
        let (set, verbose) = match args::parse(&specs, argv)? {
            Parsed::Run { set, verbose } => (set, verbose),
            Parsed::Help => return Ok(true),
            Parsed::Version => {
                self.asked = Some(args::version(&self.package.meta));
                return Ok(true);
            }
        };
        if verbose {
            self.log.set_level(Level::Debug);
        }
        let (mut values, mut sizes) = (Vec::new(), Vec::new());
        for (name, text) in set {
            // Looked up by its name: an option for each variable would else cost the square of their number.
            let is_map = !self.opened.has_var(&name);
            if is_map && self.package.meta.vars.iter().any(|var| var.section == MAPS && var.name == name) {
                let size = size_in(&text).map_err(|e| e.about_map(&name))?;
                sizes.push((name, size));
                continue;
            }
            let value = match text {
                ArgText::Bool(on) => Value::Bool(on),
                ArgText::Json(value) => value,
                ArgText::Text(text) => {
                    parse_text(&self.opened.var(&name)?.ty, &text).map_err(|e| e.about_variable(&name))?
                }
            };
            values.push((name, value));
        }
        sizes.iter().try_for_each(|(name, count)| self.set_max_entries(name, *count))?;
        values.iter().try_for_each(|(name, value)| self.set_var_json(name, value)).map(|()| false)
    }

    /// What the package's command line prints for `--help`, or for `--version` if that was asked for last.
    pub fn args_help(&self) -> String {
        if let Some(text) = &self.asked {
            return text.clone();
        }
        let meta = &self.package.meta;
        let name = if meta.obj_name.is_empty() { "program" } else { &meta.obj_name };
        args::help(meta, &args::specs(meta), name)
    }

    /// Opens the output of an attached iterator; the flag says whether it is text.
    pub fn open_iterator(&self, name: &str) -> Result<(File, bool)> {
        const BPF_FUNC_SEQ_PRINTF: i32 = 126;
        const BPF_FUNC_SEQ_WRITE: i32 = 127;
        let index = self.prog_index(name)?;
        let section = self.progs[index].section.to_string_lossy();
        if !section.starts_with("iter") {
            return Err(Error::new(Status::Inval, "not an iterator").about_program(name, &section));
        }
        let link = self.progs[index]
            .links
            .first()
            .ok_or_else(|| Error::new(Status::State, format_args!("iterator {name:?} is not attached")))?;
        let failed = |e: Errno| Error::sys(Status::System, e.0, format_args!("iterator {name:?}: {e}"));
        let raw = self.opened.object.prog(index);
        let binary = raw.calls_helper(BPF_FUNC_SEQ_WRITE) && !raw.calls_helper(BPF_FUNC_SEQ_PRINTF);
        Ok((File::from(link.open_iterator().map_err(failed)?), !binary))
    }

    /// The package and its state as JSON.
    pub fn describe(&self) -> String {
        let state = match (self.is_loaded(), self.attached) {
            (false, _) => "opened",
            (true, false) => "loaded",
            (true, true) => "attached",
        };
        let counted = self.maps().iter().any(|map| &*map.label() == LOST_MAP);
        let lost = if counted { "perf buffers and ring buffers" } else { "perf buffers" };
        let mut text = compact(&members([
            ("kind", "json".into()),
            ("state", state.into()),
            ("lost_kernel", lost.into()),
            ("variables", self.vars().iter().map(|var| self.describe_var(var)).collect()),
            (
                "kernel_memory",
                Need::of(&self.opened, &self.package.object, self.perf_pages(), &[]).sum.into(),
            ),
            ("maps", self.maps().iter().map(|map| self.describe_map(map)).collect()),
            ("programs", (0..self.prog_count()).map(|index| self.describe_prog(index)).collect()),
        ]));
        // Written, not copied: in memory it takes many times its text.
        text.pop();
        text + ",\"meta\":" + &compact(self.package.meta_value()) + "}"
    }

    fn describe_var(&self, var: &Var) -> Value {
        let text = self.var_json(&var.name).unwrap_or_default();
        let value: Value = serde_json::from_slice(&text).unwrap_or_default();
        members([
            ("name", (*var.name).into()),
            ("section", (*var.section).into()),
            ("type", (*var.ty.name).into()),
            ("constant", var.is_constant().into()),
            ("value", value),
        ])
    }

    fn describe_map(&self, map: &Map) -> Value {
        let spelling = |ty: Option<&Arc<Type>>| ty.map_or(Value::Null, |ty| (*ty.name).into());
        members([
            ("name", (*map.label()).into()),
            ("kind", map.kind.into()),
            ("key_size", map.key.size.into()),
            ("value_size", map.value.size.into()),
            ("max_entries", map.max_entries.into()),
            ("bytes", self.map_bytes(map).into()),
            ("key_type", spelling(map.key.ty())),
            ("value_type", spelling(map.value.ty())),
        ])
    }

    fn describe_prog(&self, index: usize) -> Value {
        let info = self.prog_info(index);
        members([
            ("name", info.name.to_string_lossy().into()),
            ("section", info.section.to_string_lossy().into()),
            ("autoload", info.autoload.into()),
            ("loaded", info.loaded.into()),
            ("attached", info.attached.into()),
            ("instead_of", self.alternatives.instead_of(index).into()),
            ("skipped", self.alternatives.cause(index).map(|cause| cause.reason()).into()),
        ])
    }
}

impl Prog {
    fn new(raw: ProgRef<'_>, meta: &Meta, places: &Places) -> Prog {
        let name = raw.name();
        let told = places.get(&name.to_string_lossy()).map(|place| &meta.progs[place]);
        let targets = vec![told.map(|told| told.target.clone()).unwrap_or_default()];
        let (section, target_json) = (raw.section().into(), c_text(""));
        Prog { name: name.into(), section, targets, target_json, links: Vec::new() }
    }
}

/// A number of entries, from the command line or a package's default.
fn size_in(text: &ArgText) -> Result<u32> {
    let text = match text {
        ArgText::Text(text) => text.clone(),
        ArgText::Json(value) => compact(value),
        ArgText::Bool(_) => String::new(),
    };
    text.parse().map_err(|_| Error::new(Status::Inval, format_args!("{text:?} is no number of entries")))
}

fn low_numbers() -> Result<os::LowNumbers> {
    os::take_low_numbers().map_err(|e| Error::sys(Status::System, e.0, format_args!("attach: {e}")))
}

fn set_autoload(prog: ProgRef<'_>, on: bool) -> Result<()> {
    prog.set_autoload(on)
        .map_err(|e| prog.about(Error::sys(Status::System, e.0, format_args!("autoload: {e}")), ""))
}

/// A C string; JSON text has no NUL bytes in it.
fn c_text(text: &str) -> Arc<CStr> {
    std::ffi::CString::new(text).unwrap_or_default().into()
}

/// Reads an iterator to its end: line by line if it is text, else as the kernel hands it out.
pub fn read_iterator(file: File, text: bool, mut f: impl FnMut(&[u8]) -> bool) -> os::Result<()> {
    const CHUNK: usize = 64 << 10;
    let mut chunk = vec![0; CHUNK];
    let mut line = Vec::new();
    loop {
        let len = match os::read(file.as_raw_fd(), &mut chunk) {
            Ok(0) => break,
            Ok(len) => len,
            Err(e) if e.0 == libc::EINTR => continue,
            Err(e) => return Err(e),
        };
        if !text {
            if !f(&chunk[..len]) {
                return Ok(());
            }
            continue;
        }
        for piece in chunk[..len].split_inclusive(|&byte| byte == b'\n') {
            line.extend_from_slice(piece);
            if line.last() != Some(&b'\n') {
                continue;
            }
            line.pop();
            if !f(&std::mem::take(&mut line)) {
                return Ok(());
            }
        }
    }
    if !line.is_empty() {
        f(&line);
    }
    Ok(())
}
