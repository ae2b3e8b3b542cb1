//! The event structs of a package as a header for C and C++, with the layout that the BPF program gives them:
//! `NAME.event.h` for hosts, the same as `NAME.wasm.h` for WASM guests.
//!
//! A host may be a 32-bit program, and a guest's C has pointers and `long` of 32 bits, so members get types of fixed size
//! and padding is written out. The names come from the package's BTF, so from outside: whatever is no C identifier is
//! refused.

use eunomia::btf::Btf;
use eunomia::package::{ExportConfig, Package};
use eunomia::types::{Field, Kind, Type};

use crate::error::Result;
use crate::object::elf::Elf;

/// What the name of the header for hosts ends with.
pub const FOR_HOSTS: &str = ".event.h";

/// What the name of the header for WASM guests ends with.
pub const FOR_GUESTS: &str = ".wasm.h";

/// File name and text of the header; `None` if the package names no event types.
pub fn make(package: &Package, ending: &str) -> Result<Option<(String, Vec<u8>)>> {
    let elf = Elf::parse(&package.object)?;
    let section = elf.section(".BTF");
    if section.is_empty() {
        return Ok(None);
    }
    let btf = Btf::parse(section).map_err(|error| error.to_string())?;
    let mut writer = Writer::default();
    for (id, name) in events(package, &btf) {
        let ty = Type::from_btf(&btf, id).map_err(|error| error.to_string())?;
        if is_composite(&ty) { writer.define_event(&ty, name)? } else { writer.mention(&ty)? }
    }
    if writer.text.is_empty() {
        return Ok(None);
    }
    let name = name(package);
    let guard = format!("{}_EVENT_H_", name.to_uppercase());
    let text = format!(
        "// Written by ecc from a package; changes are lost. The events of {name} as its BPF program lays them out, to be\n\
         // included instead of the program's own header.\n\
         #ifndef {guard}\n#define {guard}\n\n#include <stdbool.h>\n#include <stdint.h>\n\n{}\
         #ifdef __cplusplus\n{}#else\n{}#endif\n\n#endif\n",
        writer.text,
        writer.asserts("static_assert"),
        writer.asserts("_Static_assert"),
    );
    Ok(Some((format!("{name}{ending}"), text.into_bytes())))
}

/// The object's name without the ending that libbpf gives it, in letters and digits.
pub fn name(package: &Package) -> String {
    let name = &package.meta.obj_name;
    let name = name.strip_suffix("_bpf").filter(|rest| !rest.is_empty()).unwrap_or(name);
    let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if name.starts_with(|first: char| first.is_ascii_alphabetic()) { name } else { format!("event{name}") }
}

/// The BTF ids of the types that events have, and what the package calls them.
fn events<'a>(package: &'a Package, btf: &'a Btf) -> Vec<(u32, &'a str)> {
    let exported = package.meta.export_types.iter();
    let exported = exported.filter_map(|export| {
        let (id, name) = (export.type_id.filter(|&id| btf.is_value(id)), &export.name);
        // As the library does: an id whose type has another name is wrong if there is a struct of the name.
        let fits = id.filter(|&id| btf.name(btf.named(id)) == Some(name));
        Some((fits.or_else(|| btf.find_struct(name)).or(id)?, name.as_str()))
    });
    let by_map = package.meta.maps.iter().filter_map(|map| match map.export {
        ExportConfig::BtfType(id) if btf.is_value(id) => Some((id, btf.name(btf.named(id)).unwrap_or(""))),
        _ => None,
    });
    let mut events: Vec<(u32, &str)> = Vec::new();
    for (id, name) in exported.chain(by_map) {
        if !events.iter().any(|(known, _)| *known == id) {
            events.push((id, name));
        }
    }
    events
}

