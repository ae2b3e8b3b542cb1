//! Attaches the programs of a package: of each chain of alternatives, the first one that can be attached.

use std::os::fd::RawFd;
use std::sync::Arc;

use super::Session;
use crate::bpf::attach::{attach, attach_struct_ops, is_attachable};
use crate::bpf::constants::{ENOTSUPP, map_type};
use crate::bpf::diagnose;
use crate::bpf::dispatch::{self, Dispatcher, Generation};
use crate::bpf::dry_run::expect;
use crate::bpf::map::Map;
use crate::bpf::object::Phase;
use crate::bpf::skipped::Skipped;
use crate::bpf::sys::attach::Link;
use crate::bpf::sys::object::MapRef;
use crate::error::{Error, Result, Status};
use crate::os;

/// A function that attaches a program.
type Attach<'a> = &'a dyn Fn(&mut Session, usize) -> Result<Vec<Link>>;

impl Session {
    /// Attaches every loaded program and struct_ops map, or nothing.
    pub fn attach(&mut self) -> Result<()> {
        if self.opened.phase == Phase::Imported {
            let text =
                "its programs were loaded by another process; after a replace it can be attached again";
            return Err(Error::new(Status::State, text));
        }
        let _low = low_numbers()?;
        let attached = self.attach_all(&Session::attach_through).and_then(|()| self.attach_maps());
        match attached {
            Ok(()) => self.attached = true,
            Err(_) => self.detach(),
        }
        attached
    }

    /// Attaches each program with `make`, or the first of its alternatives for which `make` succeeds.
    fn attach_all(&mut self, make: Attach<'_>) -> Result<()> {
        let tails = self.tails();
        for index in 0..self.progs.len() {
            if self.alternatives.is_fallback(index) {
                continue;
            }
            match self.attach_first(index, make, &tails) {
                Err((last, e)) if !self.may_skip(index, last, &e) => {
                    return Err(self.alternatives.none_left(index, e));
                }
                _ => {}
            }
        }
        self.check_skipped()
    }

    /// Attaches a program: through its dispatcher if the package is replaceable and the kernel accepts one.
    pub(super) fn attach_through(&mut self, index: usize) -> Result<Vec<Link>> {
        if self.config.replaceable && self.why_not_dispatched(index).is_none() {
            self.make_dispatcher(index).map_err(|e| self.dispatcher_error(index, e))?;
        }
        match &self.progs[index].dispatcher {
            Some(dispatcher) => self.attach_dispatcher(index, dispatcher),
            None => self.make_links(index),
        }
    }

    /// Attaches the dispatcher of a program to the hooks of the program.
    pub(super) fn attach_dispatcher(&self, index: usize, dispatcher: &Dispatcher) -> Result<Vec<Link>> {
        let attached = dispatcher.instead_of(self.opened.object.prog(index), || self.make_links(index));
        let links = attached.map_err(|e| self.dispatcher_error(index, e))??;
        self.check_context(index, &links).map(|()| links)
    }

    /// Checks, with the links of the dispatcher, that a program reads only data that its hooks provide.
    pub(super) fn check_context(&self, index: usize, links: &[Link]) -> Result<()> {
        let prog = self.opened.object.prog(index);
        links.iter().try_for_each(|link| link.admits(prog)).map_err(|e| self.dispatcher_error(index, e))
    }

    pub(super) fn dispatcher_error(&self, index: usize, e: os::Errno) -> Error {
        let prog = &self.progs[index];
        diagnose::attach_error(self.opened.object.prog(index), &prog.section.to_string_lossy(), e, "")
    }

    /// Loads the dispatcher of a program, unless it has one. In a package that replaces another one, the dispatcher
    /// calls the program only after the switch.
    fn make_dispatcher(&mut self, index: usize) -> os::Result<()> {
        if self.progs[index].dispatcher.is_some() {
            return Ok(());
        }
        let generation = match &self.generation {
            Some(generation) => Arc::clone(generation),
            None => Arc::new(Generation::new()?),
        };
        let is_added = self.is_successor;
        let raw = self.opened.object.prog(index);
        let next = generation.next();
        let made = dispatch::load(raw, &generation).and_then(|dispatcher| {
            dispatcher.fill(next, raw.fd())?;
            if !is_added {
                dispatcher.fill(1 - next, raw.fd())?;
            }
            Ok(dispatcher)
        });
        self.generation = Some(generation);
        match made {
            Ok(dispatcher) => self.progs[index].dispatcher = Some(dispatcher),
            Err(os::Errno(libc::EINVAL | libc::EACCES | libc::EOPNOTSUPP | ENOTSUPP)) => {}
            Err(e) => return Err(e),
        }
        Ok(())
    }

    pub(super) fn make_links(&self, index: usize) -> Result<Vec<Link>> {
        let attached = attach(self.opened.object.prog(index), &self.progs[index].targets, &self.log);
        attached.map_err(|e| self.with_status_of_target(index, e))
    }

