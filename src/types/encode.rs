//! Converts JSON values to bytes, and command-line arguments to JSON values, by the type of a variable, key or value.
//!
//! Never used per event.

use core::net::{Ipv4Addr, Ipv6Addr};

use serde_json::{Number, Value};

use super::format::ValueFormat;
use super::layout::{Field, Kind, Type};
use crate::error::{Error, Result, Status};
use crate::number::parse_float;

/// 2^53. A double of at least this size may not be the exact integer that the JSON text means.
const EXACT_FLOAT: f64 = 9_007_199_254_740_992.0;

/// Writes a JSON value to `out` in C's representation. `out` must have the size of the type. Omitted members and elements
/// are zero, as in a C initialiser. After an error the content of `out` is undefined.
///
/// Integers accept numbers. Integers of more than 64 bits also accept decimal strings; `bool` and one-byte integers
/// also accept `true` and `false`. Floats accept numbers. Enums accept the name of a constant or a number. A `char`
/// array accepts a string that fits with its NUL. Structs and unions accept an object. A type with a format also
/// accepts strings in that format, except that times and durations accept only nanoseconds.
pub fn encode(ty: &Type, value: &Value, out: &mut [u8]) -> Result<()> {
    out.fill(0);
    encode_over(ty, value, out)
}

/// Updates the value in `out`: members that an object omits keep their values, also in nested structs. Everything else is
/// replaced as a whole.
pub fn encode_over(ty: &Type, value: &Value, out: &mut [u8]) -> Result<()> {
    if out.len() != ty.size {
        return Err(mismatch(format_args!("{} has {} bytes, {} given", ty.name, ty.size, out.len())));
    }
    if !value.is_object() {
        out.fill(0);
    }
    if let (Some(format), Value::String(text)) =
        (ty.format.filter(|format| *format != ValueFormat::Strings), value)
    {
        return encode_formatted(ty, format, text, out);
    }
    match (ty.kind, value) {
        (Kind::Struct | Kind::Union, Value::Object(members)) => {
            for (name, value) in members {
                encode_member(ty, name, value, out)
                    .map_err(|error| error.at(format_args!("member \"{name}\"")))?;
            }
            Ok(())
        }
        (Kind::Array, Value::String(text)) if ty.is_string() => encode_string(ty, text, out),
        (Kind::Array, Value::Array(strings)) if ty.format == Some(ValueFormat::Strings) => {
            encode_strings(ty, strings, out)
        }
        (Kind::Array, Value::Array(values)) => encode_array(ty, values, out),
        (Kind::Float, Value::Number(number)) => encode_float(ty, number, out),
        (Kind::Struct | Kind::Union | Kind::Array | Kind::Float, _) => Err(mismatch(not_a_value(value, ty))),
        _ => {
            let bits = integer(ty, value, 8 * ty.size as u32)?;
            out.copy_from_slice(
                bits.to_le_bytes().get(..ty.size).ok_or_else(|| mismatch(not_a_value(value, ty)))?,
            );
            Ok(())
        }
    }
}

/// Converts a command-line argument to the JSON value that [`encode`] expects. Accepts decimal and hexadecimal (`0x`)
/// integers; `true`, `false`, `1` and `0` for a `bool`; any string for a `char` array; the name of a constant or a number
/// for an enum; strings in the format of the type, if it has one; and JSON for all other types.
pub fn parse_text(ty: &Type, text: &str) -> Result<Value> {
    let invalid = || mismatch(format_args!("\"{text}\" is not a value of {}", ty.name));
    // `encode` checks whether the string is valid in the format.
    let as_string = || ty.format.map(|_| Value::from(text));
    match ty.kind {
        Kind::Array if ty.is_string() => Ok(Value::from(text)),
        Kind::Bool => match text {
            "true" | "1" => Ok(Value::Bool(true)),
            "false" | "0" => Ok(Value::Bool(false)),
            _ => Err(invalid()),
        },
        Kind::Enum if ty.fields.iter().any(|constant| constant.name == text) => Ok(Value::from(text)),
        Kind::Char if text.len() == 1 && !text.as_bytes()[0].is_ascii_digit() => {
            Ok(Value::from(text.as_bytes()[0]))
        }
        Kind::Int | Kind::Uint | Kind::Char | Kind::Enum | Kind::Pointer => {
            parse_integer(text).or_else(as_string).ok_or_else(invalid)
        }
        Kind::Float => {
            let number = parse_float(text).and_then(Number::from_f64);
            number.map(Value::Number).ok_or_else(invalid)
        }
        Kind::Array | Kind::Struct | Kind::Union => {
            serde_json::from_slice(text.as_bytes()).ok().or_else(as_string).ok_or_else(invalid)
        }
    }
}

