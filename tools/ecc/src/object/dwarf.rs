//! Reads what is in clang's debug information and not in BTF: the positions of declarations, and types that only local
//! variables have.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use gimli::{AttributeValue, DwAt, EndianSlice, NativeEndian, UnitOffset};

use crate::error::{Error, Result};

pub(crate) type Slice<'a> = EndianSlice<'a, NativeEndian>;
pub(crate) type Entry<'b, 'a> = gimli::DebuggingInformationEntry<'b, 'b, Slice<'a>>;

/// A type in the debug information.
pub type TypeId = UnitOffset;

/// The longest chain of qualifiers, pointers and arrays that is followed.
const MAX_CHAIN: usize = 64;

/// A position in the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub file: PathBuf,
    pub line: u64,
}

/// A global variable or a function.
pub struct Declaration {
    pub name: String,
    pub place: Place,
    /// The position of the type, if it is unnamed and part of the declaration.
    pub body: Option<Place>,
    /// The type as it is written; the result type of a function.
    pub written: Option<TypeId>,
}

/// A complete struct or union, and its name in the program.
pub struct Struct {
    pub id: TypeId,
    /// The typedef that names it, if it has no tag.
    pub typedef: Option<TypeId>,
    /// The tag, else the name of the typedef.
    pub name: String,
    pub size: u32,
    pub place: Place,
}

/// A type. `None` as a type id means void.
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
    /// The tag; empty if there is none.
    pub name: String,
    pub size: u32,
    pub members: Vec<Member>,
}

/// A member of a struct or union.
pub struct Member {
    pub name: String,
    pub id: Option<TypeId>,
    pub bit_offset: u32,
    /// The size of a bit-field; 0 for other members.
    pub bit_size: u32,
    pub place: Option<Place>,
}

/// The debug information of one compiled source.
pub struct Dwarf<'a> {
    pub(crate) dwarf: gimli::Dwarf<Slice<'a>>,
    pub(crate) unit: gimli::Unit<Slice<'a>>,
    files: HashMap<u64, PathBuf>,
    pub declarations: Vec<Declaration>,
    pub structs: Vec<Struct>,
    /// Numbers and enums, and typedefs.
    pub scalars: Vec<Struct>,
}

impl<'a> Dwarf<'a> {
    /// Reads the sections that `section` returns by name. Relative paths in them are relative to `dir`.
    pub fn read(section: impl Fn(&str) -> &'a [u8], dir: &Path) -> Result<Dwarf<'a>> {
        let load = |id: gimli::SectionId| Ok::<_, gimli::Error>(Slice::new(section(id.name()), NativeEndian));
        let dwarf = gimli::Dwarf::load(load)?;
        let header =
            dwarf.units().next()?.ok_or("the object has no debug information: remove -g0 from the flags")?;
        let unit = dwarf.unit(header)?;
        let mut read = Dwarf {
            files: files(&dwarf, &unit, dir)?,
            dwarf,
            unit,
            declarations: Vec::new(),
            structs: Vec::new(),
            scalars: Vec::new(),
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
            tag => return Err(format!("unknown type kind {tag} in the debug information").into()),
        })
    }

    /// The struct or union that a member embeds, possibly as an array.
    pub fn embedded(&self, id: Option<TypeId>) -> Result<Option<TypeId>> {
        self.core(id, false)
    }

    /// The target of a pointer (`None` for void); `None` if the type is not a pointer.
    pub fn pointee(&self, id: Option<TypeId>) -> Option<Option<TypeId>> {
        match self.get(self.unnamed(id)?).ok()? {
            Type::Pointer(target) => Some(target),
            _ => None,
        }
    }

    /// The type without qualifiers and typedefs.
    pub fn unnamed(&self, id: Option<TypeId>) -> Option<TypeId> {
        let mut id = id?;
        for _ in 0..MAX_CHAIN {
            match self.get(id).ok()? {
                Type::Typedef { target, .. }
                | Type::Const(target)
                | Type::Volatile(target)
                | Type::Restrict(target) => id = target?,
                _ => return Some(id),
            }
        }
        None
    }

    /// The size of a type; `None` if it has none.
    pub fn size(&self, id: TypeId) -> Option<u32> {
        match self.get(self.unnamed(Some(id))?).ok()? {
            Type::Base { size, .. } | Type::Enum { size, .. } => Some(size),
            Type::Composite(composite) => Some(composite.size).filter(|size| *size > 0),
            Type::Pointer(_) => Some(8),
            Type::Array { element, counts } => {
                let size = self.size(element?)?;
                counts.iter().try_fold(size, |size, count| size.checked_mul(*count))
            }
            _ => None,
        }
    }

