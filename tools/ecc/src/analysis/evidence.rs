//! Evidence for the type of a record, and the choice of a type that all evidence agrees with.

use crate::analysis::record_type::{begins_with, fits, is_buffer, is_bytes, same};
use crate::object::dwarf::{Dwarf, TypeId};

/// A type that the memory at an address appears to have.
#[derive(Clone, Copy)]
pub struct Evidence {
    pub id: TypeId,
    pub source: Source,
}

/// The origin of evidence.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The argument of the call.
    Call,
    /// The definition of the memory.
    Memory,
    /// A pointer that contains the address.
    Pointer,
}

/// The type of a record, unless evidence is contradictory.
pub fn choose(dwarf: &Dwarf, evidence: &[Evidence], size: Option<u32>) -> Option<TypeId> {
    let evidence: Vec<&Evidence> = evidence.iter().filter(|one| !is_bytes(dwarf, one.id)).collect();
    let mut of_call = evidence.iter().filter(|one| one.source == Source::Call);
    if let Some(first) = of_call.next().filter(|first| fits(dwarf, first.id, size)) {
        if of_call.all(|other| same(dwarf, first.id, other.id)) {
            return Some(first.id);
        }
    }
    // Of any two types, one must begin with the other.
    let is_part = |one: TypeId, other: TypeId| begins_with(dwarf, one, other);
    let conflict =
        |one: &Evidence, other: &Evidence| !is_part(one.id, other.id) && !is_part(other.id, one.id);
    if evidence.iter().any(|one| evidence.iter().any(|other| conflict(one, other))) {
        return None;
    }
    let is_possible = |one: &&&Evidence| {
        let is_exact = dwarf.size(one.id) == size;
        fits(dwarf, one.id, size) && (is_exact || !is_buffer(dwarf, one.id))
    };
    let possible: Vec<TypeId> = evidence.iter().filter(is_possible).map(|one| one.id).collect();
    let is_inside = |one: TypeId, other: TypeId| is_part(other, one) && !same(dwarf, one, other);
    match size {
        Some(_) => smallest(dwarf, &possible, size, &is_inside).or_else(|| possible.first().copied()),
        // A pointer shows what begins at the address, such as the header of a packet, but not where it ends.
        None if evidence.iter().all(|one| one.source == Source::Pointer) => None,
        None => possible.iter().copied().reduce(|best, next| if is_inside(best, next) { next } else { best }),
    }
}

/// The smallest type that contains a whole record; of several with the same size, the outermost.
fn smallest(
    dwarf: &Dwarf,
    types: &[TypeId],
    size: Option<u32>,
    is_inside: &dyn Fn(TypeId, TypeId) -> bool,
) -> Option<TypeId> {
    let large_enough = types.iter().copied().filter(|id| dwarf.size(*id) >= size);
    large_enough.reduce(|best, next| {
        let (best_size, next_size) = (dwarf.size(best), dwarf.size(next));
        let is_better = next_size < best_size || next_size == best_size && is_inside(best, next);
        if is_better { next } else { best }
    })
}
