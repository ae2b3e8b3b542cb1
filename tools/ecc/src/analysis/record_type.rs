//! Compares types of records: which parts of a type begin at an offset, which types have the same layout, and whether a
//! record of a given size can have a type.

use crate::object::dwarf::{Composite, Dwarf, Member, Type, TypeId};

/// Deeper nesting than in any handwritten type.
const MAX_DEPTH: u32 = 64;
/// The limit on nesting if each level may branch: it is lower, because the work grows with the number of branches.
const MAX_UNIONS: u32 = 16;

/// The types of the parts that begin at `offset` in `id`: the outermost first, then those inside it at the same offset.
/// Stops where a union has several members.
pub fn parts(dwarf: &Dwarf, id: TypeId, offset: i64) -> Vec<TypeId> {
    let mut parts = Vec::new();
    let mut next = Some((id, offset));
    for _ in 0..MAX_DEPTH {
        let Some((id, offset)) = next else { break };
        if offset == 0 {
            parts.push(id);
        }
        next = inner(dwarf, id, offset);
    }
    parts
}

/// The member or element at `offset` in a struct, a union or an array, and the offset inside it.
fn inner(dwarf: &Dwarf, id: TypeId, offset: i64) -> Option<(TypeId, i64)> {
    match dwarf.get(dwarf.unnamed(Some(id))?).ok()? {
        Type::Composite(composite) => {
            let is_there = |member: &&Member| {
                let start = i64::from(member.bit_offset / 8);
                let size = member.id.and_then(|id| dwarf.size(id)).map_or(0, i64::from);
                member.bit_size == 0 && (start..start + size.max(1)).contains(&offset)
            };
            let mut members = composite.members.iter().filter(is_there);
            let member = members.next()?;
            if members.next().is_some() {
                return None;
            }
            Some((member.id?, offset - i64::from(member.bit_offset / 8)))
        }
        Type::Array { element, .. } => {
            let size = i64::from(dwarf.size(element?)?).max(1);
            Some((element?, offset.checked_rem(size)?))
        }
        _ => None,
    }
}

/// Whether two types have the same layout. Typedefs and qualifiers are ignored.
pub fn same(dwarf: &Dwarf, one: TypeId, other: TypeId) -> bool {
    let (one, other) = (dwarf.unnamed(Some(one)), dwarf.unnamed(Some(other)));
    one.is_some() && one == other
}

/// Whether `one` is the same type as `other` or begins with it. In a union, any member may be the beginning.
pub fn begins_with(dwarf: &Dwarf, one: TypeId, other: TypeId) -> bool {
    begins_at(dwarf, one, other, MAX_UNIONS)
}

fn begins_at(dwarf: &Dwarf, one: TypeId, other: TypeId, depth: u32) -> bool {
    if same(dwarf, one, other) || depth == 0 {
        return depth > 0;
    }
    let at_start = |member: &Member| member.bit_offset == 0 && member.bit_size == 0;
    match dwarf.unnamed(Some(one)).and_then(|id| dwarf.get(id).ok()) {
        Some(Type::Composite(composite)) => {
            let mut first = composite.members.iter().filter(|member| at_start(member));
            first.any(|member| member.id.is_some_and(|id| begins_at(dwarf, id, other, depth - 1)))
        }
        Some(Type::Array { element, .. }) => element.is_some_and(|id| begins_at(dwarf, id, other, depth - 1)),
        _ => false,
    }
}

/// Whether a type does not describe its content: void, bytes, arrays of them.
pub fn is_bytes(dwarf: &Dwarf, id: TypeId) -> bool {
    match dwarf.unnamed(Some(id)).and_then(|id| dwarf.get(id).ok()) {
        Some(Type::Base { size, encoding, .. }) => size == 1 && encoding != gimli::DW_ATE_boolean,
        Some(Type::Array { element, .. }) => element.is_none_or(|element| is_bytes(dwarf, element)),
        Some(Type::Composite(_) | Type::Enum { .. } | Type::Pointer(_)) => false,
        _ => true,
    }
}

/// Whether a struct or union is a buffer of bytes and nothing else.
pub fn is_buffer(dwarf: &Dwarf, id: TypeId) -> bool {
    match composite(dwarf, id) {
        Some(Composite { members, .. }) => match &members[..] {
            [only] => only.id.is_some_and(|id| is_bytes(dwarf, id)),
            _ => false,
        },
        None => false,
    }
}

pub fn composite(dwarf: &Dwarf, id: TypeId) -> Option<Composite> {
    match dwarf.get(dwarf.unnamed(Some(id))?).ok()? {
        Type::Composite(composite) => Some(composite),
        _ => None,
    }
}

/// Whether a record of `size` bytes, if that is known, can have the type. A record may end inside a struct. It may extend
/// beyond the struct only if that ends with an array of variable length.
pub fn fits(dwarf: &Dwarf, id: TypeId, size: Option<u32>) -> bool {
    let Some(own) = dwarf.size(id) else { return false };
    match (composite(dwarf, id), size) {
        (Some(_), None) => true,
        (Some(composite), Some(size)) => size <= own || has_variable_length(dwarf, &composite),
        (None, size) => size == Some(own),
    }
}

/// Whether a struct ends with an array of variable length. Older C declares it with 1 or 0 elements.
fn has_variable_length(dwarf: &Dwarf, composite: &Composite) -> bool {
    let last = composite.members.last().and_then(|member| dwarf.unnamed(member.id));
    match last.and_then(|id| dwarf.get(id).ok()) {
        Some(Type::Array { counts, .. }) => counts.first().is_none_or(|count| *count <= 1),
        Some(Type::Composite(inner)) => !composite.union && has_variable_length(dwarf, &inner),
        _ => false,
    }
}
