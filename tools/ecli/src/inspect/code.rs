//! What the instructions of an object's functions call, and what they can return.
//!
//! Nothing is believed: offsets, sizes and calls that lead nowhere are skipped, since it is the verifier that decides
//! whether the program runs. Work is bounded by the number of instructions.

use std::collections::{BTreeMap, BTreeSet};

use object::read::elf::ElfFile64;
use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget, SectionIndex, SymbolIndex, SymbolKind};

use crate::error::{Code, Failure, Result};

const INSTRUCTION: usize = 8;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const LOAD_64: u8 = 0x18;
/// In the source register of a call: a function of the object, or one of the kernel by its BTF id.
const PSEUDO_CALL: u8 = 1;
const PSEUDO_KFUNC: u8 = 2;
/// Longer functions return anything, as far as this goes; the verifier takes a million instructions.
const MAX_INSTRUCTIONS: usize = 1 << 16;
/// Functions, and bytes of their code, that an object has at most: functions may lie over each other in a made-up one.
const MAX_FUNCTIONS: usize = 1 << 13;
const MAX_CODE: u64 = 16 << 20;
/// Looks at an instruction, on average, before anything is taken to be possible.
const MAX_LOOKS: usize = 32;
/// Constants that are told apart in a register.
const MAX_CONSTANTS: usize = 8;

/// A function of the object and what it does by itself.
#[derive(Debug, Default)]
struct Function {
    name: String,
    section: usize,
    start: u64,
    end: u64,
    helpers: BTreeSet<u32>,
    kfuncs: BTreeSet<String>,
    callees: BTreeSet<(usize, u64)>,
    returns: Values,
}

/// What a program does, the functions it calls included.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Helpers by number.
    pub helpers: BTreeSet<u32>,
    /// Functions of the kernel and its modules.
    pub kfuncs: BTreeSet<String>,
    /// What it can return; `None`: anything.
    pub returns: Option<BTreeSet<i32>>,
}

/// The functions of an object.
pub struct Object64 {
    functions: Vec<Function>,
}

impl Object64 {
    /// Reads the functions of an ELF object.
    pub fn parse(elf: &[u8]) -> Result<Object64> {
        let bad = |e: object::Error| Failure::new(Code::Source, format_args!("the object: {e}"));
        let file: ElfFile64 = ElfFile64::parse(elf).map_err(bad)?;
        let mut functions = Vec::new();
        for symbol in file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0) {
            let Some(section) = symbol.section_index() else { continue };
            let name = symbol.name().unwrap_or_default().to_owned();
            let (start, end) = (symbol.address(), symbol.address().saturating_add(symbol.size()));
            functions.push(Function { name, section: section.0, start, end, ..Function::default() });
        }
        let code = functions.iter().fold(0u64, |sum, it| sum.saturating_add(it.end - it.start));
        if functions.len() > MAX_FUNCTIONS || code > MAX_CODE {
            let text = format!("the object: more than {MAX_FUNCTIONS} functions or {MAX_CODE} bytes of code");
            return Err(Failure::new(Code::Source, text));
        }
        functions.sort_by_key(|it: &Function| (it.section, it.start));
        for section in file.sections() {
            let index = section.index().0;
            if !functions.iter().any(|function| function.section == index) {
                continue;
            }
            let code = section.data().map_err(bad)?;
            let targets = targets(&file, section.index());
            for function in functions.iter_mut().filter(|function| function.section == index) {
                function.read(code, &targets);
            }
        }
        Ok(Object64 { functions })
    }

    /// What the program called `name` does.
    pub fn calls(&self, name: &str) -> Calls {
        let Some(first) = self.functions.iter().position(|function| function.name == name) else {
            return Calls::default();
        };
        let mut calls = Calls { returns: self.functions[first].returns.constants(), ..Calls::default() };
        let (mut seen, mut waiting) = (BTreeSet::from([first]), vec![first]);
        while let Some(index) = waiting.pop() {
            let function = &self.functions[index];
            calls.helpers.extend(&function.helpers);
            calls.kfuncs.extend(function.kfuncs.iter().cloned());
            for (section, place) in &function.callees {
                if let Some(callee) = self.function_at(*section, *place).filter(|it| seen.insert(*it)) {
                    waiting.push(callee);
                }
            }
        }
        calls
    }

    /// The function at a place of a section.
    fn function_at(&self, section: usize, place: u64) -> Option<usize> {
        let behind = self.functions.partition_point(|it| (it.section, it.start) <= (section, place));
        let index = behind.checked_sub(1)?;
        let function = &self.functions[index];
        (function.section == section && place < function.end).then_some(index)
    }
}

