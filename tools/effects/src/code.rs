//! A program with the functions that it calls, as one stream of instructions.

use std::collections::{BTreeMap, BTreeSet};

use crate::instruction::{
    BYTES, CALL, FUNCTION, HELPER, Instruction, LOAD_64, MAP, MAP_BY_INDEX, MAP_VALUE, MAP_VALUE_BY_INDEX,
    PSEUDO_CALL, PSEUDO_KFUNC,
};

/// Numbers of helpers from here on are libbpf's marks of what the kernel at hand lacks; the kernel refuses a program that
/// reaches one.
const MARKS: i32 = 195_896_080;

/// What an instruction refers to beyond itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// A map by its name; several where the object does not say clearly which.
    Map(BTreeSet<String>),
    /// A function of the kernel or one of its modules.
    Kernel(String),
    /// Something of the host or the kernel, by a number that says nothing of what it is.
    Number,
}

/// The instructions of a program, those of the functions that it calls behind its own.
#[derive(Clone, Debug, Default)]
pub struct Code {
    /// The stream. Calls lead to other places in it.
    pub instructions: Vec<Instruction>,
    /// What instructions refer to, by their place.
    pub references: BTreeMap<usize, Reference>,
    /// Instructions that CO-RE can change when the program is loaded.
    pub relocated: BTreeSet<usize>,
    /// Where functions begin, the program's own at 0.
    pub(crate) starts: BTreeSet<usize>,
    /// Why more can happen than the instructions say.
    pub(crate) unknown: Option<String>,
}

/// What the numbers in the instructions of a loaded program mean.
pub struct Loaded<'a> {
    /// The name of the map that a number stands for.
    pub map: &'a dyn Fn(i32) -> Option<String>,
    /// The name of the function of the kernel that has this BTF id.
    pub kfunc: &'a dyn Fn(u32) -> Option<String>,
}

impl Code {
    /// Code of which nothing can be said.
    pub(crate) fn unknown(why: impl Into<String>) -> Code {
        Code { unknown: Some(why.into()), ..Code::default() }
    }

    /// The code of a program as the kernel got it.
    pub fn of_loaded(instructions: &[[u8; BYTES]], loaded: &Loaded<'_>) -> Code {
        let mut code = Code {
            instructions: instructions.iter().copied().map(Instruction::new).collect(),
            ..Code::default()
        };
        for (place, instruction) in code.places() {
            match (instruction.code, instruction.src) {
                (CALL, PSEUDO_KFUNC) => {
                    // With an offset it is one of a module, whose ids start over.
                    let name =
                        if instruction.off == 0 { (loaded.kfunc)(instruction.imm as u32) } else { None };
                    let name = name.unwrap_or_else(|| format!("#{}", instruction.imm));
                    code.references.insert(place, Reference::Kernel(name));
                }
                (LOAD_64, MAP | MAP_VALUE) => {
                    let map = (loaded.map)(instruction.imm);
                    let reference =
                        map.map_or(Reference::Number, |name| Reference::Map(BTreeSet::from([name])));
                    code.references.insert(place, reference);
                }
                (LOAD_64, MAP_BY_INDEX | MAP_VALUE_BY_INDEX) => {
                    code.references.insert(place, Reference::Number);
                }
                _ => {}
            }
        }
        code.find_functions();
        code
    }

    /// The instructions with their places.
    pub(crate) fn places(&self) -> Vec<(usize, Instruction)> {
        let mut places = Vec::with_capacity(self.instructions.len());
        let mut place = 0;
        while let Some(&instruction) = self.instructions.get(place) {
            places.push((place, instruction));
            place += instruction.width();
        }
        places
    }

    /// Calls of functions of the program, and places where it takes the address of one.
    pub(crate) fn calls(&self) -> impl Iterator<Item = (usize, Instruction)> {
        let is_call =
            |it: &Instruction| matches!((it.code, it.src), (CALL, PSEUDO_CALL) | (LOAD_64, FUNCTION));
        self.places().into_iter().filter(move |(_, instruction)| is_call(instruction))
    }

    /// The helpers that are called, whatever a relocation says of the call.
    pub(crate) fn helpers(&self) -> BTreeSet<u32> {
        // Every place is looked at: what lies in the second half of another instruction is no call, but costs nothing to name.
        let calls =
            self.instructions.iter().filter(|it| it.code == CALL && it.src == HELPER && it.imm < MARKS);
        calls.map(|it| it.imm as u32).collect()
    }

    /// Where a call at `place`, or the address of a function that is taken there, leads to.
    pub(crate) fn target(&self, place: usize) -> Option<usize> {
        let ahead = i64::from(self.instructions.get(place)?.imm) + 1;
        let target = place.checked_add_signed(isize::try_from(ahead).ok()?)?;
        (target < self.instructions.len()).then_some(target)
    }

    /// Notes where functions begin.
    pub(crate) fn find_functions(&mut self) {
        self.starts.insert(0);
        let targets: Vec<Option<usize>> = self.calls().map(|(place, _)| self.target(place)).collect();
        if targets.contains(&None) {
            self.unknown = Some("a call leads out of its code".into());
        }
        self.starts.extend(targets.into_iter().flatten());
    }
}
