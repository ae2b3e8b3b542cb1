//! Which types the source itself calls events: `@export` above a type, `@export_config NAME` above a map.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::analysis::doc_comment::{Source, annotations};
use crate::analysis::record_type;
use crate::error::Result;
use crate::object::dwarf::{Dwarf, TypeId};

/// A type with `@export` above it.
pub struct Export {
    pub id: TypeId,
    /// The map whose events they are, if that is said.
    pub map: Option<String>,
}

/// What the source says of the types of events.
#[derive(Default)]
pub struct Exports {
    pub types: Vec<Export>,
    /// Maps with the type that `@export_config` names.
    maps: Vec<(String, TypeId)>,
}

impl Exports {
    /// Looks above the types in files that `own` accepts. `configs` are the texts of `@export_config` with the map
    /// and the place of each.
    pub fn read(
        dwarf: &Dwarf,
        own: impl Fn(&Path) -> bool,
        configs: &[(&str, &str, String)],
    ) -> Result<Exports> {
        let mut exports = Exports::default();
        let mut sources: HashMap<&PathBuf, Source> = HashMap::new();
        let named = || dwarf.structs.iter().chain(&dwarf.scalars);
        for item in named().filter(|item| own(&item.place.file) && item.place.line > 0) {
            let source = sources.entry(&item.place.file).or_insert_with_key(|file| {
                Source::parse(&String::from_utf8_lossy(&fs::read(file).unwrap_or_default()))
            });
            let Some(comment) = source.comment(&item.name, item.place.line, None) else { continue };
            if let Some((map, id)) = exported(&comment.text).map(|map| (map, item.id)) {
                // A struct and its typedef have the same comment.
                if !exports.types.iter().any(|known| record_type::same(dwarf, known.id, id)) {
                    exports.types.push(Export { id, map });
                }
            }
        }
        for (map, name, place) in configs {
            let keyword = ["struct ", "union ", "enum "].iter().find_map(|word| name.strip_prefix(word));
            let tag = keyword.unwrap_or(name).trim();
            let found = named().find(|item| item.name == tag);
            let id = found.map(|item| item.id).ok_or_else(|| {
                format!("{place}: {map}: @export_config {name:?}: the program uses no struct of that name")
            })?;
            exports.maps.push((map.to_string(), id));
        }
        Ok(exports)
    }

    /// The type that a map's events are said to have.
    pub fn of_map(&self, map: &str) -> Option<TypeId> {
        let config = self.maps.iter().find(|(name, _)| name == map).map(|(_, id)| *id);
        let of_map = |export: &&Export| export.map.as_deref() == Some(map);
        config.or_else(|| self.types.iter().find(of_map).map(|export| export.id))
    }

    /// The types that `@export` stands above without a map.
    pub fn for_any_map(&self) -> Vec<TypeId> {
        self.types.iter().filter(|export| export.map.is_none()).map(|export| export.id).collect()
    }
}

/// Whether a comment has `@export`, and the map that is named behind it.
fn exported(comment: &str) -> Option<Option<String>> {
    if !comment.lines().any(|line| line.trim().split(char::is_whitespace).next() == Some("@export")) {
        return None;
    }
    let map = annotations(comment).get("export").and_then(Value::as_str).map(str::to_owned);
    Some(map.and_then(|text| text.split_whitespace().next().map(str::to_owned)))
}

#[cfg(test)]
mod tests {
    use super::exported;

    #[test]
    fn a_map_may_be_named() {
        assert_eq!(exported(" one call\n @export"), Some(None));
        assert_eq!(exported(" @export events"), Some(Some("events".into())));
        assert_eq!(exported(" @exported events"), None);
    }
}
