//! Reads the published JSON layouts. All of them are converted to layout F2:
//!
//! | layout | object | metadata |
//! |---|---|---|
//! | F0, F1 | `data`: base64 of the ELF | on the top level: `maps`, `progs`, `runtime_args` |
//! | F2 | `bpf_object`: base64 of zlib of the ELF | under `meta`; the draft has no `bpf_object_size` |
//! | F2-skel | in a separate file | only the `meta` object |

use serde_json::{Map, Value};

use super::foreign;
use super::json_value::{Node, error};
use super::meta::Meta;
use super::object::{self, MAX_OBJECT};
use super::object_encoding;
use super::{MAX_DOCUMENT, Package, machine, members};
use crate::error::{Error, Hint, Result};
use crate::memory;

/// Maximum number of values in a document. Values take several times as much memory as their JSON.
const MAX_VALUES: usize = 1 << 17;
/// Maximum number of bytes of memory for a value without its string. An object with one member needs the most.
const VALUE_SIZE: usize = 1024;

/// The usual compression ratio of an object.
const TYPICAL_RATIO: usize = 4;

impl Package {
    /// Reads a JSON package of any published layout: F0, F1, F2, and the draft of F2.
    pub fn parse(data: &[u8]) -> Result<Package> {
        package(document(data)?)
    }

    /// Creates a package from an object and its metadata (a `.skel.json`). Without metadata, only the BTF of the object is
    /// used.
    pub fn from_object(object: &[u8], meta_json: Option<&str>) -> Result<Package> {
        object::check(object, "object")?;
        match meta_json {
            Some(text) => read_f2_skel(memory::copy(object)?, document(text.as_bytes())?),
            None => Package::build(object, members([("bpf_skel", members([]))])),
        }
    }

    /// Creates a package from an object and a `meta` object of layout F2.
    pub fn build(object: &[u8], meta: Value) -> Result<Package> {
        object::check(object, "object")?;
        build(memory::copy(object)?, meta, "meta")
    }
}

/// Parses the JSON object in `data`.
fn document(data: &[u8]) -> Result<Value> {
    if data.len() > MAX_DOCUMENT {
        return Err(error(format_args!("{} bytes, and at most {MAX_DOCUMENT} are read", data.len())));
    }
    let data = data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data);
    let text = data.trim_ascii_start();
    if text.is_empty() {
        return Err(error("the package is empty"));
    }
    if let Some(what) = foreign::kind(data) {
        return Err(error(format_args!("this is {what}")));
    }
    if text[0] != b'{' {
        return Err(error("not a package: expected a JSON object, which begins with {"));
    }
    // Also counts these bytes inside strings, which makes the limit stricter; base64 does not contain them.
    let values = text.iter().filter(|byte| matches!(byte, b',' | b'[' | b'{')).count();
    if values > MAX_VALUES {
        return Err(error(format_args!("more than {MAX_VALUES} JSON values")));
    }
    memory::check_available(data.len() + values * VALUE_SIZE)?;
    serde_json::from_slice(data).map_err(syntax)
}

fn syntax(failure: serde_json::Error) -> Error {
    let (line, column) = (failure.line(), failure.column());
    let position = format!("line {line}, column {column}");
    if failure.is_eof() {
        return error(format_args!("{position}: the JSON is truncated"));
    }
    let text = failure.to_string();
    let reason = text.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&text);
    error(format_args!("{position}: {reason}"))
}

/// Reads a document that contains object and metadata.
fn package(document: Value) -> Result<Package> {
    if document.get("bpf_object").is_some() {
        read_f2(document)
    } else if document.get("data").is_some() {
        read_f1(document)
    } else if document.get("bpf_skel").is_some() {
        Err(error("this is metadata without its object").with_hint(Hint::OpenObject))
    } else {
        Err(error("not a package: it has neither bpf_object nor data"))
    }
}