/// Where a relocation leads.
enum Target {
    /// A place in a section: its index, and the symbol's offset there.
    Code(usize, u64),
    /// A function that is not in the object.
    Kernel(String),
}

fn targets(file: &ElfFile64, section: SectionIndex) -> BTreeMap<u64, Target> {
    let mut targets = BTreeMap::new();
    let Ok(section) = file.section_by_index(section) else { return targets };
    for (offset, relocation) in section.relocations() {
        let RelocationTarget::Symbol(symbol) = relocation.target() else { continue };
        if let Some(target) = target(file, symbol) {
            targets.insert(offset, target);
        }
    }
    targets
}

fn target(file: &ElfFile64, symbol: SymbolIndex) -> Option<Target> {
    let symbol = file.symbol_by_index(symbol).ok()?;
    if symbol.is_undefined() {
        return Some(Target::Kernel(symbol.name().ok()?.to_owned()));
    }
    Some(Target::Code(symbol.section_index()?.0, symbol.address()))
}

/// One instruction.
#[derive(Clone, Copy)]
struct Instruction {
    code: u8,
    dst: u8,
    src: u8,
    off: i16,
    imm: i32,
}

impl Instruction {
    fn at(code: &[u8], place: usize) -> Option<Instruction> {
        let bytes: [u8; INSTRUCTION] = code.get(place..place + INSTRUCTION)?.try_into().ok()?;
        let (dst, src) = if cfg!(target_endian = "big") {
            (bytes[1] >> 4, bytes[1] & 15)
        } else {
            (bytes[1] & 15, bytes[1] >> 4)
        };
        let off = i16::from_ne_bytes([bytes[2], bytes[3]]);
        let imm = i32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        Some(Instruction { code: bytes[0], dst, src, off, imm })
    }

    /// Instructions from this one to the one that a jump leads to.
    fn jump(&self) -> Option<i64> {
        const JUMP: u8 = 0x05;
        const JUMP_32: u8 = 0x06;
        match (self.code & 7, self.code) {
            (_, CALL | EXIT) => None,
            (JUMP_32, 0x06) => Some(i64::from(self.imm) + 1),
            (JUMP | JUMP_32, _) => Some(i64::from(self.off) + 1),
            _ => None,
        }
    }

    fn goes_on(&self) -> bool {
        !matches!(self.code, EXIT | 0x05 | 0x06)
    }
}

impl Function {
    fn read(&mut self, code: &[u8], targets: &BTreeMap<u64, Target>) {
        let (start, end) = (self.start as usize, (self.end as usize).min(code.len()));
        let mut place = start;
        while place < end
            && let Some(instruction) = Instruction::at(code, place)
        {
            self.look_at(instruction, place, targets.get(&(place as u64)));
            place += if instruction.code == LOAD_64 { 2 * INSTRUCTION } else { INSTRUCTION };
        }
        self.returns = returned(code.get(start..end).unwrap_or_default());
    }

    fn look_at(&mut self, instruction: Instruction, place: usize, target: Option<&Target>) {
        // What a call's number counts from is the next instruction.
        let ahead = (i64::from(instruction.imm) + 1).saturating_mul(INSTRUCTION as i64);
        match (instruction.code, target) {
            (CALL, Some(Target::Kernel(name))) => {
                self.kfuncs.insert(name.clone());
            }
            (CALL, Some(Target::Code(section, base))) => {
                self.callees.insert((*section, base.saturating_add_signed(ahead)));
            }
            (CALL, None) if instruction.src == PSEUDO_CALL => {
                self.callees.insert((self.section, (place as u64).saturating_add_signed(ahead)));
            }
            (CALL, None) if instruction.src == PSEUDO_KFUNC => {
                self.kfuncs.insert(format!("#{}", instruction.imm));
            }
            (CALL, None) if instruction.src == 0 => {
                self.helpers.insert(instruction.imm as u32);
            }
            // The address of a function, for a helper to call.
            (LOAD_64, Some(Target::Code(section, base))) => {
                self.callees.insert((*section, base.saturating_add(instruction.imm as u32 as u64)));
            }
            _ => {}
        }
    }
}

