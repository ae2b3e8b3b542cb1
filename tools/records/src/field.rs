//! Finds the fields of a record by name, and reads their values.

use std::sync::Arc;

use eunomia::types::{Field, Kind, Type};

use crate::error::{Error, Result};

/// Finds the field called `name`, or `outer.inner` if it is nested. Its offset is relative to the record.
pub fn find(ty: &Arc<Type>, name: &str) -> Result<Field> {
    let mut found: Option<Field> = None;
    for part in name.split('.') {
        let base = found.as_ref().map_or(0, |field| field.bit_offset);
        let outer = found.as_ref().map_or(ty, |field| &field.ty);
        let inner = outer.member(part).ok_or_else(|| {
            let names: Vec<String> = names(outer);
            let known = if names.is_empty() { "none".into() } else { names.join(", ") };
            Error::new(format_args!("field {name:?}: {} has no {part:?}; there are: {known}", outer.name))
        })?;
        found = Some(Field { bit_offset: base.saturating_add(inner.bit_offset), ..inner });
    }
    found.ok_or_else(|| Error::new("empty field name"))
}

/// The names of all members, including those of anonymous members.
pub fn names(ty: &Type) -> Vec<String> {
    all(ty).into_iter().map(|field| field.name.to_string()).collect()
}

/// The named members in order, including those of anonymous members.
pub fn all(ty: &Type) -> Vec<Field> {
    if !matches!(ty.kind, Kind::Struct | Kind::Union) {
        return Vec::new();
    }
    let mut fields = Vec::new();
    for field in ty.fields.iter() {
        if !field.name.is_empty() {
            fields.push(field.clone());
            continue;
        }
        fields.extend(all(&field.ty).into_iter().map(|inner| {
            let bit_offset = field.bit_offset.saturating_add(inner.bit_offset);
            Field { bit_offset, ..inner }
        }));
    }
    fields
}

/// The type of a record as a struct: a number, an enum or an array becomes the member `value`.
pub fn record(ty: &Arc<Type>) -> Result<Arc<Type>> {
    if matches!(ty.kind, Kind::Struct | Kind::Union) {
        return Ok(Arc::clone(ty));
    }
    Ok(Type::structure(&ty.name, ty.size, vec![Field::member("value", Arc::clone(ty), 0)])?)
}

/// The integer in a field. Bytes after the end of the record are zero.
pub fn integer(field: &Field, record: &[u8]) -> i128 {
    let (start, bits) = ((field.bit_offset / 8) as usize, field.bit_size.min(64));
    let mut bytes = [0; 16];
    let whole = record.get(start..).unwrap_or_default();
    let len = whole.len().min(if field.is_bit_field() { 9 } else { field.ty.size.min(8) });
    bytes[..len].copy_from_slice(&whole[..len]);
    // On little-endian machines, bit-fields and whole integers are read alike.
    let word = if cfg!(target_endian = "big") && !field.is_bit_field() {
        u128::from_be_bytes(bytes) >> (128 - 8 * field.ty.size.clamp(1, 8))
    } else {
        u128::from_le_bytes(bytes) >> (field.bit_offset % 8)
    };
    let value = word & ((1u128 << bits) - 1);
    let is_negative = field.ty.signed && bits > 0 && value >> (bits - 1) & 1 == 1;
    if is_negative { value as i128 - (1i128 << bits) } else { value as i128 }
}

/// The bytes of a field. Those after the end of the record are zero; a flexible array ends with the record.
pub fn bytes<'a>(field: &Field, record: &'a [u8]) -> impl Iterator<Item = u8> + 'a {
    let rest = record.get((field.bit_offset / 8) as usize..).unwrap_or_default();
    let is_flexible = field.ty.kind == Kind::Array && field.ty.count == 0;
    let size = if is_flexible { rest.len() } else { field.ty.size };
    rest.iter().copied().chain(std::iter::repeat(0)).take(size)
}

/// The floating-point number in a field.
pub fn float(field: &Field, record: &[u8]) -> f64 {
    let start = (field.bit_offset / 8) as usize;
    let mut bytes = [0; 8];
    let whole = record.get(start..).unwrap_or_default();
    let len = whole.len().min(field.ty.size.min(8));
    bytes[..len].copy_from_slice(&whole[..len]);
    match field.ty.size {
        4 => f32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]).into(),
        _ => f64::from_ne_bytes(bytes),
    }
}

/// The string in an array of `char`, up to its NUL.
pub fn text<'a>(field: &Field, record: &'a [u8]) -> &'a [u8] {
    let rest = record.get((field.bit_offset / 8) as usize..).unwrap_or_default();
    let is_flexible = field.ty.count == 0;
    let whole = if is_flexible { rest } else { &rest[..rest.len().min(field.ty.size)] };
    whole.split(|byte| *byte == 0).next().unwrap_or_default()
}
