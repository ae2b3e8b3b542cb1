//! The facts about one function that the analysis needs: its calls, its results, and the types of its pointers.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use crate::analysis::evidence::{Evidence, Source};
use crate::analysis::helper_numbers;
use crate::analysis::origin::{Origin, origins, shifted};
use crate::analysis::record_type::is_bytes;
use crate::analysis::register_values::{Atom, Base, RegisterValues, State, Value};
use crate::object::dwarf::{Dwarf, TypeId};
use crate::object::elf::{Code, Function as Symbol};
use crate::object::instruction::{Effect, Instruction};
use crate::object::local_variables::{Function as Locals, Local, Location};

/// The functions of a program by their position: section and offset.
pub type Positions = HashMap<(usize, u64), usize>;

pub struct Function<'a> {
    /// Whether the kernel or another source calls it.
    pub is_called_elsewhere: bool,
    pub locals: Option<&'a Locals>,
    frame: Option<u64>,
    pub calls: Vec<Call>,
    /// The results, each with the offset of the instruction that returns it.
    pub results: Vec<(usize, Value)>,
    /// The types that pointers to an address have, by base and offset.
    pub pointers: HashMap<Base, Vec<(i64, Evidence)>>,
}

pub struct Call {
    pub at: usize,
    /// The number of the helper; 0 for a function of the program or of the kernel.
    pub helper: i32,
    /// The function of the program that it calls.
    pub callee: Option<usize>,
    pub arguments: [Value; 5],
    /// The type of the argument that is sent, if a macro of `include/bpf_helpers.h` recorded it.
    pub sent_type: Option<TypeId>,
    /// The pointers that are live at the call: the address, and the type that it points to.
    pub live_pointers: Vec<(Atom, TypeId)>,
}

/// A variable that is a pointer: the code in which it has a location, that location, and the type that it points to.
type PointerVariable = (Range<u64>, Location, TypeId);

impl Call {
    /// The origins of the argument in a register.
    pub fn argument(&self, register: u8, function: usize) -> Option<Vec<Origin>> {
        origins(&self.arguments[usize::from(register) - 1], function, self.at)
    }
}

