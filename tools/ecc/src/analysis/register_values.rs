//! The values of registers at each instruction of a function: constants, and addresses relative to a base.
//!
//! All paths are followed. A value that differs between paths is the set of all possible values; some values are unknown.
//! Types play no part: the result only shows which registers have the same address.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use crate::object::elf::{Function, Reference};
use crate::object::instruction::{Effect, FRAME, Instruction};

/// The base of an address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Base {
    /// The end of the function's stack frame.
    Frame,
    /// A map, variable or section.
    Symbol(Rc<str>),
    /// The result of the instruction at this offset: of a call, or of a load from memory.
    Instruction(usize),
    /// An argument of the function, counted from 1.
    Argument(u8),
}

/// One possible value of a register.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Atom {
    Number(i64),
    /// An address; without an offset it is at an unknown offset from the base.
    Address(Base, Option<i64>),
}

/// All possible values of a register; `None` if they are unknown.
pub type Value = Option<BTreeSet<Atom>>;

/// A value with more possibilities than this is treated as unknown.
const MAX_ATOMS: usize = 8;
/// The analysis of a function ends without a result if each instruction has been visited this often on average.
const MAX_VISITS: usize = 64;

/// The registers, and the stack slots to which a register was saved.
#[derive(Clone, PartialEq)]
pub struct State {
    registers: [Value; 11],
    stack: BTreeMap<i64, Value>,
}

/// A function, and the values of its registers.
pub struct RegisterValues<'a> {
    function: &'a Function,
    instructions: Vec<Instruction>,
    references: &'a HashMap<u64, Reference>,
    /// The state at the beginning of each basic block.
    starts: BTreeMap<usize, State>,
}

impl<'a> RegisterValues<'a> {
    /// Follows the values through a function. Returns `None` if that takes too long.
    pub fn follow(
        function: &'a Function,
        code: &[u8],
        references: &'a HashMap<u64, Reference>,
    ) -> Option<RegisterValues<'a>> {
        let instructions = code.chunks_exact(8).map(Instruction::decode).collect();
        let mut values = RegisterValues { function, instructions, references, starts: BTreeMap::new() };
        values.run_all()?;
        Some(values)
    }

    /// Calls `visit` for each reachable instruction, with its offset in the section and the state before it.
    pub fn for_each(&self, mut visit: impl FnMut(usize, Instruction, &State)) {
        for (&start, state) in &self.starts {
            self.run(start, state.clone(), &mut visit);
        }
    }

    /// Runs basic blocks until no state changes.
    fn run_all(&mut self) -> Option<()> {
        let mut targets = BTreeSet::from([0]);
        for (at, instruction) in self.instructions.iter().enumerate() {
            if let Effect::Jump { .. } = instruction.effect() {
                targets.insert(self.target(at)?);
                targets.insert(at + 1);
            }
        }
        self.starts.insert(0, State::at_start());
        let mut pending = BTreeSet::from([0]);
        let mut visits = 0;
        while let Some(start) = pending.pop_first() {
            let state = self.starts.get(&start)?.clone();
            let (end, state) = self.run_to(start, state, &targets, &mut |_, _, _| {});
            visits += end - start;
            if visits > MAX_VISITS * self.instructions.len() {
                return None;
            }
            for next in self.successors(end)? {
                let changed = match self.starts.get_mut(&next) {
                    Some(known) => known.join(&state),
                    None => self.starts.insert(next, state.clone()).is_none(),
                };
                if changed {
                    pending.insert(next);
                }
            }
        }
        Some(())
    }

    /// The index of the instruction to which a jump goes.
    fn target(&self, at: usize) -> Option<usize> {
        let target = usize::try_from(at as i64 + 1 + self.instructions[at].distance()).ok()?;
        (target < self.instructions.len()).then_some(target)
    }

    /// The basic blocks that follow the one whose last instruction is `end`.
    fn successors(&self, end: usize) -> Option<Vec<usize>> {
        let next = match self.instructions.get(end).map(Instruction::effect) {
            None | Some(Effect::Exit) => Vec::new(),
            Some(Effect::Jump { always: true }) => vec![self.target(end)?],
            Some(Effect::Jump { always: false }) => vec![end + 1, self.target(end)?],
            Some(_) => vec![end + 1],
        };
        Some(next.into_iter().filter(|at| *at < self.instructions.len()).collect())
    }

    fn run(&self, start: usize, state: State, visit: &mut dyn FnMut(usize, Instruction, &State)) {
        // A block ends where the next one starts.
        let next = self.starts.range(start + 1..).next().map(|(at, _)| *at);
        self.run_to(start, state, &next.into_iter().collect(), visit);
    }

    /// Runs instructions up to a jump, an exit, or before one of `targets`. Returns the last one.
    fn run_to(
        &self,
        start: usize,
        mut state: State,
        targets: &BTreeSet<usize>,
        visit: &mut dyn FnMut(usize, Instruction, &State),
    ) -> (usize, State) {
        let mut at = start;
        loop {
            let Some(&instruction) = self.instructions.get(at) else { return (at, state) };
            let offset = self.function.start + at as u64 * 8;
            visit(offset as usize, instruction, &state);
            let effect = instruction.effect();
            state.apply(&instruction, effect, offset, self.wide(at, offset));
            let wide = usize::from(effect == Effect::Wide);
            let ends = matches!(effect, Effect::Jump { .. } | Effect::Exit);
            if ends || targets.contains(&(at + 1 + wide)) {
                return (at + wide, state);
            }
            at += 1 + wide;
        }
    }

    /// The value that a 16-byte instruction loads.
    fn wide(&self, at: usize, offset: u64) -> Option<Atom> {
        let low = self.instructions[at].imm;
        if self.instructions[at].effect() != Effect::Wide {
            return None;
        }
        if let Some(reference) = self.references.get(&offset) {
            let (name, offset) = reference.resolve(low.into());
            return Some(Atom::Address(Base::Symbol(name), Some(offset)));
        }
        let high = self.instructions.get(at + 1)?.imm;
        Some(Atom::Number(i64::from(high) << 32 | i64::from(low as u32)))
    }
}