/// Reads layout F2 and its draft.
fn read_f2(mut document: Value) -> Result<Package> {
    machine::select_object(&mut document)?;
    let data = take_base64(&mut document, "bpf_object")?;
    let top = Node::new(&document, "");
    let meta = top.required("meta")?.object()?;
    let is_draft = meta.get("export_types").is_some_and(|types| types.value.is_object());
    let size = match top.get("bpf_object_size") {
        None if is_draft => None,
        _ => Some(top.required("bpf_object_size")?),
    };
    let object = inflate(&data, size, "bpf_object")?;
    object::check(&object, "bpf_object")?;
    let skel = meta.required("bpf_skel")?.object()?;
    let meta = Meta::read(&meta, &skel, &[meta.get("runtime_args"), top.get("runtime_args")])?;
    Ok(Package { object, meta, document })
}

/// Decodes the base64 string at `key`, and replaces it with null.
fn take_base64(document: &mut Value, key: &str) -> Result<Vec<u8>> {
    match document[key].take() {
        Value::String(text) => object_encoding::decode(&text).map_err(|failure| failure.at(key)),
        other => Err(Node::new(&other, key).expected("a base64 string")),
    }
}

/// Inflates an object or kernel BTF. `path` is its path in the document, for messages.
pub(super) fn inflate(data: &[u8], size: Option<Node>, path: &str) -> Result<Vec<u8>> {
    let limit = size.as_ref().map_or(Ok(MAX_OBJECT), declared_size)?;
    let expected = if size.is_some() { limit } else { TYPICAL_RATIO * data.len() };
    let object = object_encoding::inflate(data, expected, limit).map_err(|failure| failure.at(path))?;
    match (object, size) {
        (Some(object), Some(size)) if object.len() != limit => {
            Err(size.error(format_args!("{limit}, but the object inflates to {} bytes", object.len())))
        }
        (Some(object), _) => Ok(object),
        (None, Some(size)) => Err(size.error(format_args!("{limit}, but the object inflates to more"))),
        (None, None) => Err(error(format_args!("{path}: inflates to more than {MAX_OBJECT} bytes"))),
    }
}

fn declared_size(size: &Node) -> Result<usize> {
    let declared = size.u64_at_least(0)?;
    let fits = usize::try_from(declared).ok().filter(|declared| *declared <= MAX_OBJECT);
    fits.ok_or_else(|| size.error(format_args!("{declared} bytes, and at most {MAX_OBJECT} are read")))
}

/// Creates a package from an object and a `meta` object, whose path is `path`.
fn build(object: Vec<u8>, meta: Value, path: &str) -> Result<Package> {
    let document = with_meta(meta);
    let node = Node::new(&document["meta"], path).object()?;
    let meta = Meta::read(&node, &node.required("bpf_skel")?.object()?, &[node.get("runtime_args")])?;
    Ok(Package { object, meta, document })
}

/// Reads layout F2-skel, a document that is only the `meta` object.
fn read_f2_skel(object: Vec<u8>, meta: Value) -> Result<Package> {
    if meta.get("bpf_object").is_some() || meta.get("data").is_some() {
        return Err(error("this is a whole package, not the metadata of an object; eunomia_open opens it"));
    }
    build(object, meta, "")
}

fn with_meta(meta: Value) -> Value {
    members([("bpf_object", Value::Null), ("bpf_object_size", Value::Null), ("meta", meta)])
}

/// Reads layouts F0 and F1. The metadata is moved to its position in F2; other keys stay where they are.
fn read_f1(mut document: Value) -> Result<Package> {
    let object = take_base64(&mut document, "data")?;
    let top = Node::new(&document, "");
    let size = top.required("data_sz")?;
    let declared = declared_size(&size)?;
    if declared != object.len() {
        return Err(size.error(format_args!("{declared}, but the object has {} bytes", object.len())));
    }
    object::check(&object, "data")?;
    let skel = f1_skeleton(&top)?;
    let meta = Meta::read(&Node::new(&Value::Null, ""), &Node::new(&skel, ""), &[])?;
    let document = f1_document(&document, skel);
    Ok(Package { object, meta, document })
}

