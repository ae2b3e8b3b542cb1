//! The published JSON layouts, one reader each. All of them end as layout F2:
//!
//! | layout | object | metadata |
//! |---|---|---|
//! | F0, F1 | `data`: base64 of the ELF | flat: `maps`, `progs`, `runtime_args` beside it |
//! | F2 | `bpf_object`: base64 of zlib of the ELF | under `meta`; the draft has no `bpf_object_size` |
//! | F2-skel | in a file of its own | the `meta` object alone |

use serde_json::{Map, Value};

use super::codec;
use super::meta::Meta;
use super::node::{Node, error};
use super::object::{self, MAX_OBJECT};
use super::{MAX_DOCUMENT, Package, machine, members};
use crate::error::{Error, Result};
use crate::memory;

/// Most values in a document: what they take in memory is a multiple of their text.
const MAX_VALUES: usize = 1 << 17;
/// Most bytes that a value takes in memory beside its text: an object of one member.
const VALUE_ROOM: usize = 1024;

/// By how much zlib makes an object smaller.
const USUAL_RATIO: usize = 4;

/// How other files than JSON texts begin.
const FOREIGN: &[(&[u8], &str)] = &[
    (b"\0asm", "a WASM module, and this build reads JSON packages only"),
    (b"\x7fELF", "an ELF object without metadata; eunomia_open_object opens it"),
    (b"\x1f\x8b", "a gzip file; unpack it first"),
    (b"PK\x03\x04", "a zip archive; unpack it first"),
    (b"\xfd7zXZ", "an xz file; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a zstd file; unpack it first"),
    (b"\xff\xfe", "UTF-16 text; packages are UTF-8"),
    (b"\xfe\xff", "UTF-16 text; packages are UTF-8"),
    (b"<", "HTML or XML, perhaps the error page of a download"),
];
const TAR_MAGIC: (usize, &[u8]) = (257, b"ustar");

impl Package {
    /// Reads a JSON package of any published layout: F0, F1, F2, and the draft of F2.
    pub fn parse(data: &[u8]) -> Result<Package> {
        package(document(data)?)
    }

    /// Puts a separate object and its metadata (a `.skel.json`) together; without metadata the object's BTF
    /// has to tell everything.
    pub fn from_object(object: &[u8], meta_json: Option<&str>) -> Result<Package> {
        object::check(object, "object")?;
        match meta_json {
            Some(text) => skeleton(memory::copy(object)?, document(text.as_bytes())?),
            None => Package::build(object, members([("bpf_skel", members([]))])),
        }
    }

    /// Makes a package of an object and the `meta` object of layout F2, for [`Package::to_json`] to write.
    pub fn build(object: &[u8], meta: Value) -> Result<Package> {
        object::check(object, "object")?;
        build(memory::copy(object)?, meta, "meta")
    }
}

/// The JSON object that `data` holds.
fn document(data: &[u8]) -> Result<Value> {
    if data.len() > MAX_DOCUMENT {
        return Err(error(format_args!("{} bytes, and at most {MAX_DOCUMENT} are read", data.len())));
    }
    let data = data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data);
    let text = data.trim_ascii_start();
    if text.is_empty() {
        return Err(error("the package is empty"));
    }
    if let Some((_, what)) = FOREIGN.iter().find(|(magic, _)| text.starts_with(magic)) {
        return Err(error(format_args!("this is {what}")));
    }
    if data.get(TAR_MAGIC.0..).is_some_and(|rest| rest.starts_with(TAR_MAGIC.1)) {
        return Err(error("this is a tar archive; the package.json inside is what can be opened"));
    }
    if text[0] != b'{' {
        return Err(error("not a package: a JSON object has to begin with {"));
    }
    // Inside texts these bytes count as well, which makes the bound stricter, never looser; base64 has none.
    let values = text.iter().filter(|byte| matches!(byte, b',' | b'[' | b'{')).count();
    if values > MAX_VALUES {
        return Err(error(format_args!("more than {MAX_VALUES} JSON values")));
    }
    memory::check_available(data.len() + values * VALUE_ROOM)?;
    serde_json::from_slice(data).map_err(syntax)
}

