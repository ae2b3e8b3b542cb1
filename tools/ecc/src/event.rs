//! Which structs are events.
//!
//! Candidates are the structs that the program's own files define. The compiled code says how large the events of
//! each map are; where that leaves more than one, structs that have another role stand back. What stays ambiguous
//! is reported, never guessed.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use crate::btf::{self, Btf};
use crate::btf_append::Append;
use crate::dwarf::{Dwarf, Struct, Type, TypeId};
use crate::error::Result;
use crate::flow::Flow;
use crate::sys::{Map, Opened};

/// The kernel's numbers for maps that carry events.
const PERF_EVENT_ARRAY: u32 = 4;
const RINGBUF: u32 = 27;

/// The event structs of a program.
#[derive(Default)]
pub struct Events {
    /// BTF ids and names, the surest first.
    pub types: Vec<(u32, String)>,
    /// The BTF id for each map, where there is more than one to choose from.
    pub by_map: Vec<(String, u32)>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// What is known of the program.
pub struct Program<'a, 'd> {
    pub dwarf: &'a Dwarf<'d>,
    pub opened: &'a Opened,
    pub flows: &'a [Flow],
    /// Maps that are read now and then rather than sending events.
    pub sampled: &'a [&'a str],
}

impl Program<'_, '_> {
    /// Finds the events among the structs of `header`, else among those of files that `own` accepts, and takes
    /// their types into `btf`.
    pub fn events(
        &self,
        header: Option<&Path>,
        own: impl Fn(&Path) -> bool,
        btf: &mut Btf,
    ) -> Result<Events> {
        let wanted = |place: &Path| header.map_or_else(|| own(place), |header| place == header);
        // A name with three underscores is a kernel struct as CO-RE knows it.
        let structs = self.dwarf.structs.iter();
        let candidates: Vec<&Struct> =
            structs.filter(|item| wanted(&item.place.file) && !item.name.contains("___")).collect();
        let mut events = Events::default();
        let mut chosen: Vec<(Option<&str>, TypeId)> = Vec::new();
        for map in self.event_maps() {
            let fitting = self.choose(map, &candidates, btf)?;
            match fitting.as_slice() {
                [one] => chosen.push((Some(&map.name), one.id)),
                [] => events.warnings.push(format!("map \"{}\": {}", map.name, no_struct(header))),
                several if header.is_some() => chosen.extend(several.iter().map(|item| (None, item.id))),
                several => events.warnings.push(format!(
                    "map \"{}\": its events may be any of {}; name the header that defines the right one",
                    map.name,
                    names(several)
                )),
            }
        }
        if let Some(header) = header {
            chosen.extend(candidates.iter().map(|item| (None, item.id)));
            if candidates.is_empty() && events.warnings.is_empty() {
                events.warnings.push(format!("{}: the program uses no struct of it", header.display()));
            }
        } else if chosen.is_empty() && events.warnings.is_empty() {
            chosen.extend(self.sampled_values(&candidates, btf).map(|id| (None, id)));
        }
        self.append(&chosen, &candidates, btf, &mut events)?;
        Ok(events)
    }

    fn event_maps(&self) -> impl Iterator<Item = &Map> {
        let is_event_map = |map: &&Map| matches!(map.kind, PERF_EVENT_ARRAY | RINGBUF);
        let is_sampled = |map: &&Map| self.sampled.contains(&map.name.as_str());
        self.opened.maps.iter().filter(move |map| is_event_map(map) && !is_sampled(map))
    }

