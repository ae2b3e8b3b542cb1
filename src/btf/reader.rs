//! Bounds-checked reader of a raw `.BTF` section.
//!
//! Everything that later code follows (type ids, names, member lists) is checked here, once. Knows the encoding
//! only: what a type means and how large it is is the business of `layout`, what libbpf makes of it that of `check`.

use crate::error::{Error, Result, Status};
use crate::memory;

const MAGIC: u16 = 0xeb9f;
pub(crate) const HEADER_LEN: usize = 24;
/// The kernel's own limits (`BTF_MAX_TYPE`, `KSYM_NAME_LEN` less its NUL).
const MAX_TYPES: u32 = 0xf_ffff;
const MAX_NAME: usize = 511;
/// Bytes in memory, while the lists grow, for a byte of the section.
const MOST_GROWTH: usize = 10;

/// The kinds of BTF, as its format numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BtfKind {
    Void,
    Int,
    Ptr,
    Array,
    Struct,
    Union,
    Enum,
    Fwd,
    Typedef,
    Volatile,
    Const,
    Restrict,
    Func,
    FuncProto,
    Var,
    Datasec,
    Float,
    DeclTag,
    TypeTag,
    Enum64,
}

/// Indexed by the number of the kind.
pub(crate) const KINDS: [BtfKind; 20] = [
    BtfKind::Void,
    BtfKind::Int,
    BtfKind::Ptr,
    BtfKind::Array,
    BtfKind::Struct,
    BtfKind::Union,
    BtfKind::Enum,
    BtfKind::Fwd,
    BtfKind::Typedef,
    BtfKind::Volatile,
    BtfKind::Const,
    BtfKind::Restrict,
    BtfKind::Func,
    BtfKind::FuncProto,
    BtfKind::Var,
    BtfKind::Datasec,
    BtfKind::Float,
    BtfKind::DeclTag,
    BtfKind::TypeTag,
    BtfKind::Enum64,
];

/// By the number of the kind: the bytes of an entry, and those that follow it for each of its parts; 0 for no kind.
pub(crate) const SIZES: [(u8, u8); 32] = {
    let mut sizes = [(0, 0); 32];
    let mut kind = 1;
    while kind < KINDS.len() {
        sizes[kind] = match KINDS[kind] {
            BtfKind::Int | BtfKind::Var | BtfKind::DeclTag => (16, 0),
            BtfKind::Array => (24, 0),
            BtfKind::Struct | BtfKind::Union | BtfKind::Datasec | BtfKind::Enum64 => (12, 12),
            BtfKind::Enum | BtfKind::FuncProto => (12, 8),
            _ => (12, 0),
        };
        kind += 1;
    }
    sizes
};

impl BtfKind {
    /// Whether the third word of an entry is a type id (otherwise a size).
    pub(crate) fn refers(self) -> bool {
        use BtfKind::*;
        matches!(
            self,
            Ptr | Typedef | Volatile | Const | Restrict | Func | FuncProto | Var | DeclTag | TypeTag
        )
    }

    /// The kind in the second word of an entry.
    pub(crate) fn of(info: u32) -> Option<BtfKind> {
        KINDS.get((info >> 24 & 0x1f) as usize).copied().filter(|kind| *kind != BtfKind::Void)
    }

    /// Enums of 64 bits are enums.
    pub(crate) fn plain(self) -> BtfKind {
        if self == BtfKind::Enum64 { BtfKind::Enum } else { self }
    }

    /// Typedefs, qualifiers and type tags: they name or mark a type without changing its layout.
    pub(crate) fn is_modifier(self) -> bool {
        use BtfKind::*;
        matches!(self, Typedef | Volatile | Const | Restrict | TypeTag)
    }
}

/// One type.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub kind: BtfKind,
    /// The `kind_flag`: bit-field offsets of structs, a signed enum, a FWD union.
    pub flag: bool,
    /// Size in bytes, or the type referred to.
    pub arg: u32,
    name: u32,
    parts: (u32, u32),
}

/// What follows an entry, in one shape for all kinds: a member (name, type, offset word), an enum constant (name,
/// value), a parameter (name, type), a variable of a section (type, size and offset), an array (element type, count), an integer
/// (its encoding word), a variable (its linkage).
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub ty: u32,
    pub value: u64,
    name: u32,
}

