//! Data flow analysis: what a program can return and what it writes to, along all its paths.
//!
//! Pointers are followed through registers, the stack slots of a function, arguments and results. The analysis relies only on
//! the kernel refusing programs that use a number as a pointer, or a pointer of one type as another.

use std::collections::{BTreeMap, BTreeSet};

use crate::code::{Code, Reference};
use crate::instruction::{
    BTF_ID, CALL, CALL_REGISTER, EXIT, FUNCTION, HELPER, Instruction, JUMP_REGISTER, LOAD_64, MAP_VALUE,
    MAP_VALUE_BY_INDEX, PSEUDO_CALL,
};
use crate::value::Value;
use crate::{helpers, kfuncs};

/// Limit on the visits of instructions: this many times their number, but at least `MIN_STEPS`.
const MAX_STEPS: usize = 32;
const MIN_STEPS: usize = 1 << 12;
/// Slots of 8 bytes on the stack of a function.
const SLOTS: usize = 64;

/// The certainty of an effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Certainty {
    /// It does not occur.
    #[default]
    No,
    /// It may occur, because something could not be followed.
    Possible,
    /// It occurs.
    Yes,
}

impl Certainty {
    fn from_doubt(is_possible: bool) -> Certainty {
        if is_possible { Certainty::Possible } else { Certainty::No }
    }
}

/// The result of the analysis.
#[derive(Clone, Debug, Default)]
pub struct Analysis {
    /// The values that it can return; `None` means any value.
    pub results: Option<BTreeSet<i32>>,
    /// Whether it writes to its context.
    pub context: Certainty,
    /// Whether it writes through pointers to memory outside of the program.
    pub foreign: Certainty,
    /// The number of instructions visited.
    pub steps: usize,
}

/// Registers and stack before an instruction.
#[derive(Clone, PartialEq, Eq)]
struct State {
    registers: [Value; 11],
    slots: [Slot; SLOTS],
}

/// The value in a stack slot. Constants are not tracked there, because a helper could overwrite them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Slot {
    Own,
    Stack,
    Context,
    Foreign,
    Any,
}

impl Slot {
    fn of(value: Value) -> Slot {
        match value {
            Value::Own => Slot::Own,
            Value::Stack(_) => Slot::Stack,
            Value::Context => Slot::Context,
            Value::None | Value::Constants(_) | Value::Foreign => Slot::Foreign,
            Value::Any => Slot::Any,
        }
    }

    fn value(self) -> Value {
        match self {
            Slot::Own => Value::Own,
            Slot::Stack => Value::Stack(None),
            Slot::Context => Value::Context,
            Slot::Foreign => Value::Foreign,
            Slot::Any => Value::Any,
        }
    }

    fn joined(self, other: Slot) -> Slot {
        if self == other { self } else { Slot::Any }
    }
}

impl State {
    /// The state at the beginning of a function.
    fn new(arguments: [Value; 5]) -> State {
        let mut registers = [Value::None; 11];
        registers[1..6].copy_from_slice(&arguments);
        registers[10] = Value::Stack(Some(0));
        State { registers, slots: [Slot::Foreign; SLOTS] }
    }

    /// Merges the state of another path. Returns whether this state has changed.
    fn join(&mut self, other: &State) -> bool {
        let before = self.clone();
        for (mine, others) in self.registers.iter_mut().zip(&other.registers) {
            *mine = mine.joined(*others);
        }
        for (mine, others) in self.slots.iter_mut().zip(&other.slots) {
            *mine = mine.joined(*others);
        }
        *self != before
    }

    fn clobber(&mut self, result: Value) {
        self.registers[..6].fill(Value::Foreign);
        self.registers[0] = result;
    }
}

/// Assumptions, dropped when the program is found to violate them.
#[derive(Clone, Copy)]
struct Assumptions {
    /// Only the function itself writes to its stack slots.
    slots: bool,
    /// Memory reached through pointers contains no relevant pointer.
    memory: bool,
}