fn syntax(failure: serde_json::Error) -> Error {
    let (line, column) = (failure.line(), failure.column());
    let place = format!("line {line}, column {column}");
    if failure.is_eof() {
        return error(format_args!("{place}: the JSON text is cut off"));
    }
    let text = failure.to_string();
    let reason = text.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&text);
    error(format_args!("{place}: {reason}"))
}

/// A document that should hold everything.
fn package(document: Value) -> Result<Package> {
    if document.get("bpf_object").is_some() {
        nested(document)
    } else if document.get("data").is_some() {
        flat(document)
    } else if document.get("bpf_skel").is_some() {
        Err(error("this is metadata without its object; eunomia_open_object opens the two together"))
    } else {
        Err(error("not a package: it has neither bpf_object nor data"))
    }
}

/// Layout F2 and its draft.
fn nested(mut document: Value) -> Result<Package> {
    machine::choose(&mut document)?;
    let data = decode(&mut document, "bpf_object")?;
    let top = Node::new(&document, "");
    let meta = top.need("meta")?.object()?;
    let is_draft = meta.get("export_types").is_some_and(|types| types.value.is_object());
    let size = match top.get("bpf_object_size") {
        None if is_draft => None,
        _ => Some(top.need("bpf_object_size")?),
    };
    let object = inflate(&data, size, "bpf_object")?;
    object::check(&object, "bpf_object")?;
    let skel = meta.need("bpf_skel")?.object()?;
    let meta = Meta::read(&meta, &skel, &[meta.get("runtime_args"), top.get("runtime_args")])?;
    Ok(Package { object, meta, document })
}

/// The bytes of the base64 text under `key`, which leaves a null in its place.
fn decode(document: &mut Value, key: &str) -> Result<Vec<u8>> {
    match document[key].take() {
        Value::String(text) => codec::decode(&text).map_err(|failure| failure.at(key)),
        other => Err(Node::new(&other, key).expected("a base64 text")),
    }
}

/// Inflates an object, or what else is written like one, which the document has under `path`.
pub(super) fn inflate(data: &[u8], size: Option<Node>, path: &str) -> Result<Vec<u8>> {
    let limit = size.as_ref().map_or(Ok(MAX_OBJECT), declared_size)?;
    let expected = if size.is_some() { limit } else { USUAL_RATIO * data.len() };
    let object = codec::inflate(data, expected, limit).map_err(|failure| failure.at(path))?;
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
    let declared = size.u64_from(0)?;
    let fits = usize::try_from(declared).ok().filter(|declared| *declared <= MAX_OBJECT);
    fits.ok_or_else(|| size.error(format_args!("{declared} bytes, and at most {MAX_OBJECT} are read")))
}

/// The `meta` object of layout F2 beside an object that is already there.
fn build(object: Vec<u8>, meta: Value, path: &str) -> Result<Package> {
    let document = with_meta(meta);
    let node = Node::new(&document["meta"], path).object()?;
    let meta = Meta::read(&node, &node.need("bpf_skel")?.object()?, &[node.get("runtime_args")])?;
    Ok(Package { object, meta, document })
}

/// Layout F2-skel: the same, but the document begins with the metadata, and so do the paths.
fn skeleton(object: Vec<u8>, meta: Value) -> Result<Package> {
    if meta.get("bpf_object").is_some() || meta.get("data").is_some() {
        return Err(error("this is a whole package, not the metadata of an object; eunomia_open opens it"));
    }
    build(object, meta, "")
}

fn with_meta(meta: Value) -> Value {
    members([("bpf_object", Value::Null), ("bpf_object_size", Value::Null), ("meta", meta)])
}

