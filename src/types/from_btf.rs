//! Builds the type graph from BTF.

use std::fmt;
use std::sync::Arc;

use super::format::ValueFormat;
use super::layout::{Field, Kind, MAX_DEPTH, MAX_SIZE, Name, Type, bits_of};
use crate::btf::{Btf, BtfKind, Entry, Part};
use crate::error::{Error, Result, Status};

/// Size of a pointer; BPF has only 64-bit pointers.
const POINTER_SIZE: usize = 8;

const INT_SIGNED: u64 = 1;
const INT_BOOL: u64 = 4;

impl Type {
    /// Returns the layout of a BTF type, or of the type of a variable. `Status::Type`: the type exceeds a limit.
    pub fn from_btf(btf: &Btf, id: u32) -> Result<Arc<Type>> {
        build(btf, id, &|_, _| ())
    }
}

/// Builds type `id`, and calls `set_formats` for each struct, union and typedef in it.
pub(super) fn build(btf: &Btf, id: u32, set_formats: &dyn Fn(u32, &mut Type)) -> Result<Arc<Type>> {
    let id = match btf.entry(id) {
        Some(entry) if entry.kind == BtfKind::Var => entry.arg,
        _ => id,
    };
    Builder { btf, set_formats, finished: Vec::new() }.build(id, 0)
}

/// Returns the format that a type has by its name. `in_addr` and `in6_addr` are addresses by definition, unlike
/// `__be32`, which is any number in network order.
fn well_known(name: &str, size: usize) -> Option<ValueFormat> {
    match (name, size) {
        ("in_addr", 4) => Some(ValueFormat::Ipv4),
        ("in6_addr", 16) => Some(ValueFormat::Ipv6),
        _ => None,
    }
}

/// Builds each type once.
struct Builder<'a> {
    btf: &'a Btf,
    /// Sets the formats of the members of a finished struct, union or typedef, which is passed with its id.
    set_formats: &'a dyn Fn(u32, &mut Type),
    /// The finished types by id, sorted.
    finished: Vec<(u32, Arc<Type>)>,
}

