//! Writes values that have a format. Part of the hot path: `core::fmt` is not used.

use super::clock::Clock;
use super::out::Out;
use crate::types::ValueFormat::{self, *};

/// Maximum number of bytes of one value, except arrays of bytes and stacks.
pub(super) const LONGEST: u64 = 48;

/// Writes a value of up to 16 bytes, without quotes; or a stack of any length, as JSON.
#[inline(never)]
pub(super) fn write_format(format: ValueFormat, bytes: &[u8], clock: &Clock, out: &mut Out) {
    if format == Stack {
        return stack(bytes, out);
    }
    // A record may be shorter than its type.
    let mut value = [0; 16];
    let known = bytes.len().min(value.len());
    value[..known].copy_from_slice(&bytes[..known]);
    let wide = u128::from_le_bytes(value);
    let number = wide as u64;
    out.reserve(LONGEST as usize);
    match format {
        Ipv4 => ipv4(&value[..4], out),
        Ipv6 => ipv6(&value, out),
        Mac => separated(&value[..6], b':', out, |byte, out| out.hex(byte)),
        Ktime => time(clock.unix_time(number), out),
        Duration => duration(number, out),
        _ => hex(wide, out),
    }
}

/// Writes `len` bytes as two digits each; bytes that are missing are zero.
#[inline(never)]
pub(super) fn write_digits(len: usize, bytes: &[u8], out: &mut Out) {
    for at in 0..len {
        out.reserve(2);
        out.hex(bytes.get(at).copied().unwrap_or(0));
    }
}

/// Writes the NUL-terminated strings in an array. NULs at the end of the array are padding.
#[inline(never)]
pub(super) fn write_strings(quoted: bool, bytes: &[u8], out: &mut Out) {
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let (mut before, between, after): (&[u8], &[u8], &[u8]) =
        if quoted { (b"[\"", b"\",\"", b"\"]") } else { (b"", b" ", b"") };
    if end == 0 {
        return out.bytes(if quoted { b"[]" } else { b"" });
    }
    for string in bytes[..end].split(|byte| *byte == 0) {
        out.bytes(before);
        if quoted {
            out.escaped_text::<true>(string)
        } else {
            out.escaped_text::<false>(string)
        }
        before = between;
    }
    out.bytes(after);
}

fn separated(bytes: &[u8], separator: u8, out: &mut Out, write: fn(u8, &mut Out)) {
    for (index, byte) in bytes.iter().enumerate() {
        if index > 0 {
            out.byte(separator);
        }
        write(*byte, out);
    }
}

fn ipv4(bytes: &[u8], out: &mut Out) {
    separated(bytes, b'.', out, |byte, out| out.u64(byte.into()));
}

/// Writes an address as in RFC 5952: groups without leading zeros; `::` for the first of the longest runs of zero groups, if
/// it has more than one group; mapped IPv4 addresses in dotted notation.
fn ipv6(bytes: &[u8; 16], out: &mut Out) {
    let groups: [u16; 8] = std::array::from_fn(|at| u16::from_be_bytes([bytes[2 * at], bytes[2 * at + 1]]));
    if groups[..6] == [0, 0, 0, 0, 0, 0xffff] {
        out.bytes(b"::ffff:");
        return ipv4(&bytes[12..], out);
    }
    let zeros = |from: usize| groups[from..].iter().take_while(|group| **group == 0).count();
    let (mut start, mut longest) = (groups.len(), 1);
    for from in 0..groups.len() {
        if zeros(from) > longest {
            (start, longest) = (from, zeros(from));
        }
    }
    let mut at = 0;
    while at < groups.len() {
        if at == start {
            out.bytes(b"::");
            at += longest;
            continue;
        }
        if at > 0 && at != start + longest {
            out.byte(b':');
        }
        nibbles(groups[at].into(), out);
        at += 1;
    }
}

fn hex(value: u128, out: &mut Out) {
    out.byte(b'0');
    out.byte(b'x');
    nibbles(value, out);
}

/// Writes hexadecimal digits without leading zeros.
fn nibbles(value: u128, out: &mut Out) {
    let digits = (128 - value.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        out.byte(b"0123456789abcdef"[(value >> (4 * digit)) as usize & 15]);
    }
}

/// Writes return addresses as an array of strings, because most are too large for an exact JSON number.
fn stack(bytes: &[u8], out: &mut Out) {
    let mut before: &[u8] = b"[\"0x";
    for frame in bytes.chunks(8) {
        // If the record ends inside an address, the missing bytes are zero.
        let mut address = [0; 8];
        address[..frame.len()].copy_from_slice(frame);
        let address = u64::from_le_bytes(address);
        if address == 0 {
            break;
        }
        out.bytes(before);
        out.reserve(LONGEST as usize);
        nibbles(address.into(), out);
        before = b"\",\"0x";
    }
    out.bytes(if before[0] == b'[' { b"[]" } else { b"\"]" });
}

/// Writes a duration with at most three units: `250ns`, `1.500ms`, `59.999s`, `2m05s`, `27h00m05s`.
fn duration(ns: u64, out: &mut Out) {
    let seconds = ns / SECOND;
    match ns {
        0..1_000 => out.u64(ns),
        1_000..1_000_000 => thousandths(ns, out),
        1_000_000..SECOND => thousandths(ns / 1_000, out),
        _ if seconds < 60 => thousandths(ns / 1_000_000, out),
        _ => {
            if seconds >= 3600 {
                out.u64(seconds / 3600);
                out.byte(b'h');
                number(seconds / 60 % 60, 2, out);
            } else {
                out.u64(seconds / 60);
            }
            out.byte(b'm');
            number(seconds % 60, 2, out);
        }
    }
    let unit: &[u8] = match ns {
        0..1_000 => b"ns",
        1_000..1_000_000 => b"us",
        1_000_000..SECOND => b"ms",
        _ => b"s",
    };
    out.bytes(unit);
}

const SECOND: u64 = 1_000_000_000;

fn thousandths(value: u64, out: &mut Out) {
    out.u64(value / 1000);
    out.byte(b'.');
    number(value % 1000, 3, out);
}

/// Writes the last `digits` digits, with leading zeros.
fn number(value: u64, digits: u32, out: &mut Out) {
    for digit in (0..digits).rev() {
        out.byte(b'0' + (value / 10_u64.pow(digit) % 10) as u8);
    }
}

/// Writes a time, in nanoseconds since 1970, in UTC as in RFC 3339.
fn time(ns: i64, out: &mut Out) {
    let (seconds, fraction) = (ns.div_euclid(SECOND as i64), ns.rem_euclid(SECOND as i64));
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = date(days);
    let parts = [(year, 4, b'-'), (month, 2, b'-'), (day, 2, b'T'), (of_day / 3600, 2, b':')];
    let rest = [(of_day / 60 % 60, 2, b':'), (of_day % 60, 2, b'.'), (fraction, 9, b'Z')];
    for (value, digits, separator) in parts.into_iter().chain(rest) {
        number(value as u64, digits, out);
        out.byte(separator);
    }
}

/// Returns year, month and day of a number of days since 1970-01-01. Years begin in March here, so that the leap day is the
/// last day of a year, and any 400 years have 146097 days.
fn date(days: i64) -> (i64, i64, i64) {
    const FROM_MARCH_OF_YEAR_0: i64 = 719_468;
    let days = days + FROM_MARCH_OF_YEAR_0;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let before_march = i64::from(month >= 10);
    (400 * era + year + before_march, month + 3 - 12 * before_march, day)
}
