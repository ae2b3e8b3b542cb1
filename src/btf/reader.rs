//! Bounds-checked reader of a raw `.BTF` section.
//!
//! All type ids, names and member lists are checked once, when they are read. This file knows the encoding only:
//! `types::layout` computes sizes and layouts, `check` knows what libbpf does with the types.

use crate::error::{Error, Result, Status};
use crate::memory;

const MAGIC: u16 = 0xeb9f;
pub(crate) const HEADER_LEN: usize = 24;
/// The kernel's limits: `BTF_MAX_TYPE`, and `KSYM_NAME_LEN` without the NUL.
const MAX_TYPES: u32 = 0xf_ffff;
const MAX_NAME: usize = 511;
/// Maximum memory that reading needs, in bytes per byte of the section: the lists are copied while they grow.
const MAX_GROWTH: usize = 10;

/// The kinds of types, in the order of their numbers in the format.
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

/// The kinds by number.
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

/// The size of an entry of each kind, and the size of each of its parts, in bytes. 0: there is no kind with this number.
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
    /// Whether the third word of an entry is a type id; otherwise it is a size.
    pub(crate) fn refers_to_type(self) -> bool {
        use BtfKind::*;
        matches!(
            self,
            Ptr | Typedef | Volatile | Const | Restrict | Func | FuncProto | Var | DeclTag | TypeTag
        )
    }

    /// Returns the kind in the second word of an entry.
    fn from_info(info: u32) -> Option<BtfKind> {
        KINDS.get((info >> 24 & 0x1f) as usize).copied().filter(|kind| *kind != BtfKind::Void)
    }

    /// Returns the kind that libbpf matches by: enums of 64 bits are enums.
    pub(crate) fn without_width(self) -> BtfKind {
        if self == BtfKind::Enum64 { BtfKind::Enum } else { self }
    }

    /// Whether it is a typedef, qualifier or type tag, which do not change the layout of a type.
    pub(crate) fn is_modifier(self) -> bool {
        use BtfKind::*;
        matches!(self, Typedef | Volatile | Const | Restrict | TypeTag)
    }
}

/// One type.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub kind: BtfKind,
    /// The `kind_flag`: a struct with bit-fields, a signed enum, or a forward declaration of a union.
    pub flag: bool,
    /// The size in bytes, or the id of the type it refers to.
    pub arg: u32,
    name: u32,
    parts: (u32, u32),
}

/// An item that follows an entry, the same struct for all kinds: a member (name, type, offset word), an enum constant
/// (name, value), a parameter (name, type), a variable of a section (type, size and offset), the shape of an array
/// (element type, count), the encoding of an integer, or the linkage of a variable.
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
    /// Its offset in the section, in bytes.
    pub offset: u32,
    /// Its size in bytes, from the section.
    pub size: u32,
    /// Whether it is visible only in its own file.
    pub is_static: bool,
}

impl Btf {
    /// Reads and checks a raw `.BTF` section.
    pub fn parse(data: &[u8]) -> Result<Btf> {
        let (types, strings) = sections(data)?;
        memory::check_available(MAX_GROWTH * data.len())?;
        let void = Entry { kind: BtfKind::Void, flag: false, arg: 0, name: 0, parts: (0, 0) };
        let mut btf = Btf { entries: vec![void], parts: Vec::new(), strings: strings.to_vec() };
        let mut words = Words { data: types, at: 0 };
        while words.at < types.len() {
            let id = btf.entries.len() as u32;
            if id > MAX_TYPES {
                return Err(bad(format_args!("more than {MAX_TYPES} types")));
            }
            btf.read_entry(&mut words).ok_or_else(|| truncated(id))?;
        }
        btf.check()?;
        Ok(btf)
    }

    /// Returns the number of types, `void` included.
    #[allow(clippy::len_without_is_empty, reason = "there is always void")]
    pub fn len(&self) -> u32 {
        self.entries.len() as u32
    }

