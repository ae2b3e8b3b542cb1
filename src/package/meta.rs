//! The metadata of layout F2: variables, maps, programs, event types.
//!
//! Sizes and offsets in the metadata are ignored, because they are wrong in published packages. The strings with C types
//! are only shown; the types themselves are in the BTF of the object.

use serde_json::Value;

use super::json_value::{NameIndex, Node};
use super::target::Target;
use crate::error::Result;

/// Maximum number of programs with `instead_of`: each may cost an attempt to load the package.
const MAX_ALTERNATIVES: usize = 256;
/// The section of maps. A variable in this section means the number of entries of a map.
pub const MAPS: &str = ".maps";
/// The prefix of variables that compilers of eunomia-bpf add to keep a type in the BTF.
pub(super) const DUMMY_PREFIX: &str = "__eunomia_dummy";
/// Maximum number of members with formats: each is searched for whenever a type is built.
const MAX_FORMATS: usize = 256;

/// The metadata of a package.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Meta {
    /// The name of the object, such as `opensnoop_bpf`, or empty.
    pub obj_name: String,
    /// The documentation of the program.
    pub doc: Doc,
    /// Global variables.
    pub vars: Vec<VarMeta>,
    /// Maps, including those of the data sections.
    pub maps: Vec<MapMeta>,
    /// Programs.
    pub progs: Vec<ProgMeta>,
    /// Types of events.
    pub export_types: Vec<ExportType>,
    /// Formats of members.
    pub formats: Vec<MemberFormat>,
    /// Pages per CPU of a perf buffer, a power of two.
    pub perf_buffer_pages: Option<u32>,
    /// The timeout of a poll.
    pub poll_timeout_ms: Option<u32>,
    /// Whether to log the debug messages of libbpf.
    pub debug_verbose: bool,
}

/// The documentation of a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doc {
    /// Its version.
    pub version: Option<String>,
    /// A description in one line.
    pub brief: Option<String>,
    /// More details.
    pub details: Option<String>,
    /// A description, used if there is no `brief`.
    pub description: Option<String>,
}

/// A global variable.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VarMeta {
    /// Its section, such as `.rodata`; [`MAPS`] for the size of a map; empty if only `runtime_args` names the variable.
    pub section: String,
    /// Its name in C.
    pub name: String,
    /// Its C type; empty if only `runtime_args` names the variable.
    pub type_text: String,
    /// The value to set before load.
    pub value: Option<Value>,
    /// Its description.
    pub description: Option<String>,
    /// Its option on the command line.
    pub cmdarg: Option<CmdArg>,
}

/// The command-line option of a variable, or of the size of a map.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CmdArg {
    /// The default value.
    pub default: Option<Value>,
    /// The long name, without dashes.
    pub long: Option<String>,
    /// The short name.
    pub short: Option<char>,
    /// The help text.
    pub help: Option<String>,
}

/// A map.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MapMeta {
    /// Its name in libbpf, as the compiler expects it.
    pub name: String,
    /// Its name in C.
    pub ident: String,
    /// `BPF_MAP_TYPE_*`; only in layouts F0 and F1.
    pub type_text: Option<String>,
    /// The sampling of its entries; `None` if they are not sampled.
    pub sample: Option<Sample>,
    /// The type of its events.
    pub export: ExportConfig,
    /// The type of its events in layout F1.
    pub export_type: Option<ExportType>,
}

/// The type of the events of a map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExportConfig {
    /// Not specified.
    #[default]
    Unset,
    /// The map has no events.
    NoExport,
    /// The types in the BTF definition of the map.
    Default,
    /// A BTF type of the object; 0: the records have no type.
    BtfType(u32),
    /// A struct of members at the specified offsets.
    Members(Vec<CustomMember>),
}

/// A member of a struct that only the package describes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomMember {
    /// Its name.
    pub name: String,
    /// Its offset in bytes.
    pub offset: u32,
    /// Its type in the BTF of the object.
    pub btf_type_id: u32,
}

/// The sampling of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The time between two rounds.
    pub interval_ms: u32,
    /// The kind of its values.
    pub kind: SampleKind,
    /// The unit of a histogram.
    pub unit: String,
    /// Whether entries are deleted after each round.
    pub clear_map: bool,
}

/// The kind of the values of a sampled map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SampleKind {
    /// Plain values.
    #[default]
    DefaultKv,
    /// Histograms whose slots are powers of two.
    Log2Hist,
    /// Histograms whose slots have the same width.
    LinearHist,
}