    /// Changes the status of the error to `Inval` if the host has set the target that does not exist.
    fn with_status_of_target(&self, index: usize, e: Error) -> Error {
        let is_argument = e.status() == Status::NotFound && !self.progs[index].target_json.is_empty();
        if is_argument { e.with_status(Status::Inval) } else { e }
    }

    fn attach_maps(&mut self) -> Result<()> {
        let object = &self.opened.object;
        for map in object.maps().filter(|map| map.kind() == map_type::STRUCT_OPS && map.fd().is_some()) {
            let link = attach_struct_ops(map.name(), &self.log, || map.attach_struct_ops())?;
            self.struct_ops.push(link);
        }
        Ok(())
    }

    /// Selects programs like `attach`. A program is taken to be attachable unless `expect` returns an error.
    pub fn rehearse(&mut self, expect: &dyn Fn(usize) -> Result<()>) -> Result<()> {
        self.attach_all(&|_, index| expect(index).map(|()| Vec::new()))
    }

    /// Returns the error of attaching a program. The program is not loaded.
    pub fn expect(&self, index: usize) -> Result<()> {
        let prog = self.opened.object.prog(index);
        if !prog.autoattach() || !is_attachable(prog) {
            return Ok(());
        }
        self.progs[index]
            .targets
            .iter()
            .try_for_each(|target| expect(prog, target))
            .map_err(|e| self.with_status_of_target(index, e))
    }

    /// Attaches a program, or the first of its alternatives that can be attached. The error is that of the last program
    /// that was tried, with its index. Programs with an id in `tails` need not be attached.
    fn attach_first(
        &mut self,
        first: usize,
        make: Attach<'_>,
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
                    self.alternatives.mark_used(index);
                    return Ok(());
                }
                Err(e) if e.hint().is_some() && tails.contains(&self.prog_info(index).id.to_ne_bytes()) => {}
                Err(e) => {
                    self.alternatives.note(index, &e, &self.log);
                    failed = Err((index, e));
                }
            }
        }
        failed
    }

    pub(super) fn is_attachable(&self, index: usize) -> bool {
        let raw = self.opened.object.prog(index);
        raw.fd().is_some() && raw.autoattach() && is_attachable(raw)
    }

    /// Returns the ids of programs that others call: those in program arrays.
    fn tails(&self) -> Vec<[u8; 4]> {
        /// Maximum number of slots that are read.
        const MAX_SLOTS: u32 = 1 << 16;
        let (mut ids, mut left) = (Vec::new(), MAX_SLOTS);
        for map in self.opened.maps.iter().filter(|map| map.kind == map_type::PROG_ARRAY) {
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

    /// Logs the skipped programs, one line for each cause. Fails if the remaining programs are of no use.
    fn check_skipped(&self) -> Result<()> {
        let works = |index: usize| self.alternatives.cause(index).is_none() && self.is_attachable(index);
        let firsts = (0..self.progs.len()).filter(|&index| !self.alternatives.is_fallback(index));
        let (mut count, mut skipped, mut is_any_left) = (0, Vec::new(), false);
        for first in firsts {
            count +=
                usize::from(self.alternatives.chain(first).any(|index| self.alternatives.is_wanted(index)));
            let cause =
                self.alternatives.chain(first).filter_map(|index| self.alternatives.cause(index)).last();
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

    /// Whether a remaining program can send an event. True for a package without maps that deliver, or with maps of maps.
    fn may_deliver(&self) -> bool {
        let object = &self.opened.object;
        let is_outer =
            |map: &MapRef<'_>| [map_type::ARRAY_OF_MAPS, map_type::HASH_OF_MAPS].contains(&map.kind());
        let mut fds: Vec<RawFd> = object.maps().filter(is_outer).filter_map(MapRef::fd).collect();
        let delivers = |map: &Arc<Map>| self.shapes.iter().any(|shape| Arc::ptr_eq(&shape.map, map));
        let maps = object.maps().zip(&self.opened.maps).filter(|(_, map)| delivers(map));
        fds.extend(maps.filter_map(|(raw, _)| raw.fd()));
        let mut left =
            object.progs().enumerate().filter(|(index, _)| self.alternatives.cause(*index).is_none());
        self.shapes.is_empty() || left.any(|(_, prog)| prog.fd().is_some() && prog.uses_map(&fds))
    }

    /// Attaches one loaded program, in addition to those that are attached.
    pub fn attach_prog(&mut self, name: &str) -> Result<()> {
        let index = self.prog_index(name)?;
        let _low = low_numbers()?;
        let links = self.make_links(index)?;
        self.progs[index].links.extend(links);
        Ok(())
    }
}

fn low_numbers() -> Result<os::LowNumbers> {
    os::take_low_numbers().map_err(|e| Error::sys(Status::System, e.0, format_args!("attach: {e}")))
}
