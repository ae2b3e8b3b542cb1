//! Pins a version of a package, and takes over a version that a process which has ended has pinned.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use super::replace::Plan;
use super::{Prog, Session};
use crate::bpf::constants::map_type;
use crate::bpf::dispatch::{Dispatcher, Generation};
use crate::bpf::exported::{Exported, FdRole};
use crate::bpf::object::Phase;
use crate::bpf::pins::{Pins, State, pin_all};
use crate::bpf::source::Sources;
use crate::bpf::sys::attach::Link;
use crate::bpf::sys::pin::program_of;
use crate::error::{Error, Result, Status};
use crate::os;

/// The descriptors of a program of another process.
#[derive(Default)]
struct Given {
    program: Option<OwnedFd>,
    dispatcher: Option<OwnedFd>,
    slots: Option<OwnedFd>,
    links: Vec<OwnedFd>,
}

impl Session {
    /// Pins this version in the new directory `dir`. Pins in another directory are removed. `over`: the running version,
    /// whose hooks this one will take over by the plan.
    pub fn pin(&mut self, dir: &Path, over: Option<(&Session, &Plan)>) -> Result<()> {
        let hooks = match over {
            Some((old, plan)) if !plan.is_one_step(old) => {
                let text =
                    "cannot be pinned: its switch has several steps, and a process could end between two";
                return Err(Error::new(Status::Unsupported, text));
            }
            Some((old, plan)) => plan.swapped().iter().map(|&(from, to)| (old, from, to)).collect(),
            None => Vec::new(),
        };
        self.check_pinnable()?;
        let mut list = self.list();
        let mut push = |role: &str, name: &str, fd| list.push(([role, name].concat(), fd));
        for (old, from, to) in hooks {
            old.check_program_pinnable(from)?;
            old.progs[from].list_hook(&self.progs[to].name.to_string_lossy(), &mut push);
        }
        let exported = Exported::copy(&self.package, list)?;
        self.pins = Some(Box::new(pin_all(&exported, dir)?));
        Ok(())
    }

    /// Lists what pins do not keep as it is, with the reasons.
    pub fn unpinnable(&self) -> Vec<(FdRole, &'static str)> {
        let mut list = Vec::new();
        for (index, prog) in self.progs.iter().enumerate() {
            if let Some(reason) = self.why_not_pinned(index) {
                list.push((FdRole::Link { program: prog.name.to_string_lossy().into_owned() }, reason));
            }
        }
        for map in self.maps() {
            let reason = match map.kind {
                map_type::STRUCT_OPS => "it is attached without a program",
                map_type::PERF_EVENT_ARRAY => {
                    "programs cannot write to a perf buffer between the end of its reader and the recovery"
                }
                _ => continue,
            };
            list.push((FdRole::Map { name: map.label().into_owned() }, reason));
        }
        list
    }

    fn check_pinnable(&self) -> Result<()> {
        if !self.struct_ops.is_empty() {
            return Err(Error::new(Status::Unsupported, "struct_ops maps cannot be pinned"));
        }
        (0..self.progs.len()).try_for_each(|index| self.check_program_pinnable(index))
    }

    fn check_program_pinnable(&self, index: usize) -> Result<()> {
        let Some(why) = self.why_not_pinned(index) else { return Ok(()) };
        let error = Error::new(Status::Unsupported, format_args!("cannot be pinned: {why}"));
        Err(self.opened.object.prog(index).about(error, &self.progs[index].section.to_string_lossy()))
    }

    /// Why the links of a program cannot be pinned.
    fn why_not_pinned(&self, index: usize) -> Option<&'static str> {
        let is_link = |link: &Link| link.fd().is_some_and(|fd| program_of(fd).is_ok());
        if self.progs[index].links.iter().all(is_link) {
            return None;
        }
        Some(match self.progs[index].links.iter().any(|link| link.fd().is_some()) {
            true => "the kernel has links for such hooks since Linux 5.15 only",
            false if self.is_usdt(index) => "libbpf attaches it to several places, with links of its own",
            false => "a classic tc filter is not a link; it stays attached without a pin",
        })
    }

    /// Takes over the version that is pinned in `dir` instead of loading and attaching this one, which has the same object. `watch`
    /// gets the sources. After a failure this session must be reopened, and the pinned version is as before.
    pub fn recover(
        &mut self,
        dir: &Path,
        watch: &mut dyn FnMut(&Session, Sources) -> Result<()>,
    ) -> Result<()> {
        let exported = Exported::from_pins(dir)?;
        let refused = |status, text| Err(Error::new(status, text).about_file(&dir.to_string_lossy()));
        if !exported.is_of(&self.package) {
            return refused(Status::Inval, "pins of another package");
        }
        let state = exported.state()?;
        if state == State::Waiting {
            return refused(Status::State, "pins of a version that does not run");
        }
        let (exports, pages, charge) = (self.exports(None)?, self.perf_pages(), self.take_charge()?);
        self.opened.phase = Phase::Imported;
        let (given, generation) = self.sort(exported)?;
        let sources = Sources::open(exports, &self.opened.maps, pages)?;
        self.shapes = sources.shapes();
        watch(self, sources)?;
        // Nothing fails from here on: a link that is dropped would be detached.
        for (index, given) in given.into_iter().enumerate() {
            if !given.links.is_empty() {
                self.alternatives.mark_used(index);
            }
            self.progs[index].take(given);
        }
        (self.generation, self.charge) = (generation, Some(charge));
        (self.attached, self.is_suspended) = (true, state == State::Suspended);
        self.fill_all();
        self.pins = Some(Box::new(Pins::of(dir)));
        Ok(())
    }

    /// Takes the maps, and returns the other descriptors by program.
    fn sort(&mut self, exported: Exported) -> Result<(Vec<Given>, Option<Arc<Generation>>)> {
        let mut given: Vec<Given> = self.progs.iter().map(|_| Given::default()).collect();
        let mut generation = None;
        for (line, fd) in exported.into_items() {
            let (role, name) = line.split_once(' ').unwrap_or((&line, ""));
            match role {
                "map" => {
                    let index = self.map_index(name)?;
                    self.opened.import(index, fd)?;
                }
                "program" => given[self.prog_index(name)?].program = Some(fd),
                "dispatcher" => given[self.prog_index(name)?].dispatcher = Some(fd),
                "slots" => given[self.prog_index(name)?].slots = Some(fd),
                "link" => given[self.prog_index(name)?].links.push(fd),
                "generation" => {
                    let failed = |e: os::Errno| Error::sys(Status::System, e.0, format_args!("{line}: {e}"));
                    generation = Some(Arc::new(Generation::given(fd).map_err(failed)?));
                }
                _ => {}
            }
        }
        Ok((given, generation))
    }
}

impl Prog {
    fn take(&mut self, given: Given) {
        self.given = given.program;
        self.dispatcher =
            given.dispatcher.zip(given.slots).map(|(prog, slots)| Dispatcher::given(prog, slots));
        self.links = given.links.into_iter().map(Link::given).collect();
    }
}