/// The types of one object, by id; id 0 is `void`.
#[derive(Clone, Debug)]
pub struct Btf {
    entries: Vec<Entry>,
    parts: Vec<Part>,
    strings: Vec<u8>,
}

/// A global variable.
#[derive(Clone, Copy, Debug)]
pub struct Global<'a> {
    /// Its section, such as `.rodata`.
    pub section: &'a str,
    /// Its name.
    pub name: &'a str,
    /// The id of its type.
    pub type_id: u32,
    /// Its place in the section, in bytes.
    pub offset: u32,
    /// Its size in bytes, as the section has it.
    pub size: u32,
}

impl Btf {
    /// Reads and checks a raw `.BTF` section.
    pub fn parse(data: &[u8]) -> Result<Btf> {
        let (types, strings) = sections(data)?;
        memory::room(MOST_GROWTH * data.len())?;
        let void = Entry { kind: BtfKind::Void, flag: false, arg: 0, name: 0, parts: (0, 0) };
        let mut btf = Btf { entries: vec![void], parts: Vec::new(), strings: strings.to_vec() };
        let mut words = Words { data: types, at: 0 };
        while words.at < types.len() {
            let id = btf.entries.len() as u32;
            if id > MAX_TYPES {
                return Err(bad(format_args!("more than {MAX_TYPES} types")));
            }
            btf.read_entry(&mut words).ok_or_else(|| cut_short(id))?;
        }
        btf.check()?;
        Ok(btf)
    }

    /// Number of types, `void` included.
    #[allow(clippy::len_without_is_empty, reason = "void is always there")]
    pub fn len(&self) -> u32 {
        self.entries.len() as u32
    }

    /// The name of a type; `None` if it has none or there is no such type.
    pub fn name(&self, id: u32) -> Option<&str> {
        self.string(self.entries.get(id as usize)?.name)
    }

    /// The struct or union of that name (a struct before a union, the first of several), else the typedef of one.
    pub fn find_struct(&self, name: &str) -> Option<u32> {
        let tagged = self.find(BtfKind::Struct, name).or_else(|| self.find(BtfKind::Union, name));
        tagged.or_else(|| self.find(BtfKind::Typedef, name).filter(|id| self.is_struct(*id)))
    }

    /// The typedef that names a struct or union without a tag; any other type itself.
    pub fn named(&self, id: u32) -> u32 {
        let untagged = self.name(id).is_none() && self.is_struct(id);
        let mut typedefs = self.entries().filter(|(_, e)| e.kind == BtfKind::Typedef && e.arg == id);
        typedefs.next().filter(|_| untagged).map_or(id, |(typedef, _)| typedef)
    }

    /// Whether a value can be of the type: no function, variable or section, and not only declared.
    pub fn is_value(&self, id: u32) -> bool {
        use BtfKind::*;
        let entry = self.strip(id).and_then(|id| self.entry(id));
        entry.is_some_and(|e| !matches!(e.kind, Void | Fwd | Func | FuncProto | Var | Datasec | DeclTag))
    }

    /// The id of the type of the global variable of that name.
    pub fn find_var(&self, name: &str) -> Option<u32> {
        self.find(BtfKind::Var, name).map(|id| self.entries[id as usize].arg)
    }

    /// The size of a data section; compilers leave it 0, and the places of its variables with it.
    pub fn section_size(&self, section: u32) -> Option<u32> {
        self.entry(section).filter(|entry| entry.kind == BtfKind::Datasec).map(|entry| entry.arg)
    }

    /// Whether the name is that of a function.
    pub fn is_function(&self, name: &str) -> bool {
        self.find(BtfKind::Func, name).is_some()
    }

