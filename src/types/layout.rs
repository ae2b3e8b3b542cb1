//! The type graph: what a value looks like in memory, as C's rules and the object's BTF have it.
//!
//! Types are shared (`Arc`) and form no cycles, for a pointer does not hold what it points to. Everything in a graph
//! is bounded: the size, the nesting and the number of values that writing it out takes.

use std::ffi::CStr;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use super::format::ValueFormat;
use crate::error::{Error, Result, Status};

/// Bytes of the largest type; bits then fit 32 bits.
pub(super) const MAX_SIZE: usize = 1 << 28;
/// Structs and arrays inside each other.
pub(super) const MAX_DEPTH: u32 = 32;
/// Values that writing a type takes, an array counted as one of its elements. Unions that nest the same type twice
/// double it at each level while their size stays.
const MAX_WEIGHT: u32 = 1 << 14;

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

pub(super) fn bits_of(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX).saturating_mul(8)
}

impl Type {
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

    pub(super) fn aggregate(name: Name, kind: Kind, size: usize, fields: Vec<Field>) -> Type {
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
    pub(crate) fn is_composite(&self) -> bool {
        matches!(self.kind, Kind::Struct | Kind::Union) && self.format.is_none()
    }

    /// Whether walking everything in it stays within the limits; always so for what `from_btf` gives.
    pub(crate) fn is_bounded(&self) -> bool {
        self.weight <= MAX_WEIGHT && self.depth <= MAX_DEPTH
    }
}