impl<'a> Function<'a> {
    /// Follows the values through the code of a function.
    pub fn read(
        dwarf: &Dwarf,
        code: &Code,
        symbol: &Symbol,
        locals: Option<&'a Locals>,
        positions: &Positions,
    ) -> Function<'a> {
        let mut function = Function {
            is_called_elsewhere: false,
            locals,
            frame: symbol.frame,
            calls: Vec::new(),
            results: Vec::new(),
            pointers: HashMap::new(),
        };
        let bytes = code.instructions.get(symbol.start as usize..(symbol.start + symbol.size) as usize);
        let values = bytes.and_then(|bytes| RegisterValues::follow(symbol, bytes, &code.references));
        let Some(values) = values else { return function };
        let variables = function.pointer_variables(dwarf);
        let mut starts: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for (index, (range, ..)) in variables.iter().enumerate() {
            starts.entry(range.start).or_default().push(index);
        }
        values.for_each(|at, instruction, state| {
            for &index in starts.get(&(at as u64)).into_iter().flatten() {
                let (_, location, id) = &variables[index];
                function.add_pointer(&function.value(*location, state), *id, Source::Pointer);
            }
            match instruction.effect() {
                Effect::Helper(_) | Effect::Function => {
                    let callee = callee(code, instruction, at, positions);
                    let helper = if callee.is_none() { instruction.imm } else { 0 };
                    function.add_call(dwarf, at, helper, callee, state, &variables);
                }
                Effect::Exit => function.results.push((at, state.register(0).clone())),
                _ => {}
            }
        });
        function
    }

    fn add_call(
        &mut self,
        dwarf: &Dwarf,
        at: usize,
        helper: i32,
        callee: Option<usize>,
        state: &State,
        variables: &[PointerVariable],
    ) {
        let arguments = [1, 2, 3, 4, 5].map(|number| state.register(number).clone());
        let sent_type = self.sent_type(dwarf, at as u64);
        let live = variables.iter().filter(|(range, ..)| range.contains(&(at as u64)));
        let live = live.flat_map(|(_, location, id)| {
            let value = self.value(*location, state);
            value.into_iter().flatten().map(|atom| (atom, *id))
        });
        let live_pointers = live.collect();
        if let (helper_numbers::RINGBUF_SUBMIT, Some(id)) = (helper, sent_type) {
            self.add_pointer(&arguments[0], id, Source::Call);
        }
        self.calls.push(Call { at, helper, callee, arguments, sent_type, live_pointers });
    }

    fn pointer_variables(&self, dwarf: &Dwarf) -> Vec<PointerVariable> {
        let mut pointers = Vec::new();
        for local in self.locals.iter().flat_map(|locals| &locals.locals) {
            let Some(Some(id)) = dwarf.pointee(local.ty) else { continue };
            if !is_bytes(dwarf, id) {
                let locations = local.locations.iter();
                pointers.extend(locations.map(|(range, location)| (range.clone(), *location, id)));
            }
        }
        pointers
    }

    /// Records the type that a value points to.
    fn add_pointer(&mut self, value: &Value, id: TypeId, source: Source) {
        for atom in value.iter().flatten() {
            if let Atom::Address(base @ (Base::Instruction(_) | Base::Argument(_)), Some(offset)) = atom {
                self.pointers.entry(base.clone()).or_default().push((*offset, Evidence { id, source }));
            }
        }
    }

    /// The value of a variable.
    fn value(&self, location: Location, state: &State) -> Value {
        match location {
            Location::Register(register, offset) => {
                let atoms = state.register(register).as_ref()?.iter();
                atoms.map(|atom| shifted(atom, offset)).collect()
            }
            Location::Address(offset) => {
                Some([Atom::Address(Base::Frame, Some(self.frame_offset(offset)?))].into())
            }
            Location::Memory(offset) => state.stack(self.frame_offset(offset)?).clone(),
        }
    }

    /// The offset from the end of the frame. clang counts positive offsets from the other end.
    fn frame_offset(&self, offset: i64) -> Option<i64> {
        if offset < 0 { Some(offset) } else { Some(offset - i64::try_from(self.frame?).ok()?) }
    }

    /// Returns type, start and description of each variable that is at this offset of the frame in a part of the
    /// function.
    pub fn stack_variables(&self, dwarf: &Dwarf, offset: i64) -> Vec<(TypeId, i64, &'a Local)> {
        let mut variables = Vec::new();
        for local in self.locals.iter().flat_map(|locals| &locals.locals) {
            let starts = local.locations.iter().filter_map(|(_, location)| match location {
                Location::Memory(offset) => self.frame_offset(*offset),
                _ => None,
            });
            let Some(id) = local.ty else { continue };
            let size = i64::from(dwarf.size(id).unwrap_or(0));
            let start = starts.into_iter().find(|start| (*start..start + size).contains(&offset));
            variables.extend(start.map(|start| (id, start, local)));
        }
        variables
    }

    /// The type that a macro of `include/bpf_helpers.h` recorded for the call at an offset.
    fn sent_type(&self, dwarf: &Dwarf, at: u64) -> Option<TypeId> {
        let locals = self.locals.iter().flat_map(|locals| &locals.locals);
        let around = locals.filter(|l| l.is_sent_data && l.scope.iter().any(|range| range.contains(&at)));
        let len = |local: &&Local| local.scope.iter().map(|range| range.end - range.start).sum::<u64>();
        let id = dwarf.pointee(around.min_by_key(len)?.ty)??;
        (!is_bytes(dwarf, id)).then_some(id)
    }
}

/// The function of the program that an instruction calls.
fn callee(code: &Code, instruction: Instruction, at: usize, positions: &Positions) -> Option<usize> {
    if instruction.effect() != Effect::Function {
        return None;
    }
    let skipped = (i64::from(instruction.imm) + 1) * 8;
    let (section, offset) = match code.references.get(&(at as u64)) {
        Some(reference) => (reference.section, reference.offset as i64 + skipped),
        None => (code.section, at as i64 + skipped),
    };
    positions.get(&(section, u64::try_from(offset).ok()?)).copied()
}
