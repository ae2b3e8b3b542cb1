//! What a program can return and what it writes to, found by following its registers along all ways through it.
//!
//! Pointers are followed through registers, the slots of a function's own stack, arguments and results. The kernel refuses
//! programs that use a number as a pointer, or a pointer to one thing as one to another; that is all that is relied on.

use std::collections::{BTreeMap, BTreeSet};

use crate::code::{Code, Reference};
use crate::instruction::{
    BTF_ID, CALL, CALL_REGISTER, EXIT, FUNCTION, HELPER, Instruction, JUMP_REGISTER, LOAD_64, MAP_VALUE,
    MAP_VALUE_BY_INDEX, PSEUDO_CALL,
};
use crate::value::Value;
use crate::{helpers, kfuncs};

/// Looks at an instruction, on average, before anything is taken to be possible.
const MAX_LOOKS: usize = 32;
const LEAST_LOOKS: usize = 1 << 12;
/// Slots of 8 bytes on the stack of a function.
const SLOTS: usize = 64;

/// Whether something happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Chance {
    /// It does not.
    #[default]
    No,
    /// It can, for something could not be followed.
    Perhaps,
    /// It does.
    Yes,
}

impl Chance {
    fn from_doubt(is_possible: bool) -> Chance {
        if is_possible { Chance::Perhaps } else { Chance::No }
    }
}

/// What has been found.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// What it can return; `None`: anything.
    pub results: Option<BTreeSet<i32>>,
    /// Whether it writes to its context.
    pub context: Chance,
    /// Whether it writes through pointers to what is not its own.
    pub foreign: Chance,
    /// Instructions that were looked at.
    pub looks: usize,
}

/// Registers and stack before an instruction.
#[derive(Clone, PartialEq, Eq)]
struct State {
    registers: [Value; 11],
    slots: [Slot; SLOTS],
}

/// What a slot of the stack holds. Constants are not followed there: a helper could have written over them.
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
    /// At the beginning of a function.
    fn new(arguments: [Value; 5]) -> State {
        let mut registers = [Value::None; 11];
        registers[1..6].copy_from_slice(&arguments);
        registers[10] = Value::Stack(Some(0));
        State { registers, slots: [Slot::Foreign; SLOTS] }
    }

    /// Takes in what can be on another way; whether that is more.
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

/// What is taken for granted at first, and given up where the program is seen to break it.
#[derive(Clone, Copy)]
struct Trust {
    /// Slots of the stack are written by their own function only.
    slots: bool,
    /// No pointer that matters lies in memory that is reached through pointers.
    memory: bool,
}

/// Follows a program; whether it matters if it writes to what is not its own.
pub fn follow(code: &Code, foreign_matters: bool) -> Outcome {
    let (mut trust, mut looks) = (Trust { slots: true, memory: !foreign_matters }, 0);
    loop {
        let mut flow = Flow::new(code, trust, foreign_matters);
        let outcome = flow.run();
        looks += outcome.looks;
        // What a function stores through a pointer that it was given may be on the stack of its caller.
        let slots = trust.slots && !(flow.stack_escapes && flow.stores_through_pointers);
        let memory =
            trust.memory && !flow.stores_through_pointers && !(flow.stack_escapes && flow.keeps_context);
        if (slots, memory) == (trust.slots, trust.memory) {
            return Outcome { looks, ..outcome };
        }
        trust = Trust { slots, memory };
    }
}

struct Flow<'a> {
    code: &'a Code,
    /// By place: where ways meet or calls lead to.
    before: BTreeMap<usize, State>,
    meets: BTreeSet<usize>,
    waiting: BTreeSet<usize>,
    /// By the place of the function.
    returned: BTreeMap<usize, Value>,
    callers: BTreeMap<usize, BTreeSet<usize>>,
    result: Value,
    outcome: Outcome,
    trust: Trust,
    foreign_matters: bool,
    /// Another function gets a pointer to a stack.
    stack_escapes: bool,
    /// What matters is stored through a pointer to more than the function's own stack.
    stores_through_pointers: bool,
    /// The context, or what may be it, is on a stack.
    keeps_context: bool,
    is_lost: bool,
}