/// A program.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProgMeta {
    /// Its name in C.
    pub name: String,
    /// Its section; empty in layouts F0 and F1.
    pub attach: String,
    /// Its target, as far as its section does not specify it.
    pub target: Target,
    /// Whether it is loaded by default; if not specified, its section decides.
    pub autoload: Option<bool>,
    /// Whether it is an error if the program cannot attach. If no program specifies it, at least one that delivers events
    /// must attach.
    pub required: Option<bool>,
    /// The program that this one replaces if that program cannot be loaded or attached.
    pub instead_of: Option<String>,
}

/// The type of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportType {
    /// Name of the struct.
    pub name: String,
    /// Its size in bytes; 0 if not specified.
    pub size: u32,
    /// Its id in the BTF of the object.
    pub type_id: Option<u32>,
    /// Its members.
    pub members: Vec<ExportMember>,
}

/// A member of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportMember {
    /// Its name.
    pub name: String,
    /// Its C type.
    pub type_text: String,
    /// Its LLVM type; only in layout F1.
    pub llvm_type: Option<String>,
    /// Its offset in bits; only in layout F1.
    pub bit_offset: Option<u32>,
}

/// The format of a member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberFormat {
    /// The tag of the struct or union, or its typedef.
    pub structure: String,
    /// The member; `args.saddr` for a member of a nested struct.
    pub member: String,
    /// The name of the format, not checked.
    pub format: String,
}

impl Meta {
    /// Reads a `meta` object and its `bpf_skel` object. `args` are values of variables by name; the last one takes
    /// precedence.
    pub(super) fn read(meta: &Node, skel: &Node, args: &[Option<Node>]) -> Result<Meta> {
        let mut read = Meta {
            obj_name: skel.optional_string("obj_name")?.unwrap_or_default(),
            doc: skel.get("doc").map_or(Ok(Doc::default()), doc)?,
            vars: variables(skel)?,
            maps: read_all(skel.list("maps")?, map)?,
            progs: read_all(skel.list("progs")?, program)?,
            export_types: export_types(meta)?,
            formats: formats(meta)?,
            perf_buffer_pages: meta.optional("perf_buffer_pages", buffer_pages)?,
            poll_timeout_ms: meta.optional_u32("poll_timeout_ms", 0)?,
            debug_verbose: meta.flag("debug_verbose")?,
        };
        // Data sections with long names may have the same shortened map name. Other names contain no dot.
        check_unique(&skel.list("maps")?, |name| !name.contains('.'))?;
        check_unique(&skel.list("progs")?, |_| true)?;
        check_alternatives(&read.progs, &read.prog_index(), &skel.list("progs")?)?;
        for args in args.iter().flatten() {
            read.set_values(args)?;
        }
        Ok(read)
    }

    /// Returns the index of each program by name.
    pub fn prog_index(&self) -> NameIndex {
        let mut index_by_name = NameIndex::default();
        for (index, prog) in self.progs.iter().enumerate() {
            index_by_name.insert(&prog.name, index);
        }
        index_by_name
    }

    /// Sets values of variables. Unknown names are added, because the object may have variables that the metadata lacks.
    fn set_values(&mut self, args: &Node) -> Result<()> {
        let mut known = NameIndex::default();
        for (index, variable) in self.vars.iter().enumerate() {
            known.insert(&variable.name, index);
        }
        for (name, value) in args.members()? {
            let value = Some(value.clone());
            match known.get(name) {
                Some(index) => self.vars[index].value = value,
                None => self.vars.push(VarMeta { name: name.clone(), value, ..VarMeta::default() }),
            }
        }
        Ok(())
    }
}

fn buffer_pages(node: &Node) -> Result<u32> {
    let pages = node.u32_at_least(0)?;
    if pages.is_power_of_two() { Ok(pages) } else { Err(node.expected("a power of two")) }
}

fn read_all<T>(nodes: Vec<Node>, read: fn(Node) -> Result<T>) -> Result<Vec<T>> {
    let mut all = Vec::with_capacity(nodes.len());
    for node in nodes {
        all.push(read(node.object()?)?);
    }
    Ok(all)
}

/// Refuses a name that two entries have, if `is_relevant` accepts it.
fn check_unique(entries: &[Node], is_relevant: fn(&str) -> bool) -> Result<()> {
    let mut seen = NameIndex::default();
    for (index, entry) in entries.iter().enumerate() {
        let Some(name) = entry.value.get("name").and_then(Value::as_str).filter(|name| is_relevant(name))
        else {
            continue;
        };
        if let Some(first) = seen.insert(name, index) {
            return Err(entry
                .member("name")
                .error(format_args!("{name:?} is already used at {}.name", entries[first])));
        }
    }
    Ok(())
}