/// Parses an integer; returns it as a string if it has more than 64 bits.
fn parse_integer(text: &str) -> Option<Value> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (digits, radix) = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (digits, 10),
    };
    if !digits.starts_with(|first: char| first.is_digit(radix)) {
        return None;
    }
    let magnitude = u128::from_str_radix(digits, radix).ok()?;
    let sign = if negative { "-" } else { "" };
    let short = if negative {
        i64::try_from(magnitude).ok().map(|magnitude| Value::from(-magnitude))
    } else {
        u64::try_from(magnitude).ok().map(Value::from)
    };
    let smallest = negative && magnitude == 1 << 63;
    Some(match short {
        _ if smallest => Value::from(i64::MIN),
        Some(value) => value,
        None => Value::from(format!("{sign}{magnitude}")),
    })
}

fn encode_member(ty: &Type, name: &str, value: &Value, out: &mut [u8]) -> Result<()> {
    let field = ty
        .member(name)
        .ok_or_else(|| Error::new(Status::Type, format_args!("{} has no such member", ty.name)))?;
    if field.is_bit_field() {
        return encode_bits(&field, value, out);
    }
    let start = field.bit_offset as usize / 8;
    let bytes = out.get_mut(start..start + field.ty.size);
    let bytes = bytes.ok_or_else(|| mismatch(format_args!("exceeds the end of {}", ty.name)))?;
    encode_over(&field.ty, value, bytes)
}

fn encode_bits(field: &Field, value: &Value, out: &mut [u8]) -> Result<()> {
    let bits = integer(&field.ty, value, field.bit_size)?;
    for index in 0..field.bit_size.min(128) {
        let bit = field.bit_offset + index;
        let byte = out.get_mut(bit as usize / 8).ok_or_else(|| mismatch("exceeds the end of its struct"))?;
        let mask = 1 << (bit % 8);
        *byte = if bits >> index & 1 == 1 { *byte | mask } else { *byte & !mask };
    }
    Ok(())
}

fn encode_formatted(ty: &Type, format: ValueFormat, text: &str, out: &mut [u8]) -> Result<()> {
    let number = match format {
        // The bits of the number, without a sign.
        ValueFormat::Hex if text.starts_with("0x") => parse_integer(text),
        _ if format.has_names() => {
            named_number(format, ty, text).map(Value::from).or_else(|| parse_integer(text))
        }
        _ if parse_bytes(format, ty, text, out) => return Ok(()),
        _ => None,
    };
    let Some(number) = number else {
        return Err(mismatch(not_a_value(&Value::from(text), ty) + " in the format " + format.name()));
    };
    let signed = ty.signed && format != ValueFormat::Hex;
    encode_over(&Type { signed, format: None, ..ty.clone() }, &number, out)
}

fn encode_string(ty: &Type, text: &str, out: &mut [u8]) -> Result<()> {
    if text.len() >= out.len() {
        return Err(mismatch(format_args!("{} bytes and a NUL do not fit {}", text.len(), ty.name)));
    }
    if text.contains('\0') {
        return Err(mismatch("the string contains a NUL"));
    }
    out[..text.len()].copy_from_slice(text.as_bytes());
    Ok(())
}

