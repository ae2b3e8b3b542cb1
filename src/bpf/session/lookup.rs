//! Variables, maps and programs of a package, by name.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use serde_json::Value;

use super::{Session, c_text, set_autoload};
use crate::bpf::constants::{LOST_MAP, map_type};
use crate::bpf::dispatch::Dispatcher;
use crate::bpf::map::Map;
use crate::bpf::object::Var;
use crate::bpf::source::Shape;
use crate::bpf::sys::map::MapFd;
use crate::bpf::sys::object::{INSTRUCTION, ProgFacts, prog_facts};
use crate::error::{Error, Result, Status};
use crate::package::{Target, compact};

/// The state of a program.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProgInfo {
    /// The C function's name.
    pub name: Arc<CStr>,
    /// Its ELF section.
    pub section: Arc<CStr>,
    /// The target that the host has set, as JSON; empty if none.
    pub target: Arc<CStr>,
    /// BPF_PROG_TYPE_*.
    pub kind: u32,
    /// Whether load loads it, if this kernel can.
    pub autoload: bool,
    /// Whether it is loaded.
    pub loaded: bool,
    /// Whether it is attached.
    pub attached: bool,
    /// The kernel's id; 0 before load.
    pub id: u32,
    /// Number of runs, if the kernel counts them (sysctl kernel.bpf_stats_enabled).
    pub run_count: u64,
    /// Total run time in nanoseconds, under the same condition.
    pub run_ns: u64,
}

/// The code of a program.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProgCode {
    /// The attach type of its section (`enum bpf_attach_type`); 0 if the program type has no attach types.
    pub attach_type: u32,
    /// Its instructions (`struct bpf_insn`): as compiled; after load as the kernel received them, with the functions that it
    /// calls.
    pub instructions: Vec<[u8; INSTRUCTION]>,
}

impl Session {
    /// Whether programs of the object can call others through a map.
    pub fn has_tail_calls(&self) -> bool {
        self.opened.maps.iter().any(|map| map.kind == map_type::PROG_ARRAY)
    }

    /// Why a program is not used; `None` if it is used or was not tried.
    pub fn cause(&self, index: usize) -> Option<&Error> {
        self.alternatives.cause(index)
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
        let (index, bytes) = (self.opened.var_index(name)?, self.opened.var_bytes(name)?);
        self.set_vars.resize(self.opened.vars.len(), None);
        self.set_vars[index] = Some(bytes);
        self.set_by_args.retain(|&set| set != index);
        Ok(())
    }

    /// Returns the bytes of a variable.
    pub fn var_bytes(&self, name: &str) -> Result<Vec<u8>> {
        self.opened.var_bytes(name)
    }

    /// Returns a variable as JSON.
    pub fn var_json(&self, name: &str) -> Result<Vec<u8>> {
        self.opened.var_json(name)
    }

    /// The object's maps.
    pub fn maps(&self) -> &[Arc<Map>] {
        &self.opened.maps
    }

    /// Returns the map with that name.
    pub fn map(&self, name: &str) -> Result<&Arc<Map>> {
        self.map_index(name).map(|index| &self.maps()[index])
    }

    pub(super) fn map_index(&self, name: &str) -> Result<usize> {
        let maps = self.maps();
        let by_name = maps.iter().position(|map| map.label() == name);
        let names = || maps.iter().map(|map| map.label().into_owned());
        by_name.ok_or_else(|| Error::unknown("map", name, &mut names()))
    }

    /// Sets the number of entries of a map, before load.
    pub fn set_max_entries(&mut self, name: &str, count: u32) -> Result<()> {
        let index = self.map_index(name)?;
        if self.is_loaded() {
            return Err(Error::new(Status::State, "its size cannot be changed after load").about_map(name));
        }
        self.opened.set_max_entries(index, count)?;
        self.set_sizes.retain(|(map, _)| *map != index);
        self.set_sizes.push((index, count));
        Ok(())
    }

    /// Bytes of kernel memory of a full map.
    pub fn map_bytes(&self, map: &Map) -> u64 {
        map.bytes(self.perf_pages(), &self.opened.machine)
    }

    /// The sources, once loaded.
    pub fn shapes(&self) -> &[Arc<Shape>] {
        &self.shapes
    }

