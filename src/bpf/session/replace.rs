//! The settings, maps and hooks that a new version of a package takes over from the running one.

use std::ffi::CStr;
use std::os::fd::RawFd;
use std::sync::Arc;

use serde_json::Value;

use super::{Place, Prog, Session};
use crate::bpf::dispatch::{self, can_update, why_not};
use crate::bpf::map::{Map, map_error};
use crate::bpf::object::Phase;
use crate::bpf::replace::maps::{can_copy, is_kept, is_same_layout, why_fresh};
use crate::bpf::sys::object::{count_runs, prog_facts};
use crate::error::{Error, Result, Status};
use crate::log::Level;
use crate::os::{self, Errno};
use crate::package::{Package, compact, members};

/// How the names of libbpf's maps for USDT probes begin.
const USDT_MAPS: &[u8] = b"__bpf_usdt_";

/// Options of [`Vm::replace`](crate::Vm::replace).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplaceOptions {
    /// Whether all events of the old version are delivered before the first of the new one. Polls wait for the grace period
    /// of the kernel, some 10 to 60 ms.
    pub ordered: bool,
    /// Whether all maps start empty.
    pub fresh_maps: bool,
    /// Whether a map of the old version that cannot be carried over is an error.
    pub strict_maps: bool,
    /// Whether variables have the values of the new version, not those that the host has set. The command line of
    /// [`Vm::args_set`](crate::Vm::args_set) is not applied then.
    pub fresh_vars: bool,
    /// Whether the old version stays loaded until [`Vm::commit`](crate::Vm::commit), so that
    /// [`Vm::rollback`](crate::Vm::rollback) can return to it.
    pub keep_old: bool,
    /// Whether the entries of a hash or an array, also per CPU, are copied if its values have more members at the end,
    /// or if the map has more entries. New members are 0. What programs of the old version write after the copy,
    /// shortly before the switch, is lost and counted in the report.
    pub migrate_maps: bool,
    /// Whether variables that are not constants (`.data`, `.bss`) keep their values, if each section has the same variables in
    /// both versions.
    pub carry_data: bool,
    /// Whether programs that cannot be switched exactly may run in both versions for a moment: the new ones are attached before
    /// the old ones are detached. The report has the number of events that both have handled. Programs on XDP, tcx and cgroups
    /// are exchanged one by one.
    pub allow_overlap: bool,
    /// The same, but the old ones are detached before the new ones are attached, so that events in between are lost. The report
    /// has the length of the gap. It has no effect together with `allow_overlap`.
    pub allow_gap: bool,
}

/// The changes to programs. A program is given as its index in its version.
#[derive(Default)]
pub struct Plan {
    /// Programs of the running version with those that take over their hooks.
    swapped: Vec<(usize, usize)>,
    added: Vec<usize>,
    dropped: Vec<usize>,
    /// Programs that may read more of their context than those whose hooks they take over.
    wider: Vec<usize>,
    /// Programs of the running version that are detached, with those that are attached in their place.
    parted: Vec<(usize, usize)>,
    /// Programs that are attached and detached without a dispatcher.
    coming: Vec<usize>,
    leaving: Vec<usize>,
    /// Whether the new ones are attached before the old ones are detached.
    is_overlap: bool,
}

impl Plan {
    /// Exchanges the two versions.
    pub fn reverse(&mut self) {
        self.swapped.iter_mut().for_each(|(from, to)| std::mem::swap(from, to));
        std::mem::swap(&mut self.added, &mut self.dropped);
    }

    /// Programs of the running version with those that take over their hooks.
    pub fn swapped(&self) -> &[(usize, usize)] {
        &self.swapped
    }

    /// Whether the switch is one step of the kernel: a store to the number that all dispatchers read, or the update of one link.
    pub fn is_one_step(&self, old: &Session) -> bool {
        let has_dispatcher = |(from, _): &(usize, usize)| old.progs[*from].dispatcher.is_some();
        let is_one = self.swapped.len() == 1 && self.added.is_empty() && self.dropped.is_empty();
        !self.is_parted() && (is_one || self.swapped.iter().all(has_dispatcher))
    }

    /// Whether the switch is not exact.
    pub fn is_parted(&self) -> bool {
        !(self.parted.is_empty() && self.coming.is_empty() && self.leaving.is_empty())
    }

