//! What clang's debug information tells and BTF does not: where things are declared, and types of locals.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use gimli::{AttributeValue, DwAt, EndianSlice, NativeEndian, UnitOffset};

use crate::error::{Error, Result};

type Slice<'a> = EndianSlice<'a, NativeEndian>;
type Entry<'b, 'a> = gimli::DebuggingInformationEntry<'b, 'b, Slice<'a>>;

/// A type in the debug information.
pub type TypeId = UnitOffset;

/// Longest chain of qualifiers, pointers and arrays that is followed.
const MAX_CHAIN: usize = 64;

/// The local variables of `include/bpf_helpers.h`.
const NOTED_MAP: &str = "__eunomia_map";
const NOTED_DATA: &str = "__eunomia_data";

/// A place in the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub file: PathBuf,
    pub line: u64,
}

/// A variable or function outside of functions.
pub struct Declaration {
    pub name: String,
    pub place: Place,
    /// Where the type begins if it is an unnamed one, written in the same declaration.
    pub body: Option<Place>,
    /// The struct, union or enum that a variable is of.
    pub ty: Option<TypeId>,
}

/// What the macros of `include/bpf_helpers.h` note of one call that sends an event.
pub struct Call {
    /// The function that the call is written in.
    pub function: String,
    /// Where: the parts of one call are told from those of others by it.
    place: Place,
    /// The type of the map, if the call names one.
    pub map: Option<TypeId>,
    /// The struct, union or enum of the record, if the call names it.
    pub data: Option<TypeId>,
}

/// A complete struct and how the program names it.
pub struct Struct {
    pub id: TypeId,
    /// The tag, else the name of a typedef.
    pub name: String,
    pub size: u32,
    pub place: Place,
}

/// A type; `None` for a type id is void.
pub enum Type {
    Base { name: String, size: u32, encoding: gimli::DwAte },
    Pointer(Option<TypeId>),
    Composite(Composite),
    Array { element: Option<TypeId>, counts: Vec<u32> },
    Enum { name: String, size: u32, values: Vec<(String, i64)> },
    Typedef { name: String, target: Option<TypeId> },
    Const(Option<TypeId>),
    Volatile(Option<TypeId>),
    Restrict(Option<TypeId>),
    Function,
}

/// A struct or union.
pub struct Composite {
    pub union: bool,
    /// Empty if it has none.
    pub name: String,
    pub size: u32,
    pub members: Vec<Member>,
}

/// A member of a struct or union.
pub struct Member {
    pub name: String,
    pub id: Option<TypeId>,
    pub bit_offset: u32,
    /// 0 unless it is a bit-field.
    pub bit_size: u32,
    pub place: Option<Place>,
}

/// The debug information of one compiled source.
pub struct Dwarf<'a> {
    dwarf: gimli::Dwarf<Slice<'a>>,
    unit: gimli::Unit<Slice<'a>>,
    files: HashMap<u64, PathBuf>,
    pub declarations: Vec<Declaration>,
    pub structs: Vec<Struct>,
    /// The structs that functions take by address, under the name of the function.
    pub parameters: Vec<(String, TypeId)>,
    /// The calls that send events.
    pub calls: Vec<Call>,
}

