//! The instructions of a program and of the functions that it calls, as one sequence.

use std::collections::{BTreeMap, BTreeSet};

use crate::instruction::{
    BYTES, CALL, FUNCTION, HELPER, Instruction, LOAD_64, MAP, MAP_BY_INDEX, MAP_VALUE, MAP_VALUE_BY_INDEX,
    PSEUDO_CALL, PSEUDO_KFUNC,
};

/// libbpf replaces an instruction that the running kernel cannot support (a failed CO-RE relocation, a missing map or kernel
/// function) by a call of a helper with this number or a larger one. The kernel refuses a program that can reach the call.
const FIRST_MARK: i32 = 195_896_080;

/// The object that an instruction refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// A map by its name; several if the object is ambiguous.
    Map(BTreeSet<String>),
    /// A function of the kernel or of a module.
    Kernel(String),
    /// An object of the host or the kernel, by an id.
    Number,
}

/// The instructions of a program, followed by those of the functions that it calls.
#[derive(Clone, Debug, Default)]
pub struct Code {
    /// The instructions. Call offsets are relative to them.
    pub instructions: Vec<Instruction>,
    /// The references of instructions, by index.
    pub references: BTreeMap<usize, Reference>,
    /// Instructions that CO-RE can change when the program is loaded.
    pub relocated: BTreeSet<usize>,
    /// The indices where functions begin; the program itself begins at 0.
    pub(crate) starts: BTreeSet<usize>,
    /// Why the instructions are incomplete.
    pub(crate) unknown: Option<String>,
}

/// Resolves ids in the instructions of a loaded program.
pub struct Loaded<'a> {
    /// The name of a map by its id.
    pub map: &'a dyn Fn(i32) -> Option<String>,
    /// The name of a kernel function by its BTF id.
    pub kfunc: &'a dyn Fn(u32) -> Option<String>,
}

impl Code {
    /// Code that could not be determined.
    pub(crate) fn unknown(why: impl Into<String>) -> Code {
        Code { unknown: Some(why.into()), ..Code::default() }
    }

    /// The code of a loaded program.
    pub fn of_loaded(instructions: &[[u8; BYTES]], loaded: &Loaded<'_>) -> Code {
        let mut code = Code {
            instructions: instructions.iter().copied().map(Instruction::new).collect(),
            ..Code::default()
        };
        for (index, instruction) in code.indexed() {
            match (instruction.code, instruction.src) {
                (CALL, PSEUDO_KFUNC) => {
                    // If `off` is not 0, the function belongs to a module, whose BTF has other ids.
                    let name =
                        if instruction.off == 0 { (loaded.kfunc)(instruction.imm as u32) } else { None };
                    let name = name.unwrap_or_else(|| format!("#{}", instruction.imm));
                    code.references.insert(index, Reference::Kernel(name));
                }
                (LOAD_64, MAP | MAP_VALUE) => {
                    let map = (loaded.map)(instruction.imm);
                    let reference =
                        map.map_or(Reference::Number, |name| Reference::Map(BTreeSet::from([name])));
                    code.references.insert(index, reference);
                }
                (LOAD_64, MAP_BY_INDEX | MAP_VALUE_BY_INDEX) => {
                    code.references.insert(index, Reference::Number);
                }
                _ => {}
            }
        }
        code.find_functions();
        code
    }

    /// The instructions with their indices.
    pub(crate) fn indexed(&self) -> Vec<(usize, Instruction)> {
        let mut indexed = Vec::with_capacity(self.instructions.len());
        let mut index = 0;
        while let Some(&instruction) = self.instructions.get(index) {
            indexed.push((index, instruction));
            index += instruction.width();
        }
        indexed
    }

    /// Calls of functions of the program, and instructions that load the address of one.
    pub(crate) fn calls(&self) -> impl Iterator<Item = (usize, Instruction)> {
        let is_call =
            |it: &Instruction| matches!((it.code, it.src), (CALL, PSEUDO_CALL) | (LOAD_64, FUNCTION));
        self.indexed().into_iter().filter(move |(_, instruction)| is_call(instruction))
    }

    /// The helpers that are called, regardless of relocations.
    pub(crate) fn helpers(&self) -> BTreeSet<u32> {
        // This includes the second halves of 64-bit loads. They are not calls, but reporting one is harmless.
        let calls =
            self.instructions.iter().filter(|it| it.code == CALL && it.src == HELPER && it.imm < FIRST_MARK);
        calls.map(|it| it.imm as u32).collect()
    }

    /// The target of the call at `index`, or of the function address loaded there.
    pub(crate) fn target(&self, index: usize) -> Option<usize> {
        let ahead = i64::from(self.instructions.get(index)?.imm) + 1;
        let target = index.checked_add_signed(isize::try_from(ahead).ok()?)?;
        (target < self.instructions.len()).then_some(target)
    }

    /// Finds where functions begin.
    pub(crate) fn find_functions(&mut self) {
        self.starts.insert(0);
        let targets: Vec<Option<usize>> = self.calls().map(|(index, _)| self.target(index)).collect();
        if targets.contains(&None) {
            self.unknown = Some("a call target is outside of the program".into());
        }
        self.starts.extend(targets.into_iter().flatten());
    }
}
