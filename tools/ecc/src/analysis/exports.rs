//! The event types that the source declares by annotations: `@export` above a type, `@export_config NAME` above a map.

use std::path::Path;

use serde_json::Value;

use crate::analysis::doc_comment::{SourceFiles, annotations};
use crate::analysis::record_type;
use crate::error::Result;
use crate::object::dwarf::{Dwarf, TypeId};

/// A type with `@export`.
pub struct Export {
    pub id: TypeId,
    /// The map whose events have this type, if `@export` names one.
    pub map: Option<String>,
}

/// The event types that a source declares.
#[derive(Default)]
pub struct Exports {
    pub types: Vec<Export>,
    /// Maps with the types that `@export_config` names.
    maps: Vec<(String, TypeId)>,
}

impl Exports {
    /// Reads the comments above types in files for which `is_own` is true. `configs` lists each `@export_config`: the map,
    /// the value, and file with line.
    pub fn read(
        dwarf: &Dwarf,
        is_own: impl Fn(&Path) -> bool,
        configs: &[(&str, &str, String)],
    ) -> Result<Exports> {
        let mut exports = Exports::default();
        let mut sources = SourceFiles::default();
        let named = || dwarf.structs.iter().chain(&dwarf.scalars);
        for item in named().filter(|item| is_own(&item.place.file) && item.place.line > 0) {
            let source = sources.get(&item.place.file);
            let Some(comment) = source.comment(&item.name, item.place.line, None) else { continue };
            if let Some((map, id)) = exported(&comment.text).map(|map| (map, item.id)) {
                // A struct and its typedef share a comment.
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
                format!("{place}: {map}: @export_config {name:?}: the program uses no struct with this name")
            })?;
            exports.maps.push((map.to_string(), id));
        }
        Ok(exports)
    }

    /// The declared type of a map's events.
    pub fn for_map(&self, map: &str) -> Option<TypeId> {
        let config = self.maps.iter().find(|(name, _)| name == map).map(|(_, id)| *id);
        let names_map = |export: &&Export| export.map.as_deref() == Some(map);
        config.or_else(|| self.types.iter().find(names_map).map(|export| export.id))
    }

    /// The types with an `@export` that names no map.
    pub fn for_any_map(&self) -> Vec<TypeId> {
        self.types.iter().filter(|export| export.map.is_none()).map(|export| export.id).collect()
    }
}

/// `None` if a comment has no `@export`; otherwise the map that follows it, if any.
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
    fn a_map_name_may_follow_export() {
        assert_eq!(exported(" one call\n @export"), Some(None));
        assert_eq!(exported(" @export events"), Some(Some("events".into())));
        assert_eq!(exported(" @exported events"), None);
    }
}
