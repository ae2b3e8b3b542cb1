//! The annotations of all declarations: read from their comments, checked, and found again by declaration and key.

use std::collections::HashMap;
use std::path::Path;

use eunomia::Subject;
use serde_json::{Map, Value};

use crate::analysis::doc_comment::{SourceFiles, TEXT_COMMANDS, annotations};
use crate::error::Result;
use crate::object::dwarf::Dwarf;

/// Keys of the metadata that only the compiler writes.
const RESERVED: [&str; 6] = ["name", "type", "ident", "mmaped", "attach", "link"];
/// Annotations whose value must be a JSON object.
const OBJECTS: [&str; 6] = ["cmdarg", "sample", "tchook", "tcopts", "xdpopts", "perf_event"];
/// The other annotations, whose value may be of any type.
const OTHERS: [&str; 19] = [
    "export",
    "export_config",
    "intepreter",
    "interpreter",
    "value",
    "ifindex",
    "flags",
    "interface",
    "path",
    "func",
    "pid",
    "offset",
    "address",
    "build_id",
    "cgroup",
    "autoload",
    "required",
    "instead_of",
    "format",
];
/// Usual commands of documentation comments. They are copied without a warning.
const DOXYGEN: [&str; 14] = [
    "param",
    "return",
    "returns",
    "retval",
    "note",
    "see",
    "sa",
    "author",
    "file",
    "copyright",
    "license",
    "warning",
    "todo",
    "ref",
];

/// The annotations of each declaration.
#[derive(Default)]
pub struct Annotations {
    by_name: HashMap<String, Map<String, Value>>,
    /// File and line of each annotation, by declaration and key.
    places: HashMap<(String, String), String>,
    pub warnings: Vec<String>,
}

impl Annotations {
    /// Reads the comments of all declarations in files for which `is_own` is true.
    pub fn read(dwarf: &Dwarf, is_own: impl Fn(&Path) -> bool) -> Result<Annotations> {
        let mut read = Annotations::default();
        let mut sources = SourceFiles::default();
        for declaration in dwarf.declarations.iter().filter(|declaration| is_own(&declaration.place.file)) {
            let file = &declaration.place.file;
            let body = declaration.body.as_ref().map(|body| body.line);
            let comment = sources.get(file).comment(&declaration.name, declaration.place.line, body);
            let Some(comment) = comment else { continue };
            let mut found = annotations(&comment.text);
            let place = |key: &str| format!("{}:{}", file.display(), comment.line_of(key));
            read.check(&mut found, &place, &declaration.name)?;
            let name = &declaration.name;
            read.places.extend(found.keys().map(|key| ((name.clone(), key.clone()), place(key))));
            read.by_name.insert(name.clone(), found);
        }
        Ok(read)
    }

