//! Compiles a type to the steps that write its records.
//!
//! Everything that does not depend on the record is computed here, once: offsets, escaped names, how each value is
//! written, the maximum length of the result.

use std::ops::Range;
use std::sync::Arc;

use super::format_value::LONGEST;
use super::out::{Literal, MAX_NUMBER, Out};
use super::steps::{BitsKind, Code, Column, Constants, Op, REST, Step, TIME_HEADER};
use crate::types::{Field, Kind, Type, ValueFormat};

/// Maximum number of bytes of output per byte of a flexible array.
const MAX_GROWTH: u64 = 64;
/// Width of the narrowest column, in characters.
const NARROWEST: usize = 6;

/// The result of compiling a type.
pub(super) struct CompiledType {
    pub code: Code,
    /// The steps that write a record as JSON.
    pub json: Range<usize>,
    /// The length of the longest JSON record, in bytes.
    pub json_len: u64,
    pub columns: Vec<Column>,
    pub header: Vec<u8>,
    /// The length of the longest table row, in bytes.
    pub row_len: u64,
}

/// Compiles a type, which must be bounded.
pub(super) fn compile(ty: &Type) -> CompiledType {
    let mut compiler =
        Compiler { code: Code::default(), tables: Vec::new(), pending: Vec::new(), quoted: true };
    let json_len = compiler.value(ty, 0, true);
    compiler.flush();
    let json = 0..compiler.code.steps.len();
    compiler.code.typical_len = typical_len(&compiler.code);
    let (columns, header, row_len) = compiler.table(ty);
    CompiledType { code: compiler.code, json, json_len, columns, header, row_len }
}

/// Returns the length of a line of short numbers and strings.
fn typical_len(code: &Code) -> usize {
    let value = |step: &Step| match step.op {
        Op::Text { len, .. } => (len as usize).min(64),
        _ => 8,
    };
    let len: usize = code.steps.iter().map(|step| value(step) + step.literal.len()).sum();
    (len + MAX_NUMBER).min(4096)
}

/// A finished table of names: its source, with size and sign of the numbers; its index, and the length of the longest name.
type NameTable = ((NameSource, usize, bool), (u32, u64));

/// Where a table of names comes from: the constants of an enum, identified by their address, or a format.
#[derive(Clone, Copy, PartialEq)]
enum NameSource {
    Enum(*const Field),
    Format(ValueFormat),
}

/// Collects steps. Each method returns the maximum length of its part of the output.
struct Compiler {
    code: Code,
    /// The finished tables of names.
    tables: Vec<NameTable>,
    /// The literal of the next step.
    pending: Vec<u8>,
    quoted: bool,
}

impl Compiler {
    /// Compiles a value of any type. `last`: the record may continue after it.
    fn value(&mut self, ty: &Type, offset: u32, last: bool) -> u64 {
        if let Some(format) = ty.format.filter(|format| !format.is_number_in_json() || !self.quoted) {
            return self.formatted(ty, format, offset, last);
        }
        match ty.kind {
            Kind::Struct | Kind::Union => {
                self.pending.push(b'{');
                let mut first = true;
                let len = self.members(ty, offset, last, &mut first);
                self.pending.push(b'}');
                len.saturating_add(2)
            }
            Kind::Array => self.array(ty, offset, last),
            _ => self.scalar(ty, offset),
        }
    }

    /// Compiles the members of a struct or union, including those of anonymous ones.
    fn members(&mut self, ty: &Type, base: u32, last: bool, first: &mut bool) -> u64 {
        let mut len = 0u64;
        for (index, field) in ty.fields.iter().enumerate() {
            let offset = base.saturating_add(field.bit_offset / 8);
            let last = last && (ty.kind == Kind::Union || index + 1 == ty.fields.len());
            if is_anonymous(field) {
                len = len.saturating_add(self.members(&field.ty, offset, last, first));
                continue;
            }
            if !std::mem::replace(first, false) {
                self.pending.push(b',');
            }
            let start = self.pending.len();
            self.pending.push(b'"');
            escape_name(&field.name, &mut self.pending);
            self.pending.extend(b"\":");
            let name_len = (self.pending.len() - start + 1) as u64;
            let value_len = self.field(field, offset, last);
            len = len.saturating_add(name_len).saturating_add(value_len);
        }
        len
    }

    fn field(&mut self, field: &Field, offset: u32, last: bool) -> u64 {
        if !field.is_bit_field() {
            return self.value(&field.ty, offset, last);
        }
        self.bits(&field.ty, offset, (field.bit_offset % 8) as u8, field.bit_size.min(128) as u8)
    }

