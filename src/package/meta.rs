//! The metadata of layout F2: variables, maps, programs, event types.
//!
//! What the compiler wrote about sizes and offsets is not read: published packages have it wrong. What a
//! type text says is for people; the types themselves are in the object's BTF.

use serde_json::Value;

use super::node::{Node, Places};
use super::target::Target;
use crate::error::Result;

/// Most programs that another one can stand in for: each may cost an attempt to load the package.
const MAX_VARIANTS: usize = 256;
/// The section of maps. What is said of it as of a variable is the number of entries of a map.
pub const MAPS: &str = ".maps";
/// Variables that compilers of eunomia-bpf leave behind to keep a type alive.
pub(super) const DUMMY_PREFIX: &str = "__eunomia_dummy";
/// Members that may have formats: each is looked for whenever a type is made.
const MAX_FORMATS: usize = 256;

/// What the metadata of a package says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Meta {
    /// Name of the object, for instance `opensnoop_bpf`; empty if not told.
    pub obj_name: String,
    /// What the author says about the program.
    pub doc: Doc,
    /// Global variables.
    pub vars: Vec<VarMeta>,
    /// Maps, those of the sections of globals included.
    pub maps: Vec<MapMeta>,
    /// Programs.
    pub progs: Vec<ProgMeta>,
    /// Types of events.
    pub export_types: Vec<ExportType>,
    /// How members are written, where their types do not tell.
    pub formats: Vec<MemberFormat>,
    /// Pages of a perf buffer, per CPU: a power of two.
    pub perf_buffer_pages: Option<u32>,
    /// How long one poll waits.
    pub poll_timeout_ms: Option<u32>,
    /// Whether libbpf's debug messages are wanted.
    pub debug_verbose: bool,
}

/// What the author says about the program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doc {
    /// Version of the program.
    pub version: Option<String>,
    /// One line.
    pub brief: Option<String>,
    /// All the rest.
    pub details: Option<String>,
    /// Used where there is no `brief`.
    pub description: Option<String>,
}

/// A global variable.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VarMeta {
    /// Its section, for instance `.rodata`; empty if only `runtime_args` name the variable, [`MAPS`] for the size of a map.
    pub section: String,
    /// Its name in C.
    pub name: String,
    /// Its type in C; empty if only `runtime_args` name the variable.
    pub type_text: String,
    /// The value to set before load.
    pub value: Option<Value>,
    /// What it is for.
    pub description: Option<String>,
    /// Its option on the command line.
    pub cmdarg: Option<CmdArg>,
}

/// How a variable, or the size of a map, wants to appear on the command line.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CmdArg {
    /// The value if the option is not given.
    pub default: Option<Value>,
    /// Name of the option, without the dashes.
    pub long: Option<String>,
    /// Its short form.
    pub short: Option<char>,
    /// What it is for.
    pub help: Option<String>,
}

/// A map.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MapMeta {
    /// Its name as the compiler expected it of libbpf.
    pub name: String,
    /// Its name in C.
    pub ident: String,
    /// `BPF_MAP_TYPE_*`; only layouts F0 and F1 tell.
    pub type_text: Option<String>,
    /// Whether and how its content is read at intervals.
    pub sample: Option<Sample>,
    /// Type of what comes through it.
    pub export: ExportConfig,
    /// The same, as layout F1 tells it.
    pub export_type: Option<ExportType>,
}

/// Type of what comes through a map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ExportConfig {
    /// The package says nothing about it.
    #[default]
    Unset,
    /// Nothing is exported.
    NoExport,
    /// The types of the map's own BTF.
    Default,
    /// A type of the object's BTF; 0: the records have none.
    BtfType(u32),
    /// A struct made up of members at given places.
    Members(Vec<CustomMember>),
}

/// A member of a struct that only the package describes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomMember {
    /// Its name.
    pub name: String,
    /// Its offset in bytes.
    pub offset: u32,
    /// Its type in the object's BTF.
    pub btf_type_id: u32,
}