    /// Programs of the running version that are detached at the switch.
    fn all_leaving(&self) -> impl Iterator<Item = usize> {
        self.parted.iter().map(|(from, _)| *from).chain(self.leaving.iter().copied())
    }
}

/// Adds to a report what happens to a program or map.
#[inline(never)]
fn note(list: &mut Vec<Value>, name: &CStr, change: &str, key: &str, text: Value) {
    list.push(members([("name", name.to_string_lossy().into()), ("change", change.into()), (key, text)]));
}

impl Prog {
    #[inline(never)]
    fn note(&self, list: &mut Vec<Value>, change: &str) {
        note(list, &self.name, change, "section", self.section.to_string_lossy().into());
    }
}

impl Session {
    /// Takes over the settings of the host and the maps from `old`, before load. Returns what happens to each map.
    #[inline(never)]
    pub fn inherit(&mut self, old: &Session, options: ReplaceOptions) -> Result<String> {
        let fresh_vars = options.fresh_vars;
        for &(map, count) in &old.set_sizes {
            self.set_max_entries(&old.maps()[map].label(), count)?;
        }
        if !fresh_vars && !old.args.is_empty() {
            // The options and their defaults are those of this version.
            self.set_args(&old.args)?;
        }
        for (index, (var, bytes)) in old.opened.vars.iter().zip(&old.set_vars).enumerate() {
            let is_kept = !fresh_vars && !old.set_by_args.contains(&index);
            let Some(bytes) = bytes.as_ref().filter(|_| is_kept) else { continue };
            let ty = &self.opened.var(&var.name)?.ty;
            if !is_same_layout(ty, &var.ty) {
                let error = Error::new(
                    Status::Type,
                    format_args!("is set by the host as {}, the new version has {}", var.ty.name, ty.name),
                );
                return Err(error.about_variable(&var.name));
            }
            self.set_var(&var.name, bytes)?;
        }
        for &(prog, on) in &old.set_autoload {
            self.set_autoload(&old.progs[prog].name.to_string_lossy(), on)?;
        }
        for prog in old.progs.iter().filter(|prog| !prog.target_json.is_empty()) {
            self.set_target(&prog.name.to_string_lossy(), &prog.target_json.to_string_lossy())?;
        }
        (self.generation, self.is_successor) = (old.generation.clone(), true);
        self.carry(old, options)
    }

    /// Makes load use the maps of the running version, as far as they fit.
    #[inline(never)]
    fn carry(&mut self, running: &Session, options: ReplaceOptions) -> Result<String> {
        let mut changes = Vec::new();
        let shares_probes = running.shares_probes();
        for (index, map) in self.opened.maps.iter().enumerate() {
            let at = running.maps().iter().position(|old| old.name == map.name && old.fd().is_ok());
            let old = at.map(|at| &running.maps()[at]);
            let is_same_data = |at| options.carry_data && self.is_same_data(index, running, at);
            // Programs on USDT probes find their arguments in these maps, and links refer to the entries, so the maps
            // are always carried over with the links, and never without.
            let is_usdt = map.name.to_bytes().starts_with(USDT_MAPS);
            let reason = match at {
                Some(_) if is_usdt && !shares_probes => Some("each version attaches its own probes"),
                _ if options.fresh_maps && !is_usdt => Some("requested by the host"),
                Some(at) if is_same_data(at) => None,
                _ => why_fresh(old.map(|old| &**old), map),
            };
            match (old, reason) {
                (Some(old), Some(reason))
                    if options.migrate_maps && !options.fresh_maps && !is_usdt && can_copy(old, map) =>
                {
                    self.grown.push((index, Arc::clone(old)));
                    note(&mut changes, &map.name, "migrated", "reason", reason.into());
                    continue;
                }
                (Some(old), Some(reason))
                    if is_usdt && shares_probes || options.strict_maps && !is_usdt && is_kept(old) =>
                {
                    return Err(old.about(Error::new(
                        Status::Type,
                        format_args!("cannot be carried over to the new version: {reason}"),
                    )));
                }
                (Some(old), None) => self.carried.push((index, Arc::clone(old))),
                _ => {}
            }
            let change = if reason.is_some() { "fresh" } else { "carried" };
            note(&mut changes, &map.name, change, "reason", reason.into());
        }
        self.reuse_carried()?;
        Ok(compact(&changes.into()))
    }

