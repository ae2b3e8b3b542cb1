//! The type graph: what a value looks like in memory, as C's rules and the object's BTF have it.
//!
//! Types are shared (`Arc`) and form no cycles, for a pointer does not hold what it points to. Everything in a graph
//! is bounded: the size, the nesting and the number of values that writing it out takes.

use std::ffi::CStr;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use super::btf::{Btf, BtfKind, Entry, Part};
use super::format::ValueFormat;
use crate::error::{Error, Result, Status};

/// Bytes of the largest type; bits then fit 32 bits.
const MAX_SIZE: usize = 1 << 28;
/// Structs and arrays inside each other.
pub(super) const MAX_DEPTH: u32 = 32;
/// Values that writing a type takes, an array counted as one of its elements. Unions that nest the same type twice
/// double it at each level while their size stays.
pub(super) const MAX_WEIGHT: u32 = 1 << 14;
/// Bytes of a pointer; BPF has 64-bit ones only.
const POINTER_SIZE: usize = 8;

const INT_SIGNED: u64 = 1;
const INT_BOOL: u64 = 4;

/// What a value is, typedefs, qualifiers and type tags removed; numbered as in the C interface.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A signed integer.
    Int = 1,
    /// An unsigned integer.
    Uint,
    /// `bool`.
    Bool,
    /// Plain `char`: a number by itself, a string in an array.
    Char,
    /// `float`, `double` and wider.
    Float,
    /// An enum of any size.
    Enum,
    /// A pointer.
    Pointer,
    /// An array; each dimension is one.
    Array,
    /// A struct.
    Struct,
    /// A union.
    Union,
}

/// A name that C can borrow: text without NUL inside, followed by one.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Name(Box<str>);

impl Name {
    /// The name with its NUL, as C wants it.
    pub fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_with_nul(self.0.as_bytes()).unwrap_or_default()
    }
}

impl From<&str> for Name {
    /// A NUL ends the name.
    fn from(text: &str) -> Name {
        let end = text.find('\0').unwrap_or(text.len());
        Name(format!("{}\0", &text[..end]).into_boxed_str())
    }
}

impl From<String> for Name {
    fn from(text: String) -> Name {
        Name::from(text.as_str())
    }
}

impl Deref for Name {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0[..self.0.len() - 1]
    }
}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        **self == *other
    }
}

impl PartialEq<&str> for Name {
    fn eq(&self, other: &&str) -> bool {
        **self == **other
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// The layout of one type.
#[derive(Clone, Debug, PartialEq)]
pub struct Type {
    /// C spelling without qualifiers: `struct event`, `char[16]`, `__u32`, `struct sock *`.
    pub name: Name,
    /// What it is.
    pub kind: Kind,
    /// Size in bytes.
    pub size: usize,
    /// Whether a number of it has a sign.
    pub signed: bool,
    /// Members in order of declaration; the constants of an enum. A struct or union inside without a name of its
    /// own is one member with an empty name; what is written of it stands among the members around it, as in C.
    pub fields: Arc<[Field]>,
    /// Elements of an array: their type.
    pub elem: Option<Arc<Type>>,
    /// Elements of an array; 0 also for a flexible one.
    pub count: u32,
    /// How its values are written, if not as usual for its kind.
    pub format: Option<ValueFormat>,
    pub(super) weight: u32,
    pub(super) depth: u32,
}

/// A member, or a constant of an enum.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Its name; empty for an anonymous struct or union.
    pub name: Name,
    /// Its type; for a constant the integer that holds it.
    pub ty: Arc<Type>,
    /// Where it starts, in bits from the start of the struct.
    pub bit_offset: u32,
    /// Bits it takes: `8 * size`, fewer for a bit-field.
    pub bit_size: u32,
    /// The value of a constant; above 2^63 wrapped to negative (the enum is then not `signed`).
    pub value: i64,
}

impl Field {
    /// A member at a byte offset, not a bit-field.
    pub fn member(name: &str, ty: Arc<Type>, offset: u32) -> Field {
        let bit_size = bits_of(ty.size);
        Field { name: name.into(), ty, bit_offset: offset.saturating_mul(8), bit_size, value: 0 }
    }

    /// Whether it is not simply `ty.size` whole bytes.
    pub fn is_bit_field(&self) -> bool {
        self.bit_offset % 8 != 0 || self.bit_size != bits_of(self.ty.size)
    }
}

fn bits_of(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX).saturating_mul(8)
}

impl Type {
    /// The layout of a type, or of a variable's type, of an object. Status `Type`: the type is beyond the limits.
    pub fn from_btf(btf: &Btf, id: u32) -> Result<Arc<Type>> {
        let id = match btf.entry(id) {
            Some(entry) if entry.kind == BtfKind::Var => entry.arg,
            _ => id,
        };
        Builder { btf, done: Vec::new() }.build(id, 0)
    }