    /// Returns the name of a type; `None` if it has none or does not exist.
    pub fn name(&self, id: u32) -> Option<&str> {
        self.string(self.entries.get(id as usize)?.name)
    }

    /// Finds the struct with that name, else the union, else the typedef of a struct or union. Returns the first of several.
    pub fn find_struct(&self, name: &str) -> Option<u32> {
        let tagged = self.find(BtfKind::Struct, name).or_else(|| self.find(BtfKind::Union, name));
        tagged.or_else(|| self.find(BtfKind::Typedef, name).filter(|id| self.is_struct(*id)))
    }

    /// Returns the typedef of a struct or union that has no tag, and the id itself for all other types.
    pub fn typedef_of_untagged(&self, id: u32) -> u32 {
        let untagged = self.name(id).is_none() && self.is_struct(id);
        let mut typedefs = self.entries().filter(|(_, e)| e.kind == BtfKind::Typedef && e.arg == id);
        typedefs.next().filter(|_| untagged).map_or(id, |(typedef, _)| typedef)
    }

    /// Whether a value can have the type. A function, a variable, a section or a type that is only declared has no
    /// values.
    pub fn is_value(&self, id: u32) -> bool {
        use BtfKind::*;
        let entry = self.strip(id).and_then(|id| self.entry(id));
        entry.is_some_and(|e| !matches!(e.kind, Void | Fwd | Func | FuncProto | Var | Datasec | DeclTag))
    }

    /// Returns the type of the global variable with that name.
    pub fn find_var(&self, name: &str) -> Option<u32> {
        self.find(BtfKind::Var, name).map(|id| self.entries[id as usize].arg)
    }

    /// Returns the size of a data section. Compilers write 0; libbpf sets it, and the offsets of the variables.
    pub fn section_size(&self, section: u32) -> Option<u32> {
        self.entry(section).filter(|entry| entry.kind == BtfKind::Datasec).map(|entry| entry.arg)
    }

    /// Whether a function with that name is defined or called.
    pub fn has_function(&self, name: &str) -> bool {
        self.find(BtfKind::Func, name).is_some()
    }

    /// Returns the variables of a data section (a DATASEC), without static ones. The offsets are correct only in the
    /// BTF of an object that libbpf has opened.
    pub fn globals(&self, section: u32) -> impl Iterator<Item = Global<'_>> {
        self.data(section).into_iter().filter(|global| !global.is_static)
    }

    /// Returns all variables of a data section.
    #[inline(never)]
    pub fn data(&self, section: u32) -> Vec<Global<'_>> {
        const STATIC: u64 = 0;
        let mut all = Vec::new();
        let Some(entry) = self.entry(section).filter(|entry| entry.kind == BtfKind::Datasec) else {
            return all;
        };
        for part in self.parts(entry) {
            let var = self.entry(part.ty).filter(|var| var.kind == BtfKind::Var);
            let Some((var, section)) = var.zip(self.string(entry.name)) else { continue };
            let Some(name) = self.string(var.name) else { continue };
            let is_static = self.parts(var).first().is_none_or(|part| part.value == STATIC);
            let (offset, size) = (part.value as u32, (part.value >> 32) as u32);
            all.push(Global { section, name, type_id: var.arg, offset, size, is_static });
        }
        all
    }

    /// Whether the type is a struct or union once typedefs and qualifiers are removed.
    pub fn is_struct(&self, id: u32) -> bool {
        let entry = self.strip(id).and_then(|id| self.entry(id));
        entry.is_some_and(|e| matches!(e.kind, BtfKind::Struct | BtfKind::Union))
    }

    /// Skips typedefs, qualifiers and type tags; `None` if the chain is too long or a cycle.
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

    /// Returns all types but `void`, with their ids.
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

    fn find(&self, kind: BtfKind, name: &str) -> Option<u32> {
        let named = |entry: &Entry| entry.kind == kind && self.string(entry.name) == Some(name);
        self.entries().find(|(_, entry)| named(entry)).map(|(id, _)| id)
    }

    /// Returns the string at an offset; `None` if it is empty or not UTF-8.
    pub fn string(&self, offset: u32) -> Option<&str> {
        let bytes = string_at(&self.strings, offset)?;
        if bytes.is_empty() { None } else { std::str::from_utf8(bytes).ok() }
    }

    /// Reads one entry with its parts; `None` if the data ends early or the kind is unknown.
    fn read_entry(&mut self, words: &mut Words) -> Option<()> {
        let (name, info, arg) = (words.next()?, words.next()?, words.next()?);
        let kind = BtfKind::from_info(info)?;
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

    /// Checks every type id and name, so that later code can use them without checks.
    fn check(&self) -> Result<()> {
        for (id, entry) in self.entries() {
            // The strings of tags are not identifiers and have no limit.
            if !matches!(entry.kind, BtfKind::DeclTag | BtfKind::TypeTag) {
                self.check_name(id, entry.name)?;
            }
            if entry.kind.refers_to_type() {
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
        Err(bad(format_args!("type {id} refers to type {target}, but there are only {}", self.len())))
    }

    fn check_name(&self, id: u32, offset: u32) -> Result<()> {
        let name = string_at(&self.strings, offset)
            .ok_or_else(|| bad(format_args!("type {id}: name offset {offset} is outside the strings")))?;
        if name.len() > MAX_NAME {
            return Err(bad(format_args!(
                "type {id}: its name has {} bytes, more than {MAX_NAME}",
                name.len()
            )));
        }
        std::str::from_utf8(name).map_err(|_| bad(format_args!("type {id}: its name is not UTF-8")))?;
        Ok(())
    }
}

/// A reader of consecutive little-endian words.
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

/// Returns the little-endian word at a byte offset.
pub(crate) fn word_at(data: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*data.get(offset..)?.first_chunk()?))
}

