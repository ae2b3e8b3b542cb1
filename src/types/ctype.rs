//! Builds types from the C declarations in packages of layout F1 (eunomia-bpf 0.1 and 0.2), which describe the members of
//! events by name, C type, LLVM type and bit offset.

use std::sync::Arc;

use super::layout::{Field, Kind, MAX_DEPTH, Type};
use crate::error::{Error, Result, Status};

impl Type {
    /// Builds the struct that `export_data_types` describes. `members` are (name, C type, LLVM type, bit offset). A member of
    /// unknown type (a nested struct) becomes an array of bytes up to the next member.
    pub fn from_c_members(name: &str, size: usize, members: &[(&str, &str, &str, u32)]) -> Result<Arc<Type>> {
        let mut fields = Vec::with_capacity(members.len());
        for (index, &(member, c_type, llvm_type, bit_offset)) in members.iter().enumerate() {
            let bad = |what: &str| {
                let text = format!("member \"{member}\" of {name} ({c_type} at bit {bit_offset}) {what}");
                Error::new(Status::Package, text)
            };
            if bit_offset % 8 != 0 {
                return Err(bad("does not start at a byte boundary"));
            }
            let next = members.get(index + 1).map_or(size, |next| next.3 as usize / 8);
            let offset = bit_offset as usize / 8;
            let space = next.min(size).saturating_sub(offset);
            let ty =
                c_type_of(c_type, llvm_type).or_else(|| bytes(space)).ok_or_else(|| bad("is too large"))?;
            if offset + ty.size > size {
                return Err(bad("exceeds its end"));
            }
            fields.push(Field::member(member, Arc::new(ty), bit_offset / 8));
        }
        Type::structure(name, size, fields)
    }
}

/// Parses a C type and its LLVM type, such as `char [16]` and `[16 x i8]`; `None` if they do not determine the layout.
fn c_type_of(c_type: &str, llvm_type: &str) -> Option<Type> {
    let (base, is_array) = match c_type.split_once('[') {
        Some((base, _dimensions)) => (base.trim(), true),
        None => (c_type.trim(), false),
    };
    let (counts, element) = dimensions(llvm_type.trim())?;
    let mut ty = c_scalar(base, element)?;
    for (index, count) in counts.iter().enumerate().rev() {
        // A typedef of an array keeps its name.
        let suffix: String =
            counts[index..].iter().filter(|_| is_array).map(|count| format!("[{count}]")).collect();
        ty = Type::array(format!("{base}{suffix}").into(), Arc::new(ty), *count)?;
    }
    Some(ty)
}

/// Splits `[2 x [3 x i32]]` into the counts, the outermost first, and `i32`.
fn dimensions(mut llvm_type: &str) -> Option<(Vec<u32>, &str)> {
    let mut counts = Vec::new();
    while let Some(inner) = llvm_type.strip_prefix('[') {
        let (count, element) = inner.strip_suffix(']')?.split_once(" x ")?;
        counts.push(count.parse().ok()?);
        llvm_type = element;
    }
    (counts.len() <= MAX_DEPTH as usize).then_some((counts, llvm_type))
}

fn c_scalar(c_type: &str, llvm_type: &str) -> Option<Type> {
    let name = c_type.into();
    if llvm_type == "ptr" || llvm_type.ends_with('*') || c_type.ends_with('*') {
        return Some(Type::scalar(name, Kind::Pointer, 8, false));
    }
    let words = || c_type.split_whitespace();
    let (kind, size, signed) = match llvm_type {
        "float" => (Kind::Float, 4, true),
        "double" => (Kind::Float, 8, true),
        _ => {
            let bits: usize = llvm_type.strip_prefix('i')?.parse().ok()?;
            let size = bits.div_ceil(8);
            if ![1, 2, 4, 8, 16].contains(&size) {
                return None;
            }
            let first = words().next().unwrap_or("");
            let unsigned = words().any(|word| word == "unsigned") || is_unsigned_typedef(first);
            match words().last() {
                Some("bool" | "_Bool") => (Kind::Bool, size, false),
                Some("char") if words().count() == 1 => (Kind::Char, size, true),
                _ if unsigned => (Kind::Uint, size, false),
                _ => (Kind::Int, size, true),
            }
        }
    };
    Some(Type::scalar(name, kind, size, signed))
}

/// Whether the kernel or C uses this name for an unsigned integer type.
fn is_unsigned_typedef(name: &str) -> bool {
    let plain = name.trim_start_matches('_');
    let fixed =
        ["u8", "u16", "u32", "u64", "u128", "be16", "be32", "be64", "le16", "le32", "le64", "wsum", "sum16"];
    let others =
        ["size_t", "uid_t", "gid_t", "dev_t", "umode_t", "mode_t", "uint", "ulong", "ushort", "uchar"];
    fixed.contains(&plain)
        || others.contains(&plain)
        || plain.starts_with("uint") && plain.ends_with("_t")
        || plain.starts_with("kernel_") && others.contains(&&plain["kernel_".len()..])
}

fn bytes(count: usize) -> Option<Type> {
    let byte = Arc::new(Type::integer("unsigned char", 1, false));
    Type::array(format!("unsigned char[{count}]").into(), byte, u32::try_from(count).ok()?)
}