fn doc(node: Node) -> Result<Doc> {
    let node = node.object()?;
    Ok(Doc {
        version: node.optional_string("version")?,
        brief: node.optional_string("brief")?,
        details: node.optional_string("details")?,
        description: node.optional_string("description")?,
    })
}

fn variables(skel: &Node) -> Result<Vec<VarMeta>> {
    let sections = skel.list("data_sections")?;
    let (mut variables, mut entries) = (Vec::new(), Vec::new());
    for section in &sections {
        let name = section.object()?.required_name("name")?;
        for entry in section.list("variables")? {
            variables.push(variable(entry.object()?, &name)?);
            entries.push(entry);
        }
        section.check_count(variables.len())?;
    }
    check_unique(&entries, |_| true)?;
    for map in skel.list("maps")? {
        let map = map.object()?;
        if map.get("cmdarg").is_some() {
            let description = map.optional_string("description")?;
            variables.push(VarMeta {
                section: MAPS.into(),
                name: map.required_name("name")?,
                type_text: "max_entries".into(),
                value: None,
                description: description
                    .or_else(|| Some("Entries of the map, or bytes of a ring buffer".into())),
                cmdarg: map.optional("cmdarg", cmdarg)?,
            });
        }
    }
    Ok(variables)
}

fn variable(node: Node, section: &str) -> Result<VarMeta> {
    Ok(VarMeta {
        section: section.to_owned(),
        name: node.required_name("name")?,
        type_text: node.required_string("type")?,
        value: node.get("value").map(|value| value.value.clone()),
        description: node.optional_string("description")?,
        cmdarg: node.optional("cmdarg", cmdarg)?,
    })
}

fn cmdarg(node: &Node) -> Result<CmdArg> {
    let node = node.object()?;
    Ok(CmdArg {
        default: node.get("default").map(|value| value.value.clone()),
        long: node.optional("long", option_name)?,
        short: node.optional("short", option_letter)?,
        help: node.optional_string("help")?,
    })
}

fn is_option_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

fn option_name(node: &Node) -> Result<String> {
    let name = node.name()?;
    let fits = !name.starts_with('-') && name.chars().all(is_option_char);
    if fits { Ok(name) } else { Err(node.expected("the name of an option")) }
}

fn option_letter(node: &Node) -> Result<char> {
    let mut chars = node.value.as_str().unwrap_or_default().chars();
    match (chars.next(), chars.next()) {
        (Some(letter), None) if is_option_char(letter) && letter != '-' => Ok(letter),
        _ => Err(node.expected("one character")),
    }
}

fn map(node: Node) -> Result<MapMeta> {
    let name = node.required_name("name")?;
    Ok(MapMeta {
        ident: node.optional_string("ident")?.unwrap_or_else(|| name.clone()),
        name,
        type_text: node.optional_string("type")?,
        sample: node.optional("sample", sample)?,
        export: node.get("export_config").map_or(Ok(ExportConfig::Unset), export_config)?,
        export_type: node.optional("export_data_types", |ty| f1_export_type(*ty))?,
    })
}

fn sample(node: &Node) -> Result<Sample> {
    let node = node.object()?;
    Ok(Sample {
        interval_ms: node.required_u32("interval", 1)?,
        kind: node.get("type").map_or(Ok(SampleKind::default()), sample_kind)?,
        unit: node.optional_string("unit")?.unwrap_or_else(|| "(unit)".into()),
        // The default of eunomia-bpf changed once; since then entries are not cleared.
        clear_map: node.flag("clear_map")?,
    })
}

fn sample_kind(node: Node) -> Result<SampleKind> {
    match node.value.as_str() {
        Some("default_kv") => Ok(SampleKind::DefaultKv),
        Some("log2_hist") => Ok(SampleKind::Log2Hist),
        Some("linear_hist") => Ok(SampleKind::LinearHist),
        _ => Err(node.expected("default_kv, log2_hist or linear_hist")),
    }
}

fn export_config(node: Node) -> Result<ExportConfig> {
    match node.value.as_str() {
        Some("no_export") => return Ok(ExportConfig::NoExport),
        Some("default") => return Ok(ExportConfig::Default),
        _ => {}
    }
    if let Some(id) = node.get("btf_type_id") {
        return Ok(ExportConfig::BtfType(id.u32_at_least(0)?));
    }
    match node.get("custom_members") {
        Some(members) => Ok(ExportConfig::Members(read_all(members.elements()?, custom_member)?)),
        None => Err(node.expected("no_export, default, btf_type_id or custom_members")),
    }
}