    /// Adds the annotations of another source of the same program. Those that are there already take precedence.
    pub fn merge(&mut self, other: Annotations) {
        for (name, found) in other.by_name {
            let known = self.by_name.entry(name).or_default();
            for (key, value) in found {
                known.entry(key).or_insert(value);
            }
        }
        self.places.extend(other.places);
        for warning in other.warnings {
            // Several sources may include the same header.
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
    }

    fn check(
        &mut self,
        found: &mut Map<String, Value>,
        place: &dyn Fn(&str) -> String,
        name: &str,
    ) -> Result<()> {
        for (key, value) in found.iter() {
            let at = || format!("{}: {name}: @{key}", place(key));
            let is_text = TEXT_COMMANDS.contains(&key.as_str());
            if OBJECTS.contains(&key.as_str()) && !value.is_object() {
                return Err(format!("{}: {}", at(), not_an_object(value)).into());
            } else if RESERVED.contains(&key.as_str()) {
                self.warnings.push(format!("{}: reserved key, ignored", at()));
            } else if looks_like_json(value) && !is_text {
                self.warnings.push(format!("{}: invalid JSON, kept as a string", at()));
            } else if !is_text && ![&OBJECTS[..], &OTHERS, &DOXYGEN].concat().contains(&key.as_str()) {
                self.warnings.push(format!("{}: unknown annotation, copied unchanged", at()));
            }
        }
        found.retain(|key, _| !RESERVED.contains(&key.as_str()));
        Ok(())
    }

    /// The annotations of one declaration.
    pub fn get(&self, name: &str) -> Map<String, Value> {
        self.by_name.get(name).cloned().unwrap_or_default()
    }

    /// The names of the maps with `@sample`.
    pub fn sampled_maps(&self) -> Vec<&str> {
        let sampled = self.by_name.iter().filter(|(_, found)| found.contains_key("sample"));
        sampled.map(|(name, _)| name.as_str()).collect()
    }

    /// The maps whose `@export_config` is the name of a struct: map, struct, and file with line.
    pub fn export_configs(&self) -> Vec<(&str, &str, String)> {
        let configs = self.by_name.iter().filter_map(|(name, found)| {
            let text = found.get("export_config")?.as_str().filter(|text| is_struct_name(text))?;
            Some((name.as_str(), text, self.place(name, "export_config")?.to_owned()))
        });
        configs.collect()
    }

    /// Whether the source specifies by annotations when a program is used.
    pub fn has_use_rule(&self, program: &str) -> bool {
        let found = self.by_name.get(program);
        found.is_some_and(|found| found.contains_key("instead_of") || found.contains_key("autoload"))
    }

    /// Whether an `@instead_of` names this program.
    pub fn is_fallback(&self, program: &str) -> bool {
        self.by_name.values().any(|found| found.get("instead_of").is_some_and(|name| name == program))
    }

    /// The library's error about a package, with file and line of the annotation that caused it. `None` if no
    /// annotation did.
    pub fn locate(&self, meta: &Value, error: &eunomia::Error) -> Option<String> {
        let reason = error.reason();
        let path = match error.subject()? {
            Subject::Variable(name) => {
                let with_place = |key| Some((key, self.place(name, key)?));
                let (key, place) = with_place("value").or_else(|| with_place("cmdarg"))?;
                return Some(format!("{place}: {name}: @{key}: {reason}"));
            }
            Subject::Metadata(path) => path.strip_prefix("meta.")?,
            _ => return None,
        };
        let mut steps = path.split(['.', '[']).map(|step| step.trim_end_matches(']'));
        let (mut value, mut name) = (meta, None);
        loop {
            let step = steps.next()?;
            if let Some(place) = name.and_then(|name| self.place(name, step)) {
                let inside = steps.map(|step| format!("{step}: ")).collect::<String>();
                return Some(format!("{place}: {}: @{step}: {inside}{reason}", name?));
            }
            value = step.parse().map_or_else(|_| &value[step], |index: usize| &value[index]);
            name = value["name"].as_str().or(name);
        }
    }

    fn place(&self, name: &str, key: &str) -> Option<&str> {
        self.places.get(&(name.to_owned(), key.to_owned())).map(String::as_str)
    }
}

/// Whether the value of `@export_config` names a struct. Otherwise it is a keyword of the package format.
pub fn is_struct_name(text: &str) -> bool {
    !matches!(text, "no_export" | "default") && !text.starts_with(['{', '['])
}

/// The reason why a value that must be an object is refused.
fn not_an_object(value: &Value) -> String {
    let Some(text) = value.as_str() else { return format!("expected a JSON object, found {value}") };
    match serde_json::from_str::<Value>(text) {
        Err(error) => {
            // The position in the message would mislead: the lines of the value have been joined.
            let reason = error.to_string();
            let reason = reason.split(" at line ").next().unwrap_or_default();
            format!("expected a JSON object, but {text} is not valid JSON: {reason}")
        }
        Ok(_) => format!("expected a JSON object, found {value}"),
    }
}

fn looks_like_json(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.starts_with(['{', '[']))
}
