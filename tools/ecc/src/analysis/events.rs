//! Finds the types of events.
//!
//! The evidence is what flows into the calls that send records (`send_calls.rs`). Annotations take precedence (`@export`,
//! `@export_config`). Where the calls show nothing, other declarations are used: the value type of a ring buffer, or a
//! header on the command line. A matching size is never a reason to choose a type. If the type remains ambiguous, records
//! are delivered raw, and a warning lists the candidates.

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
    /// BTF ids and names, the most certain first.
    pub types: Vec<(u32, String)>,
    /// The BTF id for each map, if there are several types. 0 if the records of a map are untyped.
    pub by_map: Vec<(String, u32)>,
    pub warnings: Vec<String>,
}

impl Events {
    /// Adds the events of another source of the same program.
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
                            "map \"{map}\": its records have different types in different sources, delivered raw"
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

    /// Whether the records of some map have no type.
    pub fn has_untyped_map(&self) -> bool {
        self.by_map.iter().any(|(_, id)| *id == 0)
    }

    /// Call this after the last `merge`. Removes the types by map if there is a single struct, which is the default.
    pub fn finish(&mut self, btf: &Btf) {
        if let ([(id, _)], false) = (&self.types[..], self.has_untyped_map()) {
            if matches!(btf.kind(*id), btf::STRUCT | btf::UNION) {
                self.by_map.clear();
            }
        }
    }
}

/// The inputs for one source of a program.
pub struct Sources<'a, 'd> {
    pub dwarf: &'a Dwarf<'d>,
    pub opened: &'a Opened,
    pub sent: &'a [Sent],
    /// Maps that are read periodically and send no events.
    pub sampled: &'a [&'a str],
    /// The types that annotations name.
    pub exports: &'a Exports,
}

impl Sources<'_, '_> {
    /// Finds the types of events and adds them to `btf`. If a type is ambiguous, the candidates are the structs of
    /// `header`; without a header, those in files for which `is_own` is true.
    pub fn events(
        &self,
        header: Option<&Path>,
        is_own: impl Fn(&Path) -> bool,
        btf: &mut Btf,
    ) -> Result<Events> {
        let is_candidate = |place: &Path| header.map_or_else(|| is_own(place), |header| place == header);
        // CO-RE uses names with three underscores for variants of kernel structs.
        let structs = self.dwarf.structs.iter();
        let candidates: Vec<&Struct> =
            structs.filter(|item| is_candidate(&item.place.file) && !item.name.contains("___")).collect();
        let mut events = Events::default();
        let mut chosen: Vec<(Option<&str>, TypeId)> = Vec::new();
        // A buffer without calls may belong to another source.
        let is_used =
            |map: &&Map| self.sent_to(map).next().is_some() || self.exports.for_map(&map.name).is_some();
        for map in self.event_maps().filter(is_used) {
            match self.type_for_map(map, &candidates, header.is_some())? {
                Ok(id) => chosen.push((Some(&map.name), id)),
                Err(possible) => {
                    events.by_map.push((map.name.clone(), 0));
                    events.warnings.push(self.ambiguity(map, &possible, &candidates, header));
                }
            }
        }
        chosen.extend(self.exports.types.iter().map(|export| (None, export.id)));
        if let Some(header) = header {
            chosen.extend(candidates.iter().map(|item| (None, item.id)));
            if candidates.is_empty() && events.warnings.is_empty() {
                events
                    .warnings
                    .push(format!("{}: the program uses no struct of this header", header.display()));
            }
        } else if chosen.is_empty() && events.warnings.is_empty() {
            chosen.extend(self.sampled_values(&candidates, btf).map(|id| (None, id)));
        }
        self.append(&chosen, btf, &mut events)?;
        Ok(events)
    }

    /// The type of the events of one map. If it is ambiguous, the error is the list of possible types.
    fn type_for_map(
        &self,
        map: &Map,
        candidates: &[&Struct],
        by_header: bool,
    ) -> Result<std::result::Result<TypeId, Vec<TypeId>>> {
        if let Some(id) = self.exports.for_map(&map.name) {
            return Ok(Ok(id));
        }
        // Declarations that name no map apply if there is only one map.
        let is_only = self.event_maps().filter(|map| self.sent_to(map).next().is_some()).count() == 1;
        let named = if by_header && is_only { self.outermost(candidates)? } else { Vec::new() };
        let exported = if is_only { self.exports.for_any_map() } else { Vec::new() };
        let (mut types, mut hints, mut is_ambiguous) = (Vec::new(), Vec::<TypeId>::new(), false);
        for sent in self.sent_to(map) {
            match self.type_of_record(map, sent, &exported, &named) {
                Ok(id) if types.iter().any(|known| record_type::same(self.dwarf, *known, id)) => {}
                Ok(id) => types.push(id),
                Err(possible) => {
                    is_ambiguous = true;
                    hints.extend(possible);
                }
            }
        }
        if let ([one], false) = (&types[..], is_ambiguous) {
            return Ok(Ok(*one));
        }
        types.extend(hints);
        Ok(Err(types))
    }