/// Analyses a program. `foreign_matters`: whether writes outside of the program are an effect.
pub fn analyse(code: &Code, foreign_matters: bool) -> Analysis {
    let (mut assumed, mut steps) = (Assumptions { slots: true, memory: !foreign_matters }, 0);
    loop {
        let mut flow = Flow::new(code, assumed, foreign_matters);
        let analysis = flow.run();
        steps += analysis.steps;
        // A store through a pointer argument may write to the stack of the caller.
        let slots = assumed.slots && !(flow.stack_escapes && flow.stores_through_pointers);
        let memory =
            assumed.memory && !flow.stores_through_pointers && !(flow.stack_escapes && flow.keeps_context);
        if (slots, memory) == (assumed.slots, assumed.memory) {
            return Analysis { steps, ..analysis };
        }
        assumed = Assumptions { slots, memory };
    }
}

struct Flow<'a> {
    code: &'a Code,
    /// The state before an instruction, by index: where paths merge or functions begin.
    before: BTreeMap<usize, State>,
    merge_points: BTreeSet<usize>,
    waiting: BTreeSet<usize>,
    /// The results of functions, by their index.
    returned: BTreeMap<usize, Value>,
    callers: BTreeMap<usize, BTreeSet<usize>>,
    result: Value,
    analysis: Analysis,
    assumed: Assumptions,
    foreign_matters: bool,
    /// Another function gets a pointer to a stack.
    stack_escapes: bool,
    /// A relevant value is stored through a pointer to other memory than the stack of the function.
    stores_through_pointers: bool,
    /// The context, or a value that may be the context, is on a stack.
    keeps_context: bool,
    is_unknown: bool,
}