    /// The map in which the object counts failed reservations, if it has one.
    pub fn lost_map(&self) -> Option<Arc<MapFd>> {
        self.map(LOST_MAP).ok()?.fd().ok().cloned()
    }

    /// Number of programs.
    pub fn prog_count(&self) -> usize {
        self.progs.len()
    }

    /// Returns the index of the program with that name.
    pub fn prog_index(&self, name: &str) -> Result<usize> {
        let found = self.progs.iter().position(|prog| prog.name.to_bytes() == name.as_bytes());
        let names = || self.progs.iter().map(|prog| prog.name.to_string_lossy().into_owned());
        found.ok_or_else(|| Error::unknown("program", name, &mut names()))
    }

    /// Returns the state of program `index`.
    pub fn prog_info(&self, index: usize) -> ProgInfo {
        let (prog, raw) = (&self.progs[index], self.opened.object.prog(index));
        let facts = |fd: Option<RawFd>| fd.and_then(|fd| prog_facts(&fd).ok()).unwrap_or_default();
        let called = facts(prog.dispatcher.as_ref().map(Dispatcher::fd));
        let fd = self.prog_fd(index);
        let facts: ProgFacts = facts(fd);
        ProgInfo {
            name: Arc::clone(&prog.name),
            section: Arc::clone(&prog.section),
            target: Arc::clone(&prog.target_json),
            kind: raw.kind(),
            autoload: self.alternatives.is_wanted(index),
            loaded: fd.is_some(),
            attached: !prog.links.is_empty(),
            id: facts.id,
            run_count: facts.run_count + called.run_count,
            run_ns: facts.run_ns + called.run_ns,
        }
    }

    /// Returns the instructions of program `index`.
    pub fn prog_code(&self, index: usize) -> ProgCode {
        let prog = self.opened.object.prog(index);
        ProgCode { attach_type: prog.expected_attach_type(), instructions: prog.instructions().to_vec() }
    }

    /// The path at which load pins map `index`.
    pub fn pin_path(&self, index: usize) -> Option<&CStr> {
        self.opened.object.map(index).pin_path()
    }

    /// The descriptor by which instructions refer to map `index` after load.
    pub fn map_number(&self, index: usize) -> Option<RawFd> {
        self.opened.object.map(index).fd()
    }

    /// Descriptors of the loaded programs and their dispatchers, to read counters while the session is busy. Valid while the
    /// session is loaded.
    pub fn prog_fds(&self) -> Vec<RawFd> {
        (0..self.progs.len()).filter_map(|index| self.prog_fd(index)).chain(self.dispatcher_fds()).collect()
    }

    /// The descriptor of loaded program `index`.
    pub(super) fn prog_fd(&self, index: usize) -> Option<RawFd> {
        let given = self.progs[index].given.as_ref().map(AsRawFd::as_raw_fd);
        given.or_else(|| self.opened.object.prog(index).fd())
    }

    /// Sets whether load loads the program.
    pub fn set_autoload(&mut self, name: &str, on: bool) -> Result<()> {
        let index = self.prog_index(name)?;
        if self.is_loaded() {
            let text = "autoload cannot be changed after load";
            return Err(Error::new(Status::State, text).about_program(name, ""));
        }
        set_autoload(self.opened.object.prog(index), on)?;
        self.alternatives.set_wanted(index, on);
        self.set_autoload.retain(|(prog, _)| *prog != index);
        self.set_autoload.push((index, on));
        Ok(())
    }

    /// Sets the target of the program, which replaces that of the package.
    pub fn set_target(&mut self, name: &str, json: &str) -> Result<()> {
        let index = self.prog_index(name)?;
        if self.attached {
            let text = "its target cannot be changed after attach";
            return Err(Error::new(Status::State, text).about_program(name, ""));
        }
        let about = |e: Error| e.with_status(Status::Inval).about_program(name, "");
        let bad = |e| about(Error::new(Status::Inval, e).at("target"));
        let value: Value = serde_json::from_slice(json.as_bytes()).map_err(bad)?;
        let targets = Target::parse(&value, "target").map_err(about)?;
        let prog = &mut self.progs[index];
        (prog.targets, prog.target_json) = (targets, c_text(&compact(&value)));
        Ok(())
    }
}