    /// Whether a section of variables that programs change is the same in the running version.
    fn is_same_data(&self, index: usize, running: &Session, at: usize) -> bool {
        let (new, old) = (&self.opened.maps[index], &running.maps()[at]);
        let label = new.label();
        let is_data = label.ends_with(".bss") || label.ends_with(".data");
        is_data
            && (new.value.size, new.flags) == (old.value.size, old.flags)
            && self.opened.has_same_data(index, &running.opened, at)
    }

    /// Maps the carried data sections, so that the host reads and writes the same variables as the programs.
    pub(super) fn map_carried(&self) -> Result<()> {
        self.carried.iter().try_for_each(|(index, old)| match self.opened.maps[*index].is_internal {
            true => self.opened.object.map(*index).map_reused().map_err(|e| map_error(old, "map", e)),
            false => Ok(()),
        })
    }

    /// Gives the carried maps to libbpf, except pinned ones: libbpf finds those itself, and would try to pin them again.
    pub(super) fn reuse_carried(&self) -> Result<()> {
        for (index, old) in &self.carried {
            let raw = self.opened.object.map(*index);
            if raw.pin_path().is_none() {
                raw.reuse(old.fd()?.fd()).map_err(|e| map_error(old, "use in the new version", e))?;
            }
        }
        Ok(())
    }

    /// Whether this version uses a map of another one.
    pub fn has_map(&self, map: &Map) -> bool {
        let id = map.id();
        id.is_some() && self.maps().iter().any(|own| own.name == map.name && own.id() == id)
    }

    /// Releases the parts of the running version that only the load needs.
    pub fn forget_carried(&mut self) {
        self.carried.clear();
    }

    /// Whether this is the session of `package`.
    pub fn is_of(&self, package: &Package) -> bool {
        self.package.object == package.object
            && compact(self.package.meta_value()) == compact(package.meta_value())
    }

    /// Compares the hooks of this version, which is loaded, with those of the running one. Returns what is to be done, and a
    /// description. Fails if a program cannot be swapped while it runs.
    #[inline(never)]
    pub fn compare(&self, old: &Session, options: ReplaceOptions) -> Result<(Plan, String)> {
        let (mut plan, mut changes) = (Plan::default(), Vec::new());
        // If several programs have the same hook, the name decides, then the order.
        for by_name in [true, false] {
            for index in 0..self.progs.len() {
                let is_free = |from: &usize| {
                    old.is_same_hook(*from, self, index)
                        && (!by_name || old.progs[*from].name == self.progs[index].name)
                        && !plan.swapped.iter().any(|(other, _)| other == from)
                };
                let is_left = self.is_first_choice(index) && !plan.swapped.iter().any(|(_, to)| *to == index);
                let found = is_left.then(|| (0..old.progs.len()).find(is_free)).flatten();
                plan.swapped.extend(found.map(|from| (from, index)));
            }
        }
        for index in (0..self.progs.len()).filter(|&index| self.is_first_choice(index)) {
            if !plan.swapped.iter().any(|(_, to)| *to == index) {
                plan.added.push(index);
            }
        }
        for (index, prog) in old.progs.iter().enumerate() {
            if !prog.links.is_empty() && !plan.swapped.iter().any(|(from, _)| *from == index) {
                plan.dropped.push(index);
            }
        }
        if plan.swapped.is_empty() && plan.added.is_empty() {
            return Err(Error::new(Status::Unsupported, "the new version attaches no program"));
        }
        if !old.struct_ops.is_empty() {
            return Err(Error::new(Status::Unsupported, "struct_ops maps cannot be replaced while they run"));
        }
        let is_one = plan.swapped.len() == 1 && plan.added.is_empty() && plan.dropped.is_empty();
        // Programs that another process has loaded could not be attached again if the new version fails to attach.
        let may_gap = options.allow_gap && old.opened.phase == Phase::Loaded;
        let may_part = options.allow_overlap || may_gap;
        plan.is_overlap = options.allow_overlap;
        for (from, to) in std::mem::take(&mut plan.swapped) {
            let is_updated = is_one || may_part;
            let checked = old.check_swap(from, is_updated, true);
            let change = match checked.and_then(|()| self.check_swap(to, is_updated, false)) {
                Err(e) if !may_part => return Err(e),
                Err(_) => {
                    plan.parted.push((from, to));
                    if plan.is_overlap { "overlap" } else { "gap" }
                }
                Ok(()) => {
                    self.check_context(to, &old.progs[from].links)?;
                    let raw = self.opened.object.prog(to);
                    if old.progs[from].dispatcher.as_ref().is_some_and(|dispatcher| !dispatcher.covers(raw)) {
                        plan.wider.push(to);
                    }
                    plan.swapped.push((from, to));
                    "swapped"
                }
            };
            self.progs[to].note(&mut changes, change);
        }
        let has_probes = self.carried.iter().any(|(_, map)| map.name.to_bytes().starts_with(USDT_MAPS));
        for index in std::mem::take(&mut plan.added) {
            if has_probes && self.is_usdt(index) {
                // libbpf would use the entries of another probe for the new one.
                return Err(self.refusal(index, "USDT probes cannot be added to others"));
            }
            match self.check_swap(index, false, false) {
                Err(e) if !may_part => return Err(e),
                Err(_) => plan.coming.push(index),
                Ok(()) => plan.added.push(index),
            }
            let prog = &self.progs[index];
            let is_moved = old.progs.iter().any(|other| other.name == prog.name);
            prog.note(&mut changes, if is_moved { "moved" } else { "added" });
        }
        for index in std::mem::take(&mut plan.dropped) {
            match old.check_swap(index, false, true) {
                Err(e) if !may_part => return Err(e),
                Err(_) => plan.leaving.push(index),
                Ok(()) => plan.dropped.push(index),
            }
            old.progs[index].note(&mut changes, "dropped");
        }
        Ok((plan, compact(&changes.into())))
    }