impl State {
    /// The state at the entry of a function.
    fn at_start() -> State {
        let mut registers: [Value; 11] = Default::default();
        for argument in 1..=5 {
            registers[usize::from(argument)] = single(Atom::Address(Base::Argument(argument), Some(0)));
        }
        registers[usize::from(FRAME)] = single(Atom::Address(Base::Frame, Some(0)));
        State { registers, stack: BTreeMap::new() }
    }

    /// The value of a register.
    pub fn register(&self, number: u8) -> &Value {
        self.registers.get(usize::from(number)).unwrap_or(&None)
    }

    /// The value that was stored at an offset from the end of the frame.
    pub fn stack(&self, offset: i64) -> &Value {
        self.stack.get(&offset).unwrap_or(&None)
    }

    /// Adds the possible values of another path. Returns whether that changes anything.
    fn join(&mut self, other: &State) -> bool {
        let mut changed = false;
        for (mine, others) in self.registers.iter_mut().zip(&other.registers) {
            changed |= join(mine, others);
        }
        let before = self.stack.len();
        self.stack.retain(|offset, _| other.stack.contains_key(offset));
        changed |= before != self.stack.len();
        for (offset, mine) in &mut self.stack {
            changed |= join(mine, other.stack(*offset));
        }
        changed
    }

    fn apply(&mut self, instruction: &Instruction, effect: Effect, at: u64, wide: Option<Atom>) {
        let new_value = || single(Atom::Address(Base::Instruction(at as usize), Some(0)));
        let constant = i64::from(instruction.imm);
        let source = self.register(instruction.src).clone();
        let target = self.register(instruction.dst).clone();
        let operand = |register: bool| if register { source.clone() } else { single(Atom::Number(constant)) };
        let result = match effect {
            Effect::Wide => wide.and_then(single),
            Effect::Move { wide, register } => narrow(operand(register), wide),
            Effect::Add { wide, register } => narrow(add(&target, &operand(register), 1), wide),
            Effect::Subtract { wide, register } => narrow(add(&target, &operand(register), -1), wide),
            Effect::Compute => None,
            Effect::Load { bytes } => self.load(&source, instruction.offset, bytes),
            Effect::Store { bytes, register } => {
                self.store(&target, instruction.offset, bytes, operand(register));
                return;
            }
            Effect::Atomic => {
                self.store(&target, instruction.offset, 8, None);
                // An atomic operation may fetch into its source register, or into r0.
                self.set(instruction.src, new_value());
                self.set(0, new_value());
                return;
            }
            Effect::Helper(_) | Effect::Function | Effect::Kfunc | Effect::Packet => {
                self.apply_call();
                self.set(0, new_value());
                return;
            }
            Effect::Jump { .. } | Effect::Exit | Effect::Nothing => return,
        };
        self.set(instruction.dst, result.or_else(new_value));
    }

