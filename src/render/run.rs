//! Runs the steps of a plan on a record.
//!
//! This is the hot path: it allocates only when the output grows, and uses no hashing and no `core::fmt`. A record may be
//! shorter than its type; missing bytes read as zero.

use super::clock::Clock;
use super::format_value::{write_digits, write_format, write_strings};
use super::out::{MAX_NUMBER, Out};
use super::steps::{BitsKind, Code, Op, REST, Step};

impl Code {
    /// Runs `steps`, whose offsets are relative to `base`.
    #[inline]
    #[cfg_attr(small, optimize(speed))]
    pub(super) fn run(&self, steps: &[Step], record: &[u8], base: usize, clock: &Clock, out: &mut Out) {
        self.run_each(steps, record, base, Elements { count: 1, stride: 0 }, clock, out);
    }

    /// Runs `steps` for each element of an array at `base`.
    #[cfg_attr(small, optimize(speed))]
    fn run_each(
        &self,
        steps: &[Step],
        record: &[u8],
        base: usize,
        elements: Elements,
        clock: &Clock,
        out: &mut Out,
    ) {
        out.detached(|out| {
            for index in 0..elements.count {
                if index > 0 {
                    out.reserve(1);
                    out.byte(b',');
                }
                self.run_once(steps, record, base + index * elements.stride, clock, out);
            }
        });
    }

    /// Runs `steps` once. Inlined, so that the position in `out` stays in registers in the caller.
    #[inline(always)]
    #[cfg_attr(small, optimize(speed))]
    pub(super) fn run_once(
        &self,
        mut steps: &[Step],
        record: &[u8],
        base: usize,
        clock: &Clock,
        out: &mut Out,
    ) {
        while let Some((step, rest)) = steps.split_first() {
            steps = rest;
            let offset = base + step.offset as usize;
            let (is_negative, magnitude) = match step.op {
                Op::U8 => (false, u8::from_le_bytes(load(record, offset)).into()),
                Op::U16 => (false, u16::from_le_bytes(load(record, offset)).into()),
                Op::U32 => (false, u32::from_le_bytes(load(record, offset)).into()),
                Op::U64 => (false, u64::from_le_bytes(load(record, offset))),
                Op::I8 => split(i8::from_le_bytes(load(record, offset)).into()),
                Op::I16 => split(i16::from_le_bytes(load(record, offset)).into()),
                Op::I32 => split(i32::from_le_bytes(load(record, offset)).into()),
                Op::I64 => split(i64::from_le_bytes(load(record, offset))),
                op => {
                    out.literal(&step.literal);
                    match op {
                        Op::Literal => {}
                        Op::Text { len, quoted: true } => out.text::<true>(slice(record, offset, len)),
                        Op::Text { len, quoted: false } => out.text::<false>(slice(record, offset, len)),
                        Op::Repeat { count, stride, body } => {
                            let (body, rest) = steps.split_at(body as usize);
                            steps = rest;
                            let elements = Elements::new(record, offset, count, stride);
                            out.detached(|out| self.run_each(body, record, offset, elements, clock, out));
                        }
                        op => out.detached(|out| self.run_rare_op(op, record, offset, clock, out)),
                    }
                    continue;
                }
            };
            out.number(&step.literal, is_negative, magnitude);
        }
    }

