//! The steps of a plan. `compile` creates them from a type, `run` executes them on a record.

use std::ops::Range;

use super::out::Literal;
use crate::types::{Name, ValueFormat};

/// The count of a flexible array, which has as many elements as the record contains.
pub(super) const REST: u32 = u32::MAX;
/// The first column of the table, the time.
pub(super) const TIME_HEADER: &[u8] = b"TIME     ";

/// One column of the text table.
#[derive(Clone, Debug)]
pub(super) struct Column {
    /// The position of the column in the row, in characters.
    pub start: usize,
    pub name: Name,
    pub steps: Range<usize>,
}

/// Steps and their tables.
#[derive(Clone, Debug, Default)]
pub(super) struct Code {
    pub steps: Vec<Step>,
    /// The quoted names of the constants of all enums.
    pub names: Vec<u8>,
    pub enums: Vec<Constants>,
    /// The length of a typical line, in bytes.
    pub typical_len: usize,
}

/// A step: writes a literal, then a value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub literal: Literal,
    /// The offset of the value in the record, or in an element of an array, in bytes.
    pub offset: u32,
    pub op: Op,
}

/// The value that a step writes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    /// No value, only the literal.
    Literal,
    U8,
    U16,
    U32,
    U64,
    I8,
    I16,
    I32,
    I64,
    Bool,
    /// An integer of 128 bits.
    Wide {
        signed: bool,
        quoted: bool,
    },
    F32 {
        widened: bool,
    },
    F64,
    /// A float of another size, which does not exist in C for BPF: `null`.
    Null,
    /// A string in a `char` array of `len` bytes.
    Text {
        len: u32,
        quoted: bool,
    },
    /// A bit-field, or a number whose size is not 1, 2, 4, 8 or 16 bytes.
    Bits {
        shift: u8,
        bits: u8,
        signed: bool,
        kind: BitsKind,
    },
    /// A value with a format: up to 16 bytes, or a stack of `size` bytes.
    Formatted {
        format: ValueFormat,
        size: u32,
    },
    /// `len` bytes as hexadecimal digits.
    Digits {
        len: u32,
    },
    /// The strings in an array of `len` bytes.
    Strings {
        len: u32,
        quoted: bool,
    },
    /// An enum of `size` bytes, by table.
    Enum {
        table: u32,
        size: u8,
        quoted: bool,
    },
    /// An array: runs the next `body` steps for each of `count` elements.
    Repeat {
        count: u32,
        stride: u32,
        body: u32,
    },
}

/// The type of the bits of [`Op::Bits`].
#[derive(Clone, Copy, Debug)]
pub(super) enum BitsKind {
    Number,
    Bool,
    Wide { quoted: bool },
    Enum { table: u32, quoted: bool },
}

/// The constants of an enum, or the names of a format, by value.
#[derive(Clone, Debug)]
pub(super) struct Constants {
    /// The value as an unsigned number of the size of the enum, and offset and length of its quoted name; sorted.
    pub names: Vec<(u64, u32, u32)>,
    pub signed: bool,
    /// A mask of the size of the enum.
    pub mask: u64,
    /// Whether a number without a name is a string in JSON. This is true for a format, whose values are then always
    /// strings, and false for an enum.
    pub quotes_numbers: bool,
}
