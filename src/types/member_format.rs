//! The formats that a package specifies for members of its structs.

use std::ops::Range;
use std::sync::Arc;

use super::format::ValueFormat::{self, *};
use super::from_btf::build;
use super::layout::{Field, Kind, Type};
use crate::btf::{Btf, BtfKind, Entry};
use crate::error;

/// The formats of the members of an object's structs.
#[derive(Clone, Debug, Default)]
pub struct MemberFormats(Vec<MemberFormat>); // sorted by the name of the struct

#[derive(Clone, Debug)]
struct MemberFormat {
    structure: String,
    member: String,
    format: ValueFormat,
}

impl MemberFormats {
    /// Reads a list of formats. Each entry consists of a struct (its tag or typedef), a member (`args.saddr` for one of a
    /// nested struct) and the name of a format. An entry that does not fit the types has no effect; `complain` is called
    /// with it and the reason.
    pub fn new(
        btf: &Btf,
        requested: &mut dyn Iterator<Item = [&str; 3]>,
        complain: &mut dyn FnMut([&str; 3], &str),
    ) -> MemberFormats {
        let mut formats = MemberFormats::default();
        for entry in requested {
            let [structure, member, name] = entry;
            match ValueFormat::from_name(name) {
                Some(format) => formats.insert(structure, member, format),
                None => complain(entry, "there is no such format"),
            }
        }
        formats.check(btf, complain);
        formats
    }

    /// Returns the layout of a BTF type as [`Type::from_btf`] does, with these formats.
    pub fn type_from_btf(&self, btf: &Btf, id: u32) -> error::Result<Arc<Type>> {
        build(btf, id, &|id, ty| {
            for known in &self.0[self.range(btf, id)] {
                // `check` has reported formats that do not fit.
                let _ = ty.set_format(&known.member, known.format);
            }
        })
    }

    fn insert(&mut self, structure: &str, member: &str, format: ValueFormat) {
        let index = self.0.partition_point(|known| *known.structure < *structure);
        self.0.insert(index, MemberFormat { structure: structure.into(), member: member.into(), format });
    }

    /// Reports the formats that do not fit. Of several structs with the same name only the first is checked.
    fn check(&self, btf: &Btf, complain: &mut dyn FnMut([&str; 3], &str)) {
        let mut is_known = vec![false; self.0.len()];
        for id in 1..btf.len() {
            let range = self.range(btf, id);
            if range.is_empty() {
                continue;
            }
            let Ok(ty) = Type::from_btf(btf, id) else { continue };
            let mut ty = (*ty).clone();
            for index in range {
                if std::mem::replace(&mut is_known[index], true) {
                    continue;
                }
                let MemberFormat { structure, member, format } = &self.0[index];
                if let Err(misfit) = ty.set_format(member, *format) {
                    complain([structure, member, format.name()], &misfit.reason(*format));
                }
            }
        }
        for (known, _) in self.0.iter().zip(is_known).filter(|(_, is_known)| !is_known) {
            complain([&*known.structure, &known.member, known.format.name()], NO_STRUCT);
        }
    }

    /// Returns the range of the entries for a struct, union or typedef.
    fn range(&self, btf: &Btf, id: u32) -> Range<usize> {
        let is_composite =
            |entry: &Entry| matches!(entry.kind, BtfKind::Struct | BtfKind::Union | BtfKind::Typedef);
        let name = match btf.entry(id).filter(|entry| is_composite(entry)) {
            Some(_) if !self.0.is_empty() => btf.name(id).unwrap_or_default(),
            _ => return 0..0,
        };
        let start = self.0.partition_point(|known| *known.structure < *name);
        let count = self.0[start..].iter().take_while(|known| known.structure == name).count();
        start..start + count
    }
}

