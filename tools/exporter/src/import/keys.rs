//! Finds the members of a key by their offset and size.

use std::sync::Arc;

use eunomia::types::{Kind, Type};
use eunomia_records::field;

/// Finds the member of a type at this offset and with this size, both in bytes. Returns its path below `name`, and its type.
pub fn member(name: &str, ty: &Arc<Type>, offset: usize, size: usize) -> Option<(String, Arc<Type>)> {
    let inner = field::all(ty).into_iter().filter(|field| !field.is_bit_field()).find_map(|field| {
        let start = (field.bit_offset / 8) as usize;
        let within = offset.checked_sub(start).filter(|within| within + size <= field.ty.size)?;
        let path = if name.is_empty() { field.name.to_string() } else { format!("{name}.{}", field.name) };
        member(&path, &field.ty, within, size)
    });
    let is_struct = matches!(ty.kind, Kind::Struct | Kind::Union);
    inner
        .or_else(|| (offset == 0 && size == ty.size && !is_struct).then(|| (name.to_owned(), Arc::clone(ty))))
}

/// The layout of a type, for messages.
pub fn layout(ty: &Type) -> String {
    let fields = field::all(ty);
    if fields.is_empty() {
        return format!("{}, {} bytes", ty.name, ty.size);
    }
    let one = |field: &eunomia::types::Field| {
        format!("{} at {}, {} bytes", field.name, field.bit_offset / 8, field.ty.size)
    };
    format!("{}: {}", ty.name, fields.iter().map(one).collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Arc<Type> {
        let u32_type = Type::unsigned_int();
        let inner =
            Type::from_c_members("inner", 8, &[("major", "int", "i32", 0), ("minor", "int", "i32", 32)]);
        let member = |name, ty, offset| eunomia::types::Field::member(name, ty, offset);
        let members = vec![member("op", u32_type, 0), member("dev", inner.unwrap(), 4)];
        Type::structure("key", 12, members).unwrap()
    }

    #[test]
    fn a_member_is_found_by_its_offset_and_size() {
        let find = |offset, size| member("key", &key(), offset, size).map(|(path, _)| path);
        assert_eq!(find(0, 4).as_deref(), Some("key.op"));
        assert_eq!(find(4, 4).as_deref(), Some("key.dev.major"));
        assert_eq!(find(8, 4).as_deref(), Some("key.dev.minor"));
        for (offset, size) in [(0, 8), (2, 4), (4, 8), (12, 4), (8, 8), (0, 12)] {
            assert_eq!(find(offset, size), None, "{offset}, {size}");
        }
        assert_eq!(member("key", &Type::unsigned_int(), 0, 4).map(|(path, _)| path).as_deref(), Some("key"));
    }

    #[test]
    fn a_layout_names_all_members() {
        assert_eq!(layout(&key()), "struct key: op at 0, 4 bytes; dev at 4, 8 bytes");
    }
}
