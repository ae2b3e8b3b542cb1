//! A package in two processes: one loads it and exports its descriptors, the other one reads its events.

use std::os::fd::RawFd;
use std::sync::Arc;

use super::{Config, Place, Prog, Session};
use crate::bpf::constants::map_type;
use crate::bpf::event_maps::Given;
use crate::bpf::exported::{Exported, perf_event};
use crate::bpf::object::Phase;
use crate::bpf::source::Sources;
use crate::bpf::sys::attach::Link;
use crate::bpf::sys::perf::Perf;
use crate::error::{Error, Result, Status};
use crate::log::Log;
use crate::package::Package;
use crate::types::Type;

impl Session {
    /// Copies all descriptors and leaves the reading to another process. `sources`: those of this session.
    pub fn export(&mut self, sources: &mut Sources) -> Result<Exported> {
        let mut list = self.list();
        sources.list_perf(&mut |map, cpu, pages, fd| {
            list.push((format!("perf_event {cpu} {pages} {}", map.label()), fd));
        });
        let exported = Exported::copy(&self.package, list)?;
        sources.give_away();
        self.place = Place::ReadElsewhere;
        Ok(exported)
    }

    /// Lists all descriptors with their roles, except those of perf events.
    pub(super) fn list(&self) -> Vec<(String, RawFd)> {
        let mut list = Vec::new();
        let mut push = |role: &str, name: &str, fd| list.push(([role, name].concat(), fd));
        // Struct_ops maps are left out, because their values have a type of the kernel, not of the object.
        for map in self.maps().iter().filter(|map| map.kind != map_type::STRUCT_OPS) {
            if let Ok(fd) = map.fd() {
                push("map ", &map.label(), fd.fd());
            }
        }
        for (index, prog) in self.progs.iter().enumerate() {
            let name = &*prog.name.to_string_lossy();
            self.prog_fd(index).into_iter().for_each(|fd| push("program ", name, fd));
            prog.list_hook(name, &mut push);
        }
        self.generation.iter().for_each(|generation| push("generation", "", generation.fd()));
        list
    }

    /// Builds a session that reads what another process has loaded. `kept`: see `load_sharing`. Closes the descriptors that
    /// reading does not need.
    pub fn import(
        package: Package,
        mut config: Config,
        log: Arc<Log>,
        exported: Exported,
        kept: &mut Vec<Arc<Type>>,
    ) -> Result<(Session, Sources)> {
        if !exported.is_of(&package) {
            return Err(Error::new(Status::Inval, "the exported descriptors are those of another package"));
        }
        config.open.is_imported = true;
        let mut session = Session::open(package, config, log)?;
        session.place = Place::LoadedElsewhere;
        let mut exports = session.exports(Some(kept))?;
        for (line, fd) in exported.into_items() {
            match line.split_once(' ') {
                Some(("map", name)) => {
                    let index = session.map_index(name)?;
                    session.opened.import(index, fd)?;
                }
                Some(("perf_event", rest)) => {
                    let (cpu, pages, map) = perf_event(rest).ok_or_else(|| malformed(&line))?;
                    let index = session.map_index(map)?;
                    let Some(export) = exports.iter_mut().find(|export| export.map == index) else {
                        continue;
                    };
                    // The kernel refuses buffers of another size.
                    let new = || Given { events: Vec::new(), pages, open: Perf::given };
                    export.given.get_or_insert_with(new).events.push((cpu, fd));
                }
                _ => {}
            }
        }
        for export in exports.iter().filter(|export| export.sample.is_none()) {
            let map = &session.opened.maps[export.map];
            if map.kind == map_type::PERF_EVENT_ARRAY && export.given.is_none() {
                let text = "its perf events are not among the exported descriptors";
                return Err(map.about(Error::new(Status::Inval, text)));
            }
        }
        session.opened.phase = Phase::Imported;
        let sources = Sources::open(exports, &session.opened.maps, 0)?;
        session.shapes = sources.shapes();
        Ok((session, sources))
    }

    /// Fails if another process has loaded the package.
    pub fn check_own(&self) -> Result<()> {
        match self.place {
            Place::LoadedElsewhere => {
                let text = "the package is imported; only the process that has loaded it can change it";
                Err(Error::new(Status::State, text))
            }
            _ => Ok(()),
        }
    }

    /// Fails if another process reads the events.
    pub fn check_reader(&self) -> Result<()> {
        match self.place {
            Place::ReadElsewhere => {
                Err(Error::new(Status::State, "the package is exported; another process reads its events"))
            }
            _ => Ok(()),
        }
    }
}

impl Prog {
    /// Lists the descriptors of what is attached, with the name of the program that it runs.
    pub(super) fn list_hook(&self, name: &str, push: &mut dyn FnMut(&str, &str, RawFd)) {
        if let Some(dispatcher) = &self.dispatcher {
            push("dispatcher ", name, dispatcher.fd());
            push("slots ", name, dispatcher.slots());
        }
        self.links.iter().filter_map(Link::fd).for_each(|fd| push("link ", name, fd));
    }
}

fn malformed(line: &str) -> Error {
    Error::new(Status::Inval, format_args!("{line:?}: not the role of a descriptor"))
}