/// Returns the bytes up to the NUL. Sections are checked to end with one.
pub(crate) fn string_at(strings: &[u8], offset: u32) -> Option<&[u8]> {
    let rest = strings.get(offset as usize..)?;
    Some(&rest[..rest.iter().position(|byte| *byte == 0)?])
}

/// Returns the types and the strings, which the header locates.
pub(crate) fn sections(data: &[u8]) -> Result<(&[u8], &[u8])> {
    if data.len() < HEADER_LEN {
        return Err(bad(format_args!("{} bytes, less than a header", data.len())));
    }
    match u16::from_le_bytes([data[0], data[1]]) {
        MAGIC => {}
        magic if magic.swap_bytes() == MAGIC => {
            return Err(bad("big-endian, but only little-endian is supported"));
        }
        magic => return Err(bad(format_args!("starts with {magic:#06x} instead of {MAGIC:#06x}"))),
    }
    if data[2] != 1 {
        return Err(bad(format_args!("version {}, but only version 1 is supported", data[2])));
    }
    let word = |offset| word_at(data, offset).unwrap_or(0) as usize;
    // libbpf computes offsets from the end of the header, whatever its length.
    if word(4) < HEADER_LEN {
        return Err(bad(format_args!("the header has {} bytes, less than {HEADER_LEN}", word(4))));
    }
    let body = data.get(word(4)..).ok_or_else(|| bad("the header is truncated"))?;
    let part = |offset: usize, len: usize, what: &str| {
        let end = offset.checked_add(len);
        end.and_then(|end| body.get(offset..end))
            .ok_or_else(|| bad(format_args!("the {what} exceed its end")))
    };
    let types = part(word(8), word(12), "types")?;
    let strings = part(word(16), word(20), "strings")?;
    if strings.first() != Some(&0) || strings.last() != Some(&0) {
        return Err(bad("the strings do not begin and end with NUL"));
    }
    Ok((types, strings))
}

pub(crate) fn truncated(id: u32) -> Error {
    bad(format_args!("type {id} is truncated or of unknown kind"))
}

pub(crate) fn bad(what: impl std::fmt::Display) -> Error {
    Error::new(Status::Package, format_args!("BTF: {what}"))
}