    /// As many bytes, in place of a type that is beyond the limits.
    pub fn bytes(size: u32) -> Arc<Type> {
        let (name, elem) = (format!("unsigned char[{size}]"), Type::integer("unsigned char", 1, false));
        let scalar = Type::scalar(name.into(), Kind::Array, size as usize, false);
        Arc::new(Type { elem: Some(Arc::new(elem)), count: size, weight: 2, depth: 1, ..scalar })
    }

    /// A number that the kernel defines where an object gives no type: a place in an array, an id.
    pub fn unsigned_int() -> Arc<Type> {
        Arc::new(Type::integer("unsigned int", 4, false))
    }

    /// A struct put together from members.
    pub fn structure(name: &str, size: usize, members: Vec<Field>) -> Result<Arc<Type>> {
        if size > MAX_SIZE {
            let text = format!("struct {name}: {size} bytes, more than {MAX_SIZE}");
            return Err(Error::new(Status::Package, text));
        }
        Ok(Arc::new(Type::aggregate(format!("struct {name}").into(), Kind::Struct, size, members)))
    }

    /// An integer type.
    pub(super) fn integer(name: &str, size: usize, signed: bool) -> Type {
        let kind = if signed { Kind::Int } else { Kind::Uint };
        Type::scalar(name.into(), kind, size, signed)
    }

    pub(super) fn scalar(name: Name, kind: Kind, size: usize, signed: bool) -> Type {
        let (fields, elem, count) = (Arc::from([]), None, 0);
        Type { name, kind, size, signed, fields, elem, count, format: None, weight: 1, depth: 0 }
    }

    pub(super) fn array(name: Name, elem: Arc<Type>, count: u32) -> Option<Type> {
        let size = elem.size.checked_mul(count as usize).filter(|size| *size <= MAX_SIZE)?;
        let (weight, depth) = (elem.weight.saturating_add(1), elem.depth + 1);
        let scalar = Type::scalar(name, Kind::Array, size, false);
        Some(Type { elem: Some(elem), count, weight, depth, ..scalar })
    }

    fn aggregate(name: Name, kind: Kind, size: usize, fields: Vec<Field>) -> Type {
        let weight = fields.iter().fold(1u32, |sum, field| sum.saturating_add(field.ty.weight));
        let depth = fields.iter().map(|field| field.ty.depth).max().unwrap_or(0) + 1;
        Type { fields: fields.into(), weight, depth, ..Type::scalar(name, kind, size, false) }
    }

    /// The member of that name, also one of an anonymous struct or union inside; its offset counts from this type.
    pub fn member(&self, name: &str) -> Option<Field> {
        if !matches!(self.kind, Kind::Struct | Kind::Union) || self.weight > MAX_WEIGHT {
            return None;
        }
        self.fields.iter().find_map(|field| {
            if !field.name.is_empty() {
                return (field.name == name).then(|| field.clone());
            }
            let inner = field.ty.member(name)?;
            let bit_offset = inner.bit_offset.checked_add(field.bit_offset)?;
            Some(Field { bit_offset, ..inner })
        })
    }

    /// Whether it is an array of plain `char`, which is written as a string.
    pub fn is_string(&self) -> bool {
        self.elem.as_ref().is_some_and(|elem| elem.kind == Kind::Char)
    }

    /// Whether it is written as its members are.
    pub(super) fn is_composite(&self) -> bool {
        matches!(self.kind, Kind::Struct | Kind::Union) && self.format.is_none()
    }

    /// Whether walking everything in it stays within the limits; always so for what `from_btf` gives.
    pub(super) fn is_bounded(&self) -> bool {
        self.weight <= MAX_WEIGHT && self.depth <= MAX_DEPTH
    }
}

/// Builds the graph, each type once.
struct Builder<'a> {
    btf: &'a Btf,
    /// What is built, by type id in ascending order.
    done: Vec<(u32, Arc<Type>)>,
}

