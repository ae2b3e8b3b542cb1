//! How a value is written where its type does not tell: addresses, names of numbers, times.
//!
//! The package says it of members, well-known types say it themselves. What is decided here is part of the type, so
//! that whatever is compiled from one, and whatever is written back to one, follows it.

use std::ops::Range;
use std::sync::Arc;

use super::btf::{Btf, BtfKind, Entry};
use super::layout::{Field, Kind, Type};
use super::names::Names;

/// How a value is written.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueFormat {
    /// 4 bytes in network order: `10.0.0.1`.
    Ipv4,
    /// 16 bytes in network order, as RFC 5952 writes them: `2001:db8::1`.
    Ipv6,
    /// 6 bytes: `02:42:ac:11:00:02`.
    Mac,
    /// A number in JSON, in text the name of an error, `ENOENT`: of a negative number in a signed integer, of any in an
    /// unsigned one.
    Errno,
    /// The name of a system call of this machine, `openat`.
    Syscall,
    /// The name of a signal, `SIGTERM`.
    Signal,
    /// `0x1f`; an array of bytes as two digits for each.
    Hex,
    /// Nanoseconds of CLOCK_MONOTONIC as a time of day: `2026-01-31T12:00:00.000000001Z`.
    Ktime,
    /// Nanoseconds: a number in JSON, `1.500ms` in text.
    Duration,
    /// Return addresses up to the first that is zero.
    Stack,
    /// Several texts, each with its NUL, in one array of characters: an array in JSON, in text with blanks between them.
    Strings,
}

use ValueFormat::*;

/// In the order of the enum.
const FORMATS: [ValueFormat; 11] =
    [Ipv4, Ipv6, Mac, Errno, Syscall, Signal, Hex, Ktime, Duration, Stack, Strings];
/// Their names in packages.
const NAMES: &str = "ipv4 ipv6 mac errno syscall signal hex ktime duration stack strings";

impl ValueFormat {
    /// The format of that name.
    pub fn named(name: &str) -> Option<ValueFormat> {
        NAMES.split(' ').position(|known| known == name).map(|at| FORMATS[at])
    }