impl<'a> Dwarf<'a> {
    /// Reads the sections that `section` gives by name. Relative paths in them are of `folder`.
    pub fn read(section: impl Fn(&str) -> &'a [u8], folder: &Path) -> Result<Dwarf<'a>> {
        let load = |id: gimli::SectionId| Ok::<_, gimli::Error>(Slice::new(section(id.name()), NativeEndian));
        let dwarf = gimli::Dwarf::load(load)?;
        let header =
            dwarf.units().next()?.ok_or("the compiled object has no debug information: is -g0 given?")?;
        let unit = dwarf.unit(header)?;
        let mut read = Dwarf {
            files: files(&dwarf, &unit, folder)?,
            dwarf,
            unit,
            declarations: Vec::new(),
            structs: Vec::new(),
            parameters: Vec::new(),
            calls: Vec::new(),
        };
        read.scan()?;
        Ok(read)
    }

    /// The type at `id`.
    pub fn get(&self, id: TypeId) -> Result<Type> {
        let entry = self.unit.entry(id)?;
        let target = reference(&entry, gimli::DW_AT_type)?;
        Ok(match entry.tag() {
            gimli::DW_TAG_base_type => Type::Base {
                name: self.name(&entry)?,
                size: number(&entry, gimli::DW_AT_byte_size)?,
                encoding: encoding(&entry)?,
            },
            gimli::DW_TAG_pointer_type => Type::Pointer(target),
            gimli::DW_TAG_structure_type | gimli::DW_TAG_union_type => {
                Type::Composite(self.composite(id, &entry)?)
            }
            gimli::DW_TAG_array_type => Type::Array { element: target, counts: self.counts(id)? },
            gimli::DW_TAG_enumeration_type => Type::Enum {
                name: self.name(&entry)?,
                size: number(&entry, gimli::DW_AT_byte_size)?,
                values: self.enumerators(id)?,
            },
            gimli::DW_TAG_typedef => Type::Typedef { name: self.name(&entry)?, target },
            gimli::DW_TAG_const_type => Type::Const(target),
            gimli::DW_TAG_volatile_type => Type::Volatile(target),
            gimli::DW_TAG_restrict_type => Type::Restrict(target),
            gimli::DW_TAG_subroutine_type => Type::Function,
            tag => return Err(format!("the debug information has a type of unknown kind {tag}").into()),
        })
    }

    /// The struct or union that a member holds in itself, perhaps as an array.
    pub fn embedded(&self, id: Option<TypeId>) -> Result<Option<TypeId>> {
        self.core(id, false)
    }

    /// Collects declarations and structs in one pass.
    fn scan(&mut self) -> Result<()> {
        let (mut declarations, mut parameters, mut typedefs) = (Vec::new(), Vec::new(), HashMap::new());
        let (mut structs, mut calls, mut function) = (Vec::new(), Vec::new(), String::new());
        let mut cursor = self.unit.entries();
        let mut depth = 0;
        while let Some((step, entry)) = cursor.next_dfs()? {
            depth += step;
            match entry.tag() {
                gimli::DW_TAG_variable | gimli::DW_TAG_subprogram if depth == 1 => {
                    function = self.name(entry)?;
                    declarations.extend(self.declaration(entry)?);
                }
                gimli::DW_TAG_formal_parameter if depth == 2 => {
                    let id = self.core(reference(entry, gimli::DW_AT_type)?, true)?;
                    parameters.extend(id.map(|id| (function.clone(), id)));
                }
                gimli::DW_TAG_typedef => {
                    if let Some(target) = reference(entry, gimli::DW_AT_type)? {
                        typedefs.entry(target).or_insert(self.name(entry)?);
                    }
                }
                gimli::DW_TAG_variable => self.note(entry, &function, &mut calls)?,
                gimli::DW_TAG_structure_type => structs.extend(self.structure(entry)?),
                _ => {}
            }
        }
        for item in &mut structs {
            if item.name.is_empty() {
                item.name = typedefs.get(&item.id).cloned().unwrap_or_default();
            }
        }
        structs.retain(|item| !item.name.is_empty());
        (self.declarations, self.structs, self.parameters) = (declarations, structs, parameters);
        self.calls = calls;
        Ok(())
    }

    /// Adds what a local variable of that meaning tells to the call at its place.
    fn note(&self, entry: &Entry<'_, 'a>, function: &str, calls: &mut Vec<Call>) -> Result<()> {
        let name = self.name(entry)?;
        let is_map = name == NOTED_MAP;
        let place = self.place(entry)?.filter(|_| is_map || name == NOTED_DATA);
        let Some(place) = place else { return Ok(()) };
        let target = self.pointee(reference(entry, gimli::DW_AT_type)?)?;
        let known = calls.iter().position(|call| call.function == function && call.place == place);
        let index = known.unwrap_or_else(|| {
            calls.push(Call { function: function.into(), place, map: None, data: None });
            calls.len() - 1
        });
        let part = if is_map { &mut calls[index].map } else { &mut calls[index].data };
        *part = target;
        Ok(())
    }

    /// The struct, union or enum that a pointer points to.
    fn pointee(&self, mut id: Option<TypeId>) -> Result<Option<TypeId>> {
        for _ in 0..MAX_CHAIN {
            let Some(current) = id else { break };
            let entry = self.unit.entry(current)?;
            id = reference(&entry, gimli::DW_AT_type)?;
            match entry.tag() {
                gimli::DW_TAG_pointer_type => return self.core(id, false),
                gimli::DW_TAG_base_type | gimli::DW_TAG_structure_type => break,
                _ => {}
            }
        }
        Ok(None)
    }

    fn declaration(&self, entry: &Entry<'_, 'a>) -> Result<Option<Declaration>> {
        let Some(place) = self.place(entry)? else { return Ok(None) };
        let ty = self.core(reference(entry, gimli::DW_AT_type)?, false)?;
        let body = match ty {
            Some(id) => {
                let entry = self.unit.entry(id)?;
                let place = self.place(&entry)?;
                place.filter(|_| matches!(self.name(&entry).as_deref(), Ok("")))
            }
            None => None,
        };
        Ok(Some(Declaration {
            name: self.name(entry)?,
            body: body.filter(|body| body.file == place.file),
            place,
            ty,
        }))
    }

    fn structure(&self, entry: &Entry<'_, 'a>) -> Result<Option<Struct>> {
        let Some(place) = self.place(entry)? else { return Ok(None) };
        let size = number(entry, gimli::DW_AT_byte_size)?;
        let found = Struct { id: entry.offset(), name: self.name(entry)?, size, place };
        Ok(Some(found).filter(|found| found.size > 0))
    }

    /// The struct, union or enum under qualifiers, names and arrays, and under pointers if wanted.
    fn core(&self, mut id: Option<TypeId>, pointers: bool) -> Result<Option<TypeId>> {
        for _ in 0..MAX_CHAIN {
            let Some(current) = id else { return Ok(None) };
            let entry = self.unit.entry(current)?;
            match entry.tag() {
                gimli::DW_TAG_structure_type | gimli::DW_TAG_union_type | gimli::DW_TAG_enumeration_type => {
                    return Ok(Some(current));
                }
                gimli::DW_TAG_pointer_type if !pointers => return Ok(None),
                gimli::DW_TAG_base_type | gimli::DW_TAG_subroutine_type => return Ok(None),
                _ => id = reference(&entry, gimli::DW_AT_type)?,
            }
        }
        Ok(None)
    }

    fn composite(&self, id: TypeId, entry: &Entry<'_, 'a>) -> Result<Composite> {
        let mut members = Vec::new();
        self.each_child(id, |child| {
            if child.tag() == gimli::DW_TAG_member {
                members.push(Member {
                    name: self.name(child)?,
                    id: reference(child, gimli::DW_AT_type)?,
                    bit_offset: bit_offset(child)?,
                    bit_size: number(child, gimli::DW_AT_bit_size)?,
                    place: self.place(child)?,
                });
            }
            Ok(())
        })?;
        Ok(Composite {
            union: entry.tag() == gimli::DW_TAG_union_type,
            name: self.name(entry)?,
            size: number(entry, gimli::DW_AT_byte_size)?,
            members,
        })
    }

    /// The dimensions of an array, 0 where the length is open.
    fn counts(&self, id: TypeId) -> Result<Vec<u32>> {
        let mut counts = Vec::new();
        self.each_child(id, |child| {
            if child.tag() == gimli::DW_TAG_subrange_type {
                counts.push(number(child, gimli::DW_AT_count)?);
            }
            Ok(())
        })?;
        Ok(counts)
    }

    fn enumerators(&self, id: TypeId) -> Result<Vec<(String, i64)>> {
        let mut values = Vec::new();
        self.each_child(id, |child| {
            if child.tag() == gimli::DW_TAG_enumerator {
                let value = child.attr_value(gimli::DW_AT_const_value)?;
                let value =
                    value.and_then(|value| value.sdata_value().or(value.udata_value().map(|v| v as i64)));
                values.push((self.name(child)?, value.unwrap_or(0)));
            }
            Ok(())
        })?;
        Ok(values)
    }

    fn each_child(&self, id: TypeId, mut visit: impl FnMut(&Entry<'_, 'a>) -> Result<()>) -> Result<()> {
        let mut tree = self.unit.entries_tree(Some(id))?;
        let mut children = tree.root()?.children();
        while let Some(child) = children.next()? {
            visit(child.entry())?;
        }
        Ok(())
    }

    fn name(&self, entry: &Entry<'_, 'a>) -> Result<String> {
        let Some(value) = entry.attr_value(gimli::DW_AT_name)? else { return Ok(String::new()) };
        Ok(self.dwarf.attr_string(&self.unit, value)?.to_string_lossy().into_owned())
    }

    fn place(&self, entry: &Entry<'_, 'a>) -> Result<Option<Place>> {
        let file = match entry.attr_value(gimli::DW_AT_decl_file)? {
            Some(AttributeValue::FileIndex(file)) => file,
            Some(value) => value.udata_value().unwrap_or(0),
            None => return Ok(None),
        };
        let line = number(entry, gimli::DW_AT_decl_line)?.into();
        Ok(self.files.get(&file).map(|file| Place { file: file.clone(), line }))
    }
}

/// The files by their numbers, as absolute paths where they exist.
fn files<'a>(
    dwarf: &gimli::Dwarf<Slice<'a>>,
    unit: &gimli::Unit<Slice<'a>>,
    folder: &Path,
) -> Result<HashMap<u64, PathBuf>> {
    let mut files = HashMap::new();
    let Some(program) = &unit.line_program else { return Ok(files) };
    let header = program.header();
    let text = |value| Ok::<_, gimli::Error>(path(dwarf.attr_string(unit, value)?.slice()));
    for number in 0..=header.file_names().len() as u64 {
        let Some(file) = header.file(number) else { continue };
        let mut path = folder.to_path_buf();
        if let Some(directory) = file.directory(header) {
            path.push(text(directory)?);
        }
        path.push(text(file.path_name())?);
        files.insert(number, path.canonicalize().unwrap_or(path));
    }
    Ok(files)
}