    fn array(&mut self, ty: &Type, offset: u32, last: bool) -> u64 {
        let Some(elem) = &ty.elem else { return 0 };
        let flexible = last && ty.count == 0 && elem.size > 0;
        if elem.kind == Kind::Char {
            let len = if flexible { REST } else { ty.count };
            return self.string(offset, len);
        }
        if ty.count == 0 && !flexible {
            self.pending.extend(b"[]");
            return 2;
        }
        let before = (self.code.steps.len(), self.pending.clone());
        self.pending.push(b'[');
        self.emit(Op::Literal, offset);
        let repeat = self.code.steps.len() - 1;
        let elem_len = self.value(elem, 0, false).saturating_add(1);
        self.flush();
        if flexible && elem_len / elem.size as u64 > MAX_GROWTH {
            // The output of a small record could become too long, so the array is written as if it were empty.
            self.code.steps.truncate(before.0);
            self.pending = before.1;
            self.pending.extend(b"[]");
            return 2;
        }
        let body = (self.code.steps.len() - repeat - 1) as u32;
        let count = if flexible { REST } else { ty.count };
        self.code.steps[repeat].op = Op::Repeat { count, stride: elem.size as u32, body };
        self.pending.push(b']');
        elem_len.saturating_mul(ty.count.into()).saturating_add(2)
    }

    fn string(&mut self, offset: u32, len: u32) -> u64 {
        let quoted = self.quoted;
        self.in_quotes(Op::Text { len, quoted }, offset);
        let longest_escape = 6;
        if len == REST { 2 } else { u64::from(len) * longest_escape + 2 }
    }

    /// Compiles a string, in quotes for JSON.
    fn in_quotes(&mut self, op: Op, offset: u32) {
        let quoted = self.quoted;
        self.pending.extend(quoted.then_some(b'"'));
        self.emit(op, offset);
        self.pending.extend(quoted.then_some(b'"'));
    }

    /// Compiles a value with a format.
    fn formatted(&mut self, ty: &Type, format: ValueFormat, offset: u32, last: bool) -> u64 {
        let size = ty.size as u32;
        if format.has_names() {
            let (table, longest) = self.constants(ty);
            self.emit(Op::Enum { table, size: size as u8, quoted: self.quoted }, offset);
            return longest;
        }
        let rest = if last && ty.count == 0 { REST } else { size };
        match format {
            ValueFormat::Strings => {
                self.emit(Op::Strings { len: rest, quoted: self.quoted }, offset);
                // A character takes at most 6 bytes, and the NUL between two strings takes 3.
                return LONGEST + 6 * u64::from(size);
            }
            ValueFormat::Stack => self.emit(Op::Formatted { format, size }, offset),
            ValueFormat::Hex if ty.elem.is_some() => {
                self.in_quotes(Op::Digits { len: rest }, offset);
            }
            _ => self.in_quotes(Op::Formatted { format, size }, offset),
        }
        // A byte takes at most two digits and a separator.
        LONGEST + 3 * u64::from(size)
    }

    fn scalar(&mut self, ty: &Type, offset: u32) -> u64 {
        let op = match (ty.kind, ty.size, ty.signed) {
            (Kind::Bool, 1, _) => Op::Bool,
            (Kind::Float, 4, _) => Op::F32 { widened: !self.quoted },
            (Kind::Float, 8, _) => Op::F64,
            (Kind::Float, ..) => Op::Null,
            (Kind::Enum, size, _) => {
                let (table, longest) = self.constants(ty);
                self.emit(Op::Enum { table, size: size as u8, quoted: self.quoted }, offset);
                return longest;
            }
            (Kind::Bool, ..) => return self.bits(ty, offset, 0, (ty.size * 8).min(128) as u8),
            (_, 1, false) => Op::U8,
            (_, 2, false) => Op::U16,
            (_, 4, false) => Op::U32,
            (_, 8, false) => Op::U64,
            (_, 1, true) => Op::I8,
            (_, 2, true) => Op::I16,
            (_, 4, true) => Op::I32,
            (_, 8, true) => Op::I64,
            (_, 16, signed) => Op::Wide { signed, quoted: self.quoted },
            _ => return self.bits(ty, offset, 0, (ty.size * 8).min(128) as u8),
        };
        self.emit(op, offset);
        MAX_NUMBER as u64 + 2
    }

    fn bits(&mut self, ty: &Type, offset: u32, shift: u8, bits: u8) -> u64 {
        let (kind, len) = match ty.kind {
            Kind::Bool => (BitsKind::Bool, 5),
            Kind::Enum => {
                let (table, longest) = self.constants(ty);
                (BitsKind::Enum { table, quoted: self.quoted }, longest)
            }
            _ if ty.size > 8 => (BitsKind::Wide { quoted: self.quoted }, MAX_NUMBER as u64 + 2),
            _ => (BitsKind::Number, MAX_NUMBER as u64),
        };
        self.emit(Op::Bits { shift, bits, signed: ty.signed, kind }, offset);
        len
    }

