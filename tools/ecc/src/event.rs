//! Which structs are events.
//!
//! Where a call that sends an event names its struct, that is it. Elsewhere candidates are the structs that the
//! program's own files define, or those of them that have `@export` above them. The compiled code says how large the
//! events of each map are; where that leaves more than one, structs that have another role stand back. What stays
//! ambiguous is reported, never guessed.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use crate::btf::{self, Btf};
use crate::btf_append::Append;
use crate::dwarf::{Call, Dwarf, Struct, Type, TypeId};
use crate::error::Result;
use crate::export::Exports;
use crate::flow::Flow;
use crate::limit;
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

impl Events {
    /// Takes over what another source of the same program sends.
    pub fn merge(&mut self, other: Events) {
        for (id, name) in other.types {
            if !self.types.iter().any(|(known, _)| *known == id) {
                self.types.push((id, name));
            }
        }
        for (map, id) in other.by_map {
            match self.by_map.iter().find(|(known, _)| *known == map) {
                Some((_, known)) if *known != id => self.warnings.push(format!(
                    "map \"{map}\": the sources send different structs to it; it delivers the first one"
                )),
                Some(_) => {}
                None => self.by_map.push((map, id)),
            }
        }
        self.warnings.extend(other.warnings);
        self.warnings.dedup();
    }

    /// Once everything is known: a single type goes without saying.
    pub fn finish(&mut self) {
        if self.types.len() == 1 && self.warnings.is_empty() {
            self.by_map.clear();
        }
    }
}