    /// Collects declarations and types in one pass.
    fn scan(&mut self) -> Result<()> {
        let (mut declarations, mut typedefs) = (Vec::new(), HashMap::new());
        let (mut structs, mut scalars) = (Vec::new(), Vec::new());
        let mut cursor = self.unit.entries();
        let mut depth = 0;
        while let Some((step, entry)) = cursor.next_dfs()? {
            depth += step;
            match entry.tag() {
                gimli::DW_TAG_variable | gimli::DW_TAG_subprogram if depth == 1 => {
                    declarations.extend(self.declaration(entry)?);
                }
                gimli::DW_TAG_typedef => {
                    if let Some(target) = reference(entry, gimli::DW_AT_type)? {
                        typedefs.entry(target).or_insert((entry.offset(), self.name(entry)?));
                    }
                    scalars.extend(self.named(entry)?);
                }
                gimli::DW_TAG_base_type | gimli::DW_TAG_enumeration_type => {
                    scalars.extend(self.named(entry)?)
                }
                gimli::DW_TAG_structure_type | gimli::DW_TAG_union_type => {
                    structs.extend(self.named(entry)?.filter(|found| found.size > 0));
                }
                _ => {}
            }
        }
        for item in structs.iter_mut().filter(|item| item.name.is_empty()) {
            if let Some((id, name)) = typedefs.get(&item.id) {
                (item.typedef, item.name) = (Some(*id), name.clone());
            }
        }
        structs.retain(|item: &Struct| !item.name.is_empty());
        scalars.retain(|item: &Struct| !item.name.is_empty());
        (self.declarations, self.structs, self.scalars) = (declarations, structs, scalars);
        Ok(())
    }

    fn declaration(&self, entry: &Entry<'_, 'a>) -> Result<Option<Declaration>> {
        let Some(place) = self.place(entry)? else { return Ok(None) };
        let written = reference(entry, gimli::DW_AT_type)?;
        let ty = self.core(written, false)?;
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
            written,
        }))
    }

    fn named(&self, entry: &Entry<'_, 'a>) -> Result<Option<Struct>> {
        let place = self.place(entry)?;
        let is_base = entry.tag() == gimli::DW_TAG_base_type;
        let Some(place) = place.or(is_base.then(|| Place { file: PathBuf::new(), line: 0 })) else {
            return Ok(None);
        };
        let (id, name) = (entry.offset(), self.name(entry)?);
        let size = number(entry, gimli::DW_AT_byte_size)?;
        Ok(Some(Struct { id, typedef: None, name, size, place }))
    }

    /// The struct, union or enum behind qualifiers, typedefs and arrays; also behind pointers if `pointers` is set.
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

    /// The dimensions of an array; 0 for an unspecified length.
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

    pub(crate) fn name(&self, entry: &Entry<'_, 'a>) -> Result<String> {
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

/// The files by number, as absolute paths if they exist.
fn files<'a>(
    dwarf: &gimli::Dwarf<Slice<'a>>,
    unit: &gimli::Unit<Slice<'a>>,
    dir: &Path,
) -> Result<HashMap<u64, PathBuf>> {
    let mut files = HashMap::new();
    let Some(program) = &unit.line_program else { return Ok(files) };
    let header = program.header();
    let text = |value| Ok::<_, gimli::Error>(path(dwarf.attr_string(unit, value)?.slice()));
    for number in 0..=header.file_names().len() as u64 {
        let Some(file) = header.file(number) else { continue };
        let mut path = dir.to_path_buf();
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

pub(crate) fn reference(entry: &Entry<'_, '_>, attribute: DwAt) -> Result<Option<TypeId>> {
    match entry.attr_value(attribute)? {
        Some(AttributeValue::UnitRef(offset)) => Ok(Some(offset)),
        _ => Ok(None),
    }
}

fn number(entry: &Entry<'_, '_>, attribute: DwAt) -> Result<u32> {
    let value = entry.attr_value(attribute)?.and_then(|value| value.udata_value());
    u32::try_from(value.unwrap_or(0)).map_err(|_| "the debug information has a size beyond 32 bits".into())
}

fn encoding(entry: &Entry<'_, '_>) -> Result<gimli::DwAte> {
    match entry.attr_value(gimli::DW_AT_encoding)? {
        Some(AttributeValue::Encoding(encoding)) => Ok(encoding),
        _ => Ok(gimli::DW_ATE_unsigned),
    }
}

/// The offset of a member in bits. Older versions of clang describe bit-fields as DWARF 2 does: relative to the most
/// significant bit of a storage unit.
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
        format!("malformed debug information: {error}").into()
    }
}