/// What a register can hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Values {
    /// Nothing has been found yet.
    #[default]
    None,
    Constants(BTreeSet<i32>),
    Any,
}

impl Values {
    fn constants(&self) -> Option<BTreeSet<i32>> {
        match self {
            Values::None => Some(BTreeSet::new()),
            Values::Constants(constants) => Some(constants.clone()),
            Values::Any => None,
        }
    }

    /// Takes in what it can hold on another way; whether that is more.
    fn join(&mut self, other: &Values) -> bool {
        let joined = match (&*self, other) {
            (_, Values::None) => return false,
            (Values::Any, _) => return false,
            (Values::None, other) => other.clone(),
            (_, Values::Any) => Values::Any,
            (Values::Constants(mine), Values::Constants(others)) => {
                let all: BTreeSet<i32> = mine.union(others).copied().collect();
                if all.len() > MAX_CONSTANTS { Values::Any } else { Values::Constants(all) }
            }
        };
        let is_more = *self != joined;
        *self = joined;
        is_more
    }
}

type Registers = [Values; 11];

/// What a function leaves in r0: constants are followed along all ways through it.
fn returned(code: &[u8]) -> Values {
    let count = code.len() / INSTRUCTION;
    if count > MAX_INSTRUCTIONS {
        return Values::Any;
    }
    let mut before: Vec<Option<Registers>> = vec![None; count];
    let mut result = Values::None;
    let mut waiting = Vec::new();
    if let Some(first) = before.first_mut() {
        *first = Some(std::array::from_fn(|_| Values::Any));
        waiting.push(0);
    }
    let mut looks = 0;
    while let Some(index) = waiting.pop() {
        looks += 1;
        if looks > MAX_LOOKS * count {
            return Values::Any;
        }
        let Some(instruction) = Instruction::at(code, index * INSTRUCTION) else { continue };
        let Some(mut registers) = before[index].clone() else { continue };
        if instruction.code == EXIT {
            result.join(&registers[0]);
            continue;
        }
        step(instruction, &mut registers);
        let width = if instruction.code == LOAD_64 { 2 } else { 1 };
        let next = instruction.goes_on().then_some(width);
        for ahead in next.into_iter().chain(instruction.jump()) {
            let Some(place) = index.checked_add_signed(ahead as isize).filter(|place| *place < count) else {
                continue;
            };
            if join(&mut before[place], &registers) {
                waiting.push(place);
            }
        }
    }
    result
}

fn join(place: &mut Option<Registers>, registers: &Registers) -> bool {
    let Some(known) = place else {
        *place = Some(registers.clone());
        return true;
    };
    known.iter_mut().zip(registers).fold(false, |more, (known, new)| known.join(new) | more)
}

/// What an instruction does to the registers.
fn step(instruction: Instruction, registers: &mut Registers) {
    const MOVES: [u8; 2] = [0xb7, 0xb4];
    const COPIES: [u8; 2] = [0xbf, 0xbc];
    let Instruction { code, dst, src, off, imm } = instruction;
    let (dst, src) = (usize::from(dst.min(10)), usize::from(src.min(10)));
    match code & 7 {
        _ if MOVES.contains(&code) => registers[dst] = Values::Constants(BTreeSet::from([imm])),
        // With an offset it extends a sign.
        _ if COPIES.contains(&code) && off == 0 => registers[dst] = registers[src].clone(),
        // Loads and arithmetic; an atomic operation writes its source or r0.
        0 | 1 | 4 | 7 => registers[dst] = Values::Any,
        3 if code & 0xe0 == 0xc0 => (registers[src], registers[0]) = (Values::Any, Values::Any),
        5 if code == CALL => registers[..6].fill(Values::Any),
        _ => {}
    }
}