/// Writes several strings. An array of numbers is written as if the type had no format.
fn encode_strings(ty: &Type, strings: &[Value], out: &mut [u8]) -> Result<()> {
    let mut start = 0;
    for string in strings {
        let Value::String(text) = string else { return encode_array(ty, strings, out) };
        encode_string(ty, text, &mut out[start..])?;
        start += text.len() + 1;
    }
    Ok(())
}

fn encode_array(ty: &Type, values: &[Value], out: &mut [u8]) -> Result<()> {
    if values.len() > ty.count as usize {
        return Err(mismatch(format_args!("{} values do not fit {}", values.len(), ty.name)));
    }
    let Some(elem) = &ty.elem else { return Ok(()) };
    for (index, value) in values.iter().enumerate() {
        let bytes = &mut out[index * elem.size..(index + 1) * elem.size];
        encode_over(elem, value, bytes).map_err(|error| error.at(format_args!("[{index}]")))?;
    }
    Ok(())
}

fn encode_float(ty: &Type, number: &Number, out: &mut [u8]) -> Result<()> {
    let value = parse_float(number.as_str()).unwrap_or(f64::NAN);
    match ty.size {
        4 if (value as f32).is_finite() => out.copy_from_slice(&(value as f32).to_le_bytes()),
        8 if value.is_finite() => out.copy_from_slice(&value.to_le_bytes()),
        _ => return Err(mismatch(format_args!("{number} does not fit {}", ty.name))),
    }
    Ok(())
}

/// Returns the bits of a JSON value for an integer, bool, enum or pointer of `bits` bits.
fn integer(ty: &Type, value: &Value, bits: u32) -> Result<u128> {
    let signed = ty.signed && ty.kind != Kind::Bool;
    let number = match value {
        Value::Bool(value) if ty.kind == Kind::Bool || ty.size == 1 && ty.kind != Kind::Enum => {
            Wide::from_unsigned(u128::from(*value))
        }
        Value::Number(number) => {
            exact_integer(number).ok_or_else(|| mismatch(inexact(number, ty, signed, bits)))?
        }
        Value::String(text) if ty.kind == Kind::Enum => {
            let constant = ty.fields.iter().find(|constant| constant.name == text.as_str());
            let constant = constant
                .ok_or_else(|| mismatch(format_args!("\"{text}\" is not a constant of {}", ty.name)))?;
            if ty.signed {
                Wide::from_signed(constant.value.into())
            } else {
                Wide::from_unsigned((constant.value as u64).into())
            }
        }
        Value::String(text) if ty.size > 8 => Wide::parse(text)
            .ok_or_else(|| mismatch(format_args!("\"{text}\" does not fit {}", width(signed, bits))))?,
        _ => return Err(mismatch(not_a_value(value, ty))),
    };
    let bits_allowed = if ty.kind == Kind::Bool { 1 } else { bits };
    if !number.fits(signed, bits_allowed) {
        let name = if ty.kind == Kind::Bool { "bool".to_string() } else { width(signed, bits) };
        return Err(mismatch(format_args!("{} does not fit {name}", unquoted(value))));
    }
    Ok(number.bits)
}

/// An integer of up to 128 bits and a sign.
struct Wide {
    negative: bool,
    /// The number in two's complement.
    bits: u128,
}

impl Wide {
    fn from_unsigned(bits: u128) -> Wide {
        Wide { negative: false, bits }
    }

    fn from_signed(value: i128) -> Wide {
        Wide { negative: value < 0, bits: value as u128 }
    }

    fn parse(text: &str) -> Option<Wide> {
        text.parse().map(Wide::from_unsigned).or_else(|_| text.parse().map(Wide::from_signed)).ok()
    }

