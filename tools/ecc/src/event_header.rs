//! `NAME.wasm.h`: the event structs of a package for a WASM guest, with the layout that the BPF program gives them.
//!
//! The guest's C has pointers and `long` of 32 bits, so members get types of fixed size and padding is written out. The
//! names come from the package's BTF, so from outside: whatever is no C identifier is refused.

use eunomia::package::{ExportConfig, Package};
use eunomia::types::{Btf, Field, Kind, Type};

use crate::elf::Elf;
use crate::error::Result;

/// File name and text of the header; `None` if the package names no event types.
pub fn make(package: &Package) -> Result<Option<(String, Vec<u8>)>> {
    let elf = Elf::parse(&package.object)?;
    let section = elf.section(".BTF");
    if section.is_empty() {
        return Ok(None);
    }
    let btf = Btf::parse(section).map_err(|error| error.to_string())?;
    let mut writer = Writer::default();
    for id in events(package, &btf) {
        let ty = Type::from_btf(&btf, id).map_err(|error| error.to_string())?;
        writer.define(&ty)?;
    }
    if writer.text.is_empty() {
        return Ok(None);
    }
    let name = name(package);
    let guard = format!("{}_WASM_H_", name.to_uppercase());
    let text = format!(
        "// Written by ecc from a package; changes are lost. The events of {name} as its BPF program lays them out, for a\n\
         // guest to include instead of the program's own header.\n\
         #ifndef {guard}\n#define {guard}\n\n#include <stdbool.h>\n#include <stdint.h>\n\n{}#endif\n",
        writer.text
    );
    Ok(Some((format!("{name}.wasm.h"), text.into_bytes())))
}

/// The object's name without the ending that libbpf gives it, in letters and digits.
fn name(package: &Package) -> String {
    let name = &package.meta.obj_name;
    let name = name.strip_suffix("_bpf").filter(|rest| !rest.is_empty()).unwrap_or(name);
    let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if name.starts_with(|first: char| first.is_ascii_alphabetic()) { name } else { format!("event{name}") }
}

