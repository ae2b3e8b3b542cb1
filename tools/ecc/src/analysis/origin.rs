//! The origins of a value: where in the program it was created.

use crate::analysis::register_values::{Atom, Base, Value};

/// A value, and the function and instruction at which it has that value.
#[derive(Clone)]
pub struct Origin {
    pub function: usize,
    pub at: usize,
    pub atom: Atom,
}

impl Origin {
    /// The result of the instruction at an offset.
    pub fn result(function: usize, at: usize) -> Origin {
        Origin { function, at, atom: Atom::Address(Base::Instruction(at), Some(0)) }
    }

    /// The number of the argument of `function` that this is.
    pub fn argument(&self, function: usize) -> Option<u8> {
        match &self.atom {
            Atom::Address(Base::Argument(number), _) if self.function == function => Some(*number),
            _ => None,
        }
    }
}

/// All origins of a value; `None` if it is unknown.
pub fn origins(value: &Value, function: usize, at: usize) -> Option<Vec<Origin>> {
    value.as_ref().map(|atoms| atoms.iter().map(|atom| Origin { function, at, atom: atom.clone() }).collect())
}

/// The value `by` bytes further on.
pub fn shifted(atom: &Atom, by: i64) -> Option<Atom> {
    match atom {
        Atom::Number(number) => Some(Atom::Number(number.checked_add(by)?)),
        Atom::Address(base, offset) => Some(Atom::Address(base.clone(), Some((*offset)?.checked_add(by)?))),
    }
}

/// The offsets from `base` that a value may have.
pub fn offsets(value: &Value, base: &Base) -> Vec<i64> {
    let atoms = value.iter().flatten();
    atoms
        .filter_map(|atom| match atom {
            Atom::Address(other, Some(offset)) if other == base => Some(*offset),
            _ => None,
        })
        .collect()
}
