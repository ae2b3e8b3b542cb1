//! Converts labels: bytes at an offset become a field, and decoders become a format.

use std::sync::Arc;

use eunomia::types::{Kind, Type};
use serde_saphyr::Spanned;

use super::theirs::{Decoder, Label};
use super::{keys, yaml};
use crate::config::Problem;

/// Decoders that have a format of the same meaning.
const FORMATS: [(&str, &str); 12] = [
    ("cgroup", "cgroup"),
    ("errno", "errno"),
    ("hex", "hex"),
    ("ifname", "ifname"),
    ("kstack", "stack"),
    ("ksym", "ksym"),
    ("majorminor", "majorminor"),
    ("pci_class", "hex"),
    ("pci_device", "hex"),
    ("pci_subclass", "hex"),
    ("pci_vendor", "hex"),
    ("syscall", "syscall"),
];

/// The bytes that labels describe.
#[derive(Clone, Copy)]
pub struct Bytes<'a> {
    /// What they are, for messages: `key`, or `event`.
    pub what: &'a str,
    /// The path of their fields: `key` for entries of maps, empty for events.
    pub path: &'a str,
    /// Their type.
    pub ty: &'a Arc<Type>,
    /// Their number.
    pub size: usize,
}

/// A label, with the path and the type of its field.
pub type Member<'a> = (&'a Label, String, Arc<Type>);

/// Finds the field of each label.
pub fn fields<'a>(labels: &'a [Spanned<Label>], bytes: Bytes) -> Result<Vec<Member<'a>>, Problem> {
    let mut offset = 0_usize;
    let mut found = Vec::new();
    for entry in labels {
        let (label, size) = (&entry.value, entry.value.size as usize);
        let problem = |why: String| {
            let layout = keys::layout(bytes.ty);
            Problem::at(entry.referenced, format_args!("label {:?}: {why}; {layout}", label.name))
        };
        if size == 0 {
            return Err(problem("has no size".into()));
        }
        let member = keys::member(bytes.path, bytes.ty, offset, size);
        let (path, ty) = member
            .ok_or_else(|| problem(format!("the {} has no field of {size} bytes at {offset}", bytes.what)))?;
        found.push((label, path, ty));
        offset = offset.saturating_add(size).saturating_add(label.padding as usize);
    }
    match (offset == bytes.size, labels.last()) {
        (false, Some(last)) => Err(Problem::at(
            last.referenced,
            format_args!(
                "the labels have {offset} bytes with their padding, and the {} has {}; {}",
                bytes.what,
                bytes.size,
                keys::layout(bytes.ty)
            ),
        )),
        _ => Ok(found),
    }
}

/// A label of the exporter.
pub fn convert(label: &Label, path: String, ty: &Type) -> Result<String, Problem> {
    let mut pairs = vec![("name", yaml::scalar(&label.name))];
    if path != label.name {
        pairs.push(("from", yaml::scalar(&path)));
    }
    for (index, entry) in label.decoders.iter().enumerate() {
        let decoder = &entry.value;
        let (key, value) = match step(decoder, label, ty) {
            Ok(None) => continue,
            Ok(Some(pair)) => pair,
            Err(why) => {
                return Err(Problem::at(entry.referenced, format_args!("label {:?}: {why}", label.name)));
            }
        };
        let is_after = |key: &str| pairs.iter().any(|(known, _)| *known == key);
        if key == "as" && index > 0 || key == "regexp" && is_after("values") || is_after(key) {
            let text = format!(
                "label {:?}: decoder {}: the exporter applies a format, then a regexp, then a static_map",
                label.name, decoder.name
            );
            return Err(Problem::at(entry.referenced, text));
        }
        pairs.push((key, value));
    }
    Ok(yaml::mapping(&pairs))
}

/// What a decoder becomes: a key and its value.
fn step(decoder: &Decoder, label: &Label, ty: &Type) -> Result<Option<(&'static str, String)>, String> {
    let name = &*decoder.name;
    if let Some((_, format)) = FORMATS.iter().find(|(known, _)| *known == name) {
        return Ok(Some(("as", (*format).to_owned())));
    }
    match name {
        // The exporter shows names of constants, and characters.
        "uint" if matches!(ty.kind, Kind::Enum | Kind::Bool | Kind::Char) => {
            Ok(Some(("as", "uint".to_owned())))
        }
        "uint" | "string" => Ok(None),
        "inet_ip" => match label.size {
            4 => Ok(Some(("as", "ipv4".to_owned()))),
            16 => Ok(Some(("as", "ipv6".to_owned()))),
            size => Err(format!("decoder inet_ip: an address has 4 or 16 bytes, not {size}")),
        },
        "static_map" => {
            let pairs: Vec<String> = decoder
                .static_map
                .iter()
                .map(|(value, text)| format!("{}: {}", serde_json::Value::from(&**value), yaml::scalar(text)))
                .collect();
            Ok(Some(("values", format!("{{{}}}", pairs.join(", ")))))
        }
        "regexp" if decoder.regexps.is_empty() => Err("decoder regexp: there are no regexps".into()),
        "regexp" => {
            // It selects values and does not change them, so the first group is the whole value.
            let any = format!("(?s)^(.*(?:{}).*)$", decoder.regexps.join("|"));
            Ok(Some(("regexp", serde_json::Value::from(any).to_string())))
        }
        "dname" => Err("decoder dname: the exporter does not decode domain names".into()),
        _ => Err(format!("unknown decoder {name:?}")),
    }
}

/// Whether values that a static map does not have are shown as `unknown:VALUE`, which the exporter does not do.
pub fn marks_unknown(label: &Label) -> bool {
    label.decoders.iter().any(|entry| entry.value.name == "static_map" && !entry.value.allow_unknown)
}