    /// The names of all formats, for a message.
    pub fn names() -> &'static str {
        NAMES
    }

    /// Its name in packages.
    pub fn name(self) -> &'static str {
        NAMES.split(' ').nth(self as usize).unwrap_or_default()
    }

    /// What a value has to be, for a message.
    fn needs(self) -> &'static str {
        match self {
            Ipv4 => "4 bytes",
            Ipv6 => "16 bytes",
            Mac => "6 bytes",
            Errno | Syscall | Signal => "an integer",
            Hex => "an integer, a pointer or bytes",
            Ktime | Duration => "an integer of 64 bits",
            Stack => "an array of integers of 64 bits",
            Strings => "an array of characters or bytes",
        }
    }

    /// Whether its values are numbers in JSON, to compute with and to compare.
    pub(super) fn is_number_in_json(self) -> bool {
        matches!(self, Duration | Errno)
    }

    /// Whether a value of the type, as a whole, can be written so.
    fn is_for(self, ty: &Type) -> bool {
        let is_integer = matches!(ty.kind, Kind::Int | Kind::Uint);
        let is_struct = matches!(ty.kind, Kind::Struct | Kind::Union);
        let element =
            ty.elem.as_ref().filter(|elem| matches!(elem.kind, Kind::Int | Kind::Uint | Kind::Char));
        let is_bytes = element.is_some_and(|elem| elem.size == 1);
        match self {
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

    /// The numbers that have names.
    pub(super) fn numbers(self) -> Option<Names> {
        match self {
            Errno => Some(Names::Errors),
            Syscall => Some(Names::SystemCalls),
            Signal => Some(Names::Signals),
            _ => None,
        }
    }

    /// Tells the names with the numbers that mean them in a type. An error that is returned is negative; a number that is
    /// too large for the type would, cut, be another one.
    pub(super) fn constants(self, ty: &Type, tell: &mut dyn FnMut(i64, &'static str)) {
        let Some(names) = self.numbers() else { return };
        let largest = match ty.size {
            1 if ty.signed => i8::MAX.into(),
            1 => u8::MAX.into(),
            // No number takes more than 15 bits.
            _ => i64::MAX,
        };
        let sign = if self == Errno && ty.signed { -1 } else { 1 };
        names.each(&mut |number, name| {
            if i64::from(number) <= largest {
                tell(sign * i64::from(number), name);
            }
        });
    }
}

/// A format for a member.
#[derive(Clone, Debug)]
pub(super) struct MemberFormat {
    structure: String,
    member: String,
    format: ValueFormat,
}

impl Btf {
    /// Has members of the types that are made from now on have formats. Each is told as a struct (its tag, or its typedef),
    /// a member (`args.saddr` for one of a struct inside) and the format's name. What does not fit stays out, and
    /// `complain` gets the reason.
    pub fn set_formats(
        &mut self,
        told: &mut dyn Iterator<Item = [&str; 3]>,
        complain: &mut dyn FnMut([&str; 3], &str),
    ) {
        self.formats.clear();
        for text in told {
            let [structure, member, name] = text;
            let Some(format) = ValueFormat::named(name) else {
                complain(text, "there is no such format");
                continue;
            };
            let at = self.formats.partition_point(|known| *known.structure < *structure);
            let (structure, member) = (structure.to_owned(), member.to_owned());
            self.formats.insert(at, MemberFormat { structure, member, format });
        }
        let mut is_known = vec![false; self.formats.len()];
        for id in 1..self.len() {
            let formats = self.formats_of(id);
            if formats.is_empty() {
                continue;
            }
            let Ok(ty) = Type::from_btf(self, id) else { continue };
            let mut ty = (*ty).clone();
            for at in formats {
                // Of several structs of a name the first is told of.
                if std::mem::replace(&mut is_known[at], true) {
                    continue;
                }
                let MemberFormat { structure, member, format } = &self.formats[at];
                if let Err(misfit) = ty.set_format(member, *format) {
                    complain([structure, member, format.name()], &misfit.reason(*format));
                }
            }
        }
        for (known, _) in self.formats.iter().zip(is_known).filter(|(_, is_known)| !is_known) {
            let text = [&*known.structure, &known.member, known.format.name()];
            complain(text, NO_STRUCT);
        }
    }

    /// Gives the members of the struct, union or typedef `id` their formats.
    pub(super) fn format_members(&self, id: u32, ty: &mut Type) {
        for known in &self.formats[self.formats_of(id)] {
            // Whatever does not fit was complained of before.
            let _ = ty.set_format(&known.member, known.format);
        }
    }

    /// Where the formats of a struct, union or typedef are.
    fn formats_of(&self, id: u32) -> Range<usize> {
        let is_composite =
            |entry: &Entry| matches!(entry.kind, BtfKind::Struct | BtfKind::Union | BtfKind::Typedef);
        let name = match self.entry(id).filter(|entry| is_composite(entry)) {
            Some(_) if !self.formats.is_empty() => self.name(id).unwrap_or_default(),
            _ => return 0..0,
        };
        let start = self.formats.partition_point(|known| *known.structure < *name);
        let count = self.formats[start..].iter().take_while(|known| known.structure == name).count();
        start..start + count
    }
}

impl Type {
    /// The format that a type of this name has by itself. Both are addresses by definition, unlike `__be32`, which is
    /// any number in network order.
    pub(super) fn well_known(name: &str, size: usize) -> Option<ValueFormat> {
        match (name, size) {
            ("in_addr", 4) => Some(Ipv4),
            ("in6_addr", 16) => Some(Ipv6),
            _ => None,
        }
    }

    /// What a map of stacks holds under an id, so many bytes: the type that is declared, or numbers of 64 bits, as return
    /// addresses; `None` if it is something else.
    pub fn stack(declared: Option<&Type>, size: u32) -> Option<Arc<Type>> {
        let (name, count) = ("unsigned long long", size / 8);
        let elem = Arc::new(Type::integer(name, 8, false));
        let array = Type::array(format!("{name}[{count}]").into(), elem, count)?;
        declared.unwrap_or(&array).with_format(Stack).map(Arc::new)
    }

    /// The type with this format, which its elements get if it is an array whose elements it fits; `None` if it fits
    /// neither.
    fn with_format(&self, format: ValueFormat) -> Option<Type> {
        if !format.is_for(self) {
            let elem = self.elem.as_ref()?.with_format(format)?;
            return Some(Type { elem: Some(Arc::new(elem)), ..self.clone() });
        }
        let elem = match &self.elem {
            // Its numbers are read back one by one.
            Some(elem) if format == Stack => elem.with_format(Hex).map(Arc::new),
            elem => elem.clone(),
        };
        Some(Type { elem, format: Some(format), ..self.clone() })
    }

    /// Gives the member at `path` a format, or says why not.
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

/// The complaint that a struct with formats is not there.
pub const NO_STRUCT: &str = "the object has no such struct";

/// Why a format is not for a member.
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
            Misfit::BitField => "it is a bit-field".to_owned(),
            Misfit::Type => "it is for ".to_owned() + format.needs(),
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
