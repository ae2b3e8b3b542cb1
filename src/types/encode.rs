//! JSON to bytes, every value checked against its type; and a command line's text to JSON.
//!
//! Used for variables, map keys and map values; never per event.

use core::net::{Ipv4Addr, Ipv6Addr};

use serde_json::{Number, Value};

use super::format::ValueFormat;
use super::layout::{Field, Kind, Type};
use crate::error::{Error, Result, Status};
use crate::number::parse_float;

/// Integers from here on are not all exact in a JSON number with a fraction or exponent.
const EXACT_FLOAT: f64 = 9_007_199_254_740_992.0;

/// Writes a JSON value as a C program would hold it; `out` is exactly as long as the type. What the value leaves out
/// (members of a struct, elements at an array's end) is zero, as in a C initialiser. After a failure `out` holds
/// anything.
///
/// Integers take numbers (those of more than 64 bits also decimal strings), `bool` and one-byte integers also true
/// and false; floats numbers; enums a constant's name or a number; `char` arrays a string that fits with its NUL;
/// structs and unions an object of members. A type with a format takes the texts that its values are written as too,
/// times and durations only nanoseconds.
pub fn encode(ty: &Type, value: &Value, out: &mut [u8]) -> Result<()> {
    out.fill(0);
    encode_over(ty, value, out)
}

/// The same over a value that is there: members that an object leaves out keep their values, those of structs inside too.
/// Anything else is written whole.
pub fn encode_over(ty: &Type, value: &Value, out: &mut [u8]) -> Result<()> {
    if out.len() != ty.size {
        return Err(mismatch(format_args!("{} takes {} bytes, not {}", ty.name, ty.size, out.len())));
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
        (Kind::Array, Value::Array(texts)) if ty.format == Some(ValueFormat::Strings) => {
            encode_strings(ty, texts, out)
        }
        (Kind::Array, Value::Array(values)) => encode_array(ty, values, out),
        (Kind::Float, Value::Number(number)) => encode_float(ty, number, out),
        (Kind::Struct | Kind::Union | Kind::Array | Kind::Float, _) => Err(mismatch(unfit(value, ty))),
        _ => {
            let bits = integer(ty, value, 8 * ty.size as u32)?;
            out.copy_from_slice(bits.to_le_bytes().get(..ty.size).ok_or_else(|| mismatch(unfit(value, ty)))?);
            Ok(())
        }
    }
}

/// Turns the text of a command-line argument into the JSON value that `encode` takes: integers decimal or hexadecimal
/// (`0x`), `true`, `false`, `1` or `0` for a `bool`, the text itself for a `char` array, a constant's name or number
/// for an enum, JSON for the rest. For a type with a format also the texts of that.
pub fn parse_text(ty: &Type, text: &str) -> Result<Value> {
    let unfit = || mismatch(format_args!("\"{text}\" is not a value of {}", ty.name));
    // Whether it is what the format wants is seen when it is encoded.
    let as_text = || ty.format.map(|_| Value::from(text));
    match ty.kind {
        Kind::Array if ty.is_string() => Ok(Value::from(text)),
        Kind::Bool => match text {
            "true" | "1" => Ok(Value::Bool(true)),
            "false" | "0" => Ok(Value::Bool(false)),
            _ => Err(unfit()),
        },
        Kind::Enum if ty.fields.iter().any(|constant| constant.name == text) => Ok(Value::from(text)),
        Kind::Char if text.len() == 1 && !text.as_bytes()[0].is_ascii_digit() => {
            Ok(Value::from(text.as_bytes()[0]))
        }
        Kind::Int | Kind::Uint | Kind::Char | Kind::Enum | Kind::Pointer => {
            parse_integer(text).or_else(as_text).ok_or_else(unfit)
        }
        Kind::Float => {
            let number = parse_float(text).and_then(Number::from_f64);
            number.map(Value::Number).ok_or_else(unfit)
        }
        Kind::Array | Kind::Struct | Kind::Union => {
            serde_json::from_slice(text.as_bytes()).ok().or_else(as_text).ok_or_else(unfit)
        }
    }
}

/// A number; as a string if it takes more than 64 bits.
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
    let place = out.get_mut(start..start + field.ty.size);
    encode_over(
        &field.ty,
        value,
        place.ok_or_else(|| mismatch(format_args!("it lies outside of {}", ty.name)))?,
    )
}

fn encode_bits(field: &Field, value: &Value, out: &mut [u8]) -> Result<()> {
    let bits = integer(&field.ty, value, field.bit_size)?;
    for index in 0..field.bit_size.min(128) {
        let at = field.bit_offset + index;
        let byte = out.get_mut(at as usize / 8).ok_or_else(|| mismatch("it lies outside of its struct"))?;
        let mask = 1 << (at % 8);
        *byte = if bits >> index & 1 == 1 { *byte | mask } else { *byte & !mask };
    }
    Ok(())
}

fn encode_formatted(ty: &Type, format: ValueFormat, text: &str, out: &mut [u8]) -> Result<()> {
    let number = match format {
        // As it is written: the bits, without a sign.
        ValueFormat::Hex if text.starts_with("0x") => parse_integer(text),
        _ if format.has_names() => {
            number_of(format, ty, text).map(Value::from).or_else(|| parse_integer(text))
        }
        _ if read_bytes(format, ty, text, out) => return Ok(()),
        _ => None,
    };
    let Some(number) = number else {
        return Err(mismatch(unfit(&Value::from(text), ty) + " in the format " + format.name()));
    };
    let signed = ty.signed && format != ValueFormat::Hex;
    encode_over(&Type { signed, format: None, ..ty.clone() }, &number, out)
}