impl Builder<'_> {
    fn build(&mut self, id: u32, depth: u32) -> Result<Arc<Type>> {
        if let Ok(place) = self.place(id) {
            return Ok(self.done[place].1.clone());
        }
        let entry = self.btf.entry(id).ok_or_else(|| self.bad(id, "no such type"))?;
        if depth > MAX_DEPTH {
            return Err(self.beyond(id, "nested more than 32 deep, or in itself"));
        }
        let ty = if entry.kind.is_modifier() { self.alias(id, depth)? } else { self.base(id, entry, depth)? };
        if !ty.is_bounded() {
            return Err(self.beyond(id, "too many members in total, or nested too deep"));
        }
        let ty = Arc::new(ty);
        let place = self.place(id).unwrap_or_else(|place| place);
        self.done.insert(place, (id, ty.clone()));
        Ok(ty)
    }

    /// Where a type is among those that are built, or else where it belongs.
    fn place(&self, id: u32) -> std::result::Result<usize, usize> {
        self.done.binary_search_by_key(&id, |done| done.0)
    }

    /// What typedefs, qualifiers and tags stand for, under the name of the first typedef.
    fn alias(&mut self, id: u32, depth: u32) -> Result<Type> {
        let target = self.btf.strip(id).ok_or_else(|| self.bad(id, "a typedef of itself"))?;
        let ty = self.build(target, depth)?;
        let mut named = Type { name: self.spelling(id), ..(*ty).clone() };
        self.btf.format_members(id, &mut named);
        Ok(named)
    }

    fn base(&mut self, id: u32, entry: &Entry, depth: u32) -> Result<Type> {
        let size = entry.arg as usize;
        if entry.kind != BtfKind::Ptr && entry.kind != BtfKind::Array && size > MAX_SIZE {
            return Err(self.beyond(id, format_args!("{size} bytes, more than {MAX_SIZE}")));
        }
        match entry.kind {
            BtfKind::Int => self.int(id, entry),
            BtfKind::Float => Ok(Type::scalar(self.spelling(id), Kind::Float, size, true)),
            BtfKind::Enum | BtfKind::Enum64 => self.enumeration(id, entry),
            BtfKind::Ptr => Ok(Type::scalar(self.spelling(id), Kind::Pointer, POINTER_SIZE, false)),
            BtfKind::Array => self.array(id, entry, depth),
            BtfKind::Struct => self.aggregate(id, entry, Kind::Struct, depth),
            BtfKind::Union => self.aggregate(id, entry, Kind::Union, depth),
            _ => Err(self.bad(id, format_args!("a value cannot be a {:?}", entry.kind))),
        }
    }

    fn int(&self, id: u32, entry: &Entry) -> Result<Type> {
        let size = entry.arg as usize;
        let encoding = self.encoding(entry);
        if !(1..=16).contains(&size) || encoding.bits == 0 || encoding.shift + encoding.bits > entry.arg * 8 {
            return Err(self.bad(id, format_args!("an integer of {} bits in {size} bytes", encoding.bits)));
        }
        let kind = match self.btf.name(id) {
            _ if encoding.flags & INT_BOOL != 0 => Kind::Bool,
            Some("char") if size == 1 => Kind::Char,
            _ if encoding.flags & INT_SIGNED != 0 => Kind::Int,
            _ => Kind::Uint,
        };
        Ok(Type::scalar(self.spelling(id), kind, size, encoding.flags & INT_SIGNED != 0))
    }

    fn encoding(&self, entry: &Entry) -> Encoding {
        let word = self.btf.parts(entry).first().map_or(0, |part| part.value);
        Encoding { flags: word >> 24 & 0xf, shift: (word >> 16 & 0xff) as u32, bits: (word & 0xff) as u32 }
    }

    fn enumeration(&self, id: u32, entry: &Entry) -> Result<Type> {
        let size = entry.arg as usize;
        if ![1, 2, 4, 8].contains(&size) {
            return Err(self.bad(id, format_args!("an enum of {size} bytes")));
        }
        let parts = self.btf.parts(entry);
        let narrow = entry.kind == BtfKind::Enum;
        // Older compilers do not flag signed enums; a negative constant tells.
        let signed = entry.flag || narrow && parts.iter().any(|part| (part.value as u32 as i32) < 0);
        let holder = Arc::new(Type::integer(if signed { "int" } else { "unsigned int" }, size, signed));
        let constant = |part: &Part| Field {
            name: self.btf.part_name(part).into(),
            ty: holder.clone(),
            bit_offset: 0,
            bit_size: bits_of(size),
            value: if narrow && signed { i64::from(part.value as u32 as i32) } else { part.value as i64 },
        };
        // An enum of 64 bits that is no ENUM64 has constants cut to 32: no name is better than a wrong one.
        let known = if narrow && size == 8 { &[] } else { parts };
        let fields = known.iter().map(constant).collect();
        Ok(Type { fields, ..Type::scalar(self.spelling(id), Kind::Enum, size, signed) })
    }

    fn array(&mut self, id: u32, entry: &Entry, depth: u32) -> Result<Type> {
        let part = self.btf.parts(entry).first().ok_or_else(|| self.bad(id, "an array of nothing"))?;
        let (element, count) = (part.ty, part.value as u32);
        let elem = self.build(element, depth + 1)?;
        let size = elem.size;
        Type::array(self.spelling(id), elem, count)
            .ok_or_else(|| self.beyond(id, format_args!("{count} elements of {size} bytes are too large")))
    }

    fn aggregate(&mut self, id: u32, entry: &Entry, kind: Kind, depth: u32) -> Result<Type> {
        let btf = self.btf;
        let mut fields = Vec::with_capacity(btf.parts(entry).len());
        for part in btf.parts(entry) {
            let field = self.member(part, entry, depth)?;
            let end = u64::from(field.bit_offset) + u64::from(field.bit_size);
            if end > u64::from(entry.arg) * 8 {
                return Err(self.bad(id, format_args!("member \"{}\" lies outside of it", field.name)));
            }
            fields.push(field);
        }
        let mut ty = Type::aggregate(self.spelling(id), kind, entry.arg as usize, fields);
        ty.format = btf.name(id).and_then(|name| Type::well_known(name, ty.size));
        btf.format_members(id, &mut ty);
        Ok(ty)
    }

    fn member(&mut self, part: &Part, entry: &Entry, depth: u32) -> Result<Field> {
        let name = self.btf.part_name(part);
        let ty = self.build(part.ty, depth + 1)?;
        let word = part.value as u32;
        let (mut bit_offset, mut bits) = if entry.flag { (word & 0xff_ffff, word >> 24) } else { (word, 0) };
        if bits == 0 && matches!(ty.kind, Kind::Int | Kind::Uint | Kind::Char | Kind::Bool) {
            // Before bit-fields had their place in the struct's entry, an integer type of its own held it.
            let int = self.btf.strip(part.ty).and_then(|id| self.btf.entry(id));
            if let Some(encoding) = int.map(|int| self.encoding(int)) {
                bit_offset = bit_offset.saturating_add(encoding.shift);
                bits = encoding.bits;
            }
        }
        let bit_size = if bits == 0 { bits_of(ty.size) } else { bits };
        let field = Field { name: name.into(), ty, bit_offset, bit_size, value: 0 };
        let holds_bits =
            matches!(field.ty.kind, Kind::Int | Kind::Uint | Kind::Char | Kind::Bool | Kind::Enum);
        if field.is_bit_field() && (!holds_bits || bit_size > bits_of(field.ty.size)) {
            return Err(
                self.bad(part.ty, format_args!("member \"{name}\" of {bit_size} bits at bit {bit_offset}"))
            );
        }
        Ok(field)
    }

    /// The C declaration of a type without a name for the value: `struct sock *[4]`.
    fn spelling(&self, id: u32) -> Name {
        let mut declarator = String::new();
        let mut id = id;
        // A chain longer than any C program's is cut: names are for people.
        for _ in 0..2 * MAX_DEPTH {
            let Some(entry) = self.btf.entry(id) else { break };
            let behind_pointer = declarator.starts_with('*');
            match entry.kind {
                BtfKind::Const | BtfKind::Volatile | BtfKind::Restrict | BtfKind::TypeTag => {}
                BtfKind::Ptr => declarator.insert(0, '*'),
                BtfKind::Array => {
                    let count = self.btf.parts(entry).first().map_or(0, |part| part.value);
                    let inner = if behind_pointer { format!("({declarator})") } else { declarator };
                    declarator = format!("{inner}[{count}]");
                    id = self.btf.parts(entry).first().map_or(0, |part| part.ty);
                    continue;
                }
                BtfKind::FuncProto => {
                    declarator = if behind_pointer { format!("({declarator})()") } else { declarator + "()" };
                }
                _ => break,
            }
            id = entry.arg;
        }
        let gap = if declarator.starts_with(['*', '(']) { " " } else { "" };
        format!("{}{gap}{declarator}", self.base_spelling(id)).into()
    }

    fn base_spelling(&self, id: u32) -> String {
        let name = self.btf.name(id);
        let prefix = match self.btf.entry(id).map(|entry| (entry.kind, entry.flag)) {
            Some((BtfKind::Struct | BtfKind::Fwd, false) | (BtfKind::Struct, true)) => "struct",
            Some((BtfKind::Union | BtfKind::Fwd, _)) => "union",
            Some((BtfKind::Enum | BtfKind::Enum64, _)) => "enum",
            Some((BtfKind::Void, _)) => return "void".to_string(),
            _ => return name.unwrap_or("?").to_string(),
        };
        name.map_or_else(|| format!("{prefix} {{...}}"), |name| format!("{prefix} {name}"))
    }

    /// A type that makes sense and is beyond the limits.
    fn beyond(&self, id: u32, what: impl fmt::Display) -> Error {
        self.bad(id, what).as_status(Status::Type)
    }

    fn bad(&self, id: u32, what: impl fmt::Display) -> Error {
        let name = self.btf.name(id).unwrap_or("no name");
        Error::new(Status::Package, format_args!("BTF: type {id} ({name}): {what}"))
    }
}

/// The encoding word of an integer.
struct Encoding {
    flags: u64,
    shift: u32,
    bits: u32,
}
