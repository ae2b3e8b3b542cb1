//! Values in filters: text as tables show it, or the number that the record holds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use chrono::{DateTime, NaiveDate, NaiveDateTime, SecondsFormat, Utc};
use eunomia::types::{Field, Kind, Type, ValueFormat, encode};

use crate::field;

/// The value that a field is compared with.
pub enum Value {
    Integer(i128),
    Float(f64),
    /// The string in an array of `char`, up to its NUL.
    Text(Vec<u8>),
    Bytes(Vec<u8>),
    /// An address, and the length of its prefix in bits.
    Network(Vec<u8>, u32),
    /// The text that a table shows, byte for byte.
    Shown(Vec<u8>),
    /// Nanoseconds, written with a unit; a table shows them to a thousandth of it.
    Duration(u64),
}

/// Whether a table shows several bytes as one value.
pub fn is_bytes(ty: &Type) -> bool {
    use ValueFormat::{Hex, Ipv4, Ipv6, Mac};
    let is_one = matches!(ty.kind, Kind::Struct | Kind::Union | Kind::Array);
    is_one && matches!(ty.format, Some(Ipv4 | Ipv6 | Mac | Hex))
}

/// Whether a field of this type can be compared.
pub fn is_comparable(ty: &Type) -> bool {
    let is_composite = matches!(ty.kind, Kind::Array | Kind::Struct | Kind::Union);
    !is_composite || ty.is_string() || is_bytes(ty)
}

/// Describes the values of a type, for a message.
pub fn expected(ty: &Type) -> String {
    let what = match ty.format {
        Some(ValueFormat::Ipv4) => "an address (10.0.0.1) or a network (10.0.0.0/8)",
        Some(ValueFormat::Ipv6) => "an address (2001:db8::1) or a network (2001:db8::/32)",
        Some(ValueFormat::Mac) => "an address (02:42:ac:11:00:02)",
        Some(ValueFormat::Errno) => "an error (ENOENT) or its number",
        Some(ValueFormat::Syscall) => "a system call (openat) or its number",
        Some(ValueFormat::Signal) => "a signal (SIGTERM) or its number",
        Some(ValueFormat::Hex) if ty.elem.is_some() => "two digits for each byte (00beef)",
        Some(ValueFormat::Ktime) => "a time (2026-01-31T12:00:00Z) or nanoseconds",
        Some(ValueFormat::Duration) => "a duration (1.5ms, 2m05s) or nanoseconds",
        _ => return ty.name.to_string(),
    };
    format!("{}: {what}", ty.name)
}

/// The field as an unsigned number, if a table shows it as one.
pub fn unsigned(mut field: Field) -> Field {
    if field.ty.format == Some(ValueFormat::Hex) {
        let mut ty = Type::clone(&field.ty);
        ty.signed = false;
        field.ty = ty.into();
    }
    field
}

/// Parses a value of a type; `None` if it is not one.
pub fn read(ty: &Type, text: &str) -> Option<Value> {
    let is_composite = matches!(ty.kind, Kind::Array | Kind::Struct | Kind::Union);
    match (ty.kind, ty.format) {
        (Kind::Array, None) if ty.is_string() => return Some(Value::Text(text.as_bytes().to_vec())),
        (Kind::Float, _) => return text.parse().ok().map(Value::Float),
        _ if is_composite => return formatted(ty, text),
        _ => {}
    }
    let number = integer(ty, text).map(|number| match ty.format {
        Some(ValueFormat::Hex) => Value::Integer(number & mask(ty)),
        _ => Value::Integer(number),
    });
    number.or_else(|| formatted(ty, text))
}

/// The bits of an integer.
fn mask(ty: &Type) -> i128 {
    (1 << (8 * ty.size.min(8))) - 1
}

/// Parses a value in the format of the type.
fn formatted(ty: &Type, text: &str) -> Option<Value> {
    match ty.format? {
        ValueFormat::Ipv4 | ValueFormat::Ipv6 => network(ty.size, text),
        ValueFormat::Mac => encoded(ty, &text.replace('-', ":")).map(Value::Bytes),
        ValueFormat::Hex if ty.elem.is_some() => digits(ty, text).map(Value::Bytes),
        ValueFormat::Errno | ValueFormat::Syscall | ValueFormat::Signal => {
            let (bytes, ty) = (encoded(ty, text)?, ty.clone().into());
            Some(Value::Integer(field::integer(&Field::member("", ty, 0), &bytes)))
        }
        ValueFormat::Ktime => time(text).map(Value::Shown),
        ValueFormat::Duration => duration(text).map(Value::Duration),
        _ if ty.is_string() => Some(Value::Shown(text.as_bytes().to_vec())),
        _ => None,
    }
}