    #[inline(never)]
    fn is_same_hook(&self, index: usize, other: &Session, at: usize) -> bool {
        let (a, b) = (self.opened.object.prog(index), other.opened.object.prog(at));
        let (one, two) = (&self.progs[index], &other.progs[at]);
        let is_attached = !one.links.is_empty();
        is_attached
            && (a.kind(), a.expected_attach_type()) == (b.kind(), b.expected_attach_type())
            && one.section == two.section
            && one.targets == two.targets
    }

    /// Checks that a program can be swapped. `is_one`: both versions have one program, on the same hook.
    fn check_swap(&self, index: usize, is_one: bool, is_running: bool) -> Result<()> {
        let (prog, raw) = (&self.progs[index], self.opened.object.prog(index));
        let why = match self.why_not_dispatched(index) {
            _ if is_one && can_update(raw) => return Ok(()),
            _ if can_update(raw) => "the kernel can update the link of one program only, on the same hook",
            Some(why) => why,
            None if !self.config.replaceable => "the vm was created without the option replaceable",
            None if is_running && prog.dispatcher.is_none() => "this kernel does not accept its dispatcher",
            None => return Ok(()),
        };
        Err(self.refusal(index, why))
    }

    #[inline(never)]
    fn refusal(&self, index: usize, why: &str) -> Error {
        let error = Error::new(Status::Unsupported, format_args!("cannot be replaced while it runs: {why}"));
        self.opened.object.prog(index).about(error, &self.progs[index].section.to_string_lossy())
    }

    /// Whether a program is attached to a USDT probe.
    pub(super) fn is_usdt(&self, index: usize) -> bool {
        let prog = &self.progs[index];
        let section = prog.section.to_string_lossy();
        prog.targets.iter().any(|of| of.attach.as_deref().unwrap_or(&section).starts_with("usdt"))
    }

    /// Whether the next version takes over links to USDT probes.
    fn shares_probes(&self) -> bool {
        (0..self.progs.len()).any(|index| self.progs[index].dispatcher.is_some() && self.is_usdt(index))
    }