    /// Returns the table of the constants of an enum, or of the names of a format, and the length of the longest name.
    fn constants(&mut self, ty: &Type) -> (u32, u64) {
        let source = ty.format.map_or(NameSource::Enum(ty.fields.as_ptr()), NameSource::Format);
        let identity = (source, ty.size, ty.signed);
        if let Some((_, result)) = self.tables.iter().find(|(table, _)| *table == identity) {
            return *result;
        }
        let mask = u64::MAX >> (64 - 8 * ty.size.clamp(1, 8));
        let mut names = Vec::with_capacity(ty.fields.len());
        let mut longest = MAX_NUMBER + 2;
        let mut add = |value: i64, name: &str| {
            let start = self.code.names.len();
            self.code.names.push(b'"');
            escape_name(name, &mut self.code.names);
            self.code.names.push(b'"');
            let len = self.code.names.len() - start;
            longest = longest.max(len);
            names.push((value as u64 & mask, start as u32, len as u32));
        };
        match ty.format {
            Some(format) => format.constants(ty.size, ty.signed, &mut add),
            None => ty.fields.iter().for_each(|constant| add(constant.value, &constant.name)),
        }
        // Of several names of a value the first is used.
        names.sort_unstable_by_key(|name| (name.0, name.1));
        names.dedup_by_key(|name| name.0);
        let result = (self.code.enums.len() as u32, longest as u64);
        let quotes_numbers = ty.format.is_some();
        self.code.enums.push(Constants { names, signed: ty.signed, mask, quotes_numbers });
        self.tables.push((identity, result));
        result
    }

    /// Compiles a table row. A struct has a column per member; any other type is one column.
    fn table(&mut self, ty: &Type) -> (Vec<Column>, Vec<u8>, u64) {
        let mut members = Vec::new();
        if ty.is_composite() {
            flatten(ty, 0, true, &mut members);
        } else {
            members.push((Field::member("value", Arc::new(ty.clone()), 0), true));
        }
        let mut header = TIME_HEADER.to_vec();
        let mut start = header.len();
        let (mut columns, mut len) = (Vec::new(), 0u64);
        for (field, last) in &members {
            let first_step = self.code.steps.len();
            let offset = field.bit_offset / 8;
            let is_plain = !field.ty.is_composite() && field.ty.kind != Kind::Array
                || field.ty.is_string()
                || field.ty.format.is_some();
            self.quoted = !is_plain;
            len = len.saturating_add(self.field(field, offset, *last));
            self.flush();
            columns.push(Column {
                start,
                name: field.name.clone(),
                steps: first_step..self.code.steps.len(),
            });
            start += column_header(&field.name, &mut header);
        }
        (columns, header, len.saturating_add(start as u64))
    }

    /// Adds a step that writes the pending literal and a value. A literal that is too long for one step gets steps of its own.
    fn emit(&mut self, op: Op, offset: u32) {
        let pending = std::mem::take(&mut self.pending);
        let before = pending.len().saturating_sub(1) / Literal::MAX * Literal::MAX;
        let (before, last) = pending.split_at(before);
        for part in before.chunks(Literal::MAX) {
            self.code.steps.push(Step { literal: Literal::new(part), offset: 0, op: Op::Literal });
        }
        self.code.steps.push(Step { literal: Literal::new(last), offset, op });
    }

    /// Adds a step for the pending literal.
    fn flush(&mut self) {
        if !self.pending.is_empty() {
            self.emit(Op::Literal, 0);
        }
    }
}

fn is_anonymous(field: &Field) -> bool {
    field.name.is_empty() && matches!(field.ty.kind, Kind::Struct | Kind::Union)
}

/// Collects the members of a struct and of the anonymous structs in it, with offsets from its start. Each has a flag:
/// whether the record may continue after it.
fn flatten(ty: &Type, base: u32, last: bool, members: &mut Vec<(Field, bool)>) {
    for (index, field) in ty.fields.iter().enumerate() {
        let bit_offset = base.saturating_add(field.bit_offset);
        let last = last && (ty.kind == Kind::Union || index + 1 == ty.fields.len());
        if is_anonymous(field) {
            flatten(&field.ty, bit_offset, last, members);
        } else {
            members.push((Field { bit_offset, ..field.clone() }, last));
        }
    }
}

fn escape_name(name: &str, buf: &mut Vec<u8>) {
    let mut out = Out::append(buf, name.len());
    out.text::<true>(name.as_bytes());
    let end = out.finish(buf);
    buf.truncate(end);
}

/// Appends the header of a column and a space; returns the width in characters.
pub(super) fn column_header(name: &str, out: &mut Vec<u8>) -> usize {
    let len = name.chars().count();
    let width = len.max(NARROWEST) + 1;
    out.extend(name.bytes().map(|byte| byte.to_ascii_uppercase()));
    out.resize(out.len() + width - len, b' ');
    width
}