/// The bytes of a variable of this type with that value.
fn encoded(ty: &Type, text: &str) -> Option<Vec<u8>> {
    let mut bytes = vec![0; ty.size];
    encode(ty, &text.into(), &mut bytes).ok()?;
    Some(bytes)
}

/// Parses `ADDRESS` or `ADDRESS/BITS` for a field of 4 or 16 bytes. A field of 16 bytes has IPv4 addresses in
/// their IPv6-mapped form.
fn network(size: usize, text: &str) -> Option<Value> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits.parse::<u32>().ok()?)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let width = if address.is_ipv4() { Ipv4Addr::BITS } else { Ipv6Addr::BITS };
    if bits.is_some_and(|bits| bits > width) {
        return None;
    }
    let (bytes, before) = match address {
        IpAddr::V4(address) if size == 4 => (address.octets().to_vec(), 0),
        IpAddr::V4(address) => (address.to_ipv6_mapped().octets().to_vec(), Ipv6Addr::BITS - Ipv4Addr::BITS),
        IpAddr::V6(address) if size == 16 => (address.octets().to_vec(), 0),
        IpAddr::V6(_) => return None,
    };
    Some(match bits {
        Some(bits) => Value::Network(bytes, before + bits),
        None => Value::Bytes(bytes),
    })
}

/// Parses two digits per byte. There are as many bytes as the array has, unless it is flexible.
fn digits(ty: &Type, text: &str) -> Option<Vec<u8>> {
    let text = text.strip_prefix("0x").unwrap_or(text).as_bytes();
    let digit = |digit: &u8| char::from(*digit).to_digit(16);
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some((digit(high)? << 4 | digit(low)?) as u8),
        _ => None,
    };
    let bytes = text.chunks(2).map(byte).collect::<Option<Vec<u8>>>()?;
    (ty.count == 0 || bytes.len() == ty.size).then_some(bytes)
}

/// Normalizes a time to the text that a table shows, which sorts by time. Missing parts are zero; the default zone is UTC.
fn time(text: &str) -> Option<Vec<u8>> {
    let whole = || DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc());
    let zoneless = || text.trim_end_matches('Z').parse::<NaiveDateTime>().ok().map(|time| time.and_utc());
    let minutes = || NaiveDateTime::parse_from_str(text.trim_end_matches('Z'), "%Y-%m-%dT%H:%M").ok();
    let day = || text.parse::<NaiveDate>().ok()?.and_hms_opt(0, 0, 0);
    let time: DateTime<Utc> =
        whole().or_else(zoneless).or_else(|| minutes().or_else(day).map(|time| time.and_utc()))?;
    Some(time.to_rfc3339_opts(SecondsFormat::Nanos, true).into_bytes())
}

/// Parses a duration with units into nanoseconds: `250ns`, `1.5ms`, `2m05s`, `27h`.
fn duration(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 8] = [
        ("ns", 1),
        ("us", 1_000),
        ("\u{b5}s", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
        ("d", 86_400_000_000_000),
    ];
    let (mut rest, mut sum) = (text, 0u64);
    while !rest.is_empty() {
        let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let (number, after) = rest.split_at(end);
        let end = after.find(|letter: char| letter.is_ascii_digit()).unwrap_or(after.len());
        let (name, after) = after.split_at(end);
        let (_, unit) = UNITS.iter().find(|(known, _)| *known == name)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let thousandths = format!("{fraction:0<9}");
        let (whole, fraction): (u64, u64) = (whole.parse().ok()?, thousandths.get(..9)?.parse().ok()?);
        let fraction = u128::from(fraction) * u128::from(*unit) / 1_000_000_000;
        sum = sum.checked_add(whole.checked_mul(*unit)?)?.checked_add(fraction as u64)?;
        rest = after;
    }
    (!text.is_empty()).then_some(sum)
}

/// Parses an integer in C notation, `true`, `false`, or the name of an enum constant.
fn integer(ty: &Type, text: &str) -> Option<i128> {
    let constant =
        (ty.kind == Kind::Enum).then(|| ty.fields.iter().find(|field| field.name == text)).flatten();
    if let Some(constant) = constant {
        return Some(if ty.signed { constant.value.into() } else { (constant.value as u64).into() });
    }
    match text {
        "true" => return Some(1),
        "false" => return Some(0),
        _ => {}
    }
    let (is_negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let number = match digits.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => digits.parse::<u64>(),
    };
    let number = i128::from(number.ok()?);
    Some(if is_negative { -number } else { number })
}
