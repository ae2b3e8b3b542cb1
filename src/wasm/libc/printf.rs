//! `printf` of guests. The format and the arguments, a `va_list` of 32-bit C, are in the guest's memory.

use crate::wasm::sys::guest::Guest;
use crate::wasm::sys::number::{Number, format_number};

/// Maximum length of a format.
const MAX_FORMAT: usize = 64 << 10;
/// Maximum length of the result.
const MAX_TEXT: usize = 1 << 20;
/// Maximum width and precision of a number.
const MAX_WIDTH: usize = 127;

/// Formats the arguments at `args`. Returns `None` if one of them is not in the guest's memory.
pub fn format(guest: Guest<'_>, format: u32, args: u32) -> Option<Vec<u8>> {
    let format = guest.read_string(format, MAX_FORMAT)?;
    let (mut rest, mut args, mut text) = (&format[..], Args { guest, at: args }, Vec::new());
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%' {
            Spec::read(&mut rest).write(&mut args, &mut text)?;
        } else {
            text.push(byte);
        }
        if text.len() >= MAX_TEXT {
            text.truncate(MAX_TEXT);
            break;
        }
    }
    Some(text)
}

/// The remaining arguments.
struct Args<'a> {
    guest: Guest<'a>,
    at: u32,
}

impl Args<'_> {
    fn next<const LEN: usize>(&mut self) -> Option<[u8; LEN]> {
        let mut bytes = [0; LEN];
        self.at = self.at.checked_next_multiple_of(LEN as u32)?;
        self.guest.read_into(self.at, &mut bytes)?;
        self.at = self.at.checked_add(LEN as u32)?;
        Some(bytes)
    }

    fn word(&mut self) -> Option<u32> {
        self.next().map(u32::from_le_bytes)
    }
}

/// A conversion specification, without its percent sign.
struct Spec<'a> {
    flags: &'a [u8],
    width: usize,
    precision: Option<usize>,
    /// The number of `h` and of `l`. `j` is treated as `ll`; a `long` has 32 bits, like `z` and `t`.
    shorts: u8,
    longs: u8,
    conversion: u8,
}

impl<'a> Spec<'a> {
    fn read(rest: &mut &'a [u8]) -> Spec<'a> {
        let flags = take(rest, |byte| b" +-#0".contains(&byte));
        let width = number(rest);
        let precision = rest.strip_prefix(b".").map(|after| {
            *rest = after;
            number(rest)
        });
        let modifiers = take(rest, |byte| b"hljzt".contains(&byte));
        let count = |letter| modifiers.iter().filter(|&&byte| byte == letter).count() as u8;
        let (shorts, longs) = (count(b'h'), count(b'l') + 2 * count(b'j'));
        let conversion = take_one(rest);
        Spec { flags, width, precision, shorts, longs, conversion }
    }

    /// Appends the next argument.
    fn write(&self, args: &mut Args<'_>, text: &mut Vec<u8>) -> Option<()> {
        match self.conversion {
            b'd' | b'i' => {
                let value = if self.longs > 1 {
                    i64::from_le_bytes(args.next()?)
                } else {
                    let value = args.word()? as i32;
                    match self.shorts {
                        0 => value.into(),
                        1 => (value as i16).into(),
                        _ => (value as i8).into(),
                    }
                };
                self.number(Number::Signed(value), text);
            }
            b'o' | b'u' | b'x' | b'X' | b'p' => {
                let value =
                    if self.longs > 1 { u64::from_le_bytes(args.next()?) } else { args.word()?.into() };
                let value = match self.shorts {
                    0 => value,
                    1 => value & 0xffff,
                    _ => value & 0xff,
                };
                self.number(Number::Unsigned(value, self.conversion), text);
            }
            b'e' | b'E' | b'f' | b'F' | b'g' | b'G' => {
                let value = f64::from_le_bytes(args.next()?);
                self.number(Number::Float(value, self.conversion), text);
            }
            b'c' => self.pad(&[args.word()? as u8], text),
            b's' => {
                let (at, limit) = (args.word()?, MAX_TEXT - text.len());
                let limit = self.precision.map_or(limit, |precision| precision.min(limit));
                let found =
                    args.guest.read_string(at, limit).or_else(|| args.guest.read(at, limit as u32))?;
                self.pad(&found, text);
            }
            b'n' | 0 => {}
            b'%' => text.push(b'%'),
            unknown => text.extend_from_slice(&[b'%', unknown]),
        }
        Some(())
    }

    fn number(&self, number: Number, text: &mut Vec<u8>) {
        let precision = self.precision.map(|precision| precision.min(MAX_WIDTH));
        text.extend_from_slice(&format_number(self.flags, self.width.min(MAX_WIDTH), precision, number));
    }

    fn pad(&self, found: &[u8], text: &mut Vec<u8>) {
        let padding = self.width.min(MAX_TEXT).saturating_sub(found.len());
        let is_left = self.flags.contains(&b'-');
        text.resize(text.len() + if is_left { 0 } else { padding }, b' ');
        text.extend_from_slice(found);
        text.resize(text.len() + if is_left { padding } else { 0 }, b' ');
    }
}

fn take<'a>(rest: &mut &'a [u8], wanted: impl Fn(u8) -> bool) -> &'a [u8] {
    let len = rest.iter().position(|&byte| !wanted(byte)).unwrap_or(rest.len());
    let (taken, after) = rest.split_at(len);
    *rest = after;
    taken
}

fn take_one(rest: &mut &[u8]) -> u8 {
    let Some((&first, after)) = rest.split_first() else { return 0 };
    *rest = after;
    first
}

fn number(rest: &mut &[u8]) -> usize {
    let digits = take(rest, |byte| byte.is_ascii_digit());
    digits.iter().fold(0_usize, |value, digit| value.saturating_mul(10).saturating_add((digit - b'0').into()))
}