impl<'a> Flow<'a> {
    fn new(code: &'a Code, trust: Trust, foreign_matters: bool) -> Flow<'a> {
        let mut meets = code.starts.clone();
        let (mut before, mut has_callbacks) = (BTreeMap::new(), false);
        for (place, instruction) in code.places() {
            if let Some(target) = ahead(place, instruction.jump()) {
                meets.insert(target);
            }
            match (instruction.code, instruction.src) {
                (CALL, PSEUDO_CALL) => meets.extend([place, place + 1]),
                (LOAD_64, FUNCTION) => {
                    // Helpers call it with what the program gave them, and with values of maps.
                    has_callbacks = true;
                    before.extend(code.target(place).map(|target| (target, State::new([Value::Own; 5]))));
                }
                _ => {}
            }
        }
        // Functions that no instruction names are called by the kernel, with numbers.
        let called: BTreeSet<usize> = code.calls().filter_map(|(place, _)| code.target(place)).collect();
        for start in code.starts.iter().filter(|start| **start != 0 && !called.contains(start)) {
            before.entry(*start).or_insert_with(|| State::new([Value::Foreign; 5]));
        }
        before.insert(0, State::new([Value::Context, Value::None, Value::None, Value::None, Value::None]));
        let waiting = before.keys().copied().collect();
        Flow {
            code,
            before,
            meets,
            waiting,
            returned: BTreeMap::new(),
            callers: BTreeMap::new(),
            result: Value::None,
            outcome: Outcome::default(),
            trust,
            foreign_matters,
            stack_escapes: has_callbacks,
            stores_through_pointers: false,
            keeps_context: false,
            is_lost: code.unknown.is_some(),
        }
    }

    fn run(&mut self) -> Outcome {
        let most = (MAX_LOOKS * self.code.instructions.len()).max(LEAST_LOOKS);
        while !self.is_lost
            && let Some(place) = self.waiting.pop_first()
        {
            self.run_from(place);
            self.is_lost |= self.outcome.looks > most;
        }
        let mut outcome = self.outcome.clone();
        if self.is_lost {
            (outcome.context, outcome.foreign) =
                (outcome.context.max(Chance::Perhaps), outcome.foreign.max(Chance::Perhaps));
        }
        outcome.results = match self.result {
            _ if self.is_lost => None,
            Value::None => Some(BTreeSet::new()),
            Value::Constants(constants) => Some(constants.items().iter().copied().collect()),
            _ => None,
        };
        outcome
    }

    /// Follows the instructions from a place to where they meet others.
    fn run_from(&mut self, start: usize) {
        let Some(mut state) = self.before.get(&start).cloned() else { return };
        let mut place = start;
        loop {
            let Some(&instruction) = self.code.instructions.get(place) else { return };
            self.outcome.looks += 1;
            match instruction.code {
                EXIT => return self.exit(place, state.registers[0]),
                CALL if instruction.src == PSEUDO_CALL => {
                    let Some(result) = self.call(place, &state) else { return };
                    state.clobber(result);
                }
                CALL => {
                    let Some(result) = self.call_kernel(place, instruction, &state) else { return };
                    state.clobber(result);
                }
                CALL_REGISTER | JUMP_REGISTER => {
                    self.is_lost = true;
                    return;
                }
                _ => self.step(place, instruction, &mut state),
            }
            if let Some(target) = ahead(place, instruction.jump()) {
                let mut other = state.clone();
                self.learn(place, instruction, &mut other, true);
                self.meet(target, &other);
            }
            if !instruction.goes_on() {
                return;
            }
            self.learn(place, instruction, &mut state, false);
            place += instruction.width();
            if self.meets.contains(&place) {
                return self.meet(place, &state);
            }
        }
    }

    fn meet(&mut self, place: usize, state: &State) {
        let is_new = match self.before.get_mut(&place) {
            Some(known) => known.join(state),
            None => {
                self.before.insert(place, state.clone());
                true
            }
        };
        if is_new {
            self.waiting.insert(place);
        }
    }

    /// What a comparison with a constant says of the register where it holds.
    fn learn(&self, place: usize, instruction: Instruction, state: &mut State, jumped: bool) {
        const EQUAL: u8 = 0x15;
        const NOT_EQUAL: u8 = 0x55;
        let holds = (instruction.code == EQUAL && jumped) || (instruction.code == NOT_EQUAL && !jumped);
        if holds && instruction.off != 0 && !self.code.relocated.contains(&place) {
            state.registers[usize::from(instruction.dst.min(10))] = Value::constant(instruction.imm);
        }
    }

    fn exit(&mut self, place: usize, value: Value) {
        let value = if value == Value::None { Value::Foreign } else { value };
        let function = self.code.starts.range(..=place).next_back().copied().unwrap_or(0);
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

    /// A call of another function of the program: its result, once there is one.
    fn call(&mut self, place: usize, state: &State) -> Option<Value> {
        let Some(target) = self.code.target(place) else {
            self.is_lost = true;
            return None;
        };
        let arguments: [Value; 5] = std::array::from_fn(|index| state.registers[index + 1]);
        self.stack_escapes |= arguments.iter().any(|it| matches!(it, Value::Stack(_) | Value::Any));
        self.callers.entry(target).or_default().insert(place);
        self.meet(target, &State::new(arguments.map(Value::as_argument)));
        self.returned.get(&target).copied()
    }

    /// A call of a helper or a function of the kernel.
    fn call_kernel(&mut self, place: usize, instruction: Instruction, state: &State) -> Option<Value> {
        if let Some(Reference::Kernel(name)) = self.code.references.get(&place) {
            if name == "bpf_throw" {
                self.result = Value::Any;
                return None;
            }
            // It may be that one, by its number.
            if name.starts_with('#') {
                self.result = Value::Any;
            }
            if kfuncs::writes_to_arguments(name) {
                // A number is no pointer, but which it is is not known.
                let arguments = state.registers[1..6].iter();
                let is_foreign = arguments.into_iter().any(|it| matches!(it, Value::Foreign | Value::Any));
                self.outcome.foreign = self.outcome.foreign.max(Chance::from_doubt(is_foreign));
            }
            let is_own = kfuncs::gives_own_memory(name);
            return Some(if is_own { Value::Own } else { Value::Foreign });
        }
        if let Some(register) = helpers::written_argument(instruction.imm as u32) {
            let chance = match state.registers[register] {
                Value::Foreign => Chance::Yes,
                it => Chance::from_doubt(it == Value::Any),
            };
            self.outcome.foreign = self.outcome.foreign.max(chance);
        }
        let is_own = instruction.src == HELPER && helpers::gives_own_memory(instruction.imm as u32);
        Some(if is_own { Value::Own } else { Value::Foreign })
    }

    fn step(&mut self, place: usize, instruction: Instruction, state: &mut State) {
        let Instruction { code, dst, src, off, .. } = instruction;
        let (dst, src) = (usize::from(dst.min(10)), usize::from(src.min(10)));
        match instruction.class() {
            0 if code == LOAD_64 => {
                let is_own = matches!(instruction.src, MAP_VALUE | MAP_VALUE_BY_INDEX);
                let is_kernels = instruction.src == BTF_ID;
                state.registers[dst] = if is_own && !is_kernels { Value::Own } else { Value::Foreign };
            }
            0 => self.load_packet(place, state),
            1 => state.registers[dst] = self.loaded(code, state.registers[src], off, state),
            2 => self.store(instruction, state.registers[dst], Value::Foreign, state),
            3 => self.store(instruction, state.registers[dst], state.registers[src], state),
            4 | 7 => state.registers[dst] = self.computed(place, instruction, state),
            _ => {}
        }
    }

    /// The old way to read a packet: behind its end, the function returns 0.
    fn load_packet(&mut self, place: usize, state: &mut State) {
        self.exit(place, Value::constant(0));
        self.result = self.result.joined(Value::constant(0));
        state.clobber(Value::Foreign);
    }

    fn loaded(&self, code: u8, from: Value, off: i16, state: &State) -> Value {
        const DOUBLE_WORD: u8 = 0x79;
        match from {
            Value::Stack(at) if self.trust.slots => match at.and_then(|at| slot(at, off)) {
                Some(slot) if code == DOUBLE_WORD => state.slots[slot].value(),
                // Less than a slot is no pointer.
                _ if code != DOUBLE_WORD && code & 0xe0 == 0x60 => Value::Foreign,
                _ => Value::Any,
            },
            // A number, or a pointer to what the program may write to.
            Value::Own if self.trust.memory => Value::Own,
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
            // It computes with numbers.
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
            Value::Context => self.outcome.context = Chance::Yes,
            Value::Foreign => self.outcome.foreign = Chance::Yes,
            Value::Own => self.stores_through_pointers |= is_whole && matters,
            Value::Stack(at) => {
                self.keeps_context |= is_whole && matches!(kind, Slot::Context | Slot::Any);
                match at.and_then(|at| slot(at, instruction.off)) {
                    Some(slot) if is_whole => state.slots[slot] = kind,
                    _ if is_whole => state.slots.iter_mut().for_each(|slot| *slot = slot.joined(kind)),
                    // The kernel takes no pointer from a slot that has been written in part.
                    _ => {}
                }
            }
            Value::Any => {
                self.outcome.context = self.outcome.context.max(Chance::Perhaps);
                self.outcome.foreign = self.outcome.foreign.max(Chance::Perhaps);
                self.stores_through_pointers |= is_whole && matters;
                state.slots.iter_mut().for_each(|slot| *slot = slot.joined(kind));
            }
            // Nothing is written through a number.
            Value::None | Value::Constants(_) => {}
        }
    }

    /// The result of arithmetic.
    fn computed(&self, place: usize, instruction: Instruction, state: &State) -> Value {
        const ADD: u8 = 0x00;
        const SUBTRACT: u8 = 0x10;
        const MOVE: u8 = 0xb0;
        const BY_REGISTER: u8 = 0x08;
        const CAST_OF_ARENA: i16 = 1;
        let Instruction { code, dst, src, off, imm } = instruction;
        let [old, other] = [dst, src].map(|it| state.registers[usize::from(it.min(10))]);
        let is_wide = instruction.class() == 7;
        let is_fixed = !self.code.relocated.contains(&place);
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

/// A pointer and a number: the kernel refuses sums of two pointers.
fn sum(one: Value, other: Value) -> Value {
    let pointer = match (one.is_pointer(), other.is_pointer()) {
        (true, false) => one,
        (false, true) => other,
        (false, false) if one == Value::Any || other == Value::Any => return Value::Any,
        _ => return Value::Foreign,
    };
    if let Value::Stack(_) = pointer { Value::Stack(None) } else { pointer }
}

/// The slot that is `off` bytes from `at`, if it is one as a whole.
fn slot(at: i16, off: i16) -> Option<usize> {
    let below = -(i32::from(at) + i32::from(off));
    let slot = usize::try_from(below).ok().filter(|below| *below > 0 && below % 8 == 0)? / 8 - 1;
    (slot < SLOTS).then_some(slot)
}

fn ahead(place: usize, by: Option<i64>) -> Option<usize> {
    place.checked_add_signed(isize::try_from(by?).ok()?)
}