    /// The variables of a data section (a DATASEC) that other files can name: static ones are left out. Offsets
    /// are right only in the BTF of an object that libbpf has opened.
    pub fn globals(&self, section: u32) -> impl Iterator<Item = Global<'_>> {
        const STATIC: u64 = 0;
        let section = self.entry(section).filter(|entry| entry.kind == BtfKind::Datasec);
        section.into_iter().flat_map(move |section| {
            self.parts(section).iter().filter_map(|part| {
                let var = self.entry(part.ty).filter(|var| var.kind == BtfKind::Var)?;
                let visible = self.parts(var).first().is_some_and(|part| part.value != STATIC);
                let name = self.string(var.name).filter(|_| visible)?;
                let (section, offset) = (self.string(section.name)?, part.value as u32);
                let size = (part.value >> 32) as u32;
                Some(Global { section, name, type_id: var.arg, offset, size })
            })
        })
    }

    /// Whether the type is a struct or union once typedefs and qualifiers are removed.
    pub fn is_struct(&self, id: u32) -> bool {
        let entry = self.strip(id).and_then(|id| self.entry(id));
        entry.is_some_and(|e| matches!(e.kind, BtfKind::Struct | BtfKind::Union))
    }

    /// The type behind typedefs, qualifiers and type tags; `None` if they never end.
    pub(crate) fn strip(&self, mut id: u32) -> Option<u32> {
        const LONGEST_CHAIN: usize = 64;
        for _ in 0..LONGEST_CHAIN {
            let entry = self.entry(id)?;
            if !entry.kind.is_modifier() {
                return Some(id);
            }
            id = entry.arg;
        }
        None
    }

    pub(crate) fn entry(&self, id: u32) -> Option<&Entry> {
        self.entries.get(id as usize)
    }

    /// All types with their ids, `void` excluded.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (u32, &Entry)> {
        (0u32..).zip(&self.entries).skip(1)
    }

    pub(crate) fn parts(&self, entry: &Entry) -> &[Part] {
        let (start, len) = entry.parts;
        &self.parts[start as usize..start as usize + len as usize]
    }

    pub(crate) fn part_name(&self, part: &Part) -> &str {
        self.string(part.name).unwrap_or("")
    }

    /// Whether a function of that name is defined or called.
    pub fn has_function(&self, name: &str) -> bool {
        self.find(BtfKind::Func, name).is_some()
    }

    fn find(&self, kind: BtfKind, name: &str) -> Option<u32> {
        let named = |entry: &Entry| entry.kind == kind && self.string(entry.name) == Some(name);
        self.entries().find(|(_, entry)| named(entry)).map(|(id, _)| id)
    }

    /// A string by its place among the strings; `None` if it is empty or no text.
    pub fn string(&self, offset: u32) -> Option<&str> {
        let bytes = string_at(&self.strings, offset)?;
        if bytes.is_empty() { None } else { std::str::from_utf8(bytes).ok() }
    }

    /// Appends one entry with its parts; `None` if the data ends early or the kind is unknown.
    fn read_entry(&mut self, words: &mut Words) -> Option<()> {
        let (name, info, arg) = (words.next()?, words.next()?, words.next()?);
        let kind = BtfKind::of(info)?;
        let count = info & 0xffff;
        let start = self.parts.len() as u32;
        let part = |name, ty, value: u32| Part { name, ty, value: value.into() };
        match kind {
            BtfKind::Int => self.parts.push(part(0, 0, words.next()?)),
            BtfKind::Array => {
                let (element, _index_type, count) = (words.next()?, words.next()?, words.next()?);
                self.parts.push(part(0, element, count));
            }
            BtfKind::Struct | BtfKind::Union => {
                for _ in 0..count {
                    self.parts.push(part(words.next()?, words.next()?, words.next()?));
                }
            }
            BtfKind::Enum => {
                for _ in 0..count {
                    self.parts.push(part(words.next()?, 0, words.next()?));
                }
            }
            BtfKind::Enum64 => {
                for _ in 0..count {
                    let (name, low, high) = (words.next()?, words.next()?, words.next()?);
                    self.parts.push(Part { name, ty: 0, value: u64::from(high) << 32 | u64::from(low) });
                }
            }
            BtfKind::FuncProto => {
                for _ in 0..count {
                    self.parts.push(part(words.next()?, words.next()?, 0));
                }
            }
            BtfKind::Datasec => {
                for _ in 0..count {
                    let (ty, offset, size) = (words.next()?, words.next()?, words.next()?);
                    let value = u64::from(size) << 32 | u64::from(offset);
                    self.parts.push(Part { name: 0, ty, value });
                }
            }
            BtfKind::Var => self.parts.push(part(0, 0, words.next()?)),
            BtfKind::DeclTag => drop(words.next()?), // component index
            _ => {}
        }
        let parts = (start, self.parts.len() as u32 - start);
        self.entries.push(Entry { kind, flag: info >> 31 == 1, arg, name, parts });
        Some(())
    }

    /// Checks every reference and name; what passes can be followed blindly.
    fn check(&self) -> Result<()> {
        for (id, entry) in self.entries() {
            // The texts of tags are free-form: no identifier, no limit.
            if !matches!(entry.kind, BtfKind::DeclTag | BtfKind::TypeTag) {
                self.check_name(id, entry.name)?;
            }
            if entry.kind.refers() {
                self.check_reference(id, entry.arg)?;
            }
            for part in self.parts(entry) {
                self.check_name(id, part.name)?;
                self.check_reference(id, part.ty)?;
            }
        }
        Ok(())
    }

    fn check_reference(&self, id: u32, target: u32) -> Result<()> {
        if target < self.len() {
            return Ok(());
        }
        Err(bad(format_args!("type {id} refers to type {target}, of {}", self.len())))
    }

    fn check_name(&self, id: u32, offset: u32) -> Result<()> {
        let name = string_at(&self.strings, offset)
            .ok_or_else(|| bad(format_args!("type {id}: name offset {offset} is outside the strings")))?;
        if name.len() > MAX_NAME {
            return Err(bad(format_args!("type {id}: a name of {} bytes, more than {MAX_NAME}", name.len())));
        }
        std::str::from_utf8(name).map_err(|_| bad(format_args!("type {id}: its name is not UTF-8")))?;
        Ok(())
    }
}

