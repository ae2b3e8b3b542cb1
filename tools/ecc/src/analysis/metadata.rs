//! The metadata of a package: the `meta` object of layout F2.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use eunomia::Subject;
use serde_json::{Map, Value, json};

use crate::analysis::alternatives::Chain;
use crate::analysis::doc_comment::{Source, TEXT_COMMANDS, annotations};
use crate::analysis::events::Events;
use crate::analysis::members::Members;
use crate::error::Result;
use crate::object::btf::{self, Btf};
use crate::object::dwarf::Dwarf;
use crate::object::elf::Elf;
use crate::object::libbpf::Opened;

/// Longest object name that the kernel's tools keep.
const MAX_NAME: usize = 63;
/// Keys that the compiler itself writes.
const OWN_KEYS: [&str; 6] = ["name", "type", "ident", "mmaped", "attach", "link"];

/// Annotations whose value is a JSON object.
const OBJECTS: [&str; 6] = ["cmdarg", "sample", "tchook", "tcopts", "xdpopts", "perf_event"];
/// Those whose value may be something else.
const OTHERS: [&str; 17] = [
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
    "cgroup",
    "autoload",
    "required",
    "instead_of",
    "format",
    "link",
];
/// Commands of documentation comments everywhere; copied, and nothing strange.
const OF_DOXYGEN: [&str; 14] = [
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

/// What comments say of each declaration.
#[derive(Default)]
pub struct Comments {
    by_name: HashMap<String, Map<String, Value>>,
    /// File and line of each annotation: of which declaration, and its key.
    places: HashMap<(String, String), String>,
    /// What could not be taken over.
    pub warnings: Vec<String>,
}

impl Comments {
    /// Reads the comments of all declarations in files that `own` accepts.
    pub fn read(dwarf: &Dwarf, own: impl Fn(&Path) -> bool) -> Result<Comments> {
        let mut comments = Comments::default();
        let mut sources: HashMap<&PathBuf, Source> = HashMap::new();
        for declaration in dwarf.declarations.iter().filter(|declaration| own(&declaration.place.file)) {
            let source = sources.entry(&declaration.place.file).or_insert_with_key(|file| {
                Source::parse(&String::from_utf8_lossy(&fs::read(file).unwrap_or_default()))
            });
            let body = declaration.body.as_ref().map(|body| body.line);
            if let Some(comment) = source.comment(&declaration.name, declaration.place.line, body) {
                let mut found = annotations(&comment.text);
                let file = declaration.place.file.display();
                let place = |key: &str| format!("{file}:{}", comment.line_of(key));
                comments.check(&mut found, &place, &declaration.name)?;
                let key_places =
                    found.keys().map(|key| ((declaration.name.clone(), key.clone()), place(key)));
                comments.places.extend(key_places);
                comments.by_name.insert(declaration.name.clone(), found);
            }
        }
        Ok(comments)
    }

    /// Takes over what other sources of the same program say, where that is new.
    pub fn merge(&mut self, other: Comments) {
        for (name, found) in other.by_name {
            let known = self.by_name.entry(name).or_default();
            for (key, value) in found {
                known.entry(key).or_insert(value);
            }
        }
        self.places.extend(other.places);
        for warning in other.warnings {
            // A header may be part of several sources.
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
                return Err(format!("{}: {}", at(), no_object(value)).into());
            } else if OWN_KEYS.contains(&key.as_str()) {
                self.warnings.push(format!("{} is not for annotations, ignored", at()));
            } else if looks_like_json(value) && !is_text {
                self.warnings.push(format!("{}: not valid JSON, kept as text", at()));
            } else if !is_text && ![&OBJECTS[..], &OTHERS, &OF_DOXYGEN].concat().contains(&key.as_str()) {
                self.warnings.push(format!("{}: no annotation that ecc knows, copied as it is", at()));
            }
        }
        found.retain(|key, _| !OWN_KEYS.contains(&key.as_str()));
        Ok(())
    }

    /// The names of the maps that are to be sampled.
    pub fn sampled(&self) -> Vec<&str> {
        let sampled = self.by_name.iter().filter(|(_, found)| found.contains_key("sample"));
        sampled.map(|(name, _)| name.as_str()).collect()
    }

    /// The maps whose `@export_config` is the name of a struct: map, name and place.
    pub fn export_configs(&self) -> Vec<(&str, &str, String)> {
        let configs = self.by_name.iter().filter_map(|(name, found)| {
            let text = found.get("export_config")?.as_str().filter(|text| is_struct_name(text))?;
            Some((name.as_str(), text, self.place(name, "export_config")?.to_owned()))
        });
        configs.collect()
    }

    fn place(&self, name: &str, key: &str) -> Option<&str> {
        self.places.get(&(name.to_owned(), key.to_owned())).map(String::as_str)
    }

    /// The library's error about a package, with the source line of the annotation that it is about.
    pub fn locate(&self, meta: &Value, error: &eunomia::Error) -> Option<String> {
        let reason = error.reason();
        let path = match error.subject.as_ref()? {
            Subject::Variable(name) => {
                let of_key = |key| Some((key, self.place(name, key)?));
                let (key, place) = of_key("value").or_else(|| of_key("cmdarg"))?;
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

    /// Whether the source itself says when a program is used.
    pub fn choose(&self, program: &str) -> bool {
        let found = self.by_name.get(program);
        found.is_some_and(|found| found.contains_key("instead_of") || found.contains_key("autoload"))
    }

    /// Whether the source itself has a program stand in for another one.
    pub fn name_as_stand_in(&self, program: &str) -> bool {
        self.by_name.values().any(|found| found.get("instead_of").is_some_and(|of| of == program))
    }

    fn of(&self, name: &str) -> Map<String, Value> {
        self.by_name.get(name).cloned().unwrap_or_default()
    }
}

/// The name that libbpf gives an object: letters and digits, the rest replaced.
pub fn object_name(stem: &[u8]) -> String {
    let bytes = stem.iter().chain(b"_bpf").take(MAX_NAME);
    bytes.map(|&byte| if byte.is_ascii_alphanumeric() { byte as char } else { '_' }).collect()
}

/// The parts that the metadata is made of.
pub struct Parts<'a> {
    pub object_name: &'a str,
    pub elf: &'a Elf<'a>,
    pub btf: &'a Btf,
    pub opened: &'a Opened,
    pub comments: &'a Comments,
    pub events: &'a Events,
    pub members: &'a Members,
    pub chains: &'a [Chain<'a>],
}

impl Parts<'_> {
    /// The whole `meta` object.
    pub fn meta(&self) -> Value {
        let mut skeleton = json!({
            "obj_name": self.object_name,
            "data_sections": self.data_sections(),
            "maps": self.maps(),
            "progs": self.programs(),
        });
        let doc = self.doc();
        if !doc.is_empty() {
            skeleton["doc"] = doc.into();
        }
        let mut meta = json!({
            "bpf_skel": skeleton,
            "export_types": self.export_types(),
            "eunomia_version": env!("CARGO_PKG_VERSION"),
        });
        let formats = self.formats();
        if !formats.is_empty() {
            meta["formats"] = formats.into();
        }
        meta
    }

    /// What the comments of members say. `@intepreter`, the older way to say which members are stacks, says it of a map.
    fn formats(&self) -> Map<String, Value> {
        let mut formats = self.members.formats();
        for map in &self.opened.maps {
            let comments = self.comments.of(&map.name);
            let told = ["intepreter", "interpreter"].iter().find_map(|key| comments.get(*key));
            let Some(told) = told.and_then(|told| told.get("stack_trace")) else { continue };
            let by_map = self.events.by_map.iter().find(|(name, _)| *name == map.name).map(|(_, id)| id);
            let only = self.events.types.first().filter(|_| self.events.types.len() == 1).map(|(id, _)| id);
            let Some(id) = by_map.or(only) else { continue };
            let members = self.btf.members(*id);
            for stack in ["kstack", "ustack"] {
                let name = told["field_map"][stack].as_str().unwrap_or(stack);
                if members.iter().any(|member| member.name == name && self.is_stack(member.id)) {
                    let of_struct = formats.entry(self.btf.name(*id)).or_insert_with(|| Map::new().into());
                    if of_struct[name].is_null() {
                        of_struct[name] = "stack".into();
                    }
                }
            }
        }
        formats
    }

    /// Whether a type is an array of 64-bit integers.
    fn is_stack(&self, id: u32) -> bool {
        let element = self.btf.element(self.btf.resolve(id)).map(|id| self.btf.resolve(id));
        element.is_some_and(|id| self.btf.kind(id) == btf::INT && self.btf.arg(id) == 8)
    }

    fn data_sections(&self) -> Vec<Value> {
        let mut sections: Vec<(String, Vec<Value>)> = Vec::new();
        for global in self.elf.globals() {
            let settable = [".rodata", ".data", ".bss"].iter().any(|name| is_section(&global.section, name));
            let Some(variable) = self.btf.find(btf::VAR, &global.name).filter(|_| settable) else { continue };
            let type_text = self.btf.type_text(self.btf.arg(variable));
            let mut entry = object(json!({ "name": global.name, "type": type_text }));
            entry.extend(self.comments.of(&global.name));
            if sections.last().is_none_or(|(name, _)| *name != global.section) {
                sections.push((global.section, Vec::new()));
            }
            if let Some((_, variables)) = sections.last_mut() {
                variables.push(entry.into());
            }
        }
        sections
            .into_iter()
            .map(|(name, variables)| json!({ "name": name, "variables": variables }))
            .collect()
    }

    fn maps(&self) -> Vec<Value> {
        let maps = self.opened.maps.iter().map(|map| {
            if map.internal {
                let mut entry = object(json!({ "name": map.name, "ident": internal_ident(&map.name) }));
                entry.extend(map.mmapable.then(|| ("mmaped".to_string(), true.into())));
                return entry.into();
            }
            let mut entry = object(json!({ "name": map.name, "ident": map.name }));
            if let Some((_, id)) = self.events.by_map.iter().find(|(name, _)| *name == map.name) {
                entry.insert("export_config".into(), json!({ "btf_type_id": id }));
            }
            let mut comments = self.comments.of(&map.name);
            comments
                .retain(|key, value| key != "export_config" || !value.as_str().is_some_and(is_struct_name));
            entry.extend(comments);
            if let Some(Value::Object(sample)) = entry.get_mut("sample") {
                // Loaders disagree on what holds if it is missing.
                sample.entry("clear_map").or_insert(false.into());
            }
            entry.into()
        });
        maps.collect()
    }

    fn programs(&self) -> Vec<Value> {
        let programs = self.opened.programs.iter().map(|program| {
            let mut entry = object(json!({ "name": program.name, "attach": program.section, "link": true }));
            if let Some(other) = self.chains.iter().find_map(|chain| chain.instead_of(&program.name)) {
                entry.insert("instead_of".into(), other.into());
            }
            entry.extend(self.comments.of(&program.name));
            entry.into()
        });
        programs.collect()
    }

    /// The comment of the license: it describes the program.
    fn doc(&self) -> Map<String, Value> {
        let licenses = self.elf.globals().into_iter().filter(|global| global.section == "license");
        licenses.flat_map(|global| self.comments.of(&global.name)).collect()
    }

    fn export_types(&self) -> Vec<Value> {
        let types = self.events.types.iter().map(|(id, name)| {
            let members = self.btf.members(*id);
            let members: Vec<_> = members
                .iter()
                .filter(|_| matches!(self.btf.kind(*id), btf::STRUCT | btf::UNION))
                .map(|member| {
                    let mut entry = json!({ "name": member.name, "type": self.member_text(member.id) });
                    if let Some(description) = self.members.description(name, &member.name) {
                        entry["description"] = description.clone();
                    }
                    entry
                })
                .collect();
            json!({ "name": name, "size": self.btf.size(*id), "type_id": id, "members": members })
        });
        types.collect()
    }

    /// A nested struct or union is the word `composite`.
    fn member_text(&self, id: u32) -> String {
        match self.btf.kind(self.btf.unqualified(id)) {
            btf::STRUCT | btf::UNION => "composite".into(),
            _ => self.btf.type_text(id),
        }
    }
}

/// Whether the text of `@export_config` names a struct: else it is one of the format's own words.
fn is_struct_name(text: &str) -> bool {
    !matches!(text, "no_export" | "default") && !text.starts_with(['{', '['])
}

/// What is wrong with a value that has to be an object.
fn no_object(value: &Value) -> String {
    let Some(text) = value.as_str() else { return format!("expected a JSON object, found {value}") };
    match serde_json::from_str::<Value>(text) {
        Err(error) => {
            // The place it names is one in the value with its lines joined.
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

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// `.rodata` and `.rodata.str1.1`, but not `.rodatax`.
fn is_section(section: &str, name: &str) -> bool {
    section.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// `opensnoo.rodata` is known as `rodata`, `.rodata.str1.1` as `rodata_str1_1`.
fn internal_ident(name: &str) -> String {
    let sections = [".data", ".rodata", ".bss", ".kconfig"];
    let start = sections.iter().filter_map(|section| name.find(section)).min().map_or(0, |dot| dot + 1);
    name[start..].chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}