/// Whether a whole value of the type can have the format.
fn fits(format: ValueFormat, ty: &Type) -> bool {
    let is_integer = matches!(ty.kind, Kind::Int | Kind::Uint);
    let is_struct = matches!(ty.kind, Kind::Struct | Kind::Union);
    let element = ty.elem.as_ref().filter(|elem| matches!(elem.kind, Kind::Int | Kind::Uint | Kind::Char));
    let is_bytes = element.is_some_and(|elem| elem.size == 1);
    match format {
        Ipv4 => ty.size == 4 && (is_integer || is_struct || is_bytes),
        Ipv6 => ty.size == 16 && (is_integer || is_struct || element.is_some()),
        Mac => ty.size == 6 && (is_struct || is_bytes),
        Errno | Syscall | Signal => is_integer && matches!(ty.size, 1 | 2 | 4 | 8),
        Hex => is_integer || matches!(ty.kind, Kind::Pointer | Kind::Char) || is_bytes,
        Ktime | Duration => is_integer && ty.size == 8,
        Stack => element.is_some_and(|elem| elem.size == 8),
        Strings => is_bytes,
    }
}

impl Type {
    /// Returns the type of the stacks in a map, values of `size` bytes: the declared type, or else an array of 64-bit
    /// numbers, with the format `stack`. `None` if the declared type cannot have it.
    pub fn stack(declared: Option<&Type>, size: u32) -> Option<Arc<Type>> {
        let (name, count) = ("unsigned long long", size / 8);
        let elem = Arc::new(Type::integer(name, 8, false));
        let array = Type::array(format!("{name}[{count}]").into(), elem, count)?;
        declared.unwrap_or(&array).with_format(Stack).map(Arc::new)
    }

    /// Returns the type with a format. If an array cannot have the format, its elements get it. `None` if these cannot
    /// have it either.
    fn with_format(&self, format: ValueFormat) -> Option<Type> {
        if !fits(format, self) {
            let elem = self.elem.as_ref()?.with_format(format)?;
            return Some(Type { elem: Some(Arc::new(elem)), ..self.clone() });
        }
        let elem = match &self.elem {
            // When a stack is set from JSON, each number is parsed by itself.
            Some(elem) if format == Stack => elem.with_format(Hex).map(Arc::new),
            elem => elem.clone(),
        };
        Some(Type { elem, format: Some(format), ..self.clone() })
    }

    /// Sets the format of the member at `path`.
    fn set_format(&mut self, path: &str, format: ValueFormat) -> Result<(), Misfit> {
        if let Some(elem) = &mut self.elem {
            return Arc::make_mut(elem).set_format(path, format);
        }
        if !matches!(self.kind, Kind::Struct | Kind::Union) {
            return Err(Misfit::NoMember);
        }
        let (name, rest) = path.split_once('.').unwrap_or((path, ""));
        for field in Arc::make_mut(&mut self.fields) {
            let set = match &*field.name {
                "" => Arc::make_mut(&mut field.ty).set_format(path, format),
                known if known != name => continue,
                _ if !rest.is_empty() => Arc::make_mut(&mut field.ty).set_format(rest, format),
                _ => field.set_format(format),
            };
            if set != Err(Misfit::NoMember) {
                return set;
            }
        }
        Err(Misfit::NoMember)
    }
}

/// The complaint about formats for a struct that does not exist.
pub const NO_STRUCT: &str = "the object has no such struct";

/// The reason why a member cannot have a format.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Misfit {
    NoMember,
    BitField,
    Type,
}

impl Misfit {
    fn reason(self, format: ValueFormat) -> String {
        match self {
            Misfit::NoMember => "there is no such member".to_owned(),
            Misfit::BitField => "the member is a bit-field".to_owned(),
            Misfit::Type => "the format requires ".to_owned() + format.requirement(),
        }
    }
}

impl Field {
    fn set_format(&mut self, format: ValueFormat) -> Result<(), Misfit> {
        if self.is_bit_field() {
            return Err(Misfit::BitField);
        }
        self.ty = Arc::new(self.ty.with_format(format).ok_or(Misfit::Type)?);
        Ok(())
    }
}