    /// The type of the record that one call sends. If it is ambiguous, the error is the list of possible types. `exported`
    /// and `named` are used if neither the call nor the map's definition has a type.
    fn type_of_record(
        &self,
        map: &Map,
        sent: &Sent,
        exported: &[TypeId],
        named: &[TypeId],
    ) -> std::result::Result<TypeId, Vec<TypeId>> {
        // The only one of `ids` that fits the record.
        let fitting = |ids: &[TypeId]| {
            let mut fitting = ids.iter().filter(|id| record_type::fits(self.dwarf, **id, sent.size));
            let first = fitting.next().copied();
            first.filter(|_| fitting.next().is_none())
        };
        let declared = self.value_type(map).filter(|id| !self.is_contradicted(*id, &sent.hints));
        let declared = fitting(&declared.into_iter().collect::<Vec<_>>());
        // A package cannot name a struct or union that is declared without tag and typedef.
        let known = sent.known.filter(|id| self.has_name(*id));
        let id = match (known, declared) {
            (Some(known), Some(declared)) => self.reconcile(known, declared),
            (known, declared) => known.or(declared).or_else(|| fitting(exported)).or_else(|| fitting(named)),
        };
        id.ok_or_else(|| {
            let unnamed = sent.known.filter(|_| known.is_none());
            let mut possible: Vec<TypeId> =
                unnamed.into_iter().flat_map(|id| self.member_types(id)).collect();
            possible.extend(known.into_iter().chain(declared));
            possible.extend(&sent.hints);
            possible
        })
    }

    fn has_name(&self, id: TypeId) -> bool {
        record_type::composite(self.dwarf, id).is_none() || self.item(id).is_some()
    }

    /// The types of the members of a struct or union.
    fn member_types(&self, id: TypeId) -> Vec<TypeId> {
        let composite = record_type::composite(self.dwarf, id);
        composite.into_iter().flat_map(|composite| composite.members).filter_map(|member| member.id).collect()
    }

    /// Compares the type that a call sends with the one in the map's definition. Returns the more specific one; `None` if
    /// they contradict each other.
    fn reconcile(&self, sent: TypeId, declared: TypeId) -> Option<TypeId> {
        let is_part = |one: TypeId, other: TypeId| record_type::begins_with(self.dwarf, one, other);
        let is_struct = |id: TypeId| record_type::composite(self.dwarf, id).is_some();
        if !is_struct(declared) {
            // The definition of a scalar is more specific than the call, unless the call sends a struct.
            return Some(if is_struct(sent) { sent } else { declared });
        }
        let agree = is_part(sent, declared) || is_part(declared, sent);
        agree.then_some(if is_struct(sent) { sent } else { declared })
    }

    /// Whether a record may have struct types, and the declared type is not one of them.
    fn is_contradicted(&self, declared: TypeId, hints: &[TypeId]) -> bool {
        let is_part = |one: TypeId, other: TypeId| record_type::begins_with(self.dwarf, one, other);
        let mut structs =
            hints.iter().filter(|id| record_type::composite(self.dwarf, **id).is_some()).peekable();
        structs.peek().is_some() && !structs.any(|id| is_part(*id, declared) || is_part(declared, *id))
    }

    /// The value type in the definition of a ring buffer. The values of a perf buffer are file descriptors.
    fn value_type(&self, map: &Map) -> Option<TypeId> {
        let declared = self.dwarf.declarations.iter().find(|item| item.name == map.name)?;
        send_calls::type_in_definition(self.dwarf, declared.written?, "value").filter(|_| map.kind == RINGBUF)
    }

    /// The calls that may send to a map.
    fn sent_to<'b>(&'b self, map: &'b Map) -> impl Iterator<Item = &'b Sent> {
        let is_to = |sent: &&Sent| sent.map.as_ref().map_or(sent.kind == map.kind, |name| *name == map.name);
        self.sent.iter().filter(is_to)
    }

    fn event_maps(&self) -> impl Iterator<Item = &Map> {
        let is_event_map = |map: &&Map| matches!(map.kind, PERF_EVENT_ARRAY | RINGBUF);
        let is_sampled = |map: &&Map| self.sampled.contains(&map.name.as_str());
        self.opened.maps.iter().filter(move |map| is_event_map(map) && !is_sampled(map))
    }

    /// Those of `structs` that are not part of another one.
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

    /// The value types of sampled maps, which other loaders require.
    fn sampled_values<'b>(
        &'b self,
        candidates: &'b [&Struct],
        btf: &'b Btf,
    ) -> impl Iterator<Item = TypeId> + 'b {
        let maps = self.opened.maps.iter().filter(|map| self.sampled.contains(&map.name.as_str()));
        let names: Vec<String> = maps.map(|map| struct_name(btf, map.value)).collect();
        candidates.iter().filter(move |item| names.contains(&item.name)).map(|item| item.id)
    }

    /// Adds the chosen types to `btf` and `events`.
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

    /// The named struct or union behind typedefs and qualifiers.
    fn item(&self, id: TypeId) -> Option<&Struct> {
        let plain = self.dwarf.unnamed(Some(id))?;
        self.dwarf.structs.iter().find(|item| item.id == plain)
    }

    /// A warning that lists the possible types of a map's events: first those with evidence, then structs of the same
    /// size, then larger ones, because a record may end early.
    fn ambiguity(
        &self,
        map: &Map,
        possible: &[TypeId],
        candidates: &[&Struct],
        header: Option<&Path>,
    ) -> String {
        let sizes: Vec<Option<u32>> = self.sent_to(map).map(|sent| sent.size).collect();
        let is_equal = |item: &&&Struct| sizes.contains(&Some(item.size));
        let is_larger = |item: &&&Struct| {
            sizes.iter().any(|size| record_type::fits(self.dwarf, item.id, *size)) && !is_equal(item)
        };
        let listed = candidates.iter().filter(is_equal).chain(candidates.iter().filter(is_larger));
        let mut ids: Vec<TypeId> = Vec::new();
        for id in possible.iter().copied().chain(listed.map(|item| item.id)) {
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
            ([], None) => format!("map \"{name}\": no struct in the program's own files fits its events"),
            _ => format!(
                "map \"{name}\": ambiguous event type, candidates: {}; add the line /// @export {name} above the right one, \
                 or pass the header that defines it",
                names.join(", ")
            ),
        }
    }

    /// The name of a type, and where it is defined.
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