/// How the content of a map is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Time between two rounds.
    pub interval_ms: u32,
    /// What the values are.
    pub kind: SampleKind,
    /// Unit of a histogram.
    pub unit: String,
    /// Whether a round ends with an empty map.
    pub clear_map: bool,
}

/// What the values of a sampled map are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SampleKind {
    /// Plain values.
    #[default]
    DefaultKv,
    /// Histograms with slots that double.
    Log2Hist,
    /// Histograms with slots of one width.
    LinearHist,
}

/// A program.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProgMeta {
    /// Its name in C.
    pub name: String,
    /// Its section; layouts F0 and F1 leave it empty.
    pub attach: String,
    /// Where it attaches beyond that.
    pub target: Target,
    /// Whether it is loaded unless the host says otherwise; if not told, its section says.
    pub autoload: Option<bool>,
    /// Whether the package cannot do without it; if no program says, one that delivers events has to attach.
    pub required: Option<bool>,
    /// The program that does the same by another hook, to use where this one does not load and attach.
    pub instead_of: Option<String>,
}

/// Type of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportType {
    /// Name of the struct.
    pub name: String,
    /// Its size in bytes; 0 if not told.
    pub size: u32,
    /// Its id in the object's BTF.
    pub type_id: Option<u32>,
    /// Its members.
    pub members: Vec<ExportMember>,
}

/// A member of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportMember {
    /// Its name.
    pub name: String,
    /// Its type in C.
    pub type_text: String,
    /// Its type in LLVM's terms; only layout F1 tells.
    pub llvm_type: Option<String>,
    /// Its offset in bits; only layout F1 tells.
    pub bit_offset: Option<u32>,
}

/// How a member is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberFormat {
    /// Tag of the struct or union, or its typedef.
    pub structure: String,
    /// The member; `args.saddr` for one of a struct inside.
    pub member: String,
    /// Name of the format, not checked.
    pub format: String,
}

impl Meta {
    /// Reads the `meta` object and, within it or in another place, the `bpf_skel` object. The last of
    /// `args` (values for variables, by name) has the last word.
    pub(super) fn read(meta: &Node, skel: &Node, args: &[Option<Node>]) -> Result<Meta> {
        let mut read = Meta {
            obj_name: skel.text_of("obj_name")?.unwrap_or_default(),
            doc: skel.get("doc").map_or(Ok(Doc::default()), doc)?,
            vars: variables(skel)?,
            maps: each(skel.list("maps")?, map)?,
            progs: each(skel.list("progs")?, program)?,
            export_types: export_types(meta)?,
            formats: formats(meta)?,
            perf_buffer_pages: meta.read("perf_buffer_pages", buffer_pages)?,
            poll_timeout_ms: meta.u32_of("poll_timeout_ms", 0)?,
            debug_verbose: meta.is_true("debug_verbose")?,
        };
        // Sections with long names may share one shortened map name; a name without a dot is the program's.
        unique(&skel.list("maps")?, |name| !name.contains('.'))?;
        unique(&skel.list("progs")?, |_| true)?;
        check_variants(&read.progs, &read.prog_places(), &skel.list("progs")?)?;
        for args in args.iter().flatten() {
            read.set_values(args)?;
        }
        Ok(read)
    }

    /// Where each program's entry stands.
    pub fn prog_places(&self) -> Places {
        let mut places = Places::default();
        for (index, prog) in self.progs.iter().enumerate() {
            places.insert(&prog.name, index);
        }
        places
    }