/// The BTF ids of the structs that events are.
fn events(package: &Package, btf: &Btf) -> Vec<u32> {
    let exported = package.meta.export_types.iter();
    let exported = exported.filter_map(|export| {
        let id = export.type_id.filter(|&id| btf.is_struct(id));
        id.or_else(|| btf.find_struct(&export.name))
    });
    let by_map = package.meta.maps.iter().filter_map(|map| match map.export {
        ExportConfig::BtfType(id) => Some(id).filter(|&id| btf.is_struct(id)),
        _ => None,
    });
    let mut ids: Vec<u32> = Vec::new();
    for id in exported.chain(by_map) {
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    ids
}

/// Writes definitions, those first that others need.
#[derive(Default)]
struct Writer {
    text: String,
    /// The spelling of what is defined: `struct event`.
    defined: Vec<String>,
    /// Padding gets numbers: members of an anonymous struct share the names around it.
    paddings: u32,
}

impl Writer {
    /// Defines a struct or union, unless that is done.
    fn define(&mut self, ty: &Type) -> Result<()> {
        let spelling = ty.name.to_string();
        let (keyword, tag) = spelling.split_once(' ').unwrap_or(("struct", &spelling));
        let spelling = format!("{keyword} {}", identifier(tag)?);
        if self.defined.contains(&spelling) {
            return Ok(());
        }
        self.define_inside(ty)?;
        let (body, packed) = self.body(ty, 0)?;
        let packed = if packed { " __attribute__((packed))" } else { "" };
        let size = format!("_Static_assert(sizeof({spelling}) == {}, \"as in the BPF program\");", ty.size);
        self.text += &format!("{spelling} {body}{packed};\n{size}\n\n");
        self.defined.push(spelling);
        Ok(())
    }

    /// Defines the named structs and unions that `ty` has inside.
    fn define_inside(&mut self, ty: &Type) -> Result<()> {
        for field in ty.fields.iter() {
            let inner = element(&field.ty);
            if is_named(inner) {
                self.define(inner)?;
            } else if is_composite(inner) {
                self.define_inside(inner)?;
            }
        }
        Ok(())
    }

    /// What stands between the braces, and whether the layout needs the attribute `packed`.
    fn body(&mut self, ty: &Type, depth: usize) -> Result<(String, bool)> {
        let packed = is_packed(ty);
        let indent = "    ".repeat(depth + 1);
        let mut body = String::from("{\n");
        let mut end = 0;
        for field in ty.fields.iter() {
            if ty.kind == Kind::Struct {
                body += &self.padding(&indent, end, field.bit_offset)?;
                end = field.bit_offset + field.bit_size;
            }
            body += &format!("{indent}{}\n", self.member(field, depth)?);
        }
        if ty.kind == Kind::Struct {
            body += &self.padding(&indent, end, 8 * ty.size as u32)?;
        } else if natural_size(ty) != ty.size {
            self.paddings += 1;
            body += &format!("{indent}uint8_t _padding{}[{}];\n", self.paddings, ty.size);
        }
        body += &format!("{}}}", "    ".repeat(depth));
        Ok((body, packed))
    }

    /// Fills the bits from `start` to `end`: up to a whole byte, bytes, and bits again.
    fn padding(&mut self, indent: &str, start: u32, end: u32) -> Result<String> {
        let gap = end.checked_sub(start).ok_or("event type: its members overlap")?;
        let first = (start.next_multiple_of(8) - start).min(gap);
        let (bytes, last) = ((gap - first) / 8, (gap - first) % 8);
        let bits =
            |count: u32| if count > 0 { format!("{indent}uint8_t : {count};\n") } else { String::new() };
        let mut text = bits(first);
        if bytes > 0 {
            self.paddings += 1;
            text += &format!("{indent}uint8_t _padding{}[{bytes}];\n", self.paddings);
        }
        Ok(text + &bits(last))
    }

    /// A member's declaration.
    fn member(&mut self, field: &Field, depth: usize) -> Result<String> {
        let name =
            if field.name.is_empty() { String::new() } else { format!(" {}", identifier(&field.name)?) };
        if field.is_bit_field() {
            return Ok(format!("{}{name} : {};", scalar(&field.ty).0, field.bit_size));
        }
        let inner = element(&field.ty);
        let mut dimensions = dimensions(&field.ty);
        let base = if is_named(inner) {
            inner.name.to_string()
        } else if is_composite(inner) {
            let (body, packed) = self.body(inner, depth + 1)?;
            let keyword = if inner.kind == Kind::Union { "union" } else { "struct" };
            format!("{keyword} {body}{}", if packed { " __attribute__((packed))" } else { "" })
        } else {
            let (base, bytes) = scalar(inner);
            if bytes > 1 {
                dimensions += &format!("[{bytes}]");
            }
            base.to_string()
        };
        let note = match inner.kind {
            Kind::Pointer => " // a pointer",
            Kind::Enum => " // an enum",
            _ => "",
        };
        Ok(format!("{base}{name}{dimensions};{note}"))
    }
}

/// The C type for a number of fixed size; with a count, so many of it, for sizes that C has no type for.
fn scalar(ty: &Type) -> (&'static str, usize) {
    let name = match (ty.kind, ty.size, ty.signed) {
        (Kind::Bool, 1, _) => "bool",
        (Kind::Char, 1, _) => "char",
        (Kind::Float, 4, _) => "float",
        (Kind::Float, 8, _) => "double",
        (Kind::Float, size, _) => return ("uint8_t", size),
        (_, 1, true) => "int8_t",
        (_, 2, true) => "int16_t",
        (_, 4, true) => "int32_t",
        (_, 8, true) => "int64_t",
        (_, 16, true) => "__int128",
        (_, 1, false) => "uint8_t",
        (_, 2, false) => "uint16_t",
        (_, 4, false) => "uint32_t",
        (_, 8, false) => "uint64_t",
        (_, 16, false) => "unsigned __int128",
        (_, size, _) => return ("uint8_t", size),
    };
    (name, 1)
}

/// Whether C would place the members otherwise without the attribute. Bit-fields are placed by it alone.
fn is_packed(ty: &Type) -> bool {
    let misplaced =
        |field: &Field| field.is_bit_field() || (field.bit_offset / 8) as usize % align(&field.ty) != 0;
    ty.fields.iter().any(misplaced) || ty.size % natural_align(ty) != 0
}

/// The alignment of a type as it is written here, or more: a packed struct has less, which only adds padding that is
/// written out.
fn align(ty: &Type) -> usize {
    match ty.kind {
        Kind::Array => ty.elem.as_deref().map_or(1, align),
        Kind::Struct | Kind::Union => natural_align(ty),
        _ if scalar(ty).1 > 1 => 1,
        _ => ty.size,
    }
}

fn natural_align(ty: &Type) -> usize {
    ty.fields.iter().map(|field| align(&field.ty)).max().unwrap_or(1)
}

/// The size of a union as C makes it from its members.
fn natural_size(ty: &Type) -> usize {
    let largest = ty.fields.iter().map(|field| field.ty.size).max().unwrap_or(0);
    if is_packed(ty) { largest } else { largest.next_multiple_of(natural_align(ty)) }
}

fn is_composite(ty: &Type) -> bool {
    matches!(ty.kind, Kind::Struct | Kind::Union)
}

/// Whether it has a tag; without one, and behind a typedef, it is written where it is used.
fn is_named(ty: &Type) -> bool {
    let tag = ty.name.strip_prefix("struct ").or(ty.name.strip_prefix("union "));
    is_composite(ty) && tag.is_some_and(|tag| !tag.starts_with('{'))
}

/// What an array is made of, through all dimensions; other types themselves.
fn element(ty: &Type) -> &Type {
    ty.elem.as_deref().map_or(ty, element)
}

fn dimensions(ty: &Type) -> String {
    ty.elem.as_deref().map_or_else(String::new, |elem| format!("[{}]{}", ty.count, dimensions(elem)))
}

fn identifier(name: &str) -> Result<&str> {
    let is_start = |c: char| c.is_ascii_alphabetic() || c == '_';
    if name.starts_with(is_start) && name.chars().all(|c| is_start(c) || c.is_ascii_digit()) {
        return Ok(name);
    }
    Err(format!("event type: {name:?} is no name in C").into())
}
