//! Which types events have.
//!
//! Only what flows into the calls that send them tells: `flow.rs` follows it. The author's word goes before that
//! (`@export`, `@export_config`), and fills in where the calls tell nothing (the value type of a ring buffer, a header
//! that is named). That a type has the right size is no reason to take it. What stays open is delivered raw, and
//! reported with the types that it may have.

use std::collections::HashSet;
use std::path::Path;

use crate::analysis::exports::Exports;
use crate::analysis::limits;
use crate::analysis::record_type;
use crate::analysis::send_calls::{self, PERF_EVENT_ARRAY, RINGBUF, Sent};
use crate::error::Result;
use crate::object::btf::{self, Btf};
use crate::object::btf_append::Append;
use crate::object::dwarf::{Dwarf, Struct, Type, TypeId};
use crate::object::libbpf::{Map, Opened};

/// The types of a program's events.
#[derive(Default)]
pub struct Events {
    /// BTF ids and names, the surest first.
    pub types: Vec<(u32, String)>,
    /// The BTF id for each map, where there is more than one to choose from; 0 where the records have no type.
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
                Some((_, known)) if *known == id => {}
                Some((_, 0)) => {}
                Some(_) => {
                    if id != 0 {
                        self.warnings.push(format!(
                            "map \"{map}\": the sources send records of different types to it, which are delivered raw"
                        ));
                    }
                    self.by_map.retain(|(known, _)| *known != map);
                    self.by_map.push((map, 0));
                }
                None => self.by_map.push((map, id)),
            }
        }
        self.warnings.extend(other.warnings);
        self.warnings.dedup();
    }

    /// Whether the records of a map are to stay without a type.
    pub fn is_open(&self) -> bool {
        self.by_map.iter().any(|(_, id)| *id == 0)
    }

    /// Once everything is known: a single struct goes without saying.
    pub fn finish(&mut self, btf: &Btf) {
        if let ([(id, _)], false) = (&self.types[..], self.is_open()) {
            if matches!(btf.kind(*id), btf::STRUCT | btf::UNION) {
                self.by_map.clear();
            }
        }
    }
}

/// What is known of the program, or of one of its sources.
pub struct Program<'a, 'd> {
    pub dwarf: &'a Dwarf<'d>,
    pub opened: &'a Opened,
    pub sent: &'a [Sent],
    /// Maps that are read now and then rather than sending events.
    pub sampled: &'a [&'a str],
    /// What comments say of types.
    pub exports: &'a Exports,
}

impl Program<'_, '_> {
    /// Finds the types of events, with the structs of `header` or else those of files that `own` accepts for what the
    /// calls leave open, and takes them into `btf`.
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
        let is_used =
            |map: &&Map| self.sent_to(map).next().is_some() || self.exports.of_map(&map.name).is_some();
        for map in self.event_maps().filter(is_used) {
            match self.of_map(map, &candidates, header.is_some())? {
                Ok(id) => chosen.push((Some(&map.name), id)),
                Err(open) => {
                    events.by_map.push((map.name.clone(), 0));
                    events.warnings.push(self.doubt(map, &open, &candidates, header));
                }
            }
        }
        chosen.extend(self.exports.types.iter().map(|export| (None, export.id)));
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

    /// The type of the events of one map, or else the types that are in question.
    fn of_map(
        &self,
        map: &Map,
        candidates: &[&Struct],
        by_header: bool,
    ) -> Result<std::result::Result<TypeId, Vec<TypeId>>> {
        if let Some(id) = self.exports.of_map(&map.name) {
            return Ok(Ok(id));
        }
        // What is said of no map in particular is meant for the only one.
        let is_only = self.event_maps().filter(|map| self.sent_to(map).next().is_some()).count() == 1;
        let named = if by_header && is_only { self.outermost(candidates)? } else { Vec::new() };
        let exported = if is_only { self.exports.for_any_map() } else { Vec::new() };
        let (mut types, mut hints, mut is_open) = (Vec::new(), Vec::<TypeId>::new(), false);
        for sent in self.sent_to(map) {
            // The author's word where the call has none.
            let fitting = |ids: &[TypeId]| {
                let mut fitting = ids.iter().filter(|id| record_type::fits(self.dwarf, **id, sent.size));
                let first = fitting.next().copied();
                first.filter(|_| fitting.next().is_none())
            };
            let declared = self.value(map).filter(|id| !self.is_denied(*id, &sent.hints));
            let declared = fitting(&declared.into_iter().collect::<Vec<_>>());
            // A struct or union that is written where it is used has no name that a package could give.
            let known = sent.known.filter(|id| self.has_name(*id));
            hints.extend(sent.known.filter(|_| known.is_none()).into_iter().flat_map(|id| self.inside(id)));
            let id = match (known, declared) {
                (Some(known), Some(declared)) => self.agreed(known, declared),
                (known, declared) => {
                    known.or(declared).or_else(|| fitting(&exported)).or_else(|| fitting(&named))
                }
            };
            if id.is_none() {
                hints.extend(known.into_iter().chain(declared));
            }
            match id {
                Some(id) if types.iter().any(|known| record_type::same(self.dwarf, *known, id)) => {}
                Some(id) => types.push(id),
                None => {
                    is_open = true;
                    hints.extend(&sent.hints);
                }
            }
        }
        if let ([one], false) = (&types[..], is_open) {
            return Ok(Ok(*one));
        }
        types.extend(hints);
        Ok(Err(types))
    }

    fn has_name(&self, id: TypeId) -> bool {
        record_type::composite(self.dwarf, id).is_none() || self.item(id).is_some()
    }

    /// The types of the members of a struct or union.
    fn inside(&self, id: TypeId) -> Vec<TypeId> {
        let composite = record_type::composite(self.dwarf, id);
        composite.into_iter().flat_map(|composite| composite.members).filter_map(|member| member.id).collect()
    }