/// What is known of the program, or of one of its sources.
pub struct Program<'a, 'd> {
    pub dwarf: &'a Dwarf<'d>,
    pub opened: &'a Opened,
    pub flows: &'a [Flow],
    /// Maps that are read now and then rather than sending events.
    pub sampled: &'a [&'a str],
    /// What comments say of types.
    pub exports: &'a Exports,
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
        // A buffer that nothing is sent to is there for another source, or for later.
        let is_used = |map: &&Map| self.sends_to(map) || self.exports.of_map(&map.name).is_some();
        for map in self.event_maps().filter(is_used) {
            let fitting = self.of_map(map, &candidates, btf)?;
            match fitting.as_slice() {
                [one] => chosen.push((Some(&map.name), one.id)),
                [] => events.warnings.push(format!("map \"{}\": {}", map.name, no_struct(header))),
                several if header.is_some() => chosen.extend(several.iter().map(|item| (None, item.id))),
                several => events.warnings.push(ambiguous(map, several)),
            }
        }
        chosen.extend(self.exports.structs.iter().map(|export| (None, export.id)));
        if let Some(header) = header {
            chosen.extend(candidates.iter().map(|item| (None, item.id)));
            if candidates.is_empty() && events.warnings.is_empty() {
                events.warnings.push(format!("{}: the program uses no struct of it", header.display()));
            }
        } else if chosen.is_empty() && events.warnings.is_empty() {
            chosen.extend(self.sampled_values(&candidates, btf).map(|id| (None, id)));
        }
        self.append(&chosen, btf, &mut events)?;
        Ok(events)
    }

    /// The structs that may be the events of one map: what the source says, else what the calls name, else what fits.
    fn of_map<'b>(&'b self, map: &Map, candidates: &[&'b Struct], btf: &Btf) -> Result<Vec<&'b Struct>> {
        if let Some(id) = self.exports.of_map(&map.name) {
            return Ok(self.dwarf.structs.iter().filter(|item| item.id == id).collect());
        }
        let mut named = self.named(map);
        if named.is_empty() {
            return self.choose(map, candidates, btf);
        }
        // Others may be sent by calls that hide the type.
        for size in self.sizes(map).into_iter().flatten() {
            if named.iter().all(|item| item.size != size) {
                let of_size = candidates.iter().filter(|item| item.size == size).copied().collect();
                named.extend(self.likely(of_size, btf)?);
            }
        }
        let exported = self.exports.ids();
        prefer(&mut named, |item| exported.contains(&item.id));
        Ok(named)
    }

    /// The structs that calls name as the events of a map.
    fn named(&self, map: &Map) -> Vec<&Struct> {
        let declarations = self.dwarf.declarations.iter();
        let ty = declarations.filter(|item| item.name == map.name).find_map(|item| item.ty);
        let Some(ty) = ty else { return Vec::new() };
        let calls = &self.dwarf.calls;
        let here = |call: &&Call| call.map == Some(ty);
        let mut ids: Vec<TypeId> = calls.iter().filter(here).filter_map(|call| call.data).collect();
        for reservation in calls.iter().filter(here).filter(|call| call.data.is_none()) {
            ids.extend(self.submitted(&reservation.function, map));
        }
        self.dwarf.structs.iter().filter(|item| ids.contains(&item.id)).collect()
    }

    /// What a function that reserves room in a map submits there.
    fn submitted(&self, function: &str, map: &Map) -> Vec<TypeId> {
        let inside = || self.dwarf.calls.iter().filter(|call| call.function == function);
        let reserved: HashSet<TypeId> =
            inside().filter(|call| call.data.is_none()).filter_map(|call| call.map).collect();
        let mut submitted: Vec<TypeId> =
            inside().filter(|call| call.map.is_none()).filter_map(|call| call.data).collect();
        submitted.sort();
        submitted.dedup();
        if reserved.len() > 1 && submitted.len() > 1 {
            let sizes = self.sizes(map);
            let of_size = |id: &TypeId| {
                let mut structs = self.dwarf.structs.iter();
                structs.any(|item| item.id == *id && sizes.contains(&Some(item.size)))
            };
            submitted.retain(of_size);
        }
        submitted
    }

    /// The sizes of the events that the code sends to a map; `None` among them is one that is no constant.
    fn sizes(&self, map: &Map) -> BTreeSet<Option<u32>> {
        let only = self.event_maps().count() == 1;
        let of_map = |flow: &&Flow| flow.map.as_ref().map_or(only, |name| *name == map.name);
        self.flows.iter().filter(of_map).map(|flow| flow.size).collect()
    }

    /// Whether the code may send events to a map.
    fn sends_to(&self, map: &Map) -> bool {
        self.flows.iter().any(|flow| flow.map.as_ref().is_none_or(|name| *name == map.name))
    }

    fn event_maps(&self) -> impl Iterator<Item = &Map> {
        let is_event_map = |map: &&Map| matches!(map.kind, PERF_EVENT_ARRAY | RINGBUF);
        let is_sampled = |map: &&Map| self.sampled.contains(&map.name.as_str());
        self.opened.maps.iter().filter(move |map| is_event_map(map) && !is_sampled(map))
    }

    /// The candidates for the events of one map.
    fn choose<'b>(&self, map: &Map, candidates: &[&'b Struct], btf: &Btf) -> Result<Vec<&'b Struct>> {
        let exported = self.exports.ids();
        let mut candidates = candidates.to_vec();
        prefer(&mut candidates, |item| exported.contains(&item.id));
        let sizes = self.sizes(map);
        if sizes.is_empty() || sizes.contains(&None) {
            return self.likely(candidates, btf);
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
        let calls = &self.dwarf.calls;
        prefer(&mut structs, |item| calls.iter().any(|call| call.data == Some(item.id)));
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

    fn append(&self, chosen: &[(Option<&str>, TypeId)], btf: &mut Btf, events: &mut Events) -> Result<()> {
        let mut append = Append::new(self.dwarf, btf);
        for &(map, id) in chosen {
            if let Type::Composite(composite) = self.dwarf.get(id)? {
                limit::check_members(&composite.name, composite.members.len())?;
            }
            let btf_id = append.add(id)?;
            if !events.types.iter().any(|(known, _)| *known == btf_id) {
                let item = self.dwarf.structs.iter().find(|item| item.id == id);
                events.types.push((btf_id, item.map(|item| item.name.clone()).unwrap_or_default()));
            }
            events.by_map.extend(map.map(|map| (map.to_string(), btf_id)));
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

/// What to write where, for the one that is meant.
fn ambiguous(map: &Map, structs: &[&Struct]) -> String {
    let (name, names) = (&map.name, names(structs));
    format!(
        "map \"{name}\": its events may be any of {names}; write the line /// @export {name} above the right one, or \
         name the header that defines it"
    )
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
