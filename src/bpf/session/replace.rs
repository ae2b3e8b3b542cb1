//! What a new version of a package takes over from the running one: the settings of the host, and maps.

use std::ffi::CStr;
use std::sync::Arc;

use super::Session;
use crate::bpf::attach::OF_CGROUPS;
use crate::bpf::constants::prog_type;
use crate::bpf::map::{Map, map_error};
use crate::bpf::replace::maps::{is_kept, is_same_layout, why_fresh};
use crate::bpf::replace::programs::{self, Attached, Change};
use crate::error::{Error, Result, Status};
use crate::os::Errno;
use crate::package::{Package, Target};
use crate::types::Type;

/// What the host has set in a running version, and its maps.
pub struct Settings {
    vars: Vec<(String, Arc<Type>, Vec<u8>)>,
    sizes: Vec<(String, u32)>,
    autoload: Vec<(String, bool)>,
    targets: Vec<(String, Arc<CStr>)>,
    maps: Vec<Arc<Map>>,
    hooks: Vec<Attached<Hook>>,
}

/// What identifies the hook of a program.
#[derive(PartialEq)]
struct Hook {
    kind: u32,
    attach_type: u32,
    section: Arc<CStr>,
    targets: Vec<Target>,
}

/// What happened to a program.
#[derive(Clone, Debug)]
pub struct ProgChange {
    /// Its name.
    pub name: String,
    /// "swapped", "added", "moved" or "dropped".
    pub change: &'static str,
    /// Its section.
    pub section: Arc<CStr>,
}

/// The program types whose links the kernel can update, beside those that attach to a control group.
const UPDATED: [u32; 4] =
    [prog_type::XDP, prog_type::SK_LOOKUP, prog_type::FLOW_DISSECTOR, prog_type::SCHED_CLS];

/// What happened to a map of the new version.
#[derive(Clone, Debug)]
pub struct MapChange {
    /// Its name.
    pub name: Arc<CStr>,
    /// Why it is empty; `None` if it has the content of the running version's map.
    pub fresh: Option<&'static str>,
}

impl Session {
    /// Returns what a new version takes over.
    pub fn settings(&self) -> Settings {
        let name = |index: usize| self.progs[index].name.to_string_lossy().into_owned();
        let set = self.opened.vars.iter().zip(&self.set_vars);
        let vars =
            set.filter_map(|(var, bytes)| Some((var.name.clone(), Arc::clone(&var.ty), bytes.clone()?)));
        let sizes = self.set_sizes.iter().map(|&(map, count)| (self.maps()[map].label().into_owned(), count));
        let targets = (0..self.progs.len()).filter(|&index| !self.progs[index].target_json.is_empty());
        Settings {
            vars: vars.collect(),
            sizes: sizes.collect(),
            autoload: self.set_autoload.iter().map(|&(index, on)| (name(index), on)).collect(),
            targets: targets.map(|index| (name(index), Arc::clone(&self.progs[index].target_json))).collect(),
            maps: self.maps().to_vec(),
            hooks: self.hooks(&|index| !self.progs[index].links.is_empty()),
        }
    }

    /// The hooks of the programs for which `is_used` returns true.
    fn hooks(&self, is_used: &dyn Fn(usize) -> bool) -> Vec<Attached<Hook>> {
        let hook = |index: usize| {
            let (prog, raw) = (&self.progs[index], self.opened.object.prog(index));
            let (section, targets) = (Arc::clone(&prog.section), prog.targets.clone());
            let hook = Hook { kind: raw.kind(), attach_type: raw.expected_attach_type(), section, targets };
            Attached { name: prog.name.to_string_lossy().into_owned(), hook }
        };
        (0..self.progs.len()).filter(|&index| is_used(index)).map(hook).collect()
    }

    /// Checks that the programs of this version, which is loaded, can take over the hooks of the running version.
    pub fn compare(&self, settings: &Settings) -> Result<Vec<ProgChange>> {
        let used: Vec<usize> = (0..self.progs.len()).filter(|&index| self.is_first_choice(index)).collect();
        let new = self.hooks(&|index| used.contains(&index));
        let changes = programs::pair(&settings.hooks, &new);
        let only_one = "the running or the new version has several programs";
        let refuse = |index: usize, why: &str| {
            let (prog, raw) = (&self.progs[used[index]], self.opened.object.prog(used[index]));
            let error =
                Error::new(Status::Unsupported, format_args!("cannot be replaced while it runs: {why}"));
            Err(raw.about(error, &prog.section.to_string_lossy()))
        };
        for (index, change) in changes.iter().enumerate() {
            let kind = new[index].hook.kind;
            match change {
                _ if !UPDATED.contains(&kind) && !OF_CGROUPS.contains(&kind) => {
                    return refuse(index, "the kernel cannot update its link");
                }
                _ if new.len() > 1 || settings.hooks.len() > 1 => return refuse(index, only_one),
                Change::Swapped(_) => {}
                Change::Added | Change::Moved => {
                    return refuse(index, "the running version has no program on its hook");
                }
            }
        }
        if changes.is_empty() {
            return Err(Error::new(Status::Unsupported, "the new version attaches no program"));
        }
        let change = |&index: &usize| {
            let prog = &self.progs[index];
            ProgChange {
                name: prog.name.to_string_lossy().into_owned(),
                change: "swapped",
                section: Arc::clone(&prog.section),
            }
        };
        let dropped = programs::dropped(settings.hooks.len(), &changes);
        let gone = dropped.iter().map(|&index| {
            let old = &settings.hooks[index];
            ProgChange { name: old.name.clone(), change: "dropped", section: old.hook.section.clone() }
        });
        Ok(used.iter().map(change).chain(gone).collect())
    }