    /// Runs an operation that few records have. It is not part of the loop above, to keep the loop small.
    fn run_rare_op(&self, op: Op, record: &[u8], offset: usize, clock: &Clock, out: &mut Out) {
        out.reserve(MAX_NUMBER + 2);
        match op {
            Op::Bool => out.bool(load::<1>(record, offset)[0] != 0),
            Op::Wide { signed, quoted } => {
                wide(u128::from_le_bytes(load(record, offset)), signed, quoted, out)
            }
            Op::F32 { widened: false } => out.f32(f32::from_le_bytes(load(record, offset))),
            Op::F32 { widened: true } => out.f64(f32::from_le_bytes(load(record, offset)).into()),
            Op::F64 => out.f64(f64::from_le_bytes(load(record, offset))),
            Op::Enum { table, size, quoted } => {
                let mask = u64::MAX >> (64 - 8 * u32::from(size));
                let value = u64::from_le_bytes(load(record, offset)) & mask;
                self.write_enum(table, value, 8 * u32::from(size), quoted, out);
            }
            Op::Bits { shift, bits, signed, kind } => {
                let value = load_bits(record, offset, shift.into(), bits.into());
                match kind {
                    BitsKind::Number if signed => out.i128(sign_extend(value, bits.into())),
                    BitsKind::Number => out.u128(value),
                    BitsKind::Bool => out.bool(value != 0),
                    BitsKind::Wide { quoted } if signed => {
                        wide(sign_extend(value, bits.into()) as u128, true, quoted, out)
                    }
                    BitsKind::Wide { quoted } => wide(value, false, quoted, out),
                    BitsKind::Enum { table, quoted } => {
                        self.write_enum(table, value as u64, bits.into(), quoted, out)
                    }
                }
            }
            Op::Formatted { format, size } => write_format(format, slice(record, offset, size), clock, out),
            Op::Strings { len, quoted } => write_strings(quoted, slice(record, offset, len), out),
            Op::Digits { len } => {
                let bytes = slice(record, offset, len);
                write_digits(if len == REST { bytes.len() } else { len as usize }, bytes, out)
            }
            _ => out.bytes(b"null"),
        }
    }
}

fn wide(value: u128, signed: bool, quoted: bool, out: &mut Out) {
    if quoted {
        out.byte(b'"');
    }
    if signed {
        out.i128(value as i128)
    } else {
        out.u128(value)
    }
    if quoted {
        out.byte(b'"');
    }
}

/// The elements of an array in a record.
struct Elements {
    count: usize,
    stride: usize,
}

impl Elements {
    fn new(record: &[u8], offset: usize, count: u32, stride: u32) -> Elements {
        let stride = stride as usize;
        let count = match count {
            REST => record.len().saturating_sub(offset).checked_div(stride).unwrap_or(0),
            count => count as usize,
        };
        Elements { count, stride }
    }
}

/// Returns the sign and the magnitude of a number.
#[inline(always)]
fn split(number: i64) -> (bool, u64) {
    (number < 0, number.unsigned_abs())
}

/// Returns bytes of the record; those after its end are zero.
#[inline]
fn load<const N: usize>(record: &[u8], offset: usize) -> [u8; N] {
    match record.get(offset..).and_then(|rest| rest.first_chunk()) {
        Some(bytes) => *bytes,
        None => load_short(record, offset),
    }
}

#[cold]
fn load_short<const N: usize>(record: &[u8], offset: usize) -> [u8; N] {
    let mut bytes = [0; N];
    let rest = record.get(offset..).unwrap_or(&[]);
    bytes[..rest.len().min(N)].copy_from_slice(&rest[..rest.len().min(N)]);
    bytes
}

/// Returns at most `len` bytes of the record.
#[inline]
fn slice(record: &[u8], offset: usize, len: u32) -> &[u8] {
    let rest = record.get(offset..).unwrap_or(&[]);
    &rest[..rest.len().min(len as usize)]
}

/// Returns up to 128 bits, little-endian, that start at bit `shift` of the byte at `offset`.
pub(super) fn load_bits(record: &[u8], offset: usize, shift: u32, bits: u32) -> u128 {
    let low = u128::from_le_bytes(load(record, offset)) >> shift;
    let [last] = load::<1>(record, offset + 16);
    let high = if shift == 0 { 0 } else { u128::from(last) << (128 - shift) };
    (low | high) & (u128::MAX >> (128 - bits.clamp(1, 128)))
}

/// Sign-extends the lowest bits.
fn sign_extend(value: u128, bits: u32) -> i128 {
    let unused = 128 - bits.clamp(1, 128);
    (value << unused) as i128 >> unused
}