    fn set(&mut self, register: u8, value: Value) {
        if let Some(current) = self.registers.get_mut(usize::from(register)) {
            *current = value;
        }
    }

    fn load(&self, from: &Value, offset: i16, bytes: u8) -> Value {
        let [Atom::Address(Base::Frame, Some(base))] = &atoms(from)[..] else { return None };
        if bytes == 8 { self.stack(base + i64::from(offset)).clone() } else { None }
    }

    fn store(&mut self, to: &Value, offset: i16, bytes: u8, value: Value) {
        for atom in atoms(to) {
            let Atom::Address(Base::Frame, base) = atom else { continue };
            let Some(start) = base.map(|base| base + i64::from(offset)) else {
                self.stack.clear();
                continue;
            };
            self.stack.retain(|at, _| at + 8 <= start || *at >= start + i64::from(bytes));
            if bytes == 8 && value.is_some() && to.as_ref().is_some_and(|to| to.len() == 1) {
                self.stack.insert(start, value.clone());
            }
        }
        if to.is_none() {
            self.stack.clear();
        }
    }

    /// A call may write to memory whose address it receives, and clobbers its argument registers.
    fn apply_call(&mut self) {
        for argument in 1..=5 {
            for atom in atoms(&self.registers[argument]) {
                if let Atom::Address(Base::Frame, offset) = atom {
                    self.stack.retain(|at, _| offset.is_some_and(|offset| at + 8 <= offset));
                }
            }
            self.registers[argument] = None;
        }
    }
}

fn single(atom: Atom) -> Value {
    Some(BTreeSet::from([atom]))
}

fn atoms(value: &Value) -> Vec<Atom> {
    value.iter().flatten().cloned().collect()
}

/// Adds the possible values of another path. Returns whether that changes anything.
fn join(mine: &mut Value, others: &Value) -> bool {
    let Some(known) = mine else { return false };
    let before = known.len();
    match others {
        Some(others) => known.extend(others.iter().cloned()),
        None => {
            *mine = None;
            return true;
        }
    }
    let len = known.len();
    if len > MAX_ATOMS {
        *mine = None;
    }
    len != before
}

/// The sum, or the difference if `sign` is -1.
fn add(left: &Value, right: &Value, sign: i64) -> Value {
    let (left, right) = (left.as_ref()?, right.as_ref()?);
    let sum = |one: &Atom, other: &Atom| {
        Some(match (one, other) {
            (Atom::Number(one), Atom::Number(other)) => {
                Atom::Number(one.wrapping_add(other.wrapping_mul(sign)))
            }
            (Atom::Address(base, offset), Atom::Number(number)) => {
                let moved = offset.and_then(|offset| offset.checked_add(number.checked_mul(sign)?));
                Atom::Address(base.clone(), moved)
            }
            (Atom::Number(number), Atom::Address(base, offset)) if sign > 0 => {
                Atom::Address(base.clone(), offset.and_then(|offset| offset.checked_add(*number)))
            }
            // The index into an array on the stack is unknown.
            (Atom::Address(Base::Frame, _), _) | (_, Atom::Address(Base::Frame, _)) => {
                Atom::Address(Base::Frame, None)
            }
            _ => return None,
        })
    };
    let sums = left.iter().flat_map(|one| right.iter().map(move |other| sum(one, other)));
    let sums = sums.collect::<Option<BTreeSet<Atom>>>()?;
    (sums.len() <= MAX_ATOMS).then_some(sums)
}

/// 32-bit operations preserve numbers, but not addresses.
fn narrow(value: Value, wide: bool) -> Value {
    if wide {
        return value;
    }
    let number = |atom: Atom| match atom {
        Atom::Number(number) => Some(Atom::Number(i64::from(number as u32))),
        Atom::Address(..) => None,
    };
    value?.into_iter().map(number).collect()
}