    /// A name that is no known variable is kept: the object may have it even though the metadata does not.
    fn set_values(&mut self, args: &Node) -> Result<()> {
        let mut known = Places::default();
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
    let pages = node.u32_from(0)?;
    if pages.is_power_of_two() { Ok(pages) } else { Err(node.expected("a power of two")) }
}

fn each<T>(nodes: Vec<Node>, read: fn(Node) -> Result<T>) -> Result<Vec<T>> {
    let mut all = Vec::with_capacity(nodes.len());
    for node in nodes {
        all.push(read(node.object()?)?);
    }
    Ok(all)
}

/// Refuses a name that two entries have, if it is one that counts.
fn unique(entries: &[Node], counts: fn(&str) -> bool) -> Result<()> {
    let mut places = Places::default();
    for (index, entry) in entries.iter().enumerate() {
        let Some(name) = entry.value.get("name").and_then(Value::as_str).filter(|name| counts(name)) else {
            continue;
        };
        if let Some(first) = places.insert(name, index) {
            let reason = format_args!("{name:?} is already the name at {}.name", entries[first]);
            return Err(entry.member("name").error(reason));
        }
    }
    Ok(())
}

fn doc(node: Node) -> Result<Doc> {
    let node = node.object()?;
    Ok(Doc {
        version: node.text_of("version")?,
        brief: node.text_of("brief")?,
        details: node.text_of("details")?,
        description: node.text_of("description")?,
    })
}

fn variables(skel: &Node) -> Result<Vec<VarMeta>> {
    let sections = skel.list("data_sections")?;
    let (mut variables, mut entries) = (Vec::new(), Vec::new());
    for section in &sections {
        let name = section.object()?.need_name("name")?;
        for entry in section.list("variables")? {
            variables.push(variable(entry.object()?, &name)?);
            entries.push(entry);
        }
        section.check_count(variables.len())?;
    }
    unique(&entries, |_| true)?;
    for map in skel.list("maps")? {
        let map = map.object()?;
        if map.get("cmdarg").is_some() {
            let about = map.text_of("description")?;
            variables.push(VarMeta {
                section: MAPS.into(),
                name: map.need_name("name")?,
                type_text: "max_entries".into(),
                value: None,
                description: about.or_else(|| Some("Entries of the map, or bytes of a ring buffer".into())),
                cmdarg: map.read("cmdarg", cmdarg)?,
            });
        }
    }
    Ok(variables)
}

fn variable(node: Node, section: &str) -> Result<VarMeta> {
    Ok(VarMeta {
        section: section.to_owned(),
        name: node.need_name("name")?,
        type_text: node.need_text("type")?,
        value: node.get("value").map(|value| value.value.clone()),
        description: node.text_of("description")?,
        cmdarg: node.read("cmdarg", cmdarg)?,
    })
}

fn cmdarg(node: &Node) -> Result<CmdArg> {
    let node = node.object()?;
    Ok(CmdArg {
        default: node.get("default").map(|value| value.value.clone()),
        long: node.read("long", option_name)?,
        short: node.read("short", option_letter)?,
        help: node.text_of("help")?,
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
    let name = node.need_name("name")?;
    Ok(MapMeta {
        ident: node.text_of("ident")?.unwrap_or_else(|| name.clone()),
        name,
        type_text: node.text_of("type")?,
        sample: node.read("sample", sample)?,
        export: node.get("export_config").map_or(Ok(ExportConfig::Unset), export_config)?,
        export_type: node.read("export_data_types", |ty| flat_export_type(*ty))?,
    })
}

fn sample(node: &Node) -> Result<Sample> {
    let node = node.object()?;
    Ok(Sample {
        interval_ms: node.need_u32("interval", 1)?,
        kind: node.get("type").map_or(Ok(SampleKind::default()), sample_kind)?,
        unit: node.text_of("unit")?.unwrap_or_else(|| "(unit)".into()),
        // eunomia-bpf changed this default once; totals since the start is what it is today.
        clear_map: node.is_true("clear_map")?,
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
        return Ok(ExportConfig::BtfType(id.u32_from(0)?));
    }
    match node.get("custom_members") {
        Some(members) => Ok(ExportConfig::Members(each(members.elements()?, custom_member)?)),
        None => Err(node.expected("no_export, default, btf_type_id or custom_members")),
    }
}

fn custom_member(node: Node) -> Result<CustomMember> {
    Ok(CustomMember {
        name: node.need_name("name")?,
        offset: node.need_u32("offset", 0)?,
        btf_type_id: node.need_u32("btf_type_id", 1)?,
    })
}

fn program(node: Node) -> Result<ProgMeta> {
    Ok(ProgMeta {
        name: node.need_name("name")?,
        attach: node.text_of("attach")?.unwrap_or_default(),
        target: Target::read(&node)?,
        autoload: node.read("autoload", |flag| flag.bool())?,
        required: node.read("required", |flag| flag.bool())?,
        instead_of: node.name_of("instead_of")?,
    })
}

/// Refuses `instead_of` that leads nowhere, from two programs to one, or round in a circle.
fn check_variants(progs: &[ProgMeta], places: &Places, entries: &[Node]) -> Result<()> {
    let next = |index: usize| places.get(progs[index].instead_of.as_ref()?);
    let (mut count, mut named) = (0, Places::default());
    for (index, prog) in progs.iter().enumerate() {
        if prog.instead_of.is_none() {
            continue;
        }
        let entry = entries[index].member("instead_of");
        let Some(mut end) = next(index) else {
            return Err(entry.error("there is no such program"));
        };
        if named.insert(&progs[end].name, index).is_some() {
            return Err(entry.error("another program names it already; name that one here"));
        }
        count += 1;
        if count > MAX_VARIANTS {
            return Err(entry.error("more than 256 programs have one"));
        }
        let mut steps = 0;
        while let Some(further) = next(end) {
            (end, steps) = (further, steps + 1);
            if steps > progs.len() {
                return Err(entry.error("leads round in a circle"));
            }
        }
    }
    Ok(())
}

/// The object of structs, each an object of members.
fn formats(meta: &Node) -> Result<Vec<MemberFormat>> {
    let Some(structs) = meta.get("formats") else { return Ok(Vec::new()) };
    let mut formats = Vec::new();
    for structure in structs.members()?.keys() {
        let members = structs.member(structure);
        for member in members.members()?.keys() {
            let format = members.need_name(member)?;
            formats.push(MemberFormat { structure: structure.clone(), member: member.clone(), format });
        }
        if formats.len() > MAX_FORMATS {
            return Err(structs.error(format_args!("more than {MAX_FORMATS} members")));
        }
    }
    Ok(formats)
}

/// An array in layout F2; in its draft an object with names, whose ids count in a BTF of its own.
fn export_types(meta: &Node) -> Result<Vec<ExportType>> {
    match meta.get("export_types") {
        Some(draft) if draft.value.is_object() => each(draft.list("structs")?, draft_export_type),
        _ => each(meta.list("export_types")?, export_type),
    }
}

fn export_type(node: Node) -> Result<ExportType> {
    Ok(ExportType {
        name: node.need_name("name")?,
        size: node.need_u32("size", 0)?,
        type_id: node.u32_of("type_id", 0)?,
        members: each(node.list("members")?, export_member)?,
    })
}

fn export_member(node: Node) -> Result<ExportMember> {
    let name = node.need_text("name")?;
    Ok(ExportMember { name, type_text: node.need_text("type")?, ..ExportMember::default() })
}

fn draft_export_type(node: Node) -> Result<ExportType> {
    Ok(ExportType { name: node.need_name("name")?, ..ExportType::default() })
}

/// `export_data_types` of layout F1: keys with capitals and blanks, and everything in bits.
fn flat_export_type(node: Node) -> Result<ExportType> {
    let node = node.object()?;
    Ok(ExportType {
        name: node.need_name("Struct Name")?,
        size: node.need_u32("Size", 0)?.div_ceil(8),
        type_id: None,
        members: each(node.list("Fields")?, flat_export_member)?,
    })
}

fn flat_export_member(node: Node) -> Result<ExportMember> {
    Ok(ExportMember {
        name: node.need_name("Name")?,
        type_text: node.need_text("Type")?,
        llvm_type: node.text_of("LLVMType")?,
        bit_offset: Some(node.need_u32("FieldOffset", 0)?),
    })
}