impl<'a> Flow<'a> {
    fn new(code: &'a Code, assumed: Assumptions, foreign_matters: bool) -> Flow<'a> {
        let mut merge_points = code.starts.clone();
        let (mut before, mut has_callbacks) = (BTreeMap::new(), false);
        for (index, instruction) in code.indexed() {
            if let Some(target) = offset_by(index, instruction.jump()) {
                merge_points.insert(target);
            }
            match (instruction.code, instruction.src) {
                (CALL, PSEUDO_CALL) => merge_points.extend([index, index + 1]),
                (LOAD_64, FUNCTION) => {
                    // Helpers call the function with values from the program and from maps.
                    has_callbacks = true;
                    before.extend(code.target(index).map(|target| (target, State::new([Value::Own; 5]))));
                }
                _ => {}
            }
        }
        // The kernel calls the functions that no instruction refers to, with numbers as arguments.
        let called: BTreeSet<usize> = code.calls().filter_map(|(index, _)| code.target(index)).collect();
        for start in code.starts.iter().filter(|start| **start != 0 && !called.contains(start)) {
            before.entry(*start).or_insert_with(|| State::new([Value::Foreign; 5]));
        }
        before.insert(0, State::new([Value::Context, Value::None, Value::None, Value::None, Value::None]));
        let waiting = before.keys().copied().collect();
        Flow {
            code,
            before,
            merge_points,
            waiting,
            returned: BTreeMap::new(),
            callers: BTreeMap::new(),
            result: Value::None,
            analysis: Analysis::default(),
            assumed,
            foreign_matters,
            stack_escapes: has_callbacks,
            stores_through_pointers: false,
            keeps_context: false,
            is_unknown: code.unknown.is_some(),
        }
    }

    fn run(&mut self) -> Analysis {
        let most = (MAX_STEPS * self.code.instructions.len()).max(MIN_STEPS);
        while !self.is_unknown
            && let Some(index) = self.waiting.pop_first()
        {
            self.run_from(index);
            self.is_unknown |= self.analysis.steps > most;
        }
        let mut analysis = self.analysis.clone();
        if self.is_unknown {
            (analysis.context, analysis.foreign) =
                (analysis.context.max(Certainty::Possible), analysis.foreign.max(Certainty::Possible));
        }
        analysis.results = match self.result {
            _ if self.is_unknown => None,
            Value::None => Some(BTreeSet::new()),
            Value::Constants(constants) => Some(constants.items().iter().copied().collect()),
            _ => None,
        };
        analysis
    }

    /// Follows instructions from an index to the next merge point.
    fn run_from(&mut self, start: usize) {
        let Some(mut state) = self.before.get(&start).cloned() else { return };
        let mut index = start;
        loop {
            let Some(&instruction) = self.code.instructions.get(index) else { return };
            self.analysis.steps += 1;
            match instruction.code {
                EXIT => return self.exit(index, state.registers[0]),
                CALL if instruction.src == PSEUDO_CALL => {
                    let Some(result) = self.call(index, &state) else { return };
                    state.clobber(result);
                }
                CALL => {
                    let Some(result) = self.call_kernel(index, instruction, &state) else { return };
                    state.clobber(result);
                }
                CALL_REGISTER | JUMP_REGISTER => {
                    self.is_unknown = true;
                    return;
                }
                _ => self.step(index, instruction, &mut state),
            }
            if let Some(target) = offset_by(index, instruction.jump()) {
                let mut other = state.clone();
                self.refine(index, instruction, &mut other, true);
                self.merge_at(target, &other);
            }
            if !instruction.falls_through() {
                return;
            }
            self.refine(index, instruction, &mut state, false);
            index += instruction.width();
            if self.merge_points.contains(&index) {
                return self.merge_at(index, &state);
            }
        }
    }

    fn merge_at(&mut self, index: usize, state: &State) {
        let is_new = match self.before.get_mut(&index) {
            Some(known) => known.join(state),
            None => {
                self.before.insert(index, state.clone());
                true
            }
        };
        if is_new {
            self.waiting.insert(index);
        }
    }

    /// Sets a register to a constant after it was compared with it.
    fn refine(&self, index: usize, instruction: Instruction, state: &mut State, jumped: bool) {
        const EQUAL: u8 = 0x15;
        const NOT_EQUAL: u8 = 0x55;
        let holds = (instruction.code == EQUAL && jumped) || (instruction.code == NOT_EQUAL && !jumped);
        if holds && instruction.off != 0 && !self.code.relocated.contains(&index) {
            state.registers[usize::from(instruction.dst.min(10))] = Value::constant(instruction.imm);
        }
    }

    fn exit(&mut self, index: usize, value: Value) {
        let value = if value == Value::None { Value::Foreign } else { value };
        let function = self.code.starts.range(..=index).next_back().copied().unwrap_or(0);
        if function == 0 {
            self.result = self.result.joined(value.as_result());
        }
        let known = self.returned.entry(function).or_default();
        let joined = known.joined(value);
        if *known != joined {
            *known = joined;
            self.waiting.extend(self.callers.get(&function).into_iter().flatten());
        }
    }

    /// A call of another function of the program. Returns its result if one is known.
    fn call(&mut self, index: usize, state: &State) -> Option<Value> {
        let Some(target) = self.code.target(index) else {
            self.is_unknown = true;
            return None;
        };
        let arguments: [Value; 5] = std::array::from_fn(|index| state.registers[index + 1]);
        self.stack_escapes |= arguments.iter().any(|it| matches!(it, Value::Stack(_) | Value::Any));
        self.callers.entry(target).or_default().insert(index);
        self.merge_at(target, &State::new(arguments.map(Value::as_argument)));
        self.returned.get(&target).copied()
    }

    /// A call of a helper or a kernel function.
    fn call_kernel(&mut self, index: usize, instruction: Instruction, state: &State) -> Option<Value> {
        if let Some(Reference::Kernel(name)) = self.code.references.get(&index) {
            if name == "bpf_throw" {
                self.result = Value::Any;
                return None;
            }
            // An unnamed function may be bpf_throw.
            if name.starts_with('#') {
                self.result = Value::Any;
            }
            if kfuncs::writes_to_arguments(name) {
                // A foreign value may be a number or a pointer.
                let arguments = state.registers[1..6].iter();
                let is_foreign = arguments.into_iter().any(|it| matches!(it, Value::Foreign | Value::Any));
                self.analysis.foreign = self.analysis.foreign.max(Certainty::from_doubt(is_foreign));
            }
            let is_own = kfuncs::gives_own_memory(name);
            return Some(if is_own { Value::Own } else { Value::Foreign });
        }
        if let Some(register) = helpers::written_argument(instruction.imm as u32) {
            let certainty = match state.registers[register] {
                Value::Foreign => Certainty::Yes,
                it => Certainty::from_doubt(it == Value::Any),
            };
            self.analysis.foreign = self.analysis.foreign.max(certainty);
        }
        let is_own = instruction.src == HELPER && helpers::gives_own_memory(instruction.imm as u32);
        Some(if is_own { Value::Own } else { Value::Foreign })
    }

    fn step(&mut self, index: usize, instruction: Instruction, state: &mut State) {
        let Instruction { code, dst, src, off, .. } = instruction;
        let (dst, src) = (usize::from(dst.min(10)), usize::from(src.min(10)));
        match instruction.class() {
            0 if code == LOAD_64 => {
                let is_own = matches!(instruction.src, MAP_VALUE | MAP_VALUE_BY_INDEX);
                let is_kernels = instruction.src == BTF_ID;
                state.registers[dst] = if is_own && !is_kernels { Value::Own } else { Value::Foreign };
            }
            0 => self.load_packet(index, state),
            1 => state.registers[dst] = self.loaded(code, state.registers[src], off, state),
            2 => self.store(instruction, state.registers[dst], Value::Foreign, state),
            3 => self.store(instruction, state.registers[dst], state.registers[src], state),
            4 | 7 => state.registers[dst] = self.computed(index, instruction, state),
            _ => {}
        }
    }

    /// A legacy packet load. After the end of the packet, the function returns 0.
    fn load_packet(&mut self, index: usize, state: &mut State) {
        self.exit(index, Value::constant(0));
        self.result = self.result.joined(Value::constant(0));
        state.clobber(Value::Foreign);
    }

    fn loaded(&self, code: u8, from: Value, off: i16, state: &State) -> Value {
        const DOUBLE_WORD: u8 = 0x79;
        match from {
            Value::Stack(at) if self.assumed.slots => match at.and_then(|at| slot(at, off)) {
                Some(slot) if code == DOUBLE_WORD => state.slots[slot].value(),
                // A part of a slot is not a pointer.
                _ if code != DOUBLE_WORD && code & 0xe0 == 0x60 => Value::Foreign,
                _ => Value::Any,
            },
            // A number, or a pointer to memory of the program.
            Value::Own if self.assumed.memory => Value::Own,
            Value::Stack(_) | Value::Own | Value::Any => Value::Any,
            _ => Value::Foreign,
        }
    }

    fn store(&mut self, instruction: Instruction, to: Value, value: Value, state: &mut State) {
        const ATOMIC: u8 = 0xc0;
        const LOAD_ACQUIRE: i32 = 0x100;
        const STORE_RELEASE: i32 = 0x110;
        const FETCH: i32 = 1;
        if instruction.class() == 3 && instruction.code & 0xe0 == ATOMIC && instruction.imm != STORE_RELEASE {
            let [dst, src] = [instruction.dst, instruction.src].map(|it| usize::from(it.min(10)));
            if instruction.imm == LOAD_ACQUIRE {
                state.registers[dst] = Value::Any;
                return;
            }
            if instruction.imm & FETCH != 0 {
                (state.registers[src], state.registers[0]) = (Value::Any, Value::Any);
            }
            // Atomic operations compute with numbers.
            if let Value::Stack(_) = to {
                return;
            }
        }
        self.write(instruction, to, value, state);
    }

    fn write(&mut self, instruction: Instruction, to: Value, value: Value, state: &mut State) {
        let kind = Slot::of(value);
        let matters = match kind {
            Slot::Context | Slot::Any => true,
            Slot::Foreign => self.foreign_matters,
            Slot::Own | Slot::Stack => false,
        };
        let is_whole = instruction.code & 0x18 == 0x18;
        match to {
            Value::Context => self.analysis.context = Certainty::Yes,
            Value::Foreign => self.analysis.foreign = Certainty::Yes,
            Value::Own => self.stores_through_pointers |= is_whole && matters,
            Value::Stack(at) => {
                self.keeps_context |= is_whole && matches!(kind, Slot::Context | Slot::Any);
                match at.and_then(|at| slot(at, instruction.off)) {
                    Some(slot) if is_whole => state.slots[slot] = kind,
                    _ if is_whole => state.slots.iter_mut().for_each(|slot| *slot = slot.joined(kind)),
                    // The kernel does not load a pointer from a partially written slot.
                    _ => {}
                }
            }
            Value::Any => {
                self.analysis.context = self.analysis.context.max(Certainty::Possible);
                self.analysis.foreign = self.analysis.foreign.max(Certainty::Possible);
                self.stores_through_pointers |= is_whole && matters;
                state.slots.iter_mut().for_each(|slot| *slot = slot.joined(kind));
            }
            // The kernel refuses writes through a number.
            Value::None | Value::Constants(_) => {}
        }
    }

    /// The result of arithmetic.
    fn computed(&self, index: usize, instruction: Instruction, state: &State) -> Value {
        const ADD: u8 = 0x00;
        const SUBTRACT: u8 = 0x10;
        const MOVE: u8 = 0xb0;
        const BY_REGISTER: u8 = 0x08;
        const CAST_OF_ARENA: i16 = 1;
        let Instruction { code, dst, src, off, imm } = instruction;
        let [old, other] = [dst, src].map(|it| state.registers[usize::from(it.min(10))]);
        let is_wide = instruction.class() == 7;
        let is_fixed = !self.code.relocated.contains(&index);
        match (code & 0xf0, code & BY_REGISTER != 0) {
            (MOVE, false) if is_fixed => Value::constant(imm),
            (MOVE, true) if off == 0 && (is_wide || matches!(other, Value::Constants(_))) => other,
            (MOVE, true) if off == CAST_OF_ARENA && is_wide => Value::Own,
            (ADD | SUBTRACT, false) if is_wide => match old {
                Value::Stack(Some(at)) if is_fixed => {
                    let change = if code & 0xf0 == ADD { Some(imm) } else { imm.checked_neg() };
                    let moved = change.and_then(|change| i32::from(at).checked_add(change));
                    Value::Stack(moved.and_then(|at| at.try_into().ok()))
                }
                Value::Stack(_) => Value::Stack(None),
                Value::Constants(_) | Value::None => Value::Foreign,
                it => it,
            },
            (ADD, true) if is_wide => sum(old, other),
            (SUBTRACT, true) if is_wide && !other.is_pointer() => sum(old, other),
            _ => Value::Foreign,
        }
    }
}

/// The sum of a pointer and a number. The kernel refuses sums of two pointers.
fn sum(one: Value, other: Value) -> Value {
    let pointer = match (one.is_pointer(), other.is_pointer()) {
        (true, false) => one,
        (false, true) => other,
        (false, false) if one == Value::Any || other == Value::Any => return Value::Any,
        _ => return Value::Foreign,
    };
    if let Value::Stack(_) = pointer { Value::Stack(None) } else { pointer }
}

/// The slot at `at + off`, if the offset is aligned.
fn slot(at: i16, off: i16) -> Option<usize> {
    let below = -(i32::from(at) + i32::from(off));
    let slot = usize::try_from(below).ok().filter(|below| *below > 0 && below % 8 == 0)? / 8 - 1;
    (slot < SLOTS).then_some(slot)
}

fn offset_by(index: usize, by: Option<i64>) -> Option<usize> {
    index.checked_add_signed(isize::try_from(by?).ok()?)
}