fn encode_string(ty: &Type, text: &str, out: &mut [u8]) -> Result<()> {
    if text.len() >= out.len() {
        return Err(mismatch(format_args!("{} bytes and a NUL do not fit {}", text.len(), ty.name)));
    }
    if text.contains('\0') {
        return Err(mismatch("a string with a NUL inside"));
    }
    out[..text.len()].copy_from_slice(text.as_bytes());
    Ok(())
}

/// Several texts, or numbers as without the format.
fn encode_strings(ty: &Type, texts: &[Value], out: &mut [u8]) -> Result<()> {
    let mut start = 0;
    for text in texts {
        let Value::String(text) = text else { return encode_array(ty, texts, out) };
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
        let place = &mut out[index * elem.size..(index + 1) * elem.size];
        encode_over(elem, value, place).map_err(|error| error.at(format_args!("[{index}]")))?;
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

/// The bits of a value of an integer, bool, enum or pointer of so many bits.
fn integer(ty: &Type, value: &Value, bits: u32) -> Result<u128> {
    let signed = ty.signed && ty.kind != Kind::Bool;
    let number = match value {
        Value::Bool(value) if ty.kind == Kind::Bool || ty.size == 1 && ty.kind != Kind::Enum => {
            Wide::from_unsigned(u128::from(*value))
        }
        Value::Number(number) => {
            exact(number).ok_or_else(|| mismatch(not_whole(number, ty, signed, bits)))?
        }
        Value::String(text) if ty.kind == Kind::Enum => {
            let constant = ty.fields.iter().find(|constant| constant.name == text.as_str());
            let constant =
                constant.ok_or_else(|| mismatch(format_args!("\"{text}\" is no constant of {}", ty.name)))?;
            if ty.signed {
                Wide::from_signed(constant.value.into())
            } else {
                Wide::from_unsigned((constant.value as u64).into())
            }
        }
        Value::String(text) if ty.size > 8 => Wide::parse(text)
            .ok_or_else(|| mismatch(format_args!("\"{text}\" does not fit {}", width(signed, bits))))?,
        _ => return Err(mismatch(unfit(value, ty))),
    };
    let bits_allowed = if ty.kind == Kind::Bool { 1 } else { bits };
    if !number.fits(signed, bits_allowed) {
        let name = if ty.kind == Kind::Bool { "bool".to_string() } else { width(signed, bits) };
        return Err(mismatch(format_args!("{} does not fit {name}", bare(value))));
    }
    Ok(number.bits)
}

/// A whole number, of up to 128 bits and a sign.
struct Wide {
    negative: bool,
    /// Two's complement.
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

/// The number if it is whole and surely the one that was written.
fn exact(number: &Number) -> Option<Wide> {
    if let Some(value) = number.as_u64() {
        return Some(Wide::from_unsigned(value.into()));
    }
    if let Some(value) = number.as_i64() {
        return Some(Wide::from_signed(value.into()));
    }
    let value = parse_float(number.as_str())?;
    (value.fract() == 0.0 && value.abs() < EXACT_FLOAT).then(|| Wide::from_signed(value as i128))
}

fn not_whole(number: &Number, ty: &Type, signed: bool, bits: u32) -> String {
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

/// `"abc" is not a value of int`, the value cut to a readable length.
fn unfit(value: &Value, ty: &Type) -> String {
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

fn bare(value: &Value) -> String {
    value.as_str().map_or_else(|| shortened(value), str::to_string)
}

fn mismatch(message: impl std::fmt::Display) -> Error {
    Error::new(Status::Type, message)
}

/// The number that a name stands for in a type.
fn number_of(format: ValueFormat, ty: &Type, text: &str) -> Option<i64> {
    let mut found = None;
    format.constants(ty.size, ty.signed, &mut |number, name| {
        if name == text {
            found = Some(number);
        }
    });
    found
}

/// Writes the value that a text means to `out`, which has the length of the type: of a format that is no name and no time.
/// Says whether that is what the text is.
fn read_bytes(format: ValueFormat, ty: &Type, text: &str, out: &mut [u8]) -> bool {
    match format {
        ValueFormat::Ipv4 => text.parse().is_ok_and(|address: Ipv4Addr| copy(&address.octets(), out)),
        ValueFormat::Ipv6 => text.parse().is_ok_and(|address: Ipv6Addr| copy(&address.octets(), out)),
        ValueFormat::Mac => {
            read_digits(text, 3, out) && text.bytes().skip(2).step_by(3).all(|byte| byte == b':')
        }
        ValueFormat::Hex if ty.elem.is_some() => read_digits(text, 2, out),
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

/// Two digits for each byte, one every `step` characters, up to the end of the text.
fn read_digits(text: &str, step: usize, out: &mut [u8]) -> bool {
    let text = text.as_bytes();
    let digit = |at: usize| text.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    for (index, byte) in out.iter_mut().enumerate() {
        let at = step * index;
        let (Some(high), Some(low)) = (digit(at), digit(at + 1)) else { return false };
        *byte = (high << 4 | low) as u8;
    }
    text.len() + step == step * out.len() + 2
}
