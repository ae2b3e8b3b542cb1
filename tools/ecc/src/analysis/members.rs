//! What comments say of the members of structs: `@format`, how they are to be written, and what they are.
//!
//! A member is known by its struct's tag (or typedef) and, inside structs without one, by the way to it. The library
//! finds formats the same way, wherever the struct is part of an event, a key or a value.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use eunomia::types::{MemberFormats, NO_STRUCT};
use serde_json::{Map, Value};

use crate::analysis::doc_comment::{Source, annotations};
use crate::error::Result;
use crate::object::btf::Btf;
use crate::object::dwarf::{Composite, Dwarf, Member, Place, Type, TypeId};

/// Deeper nesting than any type has that a person wrote.
const MAX_DEPTH: u32 = 64;

/// What is known of members, by struct and way.
#[derive(Default)]
pub struct Members {
    notes: BTreeMap<(String, String), Note>,
    /// What could not be taken over.
    pub warnings: Vec<String>,
}

/// What the comment of one member says.
struct Note {
    place: Place,
    format: Option<String>,
    description: Option<Value>,
}

impl Members {
    /// Reads the comments of the members of all structs in files that `own` accepts. Formats are kept of those structs
    /// that `btf` has, if they fit there.
    pub fn read(dwarf: &Dwarf, own: impl Fn(&Path) -> bool, btf: &Btf) -> Result<Members> {
        let mut reader = Reader { dwarf, sources: HashMap::new(), members: Members::default() };
        for item in dwarf.structs.iter().filter(|item| own(&item.place.file)) {
            reader.composite(item.id, &item.name, "", 0)?;
        }
        let mut members = reader.members;
        members.check(btf)?;
        Ok(members)
    }

    /// Adds what another source says; a header may be part of several.
    pub fn merge(&mut self, other: Members) {
        for (member, note) in other.notes {
            self.notes.entry(member).or_insert(note);
        }
        for warning in other.warnings {
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
    }

    /// Leaves out the formats that no reader could follow.
    fn check(&mut self, btf: &Btf) -> Result<()> {
        let btf = eunomia::btf::Btf::parse(&btf.to_bytes()).map_err(|error| error.to_string())?;
        let told: Vec<[String; 3]> = self
            .notes
            .iter()
            .filter_map(|((structure, way), note)| {
                Some([structure.clone(), way.clone(), note.format.clone()?])
            })
            .collect();
        let mut requested = told.iter().map(|[structure, way, name]| [&**structure, &**way, &**name]);
        MemberFormats::new(&btf, &mut requested, &mut |[structure, way, name], reason| {
            let note = self.notes.get_mut(&(structure.to_string(), way.to_string()));
            let Some(note) = note else { return };
            note.format = None;
            // A struct that nothing uses is not in the BTF, and that is all right.
            if reason != NO_STRUCT {
                let (file, line) = (note.place.file.display(), note.place.line);
                self.warnings.push(format!("{file}:{line}: {way}: @format {name}: {reason}; ignored"));
            }
        });
        Ok(())
    }

    /// The formats as the package has them: by struct, by member.
    pub fn formats(&self) -> Map<String, Value> {
        let mut structs = Map::new();
        for ((structure, way), note) in &self.notes {
            let Some(format) = &note.format else { continue };
            let members = structs.entry(structure).or_insert_with(|| Map::new().into());
            members[way] = format.as_str().into();
        }
        structs
    }

    /// What a member is.
    pub fn description(&self, structure: &str, member: &str) -> Option<&Value> {
        self.notes.get(&(structure.into(), member.into()))?.description.as_ref()
    }
}

struct Reader<'a, 'd> {
    dwarf: &'a Dwarf<'d>,
    sources: HashMap<PathBuf, Source>,
    members: Members,
}

impl Reader<'_, '_> {
    /// The members of a struct or union, those of untagged ones inside it included; `way` leads there.
    fn composite(&mut self, id: TypeId, structure: &str, way: &str, depth: u32) -> Result<()> {
        let Type::Composite(Composite { members, .. }) = self.dwarf.get(id)? else { return Ok(()) };
        for member in members.iter().filter(|_| depth < MAX_DEPTH) {
            let separator = if way.is_empty() || member.name.is_empty() { "" } else { "." };
            let path = format!("{way}{separator}{}", member.name);
            self.note(structure, &path, member);
            let Some(inner) = self.dwarf.embedded(member.id)? else { continue };
            match self.dwarf.get(inner)? {
                // A struct is found by its own name.
                _ if self.dwarf.structs.iter().any(|item| item.id == inner) => {}
                Type::Composite(Composite { name, .. }) if name.is_empty() => {
                    self.composite(inner, structure, &path, depth + 1)?;
                }
                Type::Composite(Composite { name, .. }) => self.composite(inner, &name, "", depth + 1)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn note(&mut self, structure: &str, path: &str, member: &Member) {
        let Some(place) = member.place.as_ref().filter(|_| !member.name.is_empty()) else { return };
        let source = self.sources.entry(place.file.clone()).or_insert_with_key(|file| {
            Source::parse(&String::from_utf8_lossy(&fs::read(file).unwrap_or_default()))
        });
        let Some(text) = source.comment(&member.name, place.line, None) else { return };
        let mut found = annotations(&text.text);
        let format = found.remove("format").map(|format| match format {
            Value::String(name) => name,
            other => other.to_string(),
        });
        // One word; the lines behind it are for people.
        let format = format.as_deref().map(|text| text.split_once(char::is_whitespace).unwrap_or((text, "")));
        let rest = format.map(|(_, rest)| rest.trim()).filter(|rest| !rest.is_empty());
        let description = found.remove("description").or(rest.map(Value::from));
        let format = format.map(|(name, _)| name.to_owned());
        let note = Note { place: place.clone(), format, description };
        self.members.notes.insert((structure.into(), path.into()), note);
    }
}