/// Words that C++ has and C has not: members get a `_` behind them.
const CPP_WORDS: [&str; 46] = [
    "alignas",
    "alignof",
    "and",
    "asm",
    "bool",
    "catch",
    "class",
    "compl",
    "concept",
    "constexpr",
    "decltype",
    "delete",
    "dynamic_cast",
    "explicit",
    "export",
    "false",
    "friend",
    "module",
    "mutable",
    "namespace",
    "new",
    "noexcept",
    "not",
    "nullptr",
    "operator",
    "or",
    "private",
    "protected",
    "public",
    "reinterpret_cast",
    "requires",
    "static_assert",
    "static_cast",
    "template",
    "this",
    "thread_local",
    "throw",
    "true",
    "try",
    "typeid",
    "typename",
    "using",
    "virtual",
    "wchar_t",
    "xor",
    "const_cast",
];

/// Writes definitions, those first that others need.
#[derive(Default)]
struct Writer {
    text: String,
    /// The spelling of what is defined, such as `struct event`, and its size.
    defined: Vec<(String, usize)>,
    /// Padding gets numbers: members of an anonymous struct share the names around it.
    paddings: u32,
}

impl Writer {
    /// Defines an event. One without a tag has the name of a typedef.
    fn define_event(&mut self, ty: &Type, name: &str) -> Result<()> {
        if is_named(ty) || name.is_empty() {
            return self.define(ty);
        }
        self.define_inside(ty)?;
        let (name, (body, packed)) = (identifier(name)?, self.body(ty, 0)?);
        let packed = if packed { " __attribute__((packed))" } else { "" };
        let keyword = if ty.kind == Kind::Union { "union" } else { "struct" };
        self.text += &format!("typedef {keyword} {body}{packed} {name};\n\n");
        self.defined.push((name, ty.size));
        Ok(())
    }

    /// Says what an event is that has no members, so that there is nothing to define: a name such as `u32` or `color` may
    /// be another thing in the program that includes this.
    fn mention(&mut self, ty: &Type) -> Result<()> {
        let inner = element(ty);
        let (base, bytes) = scalar(inner);
        let mut spelled = base.to_string();
        if is_named(inner) {
            self.define(inner)?;
            spelled = spelling(inner)?;
        }
        spelled += &dimensions(ty);
        if bytes > 1 && !is_named(inner) {
            spelled += &format!("[{bytes}]");
        }
        let constants =
            ty.fields.iter().map(|field| Ok(format!("{} {}", identifier(&field.name)?, field.value)));
        let constants = constants.collect::<Result<Vec<_>>>()?.join(", ");
        let gap = if constants.is_empty() { "" } else { ": " };
        self.text += &format!("// An event is {spelled}, the program's {}{gap}{constants}\n\n", &*ty.name);
        Ok(())
    }

    /// Defines a struct or union, unless that is done.
    fn define(&mut self, ty: &Type) -> Result<()> {
        let spelling = spelling(ty)?;
        if self.defined.iter().any(|(name, _)| *name == spelling) {
            return Ok(());
        }
        self.define_inside(ty)?;
        let (body, packed) = self.body(ty, 0)?;
        let packed = if packed { " __attribute__((packed))" } else { "" };
        self.text += &format!("{spelling} {body}{packed};\n\n");
        self.defined.push((spelling, ty.size));
        Ok(())
    }

    /// Has the compiler look at the sizes; C and C++ have different words for that.
    fn asserts(&self, word: &str) -> String {
        let assert = |(spelling, size): &(String, usize)| {
            format!("{word}(sizeof({spelling}) == {size}, \"as in the BPF program\");\n")
        };
        self.defined.iter().map(assert).collect()
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
            spelling(inner)?
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

/// A struct or union as it is named here.
fn spelling(ty: &Type) -> Result<String> {
    let (keyword, tag) = ty.name.split_once(' ').unwrap_or(("struct", &ty.name));
    Ok(format!("{keyword} {}", identifier(tag)?))
}

fn identifier(name: &str) -> Result<String> {
    let is_start = |c: char| c.is_ascii_alphabetic() || c == '_';
    if !name.starts_with(is_start) || !name.chars().all(|c| is_start(c) || c.is_ascii_digit()) {
        return Err(format!("event type: {name:?} is no name in C").into());
    }
    let ending = if CPP_WORDS.contains(&name) { "_" } else { "" };
    Ok(format!("{name}{ending}"))
}
