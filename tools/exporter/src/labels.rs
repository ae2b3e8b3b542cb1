//! The labels of a metric, compiled for the records of one type: the bytes that distinguish series, and their text.

use std::collections::BTreeMap;
use std::sync::Arc;

use eunomia::types::{Field, Kind, Type, ValueFormat};
use eunomia_records::column::Column;
use eunomia_records::field;
use regex_lite::Regex;
use serde_saphyr::Spanned;

use crate::config::{Label, Problem};
use crate::lookup::Lookup;

/// The values of all labels of a series.
pub type Values = Box<[Box<str>]>;

/// Maximum length of a label value in bytes; the rest is cut off.
const MAX_VALUE: usize = 1024;

/// The labels of a metric.
pub struct Labels {
    /// Their names.
    pub names: Vec<String>,
    parts: Vec<Part>,
}

/// One label.
struct Part {
    source: Source,
    /// Strings that replace values.
    values: BTreeMap<String, String>,
    regexp: Option<Regex>,
}

enum Source {
    Constant(String),
    /// A string, up to its NUL.
    Text {
        field: Field,
        is_quoted: bool,
    },
    /// Whole bytes, formatted as a table shows them, or as JSON.
    Value {
        field: Field,
        column: Box<Column>,
        is_json: bool,
    },
    /// A number that the kernel has a name for.
    Named {
        field: Field,
        lookup: Lookup,
    },
}

/// The settings for compiling labels.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The type of the records.
    pub record: &'a Arc<Type>,
    /// Whether the records are entries of a map, with the members `key` and `value`.
    pub is_entry: bool,
    /// Whether strings have quotes, as in eunomia-bpf.
    pub is_quoted: bool,
}

impl Labels {
    /// Compiles labels. If `cpu` is set, adds the label with the CPU of an entry of a per-CPU map.
    pub fn new(list: &[Spanned<Label>], cpu: bool, context: Context) -> Result<Labels, Problem> {
        let mut labels = Labels { names: Vec::new(), parts: Vec::new() };
        for entry in list {
            let label = &entry.value;
            let part = Part::new(label, context).map_err(|why| {
                Problem::at(entry.referenced, format_args!("label {:?}: {why}", label.name))
            })?;
            labels.names.push(label.name.clone());
            labels.parts.push(part);
        }
        if cpu {
            let label = Label { name: "cpu".into(), ..Label::default() };
            let part = Part::new(&label, context).map_err(|_| Problem {
                line: 0,
                column: 0,
                text: "cpu: the map does not have a value for each CPU".into(),
            })?;
            labels.names.push(label.name);
            labels.parts.push(part);
        }
        Ok(labels)
    }

    /// Appends the bytes that the values depend on. Equal bytes give equal values.
    pub fn key(&self, record: &[u8], out: &mut Vec<u8>) {
        for part in &self.parts {
            match &part.source {
                Source::Constant(_) => {}
                Source::Text { field, .. } => {
                    out.extend_from_slice(field::text(field, record));
                    out.push(0);
                }
                Source::Value { field, .. } | Source::Named { field, .. } => append(field, record, out),
            }
        }
    }

    /// The values as text; `None` if a regular expression does not match, so the record is not counted.
    pub fn values(&self, record: &[u8]) -> Option<Values> {
        self.parts.iter().map(|part| part.value(record)).collect()
    }

    /// The values of the series that all others are folded into.
    pub fn other(&self) -> Values {
        let value = |part: &Part| match &part.source {
            Source::Constant(value) => value.as_str().into(),
            _ => "other".into(),
        };
        self.parts.iter().map(value).collect()
    }
}

/// Appends the bytes of a value that is not a string.
fn append(field: &Field, record: &[u8], out: &mut Vec<u8>) {
    if field.is_bit_field() {
        out.extend_from_slice(&field::integer(field, record).to_ne_bytes());
        return;
    }
    let start = (field.bit_offset / 8) as usize;
    match record.get(start..start + field.ty.size) {
        Some(bytes) => out.extend_from_slice(bytes),
        None => out.extend(field::bytes(field, record)),
    }
}

impl Part {
    fn new(label: &Label, context: Context) -> Result<Part, String> {
        let regexp = label.regexp.as_deref().map(Regex::new).transpose();
        let regexp = regexp.map_err(|error| format!("regexp: {error}"))?;
        let source = match &label.value {
            Some(value) => Source::Constant(value.clone()),
            None => Source::new(label, context)?,
        };
        Ok(Part { source, values: label.values.clone(), regexp })
    }