fn f1_document(f1: &Value, skel: Value) -> Value {
    const MOVED: [&str; 8] =
        ["data", "data_sz", "name", "version", "description", "maps", "progs", "runtime_args"];
    let mut document = with_meta(members([("bpf_skel", skel), ("export_types", Vec::<Value>::new().into())]));
    for (key, value) in f1.as_object().into_iter().flatten() {
        if !MOVED.contains(&key.as_str()) && document.get(key).is_none() {
            document[key] = value.clone();
        }
    }
    document
}

fn f1_skeleton(top: &Node) -> Result<Value> {
    let string = |key| top.optional_string(key).map(|text| text.map_or(Value::Null, Value::from));
    let maps = top.list("maps")?;
    Ok(members([
        ("obj_name", top.optional_string("name")?.unwrap_or_default().into()),
        ("doc", members([("version", string("version")?), ("description", string("description")?)])),
        ("data_sections", f1_sections(&maps, top.get("runtime_args"))?.into()),
        ("maps", converted(&maps, convert_f1_map)),
        ("progs", converted(&top.list("progs")?, convert_f1_prog)),
    ]))
}

/// Returns copies of the entries, converted. [`Meta`] reports entries that are not objects.
fn converted(entries: &[Node], convert: fn(&mut Map<String, Value>)) -> Value {
    let mut entries: Vec<Value> = entries.iter().map(|entry| entry.value.clone()).collect();
    entries.iter_mut().filter_map(Value::as_object_mut).for_each(convert);
    entries.into()
}

/// Converts a map entry of F1 to F2. `type` and `export_data_types` stay; [`Meta`] reads them.
fn convert_f1_map(entry: &mut Map<String, Value>) {
    // Null means absent. The value is replaced, because removing the entry would link code that nothing else in the
    // library uses.
    if let Some(data) = entry.get_mut("sec_data") {
        *data = Value::Null;
    }
    if let Some(name) = entry.get("name").and_then(Value::as_str) {
        let ident = internal_section(name).map_or(name, |section| &section[1..]);
        let ident = ident.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
        entry.insert("ident".into(), ident.into());
    }
}

/// Converts a program entry of F1 to F2. F1 does not contain the section; libbpf reads it from the object.
fn convert_f1_prog(entry: &mut Map<String, Value>) {
    entry.insert("attach".into(), "".into());
    entry.insert("link".into(), true.into());
}

/// Returns the global variables of F1. They are in the map of their section, their values in `runtime_args`. Values for
/// names that are not global variables are ignored, as the loaders of F1 did.
fn f1_sections(maps: &[Node], args: Option<Node>) -> Result<Vec<Value>> {
    let args = args.map(Node::object).transpose()?.map(|args| args.value);
    let mut sections = Vec::new();
    for map in maps {
        let name = map.value.get("name").and_then(Value::as_str).unwrap_or_default();
        let Some(section) = internal_section(name) else { continue };
        let variables = map.list("sec_data")?;
        let mut values = Vec::with_capacity(variables.len());
        for variable in &variables {
            values.push(f1_variable(variable, args)?);
        }
        sections.push(members([("name", section.into()), ("variables", values.into())]));
    }
    Ok(sections)
}

fn f1_variable(node: &Node, values: Option<&Value>) -> Result<Value> {
    let (name, type_text) = (node.required_name("name")?, node.required_string("type")?);
    let value = values.and_then(|values| values.get(&name)).cloned().unwrap_or_default();
    Ok(members([("name", name.into()), ("type", type_text.into()), ("value", value)]))
}

/// Returns `.rodata` for `client_b.rodata`, and `None` for a map that the program declares.
fn internal_section(name: &str) -> Option<&str> {
    name.find('.').map(|dot| &name[dot..])
}