impl Builder<'_> {
    fn build(&mut self, id: u32, depth: u32) -> Result<Arc<Type>> {
        if let Ok(index) = self.search(id) {
            return Ok(self.finished[index].1.clone());
        }
        let entry = self.btf.entry(id).ok_or_else(|| self.error(id, "no such type"))?;
        if depth > MAX_DEPTH {
            return Err(self.limit_error(id, "nested more than 32 levels deep, or contains itself"));
        }
        let ty = if entry.kind.is_modifier() { self.alias(id, depth)? } else { self.base(id, entry, depth)? };
        if !ty.is_bounded() {
            return Err(self.limit_error(id, "too many members in total, or nested too deep"));
        }
        let ty = Arc::new(ty);
        let index = self.search(id).unwrap_or_else(|index| index);
        self.finished.insert(index, (id, ty.clone()));
        Ok(ty)
    }

    /// Returns the index of a finished type, or the index at which to insert it.
    fn search(&self, id: u32) -> std::result::Result<usize, usize> {
        self.finished.binary_search_by_key(&id, |(finished, _)| *finished)
    }

    /// Builds the target of a typedef, qualifier or tag, with the name of the first typedef.
    fn alias(&mut self, id: u32, depth: u32) -> Result<Type> {
        let target = self.btf.strip(id).ok_or_else(|| self.error(id, "a typedef of itself"))?;
        let ty = self.build(target, depth)?;
        let mut named = Type { name: self.spelling(id), ..(*ty).clone() };
        (self.set_formats)(id, &mut named);
        Ok(named)
    }

    fn base(&mut self, id: u32, entry: &Entry, depth: u32) -> Result<Type> {
        let size = entry.arg as usize;
        if entry.kind != BtfKind::Ptr && entry.kind != BtfKind::Array && size > MAX_SIZE {
            return Err(self.limit_error(id, format_args!("{size} bytes, more than {MAX_SIZE}")));
        }
        match entry.kind {
            BtfKind::Int => self.int(id, entry),
            BtfKind::Float => Ok(Type::scalar(self.spelling(id), Kind::Float, size, true)),
            BtfKind::Enum | BtfKind::Enum64 => self.enumeration(id, entry),
            BtfKind::Ptr => Ok(Type::scalar(self.spelling(id), Kind::Pointer, POINTER_SIZE, false)),
            BtfKind::Array => self.array(id, entry, depth),
            BtfKind::Struct => self.aggregate(id, entry, Kind::Struct, depth),
            BtfKind::Union => self.aggregate(id, entry, Kind::Union, depth),
            _ => Err(self.error(id, format_args!("a value cannot have this kind ({:?})", entry.kind))),
        }
    }

    fn int(&self, id: u32, entry: &Entry) -> Result<Type> {
        let size = entry.arg as usize;
        let encoding = self.encoding(entry);
        if !(1..=16).contains(&size) || encoding.bits == 0 || encoding.shift + encoding.bits > entry.arg * 8 {
            return Err(self.error(id, format_args!("an integer of {} bits in {size} bytes", encoding.bits)));
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
            return Err(self.error(id, format_args!("an enum of {size} bytes")));
        }
        let parts = self.btf.parts(entry);
        let narrow = entry.kind == BtfKind::Enum;
        // Older compilers do not set the flag of signed enums, so look for negative constants.
        let signed = entry.flag || narrow && parts.iter().any(|part| (part.value as u32 as i32) < 0);
        let underlying = Arc::new(Type::integer(if signed { "int" } else { "unsigned int" }, size, signed));
        let constant = |part: &Part| Field {
            name: self.btf.part_name(part).into(),
            ty: underlying.clone(),
            bit_offset: 0,
            bit_size: bits_of(size),
            value: if narrow && signed { i64::from(part.value as u32 as i32) } else { part.value as i64 },
        };
        // An ENUM of 64 bits (not an ENUM64) has constants truncated to 32 bits. They would be wrong, so it has none.
        let constants = if narrow && size == 8 { &[] } else { parts };
        let fields = constants.iter().map(constant).collect();
        Ok(Type { fields, ..Type::scalar(self.spelling(id), Kind::Enum, size, signed) })
    }

    fn array(&mut self, id: u32, entry: &Entry, depth: u32) -> Result<Type> {
        let part = self
            .btf
            .parts(entry)
            .first()
            .ok_or_else(|| self.error(id, "an array without an element type"))?;
        let (element, count) = (part.ty, part.value as u32);
        let elem = self.build(element, depth + 1)?;
        let size = elem.size;
        Type::array(self.spelling(id), elem, count).ok_or_else(|| {
            self.limit_error(id, format_args!("{count} elements of {size} bytes are too large"))
        })
    }

    fn aggregate(&mut self, id: u32, entry: &Entry, kind: Kind, depth: u32) -> Result<Type> {
        let btf = self.btf;
        let mut fields = Vec::with_capacity(btf.parts(entry).len());
        for part in btf.parts(entry) {
            let field = self.member(part, entry, depth)?;
            let end = u64::from(field.bit_offset) + u64::from(field.bit_size);
            if end > u64::from(entry.arg) * 8 {
                return Err(self.error(id, format_args!("member \"{}\" exceeds its end", field.name)));
            }
            fields.push(field);
        }
        let mut ty = Type::aggregate(self.spelling(id), kind, entry.arg as usize, fields);
        ty.format = btf.name(id).and_then(|name| well_known(name, ty.size));
        (self.set_formats)(id, &mut ty);
        Ok(ty)
    }

    fn member(&mut self, part: &Part, entry: &Entry, depth: u32) -> Result<Field> {
        let name = self.btf.part_name(part);
        let ty = self.build(part.ty, depth + 1)?;
        let word = part.value as u32;
        let (mut bit_offset, mut bits) = if entry.flag { (word & 0xff_ffff, word >> 24) } else { (word, 0) };
        if bits == 0 && matches!(ty.kind, Kind::Int | Kind::Uint | Kind::Char | Kind::Bool) {
            // Older compilers stored the offset and size of a bit-field in an integer type of its own.
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
                self.error(part.ty, format_args!("member \"{name}\" of {bit_size} bits at bit {bit_offset}"))
            );
        }
        Ok(field)
    }

    /// Returns the C declaration of a type, without the name of a variable: `struct sock *[4]`.
    fn spelling(&self, id: u32) -> Name {
        let mut declarator = String::new();
        let mut id = id;
        // Names are only shown, so an absurdly long chain is cut.
        for _ in 0..2 * MAX_DEPTH {
            let Some(entry) = self.btf.entry(id) else { break };
            let is_pointer = declarator.starts_with('*');
            match entry.kind {
                BtfKind::Const | BtfKind::Volatile | BtfKind::Restrict | BtfKind::TypeTag => {}
                BtfKind::Ptr => declarator.insert(0, '*'),
                BtfKind::Array => {
                    let count = self.btf.parts(entry).first().map_or(0, |part| part.value);
                    let inner = if is_pointer { format!("({declarator})") } else { declarator };
                    declarator = format!("{inner}[{count}]");
                    id = self.btf.parts(entry).first().map_or(0, |part| part.ty);
                    continue;
                }
                BtfKind::FuncProto => {
                    declarator = if is_pointer { format!("({declarator})()") } else { declarator + "()" };
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

    /// An error about a valid type that exceeds a limit.
    fn limit_error(&self, id: u32, what: impl fmt::Display) -> Error {
        self.error(id, what).with_status(Status::Type)
    }

    fn error(&self, id: u32, what: impl fmt::Display) -> Error {
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