    /// Whether the program is loaded, and no program is that it is an alternative for.
    fn is_first_choice(&self, index: usize) -> bool {
        let first =
            self.alternatives.chain(self.alternatives.first(index)).find(|&index| self.is_attachable(index));
        first == Some(index)
    }

    /// Makes the hooks of `old` run this version, which `compare` has accepted. After a failure they run the old one.
    pub fn take_over(&mut self, old: &mut Session) -> Result<()> {
        let from = old.progs.iter().position(|prog| !prog.links.is_empty());
        let to = (0..self.progs.len()).find(|&index| self.is_first_choice(index));
        let (Some(from), Some(to)) = (from, to) else {
            return Err(Error::new(Status::State, "the package is no longer attached"));
        };
        let prog = self.opened.object.prog(to);
        let section = self.progs[to].section.to_string_lossy().into_owned();
        let refused = |e: Errno| {
            prog.about(Error::sys(Status::Attach, e.0, format_args!("updating its link: {e}")), &section)
        };
        match &*old.progs[from].links {
            [link] => link.update(prog).map_err(refused)?,
            _ => return Err(refused(Errno(libc::EOPNOTSUPP))),
        }
        self.progs[to].links = std::mem::take(&mut old.progs[from].links);
        self.alternatives.mark_used(to);
        (self.attached, old.attached) = (true, false);
        Ok(())
    }

    /// Applies the settings before load. With `fresh` set, variables keep the values of this version.
    pub fn apply(&mut self, settings: &Settings, fresh: bool) -> Result<()> {
        for (name, ty, bytes) in settings.vars.iter().filter(|_| !fresh) {
            let var = self.opened.var(name)?;
            if !is_same_layout(&var.ty, ty) {
                let text =
                    format_args!("is set by the host as {}, the new version has {}", ty.name, var.ty.name);
                return Err(Error::new(Status::Type, text).about_variable(name));
            }
            self.set_var(name, bytes)?;
        }
        settings.sizes.iter().try_for_each(|(name, count)| self.set_max_entries(name, *count))?;
        settings.autoload.iter().try_for_each(|(name, on)| self.set_autoload(name, *on))?;
        settings.targets.iter().try_for_each(|(name, json)| self.set_target(name, &json.to_string_lossy()))
    }

    /// Makes load use the maps of the running version, as far as they fit. Returns what happens to each map. `fresh`: none of
    /// them. `strict`: a map with content that does not fit is an error.
    pub fn carry(&mut self, settings: &Settings, fresh: bool, strict: bool) -> Result<Vec<MapChange>> {
        let all_fresh = fresh.then_some("requested by the host");
        let mut changes = Vec::new();
        for (index, map) in self.opened.maps.iter().enumerate() {
            let old = settings.maps.iter().find(|old| old.name == map.name && old.fd().is_ok());
            let fresh = all_fresh.or_else(|| why_fresh(old.map(|old| &**old), map));
            if let (true, Some(old), Some(reason)) =
                (strict && is_kept(old.as_ref().map_or(map, |old| old)), old, fresh)
            {
                let text = format_args!("cannot be carried over to the new version: {reason}");
                return Err(old.about(Error::new(Status::Type, text)));
            }
            if let Some(old) = old.filter(|_| fresh.is_none()) {
                self.carried.push((index, Arc::clone(old)));
            }
            changes.push(MapChange { name: Arc::clone(&map.name), fresh });
        }
        self.reuse_carried()?;
        Ok(changes)
    }

    /// libbpf finds pinned maps itself, and would try to pin them again.
    pub(super) fn reuse_carried(&self) -> Result<()> {
        for (index, old) in &self.carried {
            let raw = self.opened.object.map(*index);
            if raw.pin_path().is_none() {
                raw.reuse(old.fd()?.fd()).map_err(|e| map_error(old, "use in the new version", e))?;
            }
        }
        Ok(())
    }

    /// Whether a map of the running version, with this name, is used by this version.
    pub fn carries(&self, name: &CStr) -> bool {
        self.carried.iter().any(|(_, old)| *old.name == *name)
    }

    /// Releases what only the load needed of the running version.
    pub fn forget_carried(&mut self) {
        self.carried.clear();
    }

    /// Whether this is the session of `package`.
    pub fn is_of(&self, package: &Package) -> bool {
        self.package.object == package.object && self.package.meta_value() == package.meta_value()
    }
}
