//! The steps that a plan consists of. `compile` makes them from a type, `run` carries them out over a record.

use std::ops::Range;

use super::out::Literal;
use crate::types::{Name, ValueFormat};

/// The count of a flexible array: as many elements as the record has.
pub(super) const REST: u32 = u32::MAX;
/// The first column of the table, the time.
pub(super) const TIME_HEADER: &[u8] = b"TIME     ";

/// One column of the text table.
#[derive(Clone, Debug)]
pub(super) struct Column {
    /// Where the column starts, in characters.
    pub start: usize,
    pub name: Name,
    pub steps: Range<usize>,
}

/// Steps and what they point to.
#[derive(Clone, Debug, Default)]
pub(super) struct Code {
    pub steps: Vec<Step>,
    /// The names of the constants of enums.
    pub names: Vec<u8>,
    pub enums: Vec<Constants>,
    /// Bytes that a usual line takes.
    pub usual: usize,
}

/// Writes a literal, then a value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub literal: Literal,
    /// Bytes from the start of the record, or of the array's element.
    pub offset: u32,
    pub op: Op,
}

/// How a value is written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    Nothing,
    U8,
    U16,
    U32,
    U64,
    I8,
    I16,
    I32,
    I64,
    Bool,
    /// 128 bits.
    Wide {
        signed: bool,
        quoted: bool,
    },
    F32 {
        widened: bool,
    },
    F64,
    /// A float of another size, which no C program for BPF has.
    Null,
    /// A `char` array of `len` bytes.
    Text {
        len: u32,
        quoted: bool,
    },
    /// Anything that is not whole bytes of a usual size.
    Bits {
        shift: u8,
        bits: u8,
        signed: bool,
        show: Show,
    },
    /// A format of up to 16 bytes, or a stack of `size`.
    Formatted {
        format: ValueFormat,
        size: u32,
    },
    /// `len` bytes as digits.
    Digits {
        len: u32,
    },
    /// The texts in `len` bytes.
    Strings {
        len: u32,
        quoted: bool,
    },
    /// An enum: which table, its bytes.
    Enum {
        table: u32,
        size: u8,
        quoted: bool,
    },
    /// The next `body` steps for each of `count` elements.
    Repeat {
        count: u32,
        stride: u32,
        body: u32,
    },
}

/// What the bits of `Op::Bits` are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Show {
    Number,
    Bool,
    Wide { quoted: bool },
    Enum { table: u32, quoted: bool },
}

/// The constants of an enum by value.
#[derive(Clone, Debug)]
pub(super) struct Constants {
    /// Value as unsigned bits of the enum's size, place of the quoted name among all; sorted.
    pub names: Vec<(u64, u32, u32)>,
    pub signed: bool,
    /// The bits of the enum's size.
    pub mask: u64,
    /// Whether a number without a name is a text too: that of an enum is none, that of a format is, since a consumer
    /// wants one kind of value.
    pub numbers_are_text: bool,
}