/// Little-endian words, one after the other.
struct Words<'a> {
    data: &'a [u8],
    at: usize,
}

impl Words<'_> {
    fn next(&mut self) -> Option<u32> {
        let word = word_at(self.data, self.at)?;
        self.at += 4;
        Some(word)
    }
}

/// The little-endian word at a byte offset.
pub(crate) fn word_at(data: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*data.get(offset..)?.first_chunk()?))
}

/// The bytes up to the NUL; sections are checked to end in one.
pub(crate) fn string_at(strings: &[u8], offset: u32) -> Option<&[u8]> {
    let rest = strings.get(offset as usize..)?;
    Some(&rest[..rest.iter().position(|byte| *byte == 0)?])
}

/// The types and the strings, by the header.
pub(crate) fn sections(data: &[u8]) -> Result<(&[u8], &[u8])> {
    if data.len() < HEADER_LEN {
        return Err(bad(format_args!("{} bytes are less than its header", data.len())));
    }
    match u16::from_le_bytes([data[0], data[1]]) {
        MAGIC => {}
        magic if magic.swap_bytes() == MAGIC => return Err(bad("big-endian, only little-endian is read")),
        magic => return Err(bad(format_args!("starts with {magic:#06x} instead of {MAGIC:#06x}"))),
    }
    if data[2] != 1 {
        return Err(bad(format_args!("version {}, only version 1 is known", data[2])));
    }
    let word = |offset| word_at(data, offset).unwrap_or(0) as usize;
    // libbpf counts from the end of the header, wherever that is.
    if word(4) < HEADER_LEN {
        return Err(bad(format_args!("a header of {} bytes, less than {HEADER_LEN}", word(4))));
    }
    let body = data.get(word(4)..).ok_or_else(|| bad("its header is cut short"))?;
    let part = |offset: usize, len: usize, what: &str| {
        let end = offset.checked_add(len);
        end.and_then(|end| body.get(offset..end)).ok_or_else(|| bad(format_args!("{what} lie outside of it")))
    };
    let types = part(word(8), word(12), "types")?;
    let strings = part(word(16), word(20), "strings")?;
    if strings.first() != Some(&0) || strings.last() != Some(&0) {
        return Err(bad("strings do not begin and end with NUL"));
    }
    Ok((types, strings))
}

pub(crate) fn cut_short(id: u32) -> Error {
    bad(format_args!("type {id} is cut short or of unknown kind"))
}

pub(crate) fn bad(what: impl std::fmt::Display) -> Error {
    Error::new(Status::Package, format_args!("BTF: {what}"))
}