    /// The reason why a program cannot be called by a dispatcher.
    pub(super) fn why_not_dispatched(&self, index: usize) -> Option<&'static str> {
        let (prog, raw) = (&self.progs[index], self.opened.object.prog(index));
        let section = prog.section.to_string_lossy();
        prog.targets.iter().find_map(|target| why_not(raw, target.attach.as_deref().unwrap_or(&section)))
    }

    /// Whether the program is loaded and is the first loaded one of its chain of alternatives.
    fn is_first_choice(&self, index: usize) -> bool {
        let first =
            self.alternatives.chain(self.alternatives.first(index)).find(|&index| self.is_attachable(index));
        first == Some(index)
    }

    /// Attaches the programs on hooks that the running version does not have. They run only after `take_over`.
    #[inline(never)]
    pub fn attach_added(&mut self, plan: &Plan) -> Result<()> {
        for &index in &plan.wider {
            let Some(generation) = &self.generation else { continue };
            let idle = dispatch::load(self.opened.object.prog(index), generation);
            self.attach_dispatcher(index, &idle.map_err(|e| self.dispatcher_error(index, e))?)?;
        }
        for &index in &plan.added {
            let links = self.attach_through(index)?;
            if self.progs[index].dispatcher.is_none() {
                let text =
                    "cannot be added while the package runs: this kernel does not accept its dispatcher";
                let prog = self.opened.object.prog(index);
                return Err(prog.about(
                    Error::new(Status::Unsupported, text),
                    &self.progs[index].section.to_string_lossy(),
                ));
            }
            self.progs[index].links = links;
        }
        Ok(())
    }

    /// Makes the hooks of `old` run this version, according to the result of `compare`. After a failure they run the old one.
    /// Returns the nanoseconds in which no program was attached to hooks that are not switched.
    #[inline(never)]
    pub fn take_over(&mut self, old: &mut Session, plan: &Plan) -> Result<u64> {
        if (self.place == Place::ReadElsewhere) != (old.place == Place::ReadElsewhere) {
            let text =
                "another process reads the events of the running version; export the prepared one first";
            return Err(Error::new(Status::State, text));
        }
        let filled = self.fill_next(old, plan).and_then(|()| self.attach_parted(old, plan));
        let gap_ns = filled.inspect_err(|_| old.take_back(plan))?;
        self.generation.iter().for_each(|generation| generation.flip());
        for &(from, to) in &plan.swapped {
            self.progs[to].links = std::mem::take(&mut old.progs[from].links);
            if self.is_usdt(to) {
                self.progs[to].links.iter_mut().for_each(|link| link.keep(&old.opened.object));
            }
            self.progs[to].dispatcher = old.progs[from].dispatcher.take();
            self.alternatives.mark_used(to);
        }
        (self.attached, self.is_successor, old.attached) = (old.attached, false, false);
        Ok(gap_ns)
    }

    /// Makes all hooks run this version again, after a failure.
    fn take_back(&self, plan: &Plan) {
        self.fill_all();
        for &(from, _) in &plan.swapped {
            let prog = &self.progs[from];
            if let (None, [link], Some(fd)) = (&prog.dispatcher, &*prog.links, self.prog_fd(from)) {
                let _ = link.update(fd);
            }
        }
    }

    /// Attaches the programs that take the place of others, after those of `old` have been detached, or before that with an
    /// overlap. Returns the nanoseconds between the two.
    #[inline(never)]
    fn attach_parted(&mut self, old: &mut Session, plan: &Plan) -> Result<u64> {
        let begin = os::monotonic_ns();
        if plan.is_overlap {
            old.overlap = Some(plan)
                .filter(|plan| !plan.parted.is_empty())
                .and_then(|_| count_runs().ok())
                .map(|fd| (fd, 0));
        } else {
            plan.parted.iter().for_each(|&(from, _)| old.progs[from].links.clear());
        }
        let coming = plan.parted.iter().map(|(_, to)| to).chain(&plan.coming);
        let made: Result<Vec<_>> = coming.map(|&index| Ok((index, self.make_links(index)?))).collect();
        let made = made.inspect_err(|_| {
            old.overlap = None;
            for &(from, _) in plan.parted.iter().filter(|_| !plan.is_overlap) {
                match old.make_links(from) {
                    Ok(links) => old.progs[from].links = links,
                    Err(e) => {
                        old.log.write(Level::Error, &format!("the old version is not attached again: {e}"))
                    }
                }
            }
        })?;
        for (index, links) in made {
            self.progs[index].links = links;
            self.alternatives.mark_used(index);
        }
        let before = old.runs_of_parted(plan);
        old.overlap.iter_mut().for_each(|(_, runs)| *runs = before);
        let is_gap = !plan.is_overlap && !plan.parted.is_empty();
        Ok(if is_gap { os::monotonic_ns() - begin } else { 0 })
    }

    /// Detaches the programs of this version, the old one, that are not switched. Returns how many events both versions have
    /// handled meanwhile, if that is known.
    #[inline(never)]
    pub fn end_parted(&mut self, plan: &Plan) -> Option<u64> {
        plan.all_leaving().for_each(|index| self.progs[index].links.clear());
        let (_counting, before) = self.overlap.take()?;
        Some(self.runs_of_parted(plan).saturating_sub(before))
    }

    fn runs_of_parted(&self, plan: &Plan) -> u64 {
        let fds = plan.parted.iter().filter_map(|(from, _)| self.prog_fd(*from));
        fds.filter_map(|fd| prog_facts(&fd).ok()).map(|facts| facts.run_count).sum()
    }

    /// Fills the slots of the next generation, or updates the link of the only program.
    #[inline(never)]
    fn fill_next(&self, old: &Session, plan: &Plan) -> Result<()> {
        for &(from, to) in &plan.swapped {
            let (prog, fd) = (&old.progs[from], self.prog_fd(to));
            let filled = match (&prog.dispatcher, &*prog.links, fd) {
                (Some(dispatcher), ..) => dispatcher.fill(self.next_generation(), fd),
                (None, [link], Some(fd)) => link.update(fd),
                _ => Err(Errno(libc::EOPNOTSUPP)),
            };
            filled.map_err(|e| self.hook_error(to, e))?;
        }
        for &index in &plan.dropped {
            let dispatcher = old.progs[index].dispatcher.as_ref();
            let emptied = dispatcher.map_or(Ok(()), |of| of.fill(self.next_generation(), None));
            emptied.map_err(|e| old.hook_error(index, e))?;
        }
        Ok(())
    }

    #[inline(never)]
    fn hook_error(&self, index: usize, e: Errno) -> Error {
        let error = Error::sys(Status::Attach, e.0, format_args!("taking over the hook: {e}"));
        self.opened.object.prog(index).about(error, &self.progs[index].section.to_string_lossy())
    }

    /// The generation that does not run.
    pub(super) fn next_generation(&self) -> u32 {
        self.generation.as_ref().map_or(0, |generation| generation.next())
    }

    /// Fills all slots with the programs of this version, which releases those of others. A failure leaves another version in
    /// the kernel's memory until the next replace.
    pub fn fill_all(&self) {
        for (index, prog) in self.progs.iter().enumerate() {
            if let Some(dispatcher) = &prog.dispatcher {
                let _ = dispatcher.fill(self.next_generation(), self.prog_fd(index));
            }
        }
    }

    /// Makes all dispatchers call no program (`on`), or call their programs again. One switch of the generation does
    /// this for all dispatchers: the slots of the other generation have been emptied before, or still contain the
    /// programs.
    pub fn suspend(&mut self, on: bool) -> Result<()> {
        let can_suspend = |prog: &Prog| prog.links.is_empty() || prog.dispatcher.is_some();
        let Some(generation) = self
            .generation
            .as_ref()
            .filter(|_| self.attached && self.struct_ops.is_empty() && self.progs.iter().all(can_suspend))
        else {
            let text = "only programs that are attached through dispatchers can be suspended";
            return Err(Error::new(Status::Unsupported, text));
        };
        if self.is_suspended == on {
            return Ok(());
        }
        for (index, prog) in self.progs.iter().enumerate() {
            let emptied = match &prog.dispatcher {
                Some(dispatcher) if on => dispatcher.fill(generation.next(), None),
                _ => Ok(()),
            };
            emptied.map_err(|e| self.hook_error(index, e))?;
        }
        generation.flip();
        self.is_suspended = on;
        Ok(())
    }

    /// Descriptors of the dispatchers, to read counters.
    pub(super) fn dispatcher_fds(&self) -> impl Iterator<Item = RawFd> {
        self.progs.iter().filter_map(|prog| Some(prog.dispatcher.as_ref()?.fd()))
    }
}