    /// The candidates for the events of one map.
    fn choose<'b>(&self, map: &Map, candidates: &[&'b Struct], btf: &Btf) -> Result<Vec<&'b Struct>> {
        let only = self.event_maps().count() == 1;
        let of_map = |flow: &&Flow| flow.map.as_ref().map_or(only, |name| *name == map.name);
        let sizes: BTreeSet<Option<u32>> = self.flows.iter().filter(of_map).map(|flow| flow.size).collect();
        if sizes.is_empty() || sizes.contains(&None) {
            return self.likely(candidates.to_vec(), btf);
        }
        let mut fitting = Vec::new();
        for size in sizes.into_iter().flatten() {
            let of_size = candidates.iter().filter(|item| item.size == size).copied().collect();
            fitting.extend(self.likely(of_size, btf)?);
        }
        Ok(fitting)
    }

    /// Those of `structs` that have no other role, if there are any.
    fn likely<'b>(&self, mut structs: Vec<&'b Struct>, btf: &Btf) -> Result<Vec<&'b Struct>> {
        let embedded = self.embedded(&structs)?;
        let stored = self.stored(btf);
        let is_context = |item: &Struct| {
            let mut users = self.dwarf.parameters.iter().filter(|(_, id)| *id == item.id);
            users.any(|(function, _)| self.opened.programs.iter().any(|program| program.name == *function))
        };
        prefer(&mut structs, |item| !embedded.contains(&item.id));
        prefer(&mut structs, |item| !stored.contains(&item.name));
        prefer(&mut structs, |item| !is_context(item));
        Ok(structs)
    }

    /// The structs that are part of another candidate.
    fn embedded(&self, candidates: &[&Struct]) -> Result<HashSet<TypeId>> {
        let mut embedded = HashSet::new();
        for item in candidates {
            if let Type::Composite(composite) = self.dwarf.get(item.id)? {
                for member in composite.members {
                    embedded.extend(self.dwarf.embedded(member.id)?);
                }
            }
        }
        Ok(embedded)
    }

    /// The names of the structs that are keys and values of maps.
    fn stored(&self, btf: &Btf) -> HashSet<String> {
        let ids = self.opened.maps.iter().filter(|map| !map.internal).flat_map(|map| [map.key, map.value]);
        ids.map(|id| struct_name(btf, id)).collect()
    }

    /// The values of sampled maps: other loaders ask for a type even there.
    fn sampled_values<'b>(
        &'b self,
        candidates: &'b [&Struct],
        btf: &'b Btf,
    ) -> impl Iterator<Item = TypeId> + 'b {
        let maps = self.opened.maps.iter().filter(|map| self.sampled.contains(&map.name.as_str()));
        let names: Vec<String> = maps.map(|map| struct_name(btf, map.value)).collect();
        candidates.iter().filter(move |item| names.contains(&item.name)).map(|item| item.id)
    }

    fn append(
        &self,
        chosen: &[(Option<&str>, TypeId)],
        candidates: &[&Struct],
        btf: &mut Btf,
        events: &mut Events,
    ) -> Result<()> {
        let mut append = Append::new(self.dwarf, btf);
        for &(map, id) in chosen {
            let btf_id = append.add(id)?;
            if !events.types.iter().any(|(known, _)| *known == btf_id) {
                let name = candidates.iter().find(|item| item.id == id).map(|item| item.name.clone());
                events.types.push((btf_id, name.unwrap_or_default()));
            }
            events.by_map.extend(map.map(|map| (map.to_string(), btf_id)));
        }
        if events.types.len() == 1 && events.warnings.is_empty() {
            events.by_map.clear();
        }
        Ok(())
    }
}

/// Keeps what `better` accepts, unless that is nothing.
fn prefer(left: &mut Vec<&Struct>, better: impl Fn(&Struct) -> bool) {
    if left.len() > 1 && left.iter().any(|item| better(item)) {
        left.retain(|item| better(item));
    }
}

fn struct_name(btf: &Btf, id: u32) -> String {
    let resolved = btf.resolve(id);
    if btf.kind(resolved) == btf::STRUCT && !btf.name(resolved).is_empty() {
        btf.name(resolved)
    } else {
        btf.name(id)
    }
}

fn no_struct(header: Option<&Path>) -> String {
    match header {
        Some(header) => format!("no struct of {} fits its events", header.display()),
        None => "no struct of the program's own files fits its events".into(),
    }
}

fn names(structs: &[&Struct]) -> String {
    let names: Vec<_> = structs
        .iter()
        .map(|item| {
            let file = item.place.file.file_name().unwrap_or_default().to_string_lossy();
            format!("{} ({file}:{})", item.name, item.place.line)
        })
        .collect();
    names.join(", ")
}