fn custom_member(node: Node) -> Result<CustomMember> {
    Ok(CustomMember {
        name: node.required_name("name")?,
        offset: node.required_u32("offset", 0)?,
        btf_type_id: node.required_u32("btf_type_id", 1)?,
    })
}

fn program(node: Node) -> Result<ProgMeta> {
    Ok(ProgMeta {
        name: node.required_name("name")?,
        attach: node.optional_string("attach")?.unwrap_or_default(),
        target: Target::read(&node)?,
        autoload: node.optional("autoload", |flag| flag.bool())?,
        required: node.optional("required", |flag| flag.bool())?,
        instead_of: node.optional_name("instead_of")?,
    })
}

/// Refuses an `instead_of` that names no program, or the same one as another program, or forms a cycle.
fn check_alternatives(progs: &[ProgMeta], index: &NameIndex, entries: &[Node]) -> Result<()> {
    let next = |program: usize| index.get(progs[program].instead_of.as_ref()?);
    let (mut count, mut named) = (0, NameIndex::default());
    for (index, prog) in progs.iter().enumerate() {
        if prog.instead_of.is_none() {
            continue;
        }
        let entry = entries[index].member("instead_of");
        let Some(mut end) = next(index) else {
            return Err(entry.error("there is no such program"));
        };
        if named.insert(&progs[end].name, index).is_some() {
            return Err(entry.error("another program already replaces it; name that program here"));
        }
        count += 1;
        if count > MAX_ALTERNATIVES {
            return Err(entry.error("more than 256 programs have instead_of"));
        }
        let mut steps = 0;
        while let Some(further) = next(end) {
            (end, steps) = (further, steps + 1);
            if steps > progs.len() {
                return Err(entry.error("forms a cycle"));
            }
        }
    }
    Ok(())
}

/// Reads the formats: an object of structs, each an object of members.
fn formats(meta: &Node) -> Result<Vec<MemberFormat>> {
    let Some(structs) = meta.get("formats") else { return Ok(Vec::new()) };
    let mut formats = Vec::new();
    for structure in structs.members()?.keys() {
        let members = structs.member(structure);
        for member in members.members()?.keys() {
            let format = members.required_name(member)?;
            formats.push(MemberFormat { structure: structure.clone(), member: member.clone(), format });
        }
        if formats.len() > MAX_FORMATS {
            return Err(structs.error(format_args!("more than {MAX_FORMATS} members")));
        }
    }
    Ok(formats)
}

/// Reads the export types: an array in layout F2; in its draft an object with names, whose ids refer to other BTF.
fn export_types(meta: &Node) -> Result<Vec<ExportType>> {
    match meta.get("export_types") {
        Some(draft) if draft.value.is_object() => read_all(draft.list("structs")?, draft_export_type),
        _ => read_all(meta.list("export_types")?, export_type),
    }
}

fn export_type(node: Node) -> Result<ExportType> {
    Ok(ExportType {
        name: node.required_name("name")?,
        size: node.required_u32("size", 0)?,
        type_id: node.optional_u32("type_id", 0)?,
        members: read_all(node.list("members")?, export_member)?,
    })
}

fn export_member(node: Node) -> Result<ExportMember> {
    let name = node.required_string("name")?;
    Ok(ExportMember { name, type_text: node.required_string("type")?, ..ExportMember::default() })
}

fn draft_export_type(node: Node) -> Result<ExportType> {
    Ok(ExportType { name: node.required_name("name")?, ..ExportType::default() })
}

/// Reads `export_data_types` of layout F1: keys with capitals and spaces, sizes in bits.
fn f1_export_type(node: Node) -> Result<ExportType> {
    let node = node.object()?;
    Ok(ExportType {
        name: node.required_name("Struct Name")?,
        size: node.required_u32("Size", 0)?.div_ceil(8),
        type_id: None,
        members: read_all(node.list("Fields")?, f1_export_member)?,
    })
}

fn f1_export_member(node: Node) -> Result<ExportMember> {
    Ok(ExportMember {
        name: node.required_name("Name")?,
        type_text: node.required_string("Type")?,
        llvm_type: node.optional_string("LLVMType")?,
        bit_offset: Some(node.required_u32("FieldOffset", 0)?),
    })
}