    /// Of the type that a call sends and the one that the map's definition names, the one that says more, unless they
    /// are two.
    fn agreed(&self, sent: TypeId, declared: TypeId) -> Option<TypeId> {
        let is_part = |one: TypeId, other: TypeId| record_type::begins_with(self.dwarf, one, other);
        let is_struct = |id: TypeId| record_type::composite(self.dwarf, id).is_some();
        if !is_struct(declared) {
            // A number is what its definition says; that of a struct comes from a perf buffer.
            return Some(if is_struct(sent) { sent } else { declared });
        }
        let agree = is_part(sent, declared) || is_part(declared, sent);
        agree.then_some(if is_struct(sent) { sent } else { declared })
    }

    /// Whether structs are in question for a record, and a declared one is none of them.
    fn is_denied(&self, declared: TypeId, hints: &[TypeId]) -> bool {
        let is_part = |one: TypeId, other: TypeId| record_type::begins_with(self.dwarf, one, other);
        let mut structs =
            hints.iter().filter(|id| record_type::composite(self.dwarf, **id).is_some()).peekable();
        structs.peek().is_some() && !structs.any(|id| is_part(*id, declared) || is_part(declared, *id))
    }

    /// The value type in the definition of a ring buffer. That of a perf buffer is a descriptor.
    fn value(&self, map: &Map) -> Option<TypeId> {
        let declared = self.dwarf.declarations.iter().find(|item| item.name == map.name)?;
        send_calls::definition(self.dwarf, declared.written?, "value").filter(|_| map.kind == RINGBUF)
    }

    /// What the code may send to a map.
    fn sent_to<'b>(&'b self, map: &'b Map) -> impl Iterator<Item = &'b Sent> {
        let is_to = |sent: &&Sent| sent.map.as_ref().map_or(sent.kind == map.kind, |name| *name == map.name);
        self.sent.iter().filter(is_to)
    }

    fn event_maps(&self) -> impl Iterator<Item = &Map> {
        let is_event_map = |map: &&Map| matches!(map.kind, PERF_EVENT_ARRAY | RINGBUF);
        let is_sampled = |map: &&Map| self.sampled.contains(&map.name.as_str());
        self.opened.maps.iter().filter(move |map| is_event_map(map) && !is_sampled(map))
    }

    /// Those of `structs` that are no part of another one.
    fn outermost(&self, structs: &[&Struct]) -> Result<Vec<TypeId>> {
        let mut embedded = HashSet::new();
        for item in structs {
            if let Type::Composite(composite) = self.dwarf.get(item.id)? {
                for member in composite.members {
                    embedded.extend(self.dwarf.embedded(member.id)?);
                }
            }
        }
        Ok(structs.iter().map(|item| item.id).filter(|id| !embedded.contains(id)).collect())
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
            let item = self.item(id);
            if let Some(Type::Composite(composite)) = item.map(|item| self.dwarf.get(item.id)).transpose()? {
                limits::check_members(&composite.name, composite.members.len())?;
            }
            let (btf_id, name) = append.add_named(id, item)?;
            if !events.types.iter().any(|(known, _)| *known == btf_id) {
                events.types.push((btf_id, name));
            }
            events.by_map.extend(map.map(|map| (map.to_string(), btf_id)));
        }
        Ok(())
    }

    /// The struct or union that a type is.
    fn item(&self, id: TypeId) -> Option<&Struct> {
        let plain = self.dwarf.unnamed(Some(id))?;
        self.dwarf.structs.iter().find(|item| item.id == plain)
    }

    /// What to write where, for the one that is meant: what speaks for a type comes first, then those of the right size,
    /// then larger ones, of which the beginning may be sent.
    fn doubt(&self, map: &Map, open: &[TypeId], candidates: &[&Struct], header: Option<&Path>) -> String {
        let sizes: Vec<Option<u32>> = self.sent_to(map).map(|sent| sent.size).collect();
        let is_equal = |item: &&&Struct| sizes.contains(&Some(item.size));
        let is_larger = |item: &&&Struct| {
            sizes.iter().any(|size| record_type::fits(self.dwarf, item.id, *size)) && !is_equal(item)
        };
        let listed = candidates.iter().filter(is_equal).chain(candidates.iter().filter(is_larger));
        let mut ids: Vec<TypeId> = Vec::new();
        for id in open.iter().copied().chain(listed.map(|item| item.id)) {
            let is_known = ids.iter().any(|known| record_type::same(self.dwarf, *known, id));
            if !is_known && !record_type::is_bytes(self.dwarf, id) {
                ids.push(id);
            }
        }
        let names: Vec<String> = ids.iter().filter_map(|id| self.described(*id)).collect();
        let name = &map.name;
        match (&names[..], header) {
            ([], Some(header)) => {
                format!("map \"{name}\": no struct of {} fits its events", header.display())
            }
            ([], None) => format!("map \"{name}\": no struct of the program's own files fits its events"),
            _ => format!(
                "map \"{name}\": its events may be any of {}; write the line /// @export {name} above the right one, or \
                 name the header that defines it",
                names.join(", ")
            ),
        }
    }

    /// A type and where it is defined.
    fn described(&self, id: TypeId) -> Option<String> {
        let scalar = || {
            let plain = self.dwarf.unnamed(Some(id))?;
            let of_id = |id: TypeId| self.dwarf.scalars.iter().find(|item| item.id == id);
            of_id(id).or_else(|| of_id(plain))
        };
        let item = self.item(id).or_else(scalar)?;
        let Some(file) = item.place.file.file_name() else { return Some(item.name.clone()) };
        Some(format!("{} ({}:{})", item.name, file.to_string_lossy(), item.place.line))
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
