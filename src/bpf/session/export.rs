//! A package in two processes: one loads it and exports its descriptors, the other one reads its events.

use std::os::fd::RawFd;
use std::sync::Arc;

use super::{Config, Place, Session};
use crate::bpf::constants::map_type;
use crate::bpf::event_maps::Given;
use crate::bpf::exported::{Exported, FdRole};
use crate::bpf::source::Sources;
use crate::bpf::sys::perf::Perf;
use crate::error::{Error, Result, Status};
use crate::log::Log;
use crate::os::{self, Errno};
use crate::package::Package;
use crate::types::Type;

impl Session {
    /// Copies all descriptors. `sources`: those of this session.
    pub fn export(&self, sources: &Sources) -> Result<Exported> {
        let failed = |e: Errno| Error::sys(Status::System, e.0, format_args!("export: {e}"));
        let mut exported = Exported::new(&self.package);
        let copy = |fd: RawFd| os::duplicate(fd).map_err(failed);
        // Struct_ops maps are left out, because their values have a type of the kernel, not of the object.
        for map in self.maps().iter().filter(|map| map.kind != map_type::STRUCT_OPS) {
            if let Ok(fd) = map.fd() {
                exported.push(FdRole::Map { name: map.label().into_owned() }, copy(fd.fd())?);
            }
        }
        for (map, pages, events) in sources.export_perf().map_err(failed)? {
            for (cpu, event) in events {
                let map = map.label().into_owned();
                exported.push(FdRole::PerfEvent { map, cpu: cpu as u32, pages }, event);
            }
        }
        for (prog, raw) in self.progs.iter().zip(self.opened.object.progs()) {
            let name = || prog.name.to_string_lossy().into_owned();
            if let Some(fd) = raw.fd() {
                exported.push(FdRole::Program { name: name() }, copy(fd)?);
            }
            if let Some(dispatcher) = &prog.dispatcher {
                let [program, slots] = dispatcher.export().map_err(failed)?;
                exported.push(FdRole::Dispatcher { program: name() }, program);
                exported.push(FdRole::Slots { program: name() }, slots);
            }
            for fd in prog.links.iter().filter_map(|link| link.fd()) {
                exported.push(FdRole::Link { program: name() }, copy(fd)?);
            }
        }
        if let Some(generation) = &self.generation {
            exported.push(FdRole::Generation, generation.export().map_err(failed)?);
        }
        Ok(exported)
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
        let mut maps = Vec::new();
        for (role, fd) in exported.into_items() {
            match role {
                FdRole::Map { name } => maps.push((name, fd)),
                FdRole::PerfEvent { map, cpu, pages } => {
                    let is_its = |index: usize| session.opened.maps[index].label() == map;
                    let Some(export) = exports.iter_mut().find(|export| is_its(export.map)) else { continue };
                    let given =
                        export.given.get_or_insert(Given { events: Vec::new(), pages, open: Perf::given });
                    if given.pages != pages {
                        let text = "its perf events have buffers of different sizes";
                        return Err(session.opened.maps[export.map].about(Error::new(Status::Inval, text)));
                    }
                    given.events.push((cpu as i32, fd));
                }
                _ => {}
            }
        }
        for export in exports.iter_mut().filter(|export| export.sample.is_none()) {
            let map = &session.opened.maps[export.map];
            if map.kind == map_type::PERF_EVENT_ARRAY && export.given.is_none() {
                let text = "its perf events are not among the exported descriptors";
                return Err(map.about(Error::new(Status::Inval, text)));
            }
        }
        session.opened.import(maps)?;
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

    /// Stops reading, because another process reads.
    pub fn leave_reading(&mut self) {
        self.place = Place::ReadElsewhere;
    }
}