fn path(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    std::ffi::OsStr::from_bytes(bytes).into()
}

fn reference(entry: &Entry<'_, '_>, attribute: DwAt) -> Result<Option<TypeId>> {
    match entry.attr_value(attribute)? {
        Some(AttributeValue::UnitRef(offset)) => Ok(Some(offset)),
        _ => Ok(None),
    }
}

fn number(entry: &Entry<'_, '_>, attribute: DwAt) -> Result<u32> {
    let value = entry.attr_value(attribute)?.and_then(|value| value.udata_value());
    u32::try_from(value.unwrap_or(0)).map_err(|_| "the debug information holds a size beyond 32 bits".into())
}

fn encoding(entry: &Entry<'_, '_>) -> Result<gimli::DwAte> {
    match entry.attr_value(gimli::DW_AT_encoding)? {
        Some(AttributeValue::Encoding(encoding)) => Ok(encoding),
        _ => Ok(gimli::DW_ATE_unsigned),
    }
}

/// The offset of a member in bits. Older clangs place bit-fields as DWARF 2 did: within a unit of storage, from
/// its most significant bit.
fn bit_offset(entry: &Entry<'_, '_>) -> Result<u32> {
    let bits = number(entry, gimli::DW_AT_data_bit_offset)?;
    let start = number(entry, gimli::DW_AT_data_member_location)?.saturating_mul(8).saturating_add(bits);
    if entry.attr_value(gimli::DW_AT_bit_offset)?.is_none() {
        return Ok(start);
    }
    let from_top = number(entry, gimli::DW_AT_bit_offset)?;
    if cfg!(target_endian = "big") {
        return Ok(start.saturating_add(from_top));
    }
    let unit = number(entry, gimli::DW_AT_byte_size)?.saturating_mul(8);
    let used = from_top.saturating_add(number(entry, gimli::DW_AT_bit_size)?);
    Ok(start.saturating_add(unit.saturating_sub(used)))
}

impl From<gimli::Error> for Error {
    fn from(error: gimli::Error) -> Error {
        format!("the debug information of the compiled object: {error}").into()
    }
}