    fn value(&self, record: &[u8]) -> Option<Box<str>> {
        let text = self.source.text(record);
        let text = match &self.regexp {
            Some(regexp) => {
                let captures = regexp.captures(&text)?;
                captures.get(1).or(captures.get(0)).map_or("", |found| found.as_str()).to_owned()
            }
            None => text,
        };
        let text = self.values.get(&text).cloned().unwrap_or(text);
        let end = (0..=text.len().min(MAX_VALUE)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        Some(text[..end].into())
    }
}

impl Source {
    fn new(label: &Label, context: Context) -> Result<Source, String> {
        let mut field = find(context.record, label.field(), context.is_entry)?;
        if let Some(lookup) = Lookup::find(&label.format) {
            return match is_integer(&field.ty) {
                true => Ok(Source::Named { field, lookup }),
                false => Err(format!("as: {} requires an integer", label.format)),
            };
        }
        if !label.format.is_empty() {
            field.ty = formatted(&field.ty, &label.format)?;
        }
        if field.ty.is_string() && field.ty.format.is_none() {
            return Ok(Source::Text { field, is_quoted: context.is_quoted });
        }
        if matches!(field.ty.kind, Kind::Struct | Kind::Union) && field.ty.format.is_none() {
            let inner = field::names(&field.ty).join(", ");
            return Err(format!("{:?} is a struct; choose one of its fields: {inner}", label.field()));
        }
        let column = column(&field, context.record)?;
        Ok(Source::Value { field, column: Box::new(column), is_json: context.is_quoted })
    }

    fn text(&self, record: &[u8]) -> String {
        match self {
            Source::Constant(value) => value.clone(),
            Source::Text { field, is_quoted } => {
                let text = String::from_utf8_lossy(field::text(field, record));
                if *is_quoted {
                    serde_json::Value::from(text.as_ref()).to_string()
                } else {
                    text.into_owned()
                }
            }
            Source::Value { column, is_json, .. } => {
                let mut out = Vec::new();
                if *is_json {
                    column.json_member(record, &mut out);
                    out.drain(..(column.name.len() + "\"\":".len()).min(out.len()));
                } else {
                    column.text(record, &mut out);
                }
                String::from_utf8_lossy(&out).into_owned()
            }
            Source::Named { field, lookup } => lookup.name(field::integer(field, record)),
        }
    }
}

/// Finds a field. In entries of a map, `key.` and `value.` can be left out. A key that is not a struct is the field `key`.
pub fn find(record: &Arc<Type>, name: &str, is_entry: bool) -> Result<Field, String> {
    let direct = field::find(record, name);
    if let (Err(error), true) = (&direct, is_entry) {
        for outer in ["key", "value"] {
            if let Ok(found) = field::find(record, &format!("{outer}.{name}")) {
                return Ok(found);
            }
        }
        let inner = |outer: &str| field::find(record, outer).map(|field| field::names(&field.ty));
        let names = [inner("key").unwrap_or_default(), inner("value").unwrap_or_default()].concat();
        if names.is_empty() {
            return Err(format!("{error}; write from: key"));
        }
        return Err(format!("{error}; key and value have: {}", names.join(", ")));
    }
    direct.map_err(|error| error.to_string())
}

/// Formats one field.
fn column(field: &Field, record: &Type) -> Result<Column, String> {
    let member = Field { name: "value".into(), ..field.clone() };
    let ty =
        Type::structure("record", record.size, vec![member]).map_err(|error| error.message().to_owned())?;
    let columns = Column::of(&ty, &["value".to_owned()]).map_err(|error| error.to_string())?;
    columns.into_iter().next().ok_or_else(|| "it cannot be formatted".into())
}

/// Whether a type is an integer.
pub fn is_integer(ty: &Type) -> bool {
    matches!(ty.kind, Kind::Int | Kind::Uint | Kind::Enum | Kind::Bool | Kind::Char)
}

/// Returns the type with the format that the configuration gives to it.
fn formatted(ty: &Arc<Type>, name: &str) -> Result<Arc<Type>, String> {
    let Some(format) = ValueFormat::from_name(name) else {
        if name == "uint" && is_integer(ty) {
            // The number of a constant, a boolean or a character.
            let mut plain = (**ty).clone();
            (plain.kind, plain.signed, plain.fields, plain.format) = (Kind::Uint, false, [].into(), None);
            return Ok(Arc::new(plain));
        }
        if name == "uint" || name == "string" {
            // The type of the field already determines how it is shown.
            return Ok(Arc::clone(ty));
        }
        let (formats, lookups) = (ValueFormat::names().replace(' ', ", "), Lookup::words());
        return Err(format!("as: there is no format {name:?}; there are: {formats}, {lookups}"));
    };
    let is_bytes = ty.elem.as_ref().is_some_and(|elem| elem.size == 1);
    let (fits, requirement) = match format {
        ValueFormat::Ipv4 => (ty.size == 4, "4 bytes"),
        ValueFormat::Ipv6 => (ty.size == 16, "16 bytes"),
        ValueFormat::Mac => (ty.size == 6, "6 bytes"),
        ValueFormat::Ktime | ValueFormat::Duration => {
            (is_integer(ty) && ty.size == 8, "an integer of 64 bits")
        }
        ValueFormat::Hex => (is_integer(ty) || is_bytes || ty.kind == Kind::Pointer, "an integer or bytes"),
        ValueFormat::Stack => {
            (ty.elem.as_ref().is_some_and(|elem| elem.size == 8), "an array of 64-bit integers")
        }
        ValueFormat::Strings => (is_bytes, "an array of bytes"),
        _ => (is_integer(ty), "an integer"),
    };
    match fits {
        true => {
            let mut ty = (**ty).clone();
            ty.format = Some(format);
            Ok(Arc::new(ty))
        }
        false => Err(format!("as: {name} requires {requirement}, and the field is {}", ty.name)),
    }
}
