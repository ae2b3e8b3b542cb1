//! The comments of struct members: `@format`, which selects how a member is printed, and the description.
//!
//! A member is identified by the tag (or typedef) of its struct and its path, which has several steps inside structs
//! without a tag. The library looks formats up by the same names, wherever the struct is part of an event, a key or a
//! value.

use std::collections::BTreeMap;
use std::path::Path;

use eunomia::types::{MemberFormats, NO_STRUCT};
use serde_json::{Map, Value};

use crate::analysis::doc_comment::{SourceFiles, annotations};
use crate::error::Result;
use crate::object::btf::Btf;
use crate::object::dwarf::{Composite, Dwarf, Member, Place, Type, TypeId};

/// Deeper nesting than in any handwritten type.
const MAX_DEPTH: u32 = 64;

/// Formats and descriptions, by struct and path of the member.
#[derive(Default)]
pub struct Members {
    notes: BTreeMap<(String, String), Note>,
    pub warnings: Vec<String>,
}

/// The content of one member's comment.
struct Note {
    place: Place,
    format: Option<String>,
    description: Option<Value>,
}

impl Members {
    /// Reads the comments of the members of all structs in files for which `is_own` is true. Formats are kept for structs
    /// in `btf`, if they fit the type of the member.
    pub fn read(dwarf: &Dwarf, is_own: impl Fn(&Path) -> bool, btf: &Btf) -> Result<Members> {
        let mut reader = Reader { dwarf, sources: SourceFiles::default(), members: Members::default() };
        for item in dwarf.structs.iter().filter(|item| is_own(&item.place.file)) {
            reader.composite(item.id, &item.name, "", 0)?;
        }
        let mut members = reader.members;
        members.check(btf)?;
        Ok(members)
    }

    /// Adds the comments of another source. Several sources may include the same header.
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

    /// Removes the formats that do not fit.
    fn check(&mut self, btf: &Btf) -> Result<()> {
        let btf = eunomia::btf::Btf::parse(&btf.to_bytes()).map_err(|error| error.to_string())?;
        let formats: Vec<[String; 3]> = self
            .notes
            .iter()
            .filter_map(|((structure, path), note)| {
                Some([structure.clone(), path.clone(), note.format.clone()?])
            })
            .collect();
        let mut formats = formats.iter().map(|[structure, path, name]| [&**structure, &**path, &**name]);
        MemberFormats::new(&btf, &mut formats, &mut |[structure, path, name], reason| {
            let note = self.notes.get_mut(&(structure.to_string(), path.to_string()));
            let Some(note) = note else { return };
            note.format = None;
            // A struct that the program does not use is not in the BTF. That needs no warning.
            if reason != NO_STRUCT {
                let (file, line) = (note.place.file.display(), note.place.line);
                self.warnings.push(format!("{file}:{line}: {path}: @format {name}: {reason}; ignored"));
            }
        });
        Ok(())
    }

    /// The formats as the package stores them: by struct, then by member.
    pub fn formats(&self) -> Map<String, Value> {
        let mut structs = Map::new();
        for ((structure, path), note) in &self.notes {
            let Some(format) = &note.format else { continue };
            let members = structs.entry(structure).or_insert_with(|| Map::new().into());
            members[path] = format.as_str().into();
        }
        structs
    }

    /// The description of a member.
    pub fn description(&self, structure: &str, member: &str) -> Option<&Value> {
        self.notes.get(&(structure.into(), member.into()))?.description.as_ref()
    }
}

struct Reader<'a, 'd> {
    dwarf: &'a Dwarf<'d>,
    sources: SourceFiles,
    members: Members,
}

impl Reader<'_, '_> {
    /// Reads the members of a struct or union, including those of untagged ones inside it. `prefix` is the path to it.
    fn composite(&mut self, id: TypeId, structure: &str, prefix: &str, depth: u32) -> Result<()> {
        let Type::Composite(Composite { members, .. }) = self.dwarf.get(id)? else { return Ok(()) };
        for member in members.iter().filter(|_| depth < MAX_DEPTH) {
            let separator = if prefix.is_empty() || member.name.is_empty() { "" } else { "." };
            let path = format!("{prefix}{separator}{}", member.name);
            self.note(structure, &path, member);
            let Some(inner) = self.dwarf.embedded(member.id)? else { continue };
            match self.dwarf.get(inner)? {
                // The caller visits structs with a name of their own.
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
        let source = self.sources.get(&place.file);
        let Some(text) = source.comment(&member.name, place.line, None) else { return };
        let mut found = annotations(&text.text);
        let format = found.remove("format").map(|format| match format {
            Value::String(name) => name,
            other => other.to_string(),
        });
        // The format is one word. Text that follows it is the description.
        let format = format.as_deref().map(|text| text.split_once(char::is_whitespace).unwrap_or((text, "")));
        let rest = format.map(|(_, rest)| rest.trim()).filter(|rest| !rest.is_empty());
        let description = found.remove("description").or(rest.map(Value::from));
        let format = format.map(|(name, _)| name.to_owned());
        let note = Note { place: place.clone(), format, description };
        self.members.notes.insert((structure.into(), path.into()), note);
    }
}
