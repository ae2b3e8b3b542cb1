//! Builds the metadata of a package: the `meta` object of layout F2.

use serde_json::{Map, Value, json};

use crate::analysis::alternatives::Group;
use crate::analysis::annotations::{Annotations, is_struct_name};
use crate::analysis::events::Events;
use crate::analysis::members::Members;
use crate::object::btf::{self, Btf};
use crate::object::elf::Elf;
use crate::object::libbpf::Opened;

/// The kernel's tools truncate longer object names.
const MAX_NAME: usize = 63;
/// The object's name as libbpf derives it: characters other than letters and digits are replaced.
pub fn object_name(stem: &[u8]) -> String {
    let bytes = stem.iter().chain(b"_bpf").take(MAX_NAME);
    bytes.map(|&byte| if byte.is_ascii_alphanumeric() { byte as char } else { '_' }).collect()
}

/// The inputs of the metadata.
pub struct Parts<'a> {
    pub object_name: &'a str,
    pub elf: &'a Elf<'a>,
    pub btf: &'a Btf,
    pub opened: &'a Opened,
    pub annotations: &'a Annotations,
    pub events: &'a Events,
    pub members: &'a Members,
    pub alternatives: &'a [Group],
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

    /// The formats of members: from `@format`, and from `@intepreter` above a map, the older way to mark members as stacks.
    fn formats(&self) -> Map<String, Value> {
        let mut formats = self.members.formats();
        for map in &self.opened.maps {
            let found = self.annotations.get(&map.name);
            let interpreter = ["intepreter", "interpreter"].iter().find_map(|key| found.get(*key));
            let Some(stacks) = interpreter.and_then(|value| value.get("stack_trace")) else { continue };
            let by_map = self.events.by_map.iter().find(|(name, _)| *name == map.name).map(|(_, id)| id);
            let only = self.events.types.first().filter(|_| self.events.types.len() == 1).map(|(id, _)| id);
            let Some(id) = by_map.or(only) else { continue };
            let members = self.btf.members(*id);
            for stack in ["kstack", "ustack"] {
                let name = stacks["field_map"][stack].as_str().unwrap_or(stack);
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
            entry.extend(self.annotations.get(&global.name));
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
            let mut found = self.annotations.get(&map.name);
            found.retain(|key, value| key != "export_config" || !value.as_str().is_some_and(is_struct_name));
            entry.extend(found);
            if let Some(Value::Object(sample)) = entry.get_mut("sample") {
                // Loaders have different defaults.
                sample.entry("clear_map").or_insert(false.into());
            }
            entry.into()
        });
        maps.collect()
    }

    fn programs(&self) -> Vec<Value> {
        let programs = self.opened.programs.iter().map(|program| {
            let mut entry = object(json!({ "name": program.name, "attach": program.section, "link": true }));
            if let Some(other) = self.alternatives.iter().find_map(|group| group.instead_of(&program.name)) {
                entry.insert("instead_of".into(), other.into());
            }
            entry.extend(self.annotations.get(&program.name));
            entry.into()
        });
        programs.collect()
    }

    /// The comment above the license. It describes the program.
    fn doc(&self) -> Map<String, Value> {
        let licenses = self.elf.globals().into_iter().filter(|global| global.section == "license");
        licenses.flat_map(|global| self.annotations.get(&global.name)).collect()
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

    /// The C name of a member's type; `composite` for a nested struct or union.
    fn member_text(&self, id: u32) -> String {
        match self.btf.kind(self.btf.unqualified(id)) {
            btf::STRUCT | btf::UNION => "composite".into(),
            _ => self.btf.type_text(id),
        }
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// Whether `section` is `name` or begins with it and a dot: `.rodata` and `.rodata.str1.1`, but not `.rodatax`.
fn is_section(section: &str, name: &str) -> bool {
    section.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The C name of a map for global variables: `rodata` for `opensnoo.rodata`, `rodata_str1_1` for `.rodata.str1.1`.
fn internal_ident(name: &str) -> String {
    let sections = [".data", ".rodata", ".bss", ".kconfig"];
    let start = sections.iter().filter_map(|section| name.find(section)).min().map_or(0, |dot| dot + 1);
    name[start..].chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}
