//! The type graph: the layout of a value in memory.
//!
//! Types are shared (`Arc`). The graph has no cycles, because a pointer type does not contain the type it points to. The
//! size, the nesting and the number of values in a type have limits.

use std::ffi::CStr;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use super::format::ValueFormat;
use crate::error::{Error, Result, Status};

/// Maximum number of bytes of a type; offsets in bits then fit 32 bits.
pub(super) const MAX_SIZE: usize = 1 << 28;
/// Maximum number of levels of nested structs and arrays.
pub(super) const MAX_DEPTH: u32 = 32;
/// Maximum number of values in a type, where an array is counted as one element. A union with two members
/// of the same type doubles the number of values at each nesting level, although its size in bytes stays the same.
const MAX_WEIGHT: u32 = 1 << 14;

/// The kind of a value, without typedefs, qualifiers and type tags. The numbers are those of the C interface.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A signed integer.
    Int = 1,
    /// An unsigned integer.
    Uint,
    /// `bool`.
    Bool,
    /// Plain `char`: a number, or a string in an array.
    Char,
    /// `float`, `double` and wider.
    Float,
    /// An enum of any size.
    Enum,
    /// A pointer.
    Pointer,
    /// An array; each dimension is an array of its own.
    Array,
    /// A struct.
    Struct,
    /// A union.
    Union,
}

/// A NUL-terminated string without other NULs, which C can borrow.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Name(Box<str>);

impl Name {
    /// Returns the name as a C string.
    pub fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_with_nul(self.0.as_bytes()).unwrap_or_default()
    }
}

impl From<&str> for Name {
    /// A NUL in `text` ends the name.
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
    /// The C declaration without qualifiers: `struct event`, `char[16]`, `__u32`, `struct sock *`.
    pub name: Name,
    /// Its kind.
    pub kind: Kind,
    /// Size in bytes.
    pub size: usize,
    /// Whether numbers of this type have a sign.
    pub signed: bool,
    /// The members in order of declaration, or the constants of an enum. An anonymous struct or union is a member with an
    /// empty name; its members are written like members of the outer struct, as in C.
    pub fields: Arc<[Field]>,
    /// The type of the elements of an array.
    pub elem: Option<Arc<Type>>,
    /// The number of elements of an array; 0 for a flexible array.
    pub count: u32,
    /// The format of its values, if it is not the default of its kind.
    pub format: Option<ValueFormat>,
    pub(super) weight: u32,
    pub(super) depth: u32,
}

/// A member, or a constant of an enum.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Its name; empty for an anonymous struct or union.
    pub name: Name,
    /// Its type; for a constant the underlying integer type.
    pub ty: Arc<Type>,
    /// Its offset in the struct, in bits.
    pub bit_offset: u32,
    /// Its size in bits: `8 * size`, less for a bit-field.
    pub bit_size: u32,
    /// The value of a constant. Values above 2^63 are negative here, and the enum is not `signed`.
    pub value: i64,
}

impl Field {
    /// Creates a member at an offset in bytes, not a bit-field.
    pub fn member(name: &str, ty: Arc<Type>, offset: u32) -> Field {
        let bit_size = bits_of(ty.size);
        Field { name: name.into(), ty, bit_offset: offset.saturating_mul(8), bit_size, value: 0 }
    }

    /// Whether it is anything but `ty.size` whole bytes.
    pub fn is_bit_field(&self) -> bool {
        self.bit_offset % 8 != 0 || self.bit_size != bits_of(self.ty.size)
    }
}

pub(super) fn bits_of(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX).saturating_mul(8)
}

impl Type {
    /// Creates an array of `size` bytes. It replaces a type that exceeds a limit.
    pub fn bytes(size: u32) -> Arc<Type> {
        let (name, elem) = (format!("unsigned char[{size}]"), Type::integer("unsigned char", 1, false));
        let scalar = Type::scalar(name.into(), Kind::Array, size as usize, false);
        Arc::new(Type { elem: Some(Arc::new(elem)), count: size, weight: 2, depth: 1, ..scalar })
    }

    /// Creates the type of the numbers that the kernel defines, such as array indices and ids.
    pub fn unsigned_int() -> Arc<Type> {
        Arc::new(Type::integer("unsigned int", 4, false))
    }

    /// Creates a struct from members.
    pub fn structure(name: &str, size: usize, members: Vec<Field>) -> Result<Arc<Type>> {
        if size > MAX_SIZE {
            let text = format!("struct {name}: {size} bytes, more than {MAX_SIZE}");
            return Err(Error::new(Status::Package, text));
        }
        Ok(Arc::new(Type::aggregate(format!("struct {name}").into(), Kind::Struct, size, members)))
    }

    /// Creates an integer type.
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

    /// Finds a member by name, also in anonymous structs and unions. Its offset is relative to this type.
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

    /// Whether it is an array of plain `char`, which is a string.
    pub fn is_string(&self) -> bool {
        self.elem.as_ref().is_some_and(|elem| elem.kind == Kind::Char)
    }

    /// Whether it is a struct or union that is written member by member.
    pub(crate) fn is_composite(&self) -> bool {
        matches!(self.kind, Kind::Struct | Kind::Union) && self.format.is_none()
    }

    /// Whether its values and levels stay within the limits. Types of `from_btf` always do.
    pub(crate) fn is_bounded(&self) -> bool {
        self.weight <= MAX_WEIGHT && self.depth <= MAX_DEPTH
    }
}