    fn fits(&self, signed: bool, bits: u32) -> bool {
        let used =
            if self.negative { 129 - (!self.bits).leading_zeros() } else { 128 - self.bits.leading_zeros() };
        match (signed, self.negative) {
            (true, true) => used <= bits,
            (true, false) => used < bits.max(1),
            (false, negative) => !negative && used <= bits,
        }
    }
}

/// Returns the number if it is an integer that is certainly the one in the JSON text.
fn exact_integer(number: &Number) -> Option<Wide> {
    if let Some(value) = number.as_u64() {
        return Some(Wide::from_unsigned(value.into()));
    }
    if let Some(value) = number.as_i64() {
        return Some(Wide::from_signed(value.into()));
    }
    let value = parse_float(number.as_str())?;
    (value.fract() == 0.0 && value.abs() < EXACT_FLOAT).then(|| Wide::from_signed(value as i128))
}

fn inexact(number: &Number, ty: &Type, signed: bool, bits: u32) -> String {
    let fraction = parse_float(number.as_str()).is_some_and(|value| value.fract() != 0.0);
    let hint = match () {
        _ if fraction => ": not a whole number",
        _ if ty.size > 8 => "; write it as a string",
        _ => "",
    };
    format!("{number} does not fit {}{hint}", width(signed, bits))
}

fn width(signed: bool, bits: u32) -> String {
    format!("{}{bits}", if signed { 'i' } else { 'u' })
}

/// Returns `"abc" is not a value of int`, where a long value is shortened.
fn not_a_value(value: &Value, ty: &Type) -> String {
    let what = match value {
        Value::Object(_) => "an object".to_string(),
        Value::Array(_) => "an array".to_string(),
        other => shortened(other),
    };
    format!("{what} is not a value of {}", ty.name)
}

fn shortened(value: &Value) -> String {
    const LONGEST: usize = 40;
    let text = serde_json::to_string(value).unwrap_or_default();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

fn unquoted(value: &Value) -> String {
    value.as_str().map_or_else(|| shortened(value), str::to_string)
}

fn mismatch(message: impl std::fmt::Display) -> Error {
    Error::new(Status::Type, message)
}

/// Returns the number that a name means in a type.
fn named_number(format: ValueFormat, ty: &Type, text: &str) -> Option<i64> {
    let mut found = None;
    format.constants(ty.size, ty.signed, &mut |number, name| {
        if name == text {
            found = Some(number);
        }
    });
    found
}

/// Parses an address or hexadecimal digits into `out`, which has the size of the type. Returns false if the text has another
/// format.
fn parse_bytes(format: ValueFormat, ty: &Type, text: &str, out: &mut [u8]) -> bool {
    match format {
        ValueFormat::Ipv4 => text.parse().is_ok_and(|address: Ipv4Addr| copy(&address.octets(), out)),
        ValueFormat::Ipv6 => text.parse().is_ok_and(|address: Ipv6Addr| copy(&address.octets(), out)),
        ValueFormat::Mac => {
            parse_digits(text, 3, out) && text.bytes().skip(2).step_by(3).all(|byte| byte == b':')
        }
        ValueFormat::Hex if ty.elem.is_some() => parse_digits(text, 2, out),
        _ => false,
    }
}

fn copy(bytes: &[u8], out: &mut [u8]) -> bool {
    let fits = bytes.len() == out.len();
    if fits {
        out.copy_from_slice(bytes);
    }
    fits
}

/// Parses two digits per byte; bytes begin every `step` characters. The text must end after the last byte.
fn parse_digits(text: &str, step: usize, out: &mut [u8]) -> bool {
    let text = text.as_bytes();
    let digit = |index: usize| text.get(index).and_then(|byte| char::from(*byte).to_digit(16));
    for (index, byte) in out.iter_mut().enumerate() {
        let start = step * index;
        let (Some(high), Some(low)) = (digit(start), digit(start + 1)) else { return false };
        *byte = (high << 4 | low) as u8;
    }
    text.len() + step == step * out.len() + 2
}