/// Layouts F0 and F1: the metadata is moved to where F2 has it; keys that F2 has no place for stay.
fn flat(mut document: Value) -> Result<Package> {
    let object = decode(&mut document, "data")?;
    let top = Node::new(&document, "");
    let size = top.need("data_sz")?;
    let declared = declared_size(&size)?;
    if declared != object.len() {
        return Err(size.error(format_args!("{declared}, but the object has {} bytes", object.len())));
    }
    object::check(&object, "data")?;
    let skel = flat_skeleton(&top)?;
    let meta = Meta::read(&Node::new(&Value::Null, ""), &Node::new(&skel, ""), &[])?;
    let document = flat_document(&document, skel);
    Ok(Package { object, meta, document })
}

fn flat_document(flat: &Value, skel: Value) -> Value {
    const MOVED: [&str; 8] =
        ["data", "data_sz", "name", "version", "description", "maps", "progs", "runtime_args"];
    let mut document = with_meta(members([("bpf_skel", skel), ("export_types", Vec::<Value>::new().into())]));
    for (key, value) in flat.as_object().into_iter().flatten() {
        if !MOVED.contains(&key.as_str()) && document.get(key).is_none() {
            document[key] = value.clone();
        }
    }
    document
}

fn flat_skeleton(top: &Node) -> Result<Value> {
    let text = |key| top.text_of(key).map(|text| text.map_or(Value::Null, Value::from));
    let maps = top.list("maps")?;
    Ok(members([
        ("obj_name", top.text_of("name")?.unwrap_or_default().into()),
        ("doc", members([("version", text("version")?), ("description", text("description")?)])),
        ("data_sections", flat_sections(&maps, top.get("runtime_args"))?.into()),
        ("maps", changed(&maps, flat_map)),
        ("progs", changed(&top.list("progs")?, flat_prog)),
    ]))
}

/// Copies of the entries; what is no object is left to [`Meta`] to complain about.
fn changed(entries: &[Node], change: fn(&mut Map<String, Value>)) -> Value {
    let mut entries: Vec<Value> = entries.iter().map(|entry| entry.value.clone()).collect();
    entries.iter_mut().filter_map(Value::as_object_mut).for_each(change);
    entries.into()
}

/// A map entry of F1 in the form of F2. `type` and `export_data_types` stay; [`Meta`] reads them there.
fn flat_map(entry: &mut Map<String, Value>) {
    // Null counts as absent. To remove the entry would bring in code that nothing else in the library needs.
    if let Some(data) = entry.get_mut("sec_data") {
        *data = Value::Null;
    }
    if let Some(name) = entry.get("name").and_then(Value::as_str) {
        let ident = internal_section(name).map_or(name, |section| &section[1..]);
        let ident = ident.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
        entry.insert("ident".into(), ident.into());
    }
}

/// Where libbpf attaches is told by the section in the object; F1 repeats it nowhere.
fn flat_prog(entry: &mut Map<String, Value>) {
    entry.insert("attach".into(), "".into());
    entry.insert("link".into(), true.into());
}

/// The globals of F1: they stand in the map of their section, and their values in `runtime_args`. Values
/// for names that are no globals are ignored, as the loaders of that layout did.
fn flat_sections(maps: &[Node], args: Option<Node>) -> Result<Vec<Value>> {
    let args = args.map(Node::object).transpose()?.map(|args| args.value);
    let mut sections = Vec::new();
    for map in maps {
        let name = map.value.get("name").and_then(Value::as_str).unwrap_or_default();
        let Some(section) = internal_section(name) else { continue };
        let variables = map.list("sec_data")?;
        let mut values = Vec::with_capacity(variables.len());
        for variable in &variables {
            values.push(flat_variable(variable, args)?);
        }
        sections.push(members([("name", section.into()), ("variables", values.into())]));
    }
    Ok(sections)
}

fn flat_variable(node: &Node, values: Option<&Value>) -> Result<Value> {
    let (name, type_text) = (node.need_name("name")?, node.need_text("type")?);
    let value = values.and_then(|values| values.get(&name)).cloned().unwrap_or_default();
    Ok(members([("name", name.into()), ("type", type_text.into()), ("value", value)]))
}

/// `.rodata` of `client_b.rodata`; none for a map that the program declares.
fn internal_section(name: &str) -> Option<&str> {
    name.find('.').map(|dot| &name[dot..])
}
