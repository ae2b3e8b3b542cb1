//! Finds the calls that send records, and the map, size and type of each record, in the compiled code.
//!
//! The address of a record is followed to its origin: a variable, the value of a map, or memory that a ring buffer
//! reserved. The type is that of the call's argument, else that of the memory, else that of the pointers with the
//! address; each only if no evidence contradicts it. Sizes exclude types but never select one.

use std::collections::{HashMap, HashSet};

use crate::analysis::evidence::{Evidence, Source, choose};
use crate::analysis::function::{Call, Function, Positions};
use crate::analysis::helper_numbers;
use crate::analysis::origin::{Origin, offsets, origins, shifted};
use crate::analysis::record_type;
use crate::analysis::register_values::{Atom, Base};
use crate::error::Result;
use crate::object::dwarf::{Dwarf, Type, TypeId};
use crate::object::elf::{Code, Function as Symbol};
use crate::object::local_variables::{self, Function as Locals};

pub use eunomia::internal::constants::map_type::{PERF_EVENT_ARRAY, RINGBUF};

/// The greatest depth of calls that is followed.
const MAX_DEPTH: u32 = 8;

/// The record that one call sends, for one path of callers.
pub struct Sent {
    /// The map, if it is known.
    pub map: Option<String>,
    /// The type of map that the helper requires.
    pub kind: u32,
    /// The size of the record, if it is a constant.
    pub size: Option<u32>,
    /// The type of the record, if it is known.
    pub known: Option<TypeId>,
    /// The possible types, if it is not.
    pub hints: Vec<TypeId>,
}

/// All records that the code sends. Set `has_other_sources` if functions may have callers in other sources.
pub fn sent(dwarf: &Dwarf, code: &[Code], has_other_sources: bool) -> Result<Vec<Sent>> {
    let locals = local_variables::functions(dwarf)?;
    let program = Program::new(dwarf, code, &locals, has_other_sources);
    let mut sent = Vec::new();
    for (index, function) in program.functions.iter().enumerate() {
        for call in &function.calls {
            let Some(registers) = send_registers(call.helper) else { continue };
            let data = match call.helper {
                helper_numbers::RINGBUF_RESERVE => Some(vec![Origin::result(index, call.at)]),
                helper_numbers::RINGBUF_RESERVE_DYNPTR => program.dynptr_data(index, call),
                _ => call.argument(registers.data, index),
            };
            let (map, size) = (call.argument(registers.map, index), call.argument(registers.size, index));
            let evidence = call.sent_type.map(|id| Evidence { id, source: Source::Call });
            let evidence = evidence.into_iter().collect();
            let arguments = Arguments { kind: registers.kind, map, size, data, evidence };
            program.follow(index, arguments, MAX_DEPTH, &mut sent);
        }
    }
    Ok(sent)
}

/// The registers with the arguments of a helper that sends; 0 if there is no such argument.
struct SendRegisters {
    kind: u32,
    map: u8,
    size: u8,
    data: u8,
}

fn send_registers(helper: i32) -> Option<SendRegisters> {
    match helper {
        helper_numbers::PERF_EVENT_OUTPUT | helper_numbers::SKB_OUTPUT | helper_numbers::XDP_OUTPUT => {
            Some(SendRegisters { kind: PERF_EVENT_ARRAY, map: 2, size: 5, data: 4 })
        }
        helper_numbers::RINGBUF_OUTPUT => Some(SendRegisters { kind: RINGBUF, map: 1, size: 3, data: 2 }),
        helper_numbers::RINGBUF_RESERVE | helper_numbers::RINGBUF_RESERVE_DYNPTR => {
            Some(SendRegisters { kind: RINGBUF, map: 1, size: 2, data: 0 })
        }
        _ => None,
    }
}

/// The origins of the arguments of a call that sends, as far as they have been followed.
struct Arguments {
    kind: u32,
    map: Option<Vec<Origin>>,
    size: Option<Vec<Origin>>,
    data: Option<Vec<Origin>>,
    /// Evidence for the type, collected on the path.
    evidence: Vec<Evidence>,
}

struct Program<'a, 'd> {
    dwarf: &'a Dwarf<'d>,
    functions: Vec<Function<'a>>,
}

impl<'a, 'd> Program<'a, 'd> {
    fn new(
        dwarf: &'a Dwarf<'d>,
        code: &[Code],
        locals: &'a [Locals],
        has_other_sources: bool,
    ) -> Program<'a, 'd> {
        let all: Vec<(&Code, &Symbol)> = code
            .iter()
            .flat_map(|code| code.functions.iter().map(move |function| (code, function)))
            .collect();
        let positions: Positions =
            (0..).zip(&all).map(|(index, (code, symbol))| ((code.section, symbol.start), index)).collect();
        let by_name: HashMap<&str, &Locals> =
            locals.iter().map(|known| (known.name.as_str(), known)).collect();
        let with_address_taken: HashSet<(usize, u64)> = code.iter().flat_map(Code::addresses).collect();
        let functions = all.iter().map(|(code, symbol)| {
            let known = by_name.get(symbol.name.as_str()).copied();
            let mut function = Function::read(dwarf, code, symbol, known, &positions);
            function.is_called_elsewhere = !code.is_text
                || symbol.is_global && has_other_sources
                || with_address_taken.contains(&(code.section, symbol.start));
            function
        });
        Program { dwarf, functions: functions.collect() }
    }

    /// Follows a call that sends to all callers of its function, until no argument depends on a caller.
    fn follow(&self, index: usize, arguments: Arguments, depth: u32, sent: &mut Vec<Sent>) {
        let depends_on_caller = [&arguments.map, &arguments.size, &arguments.data]
            .iter()
            .any(|origins| origins.iter().flat_map(|o| o.iter()).any(|o| o.argument(index).is_some()));
        let callers = if depends_on_caller && depth > 0 { self.callers(index) } else { Vec::new() };
        if callers.is_empty() || self.functions[index].is_called_elsewhere {
            sent.extend(self.conclude(&arguments));
        }
        for (caller, call) in callers {
            let replace =
                |origins: &Option<Vec<Origin>>| with_arguments(origins.as_deref()?, index, caller, call);
            let mut evidence = arguments.evidence.clone();
            for origin in arguments.data.iter().flatten().filter(|origin| origin.argument(index).is_some()) {
                evidence.extend(self.pointer_evidence(origin, MAX_DEPTH));
            }
            let (map, size, data) =
                (replace(&arguments.map), replace(&arguments.size), replace(&arguments.data));
            let arguments = Arguments { kind: arguments.kind, map, size, data, evidence };
            self.follow(caller, arguments, depth - 1, sent);
        }
    }

    fn callers(&self, index: usize) -> Vec<(usize, &Call)> {
        let functions = (0..).zip(&self.functions);
        let calls =
            functions.flat_map(|(caller, function)| function.calls.iter().map(move |call| (caller, call)));
        calls.filter(|(_, call)| call.callee == Some(index)).collect()
    }

    /// The records that a call with these arguments sends, one for each map.
    fn conclude(&self, arguments: &Arguments) -> Vec<Sent> {
        let size = match arguments.size.as_deref() {
            Some([Origin { atom: Atom::Number(size), .. }]) => u32::try_from(*size).ok(),
            _ => None,
        };
        let kind = arguments.kind;
        let (known, hints) = self.record_type(arguments, size);
        let sent = |map: Option<String>| Sent { map, kind, size, known, hints: hints.clone() };
        let maps = arguments.map.iter().flatten().map(|origin| match &origin.atom {
            Atom::Address(Base::Symbol(name), Some(0)) => Some(name.to_string()),
            _ => None,
        });
        let maps: Option<Vec<String>> = maps.collect();
        match maps.filter(|maps| !maps.is_empty()) {
            Some(maps) => maps.into_iter().map(|map| sent(Some(map))).collect(),
            None => vec![sent(None)],
        }
    }

    /// The type of the record. If it is ambiguous, the possible types.
    fn record_type(&self, arguments: &Arguments, size: Option<u32>) -> (Option<TypeId>, Vec<TypeId>) {
        let mut chosen: Vec<Option<TypeId>> = Vec::new();
        let mut hints: Vec<TypeId> = arguments.evidence.iter().map(|one| one.id).collect();
        for origin in arguments.data.iter().flatten().filter(|o| !matches!(o.atom, Atom::Number(_))) {
            let mut evidence = arguments.evidence.clone();
            evidence.extend(self.pointer_evidence(origin, MAX_DEPTH));
            evidence.extend(self.memory_evidence(origin, MAX_DEPTH));
            if evidence.is_empty() {
                evidence.extend(self.merge_evidence(origin, size));
            }
            hints.extend(evidence.iter().map(|one| one.id));
            chosen.push(choose(self.dwarf, &evidence, size));
        }
        if chosen.is_empty() {
            // The memory is unknown, but the call may name the type.
            let of_call = arguments.evidence.iter().filter(|one| one.source == Source::Call);
            chosen.push(choose(self.dwarf, &of_call.copied().collect::<Vec<_>>(), size));
        }
        let first = chosen[0];
        let agree = |id: &Option<TypeId>| {
            id.zip(first).is_some_and(|(one, other)| record_type::same(self.dwarf, one, other))
        };
        if chosen.iter().all(agree) { (first, Vec::new()) } else { (None, hints) }
    }

    /// The types of pointers with this address: in this function, in functions that get the address, and in functions
    /// that it comes from.
    fn pointer_evidence(&self, origin: &Origin, depth: u32) -> Vec<Evidence> {
        let Atom::Address(base, Some(offset)) = &origin.atom else { return Vec::new() };
        let function = &self.functions[origin.function];
        let mut found = Vec::new();
        let mut add = |at: i64, pointer: &Evidence| {
            let source = if at == *offset { pointer.source } else { Source::Pointer };
            found.extend(self.part(pointer.id, offset - at).map(|id| Evidence { id, source }));
        };
        function.pointers.get(base).into_iter().flatten().for_each(|(at, pointer)| add(*at, pointer));
        let calls_here = function.calls.iter().filter(|call| call.at == origin.at);
        for (atom, id) in calls_here.flat_map(|call| &call.live_pointers) {
            match atom {
                Atom::Address(other, Some(at)) if other == base => {
                    add(*at, &Evidence { id: *id, source: Source::Pointer });
                }
                _ => {}
            }
        }
        if depth > 0 {
            found.extend(self.evidence_in_callees(origin.function, base, *offset, depth));
            found.extend(self.evidence_in_callers(origin.function, base, *offset, depth));
        }
        found
    }

    /// The types of pointers in the functions that `function` passes an address to.
    fn evidence_in_callees(&self, function: usize, base: &Base, offset: i64, depth: u32) -> Vec<Evidence> {
        let mut found = Vec::new();
        for call in &self.functions[function].calls {
            let Some(callee) = call.callee else { continue };
            for (number, value) in (1..).zip(&call.arguments) {
                for at in offsets(value, base) {
                    let atom = Atom::Address(Base::Argument(number), Some(offset - at));
                    let origin = Origin { function: callee, at: 0, atom };
                    found.extend(self.pointer_evidence(&origin, depth - 1));
                }
            }
        }
        found
    }

    /// The types of pointers in the functions that `function` returns an address to.
    fn evidence_in_callers(&self, function: usize, base: &Base, offset: i64, depth: u32) -> Vec<Evidence> {
        let mut found = Vec::new();
        for at in self.functions[function].results.iter().flat_map(|(_, value)| offsets(value, base)) {
            for (caller, call) in self.callers(function) {
                let atom = Atom::Address(Base::Instruction(call.at), Some(offset - at));
                let origin = Origin { function: caller, at: call.at, atom };
                found.extend(self.pointer_evidence(&origin, depth / 2));
            }
        }
        found
    }

    /// Where two paths join, the address may be merged with a pointer whose type is known: returns that type.
    /// Debug information loses variables there. Only used if the function has no pointers to other types of
    /// this size.
    fn merge_evidence(&self, origin: &Origin, size: Option<u32>) -> Vec<Evidence> {
        let Atom::Address(base @ Base::Instruction(_), Some(0)) = &origin.atom else { return Vec::new() };
        let function = &self.functions[origin.function];
        let values = function.calls.iter().flat_map(|call| &call.arguments);
        let merged = values.filter(|value| offsets(value, base) == [0]).flatten().flatten();
        let mut types: Vec<TypeId> = Vec::new();
        for other in merged {
            let Atom::Address(other, Some(0)) = other else { continue };
            let pointers = function.pointers.get(other).into_iter().flatten();
            types.extend(pointers.filter(|(at, _)| *at == 0).map(|(_, pointer)| pointer.id));
        }
        let has_size = |id: &TypeId| size.is_some() && self.dwarf.size(*id) == size;
        let locals = function.locals.iter().flat_map(|locals| &locals.locals);
        let mut pointees = locals.filter_map(|local| self.dwarf.pointee(local.ty)?).filter(has_size);
        types.retain(has_size);
        match types.first() {
            Some(&id) if pointees.all(|other| record_type::same(self.dwarf, id, other)) => {
                vec![Evidence { id, source: Source::Pointer }]
            }
            _ => Vec::new(),
        }
    }

    /// The part of a type that begins at an offset in it.
    fn part(&self, id: TypeId, offset: i64) -> Option<TypeId> {
        let is_inside =
            offset == 0 || self.dwarf.size(id).is_some_and(|size| (0..i64::from(size)).contains(&offset));
        if is_inside { record_type::parts(self.dwarf, id, offset).first().copied() } else { None }
    }

    /// The types of the memory that contains an address, at that address.
    fn memory_evidence(&self, origin: &Origin, depth: u32) -> Vec<Evidence> {
        let Atom::Address(base, Some(offset)) = &origin.atom else { return Vec::new() };
        let function = &self.functions[origin.function];
        let part = |id: TypeId, at: i64| self.part(id, at).map(|id| Evidence { id, source: Source::Memory });
        match base {
            Base::Frame => {
                let variables = function.stack_variables(self.dwarf, *offset);
                let live = variables.iter().filter(|(_, _, local)| local.is_live_at(origin.at as u64));
                let live: Vec<_> = live.collect();
                let variables = if live.is_empty() { variables.iter().collect() } else { live };
                variables.iter().filter_map(|(id, start, _)| part(*id, offset - start)).collect()
            }
            Base::Symbol(name) => {
                self.declared_type(name).and_then(|id| part(id, *offset)).into_iter().collect()
            }
            Base::Instruction(at) => {
                let Some(call) = function.calls.iter().find(|call| call.at == *at) else { return Vec::new() };
                if let (Some(callee), true) = (call.callee, depth > 0) {
                    return self.result_evidence(callee, *offset, depth - 1);
                }
                let value = self.map_value(origin.function, call, depth);
                value.and_then(|id| part(id, *offset)).into_iter().collect()
            }
            Base::Argument(_) => Vec::new(),
        }
    }

    /// The types of the results of a function; none if some result is unknown.
    fn result_evidence(&self, callee: usize, offset: i64, depth: u32) -> Vec<Evidence> {
        let mut evidence = Vec::new();
        for (at, value) in &self.functions[callee].results {
            let origins = origins(value, callee, *at).unwrap_or_default();
            for origin in origins.iter().filter(|origin| !matches!(origin.atom, Atom::Number(_))) {
                let Some(atom) = shifted(&origin.atom, offset) else { return Vec::new() };
                let origin = Origin { atom, ..origin.clone() };
                evidence.extend(self.pointer_evidence(&origin, 0));
                evidence.extend(self.memory_evidence(&origin, depth));
            }
        }
        evidence
    }

    /// The value type of the map in which a call looks something up.
    fn map_value(&self, function: usize, call: &Call, depth: u32) -> Option<TypeId> {
        if !helper_numbers::LOOKUPS.contains(&call.helper) {
            return None;
        }
        match &call.argument(1, function)?[..] {
            [Origin { atom: Atom::Address(Base::Symbol(name), Some(0)), .. }] => {
                type_in_definition(self.dwarf, self.declared_type(name)?, "value")
            }
            // The map is the value of another map.
            [Origin { atom: Atom::Address(Base::Instruction(at), Some(0)), .. }] if depth > 0 => {
                let outer = self.functions[function].calls.iter().find(|call| call.at == *at)?;
                let [Origin { atom: Atom::Address(Base::Symbol(name), Some(0)), .. }] =
                    &outer.argument(1, function)?[..]
                else {
                    return None;
                };
                let inner = type_in_definition(self.dwarf, self.declared_type(name)?, "values")?;
                type_in_definition(self.dwarf, inner, "value")
            }
            _ => None,
        }
    }

    /// The type of a variable or map.
    fn declared_type(&self, name: &str) -> Option<TypeId> {
        self.dwarf.declarations.iter().find(|declared| declared.name == name)?.written
    }

    /// The value that is written through the dynptr that a call reserves, if there is exactly one write, at offset 0.
    fn dynptr_data(&self, index: usize, reserve: &Call) -> Option<Vec<Origin>> {
        let dynptr = reserve.arguments[3].as_ref()?;
        let calls = self.functions[index].calls.iter();
        let uses: Vec<&Call> = calls
            .filter(|call| [helper_numbers::DYNPTR_WRITE, helper_numbers::DYNPTR_DATA].contains(&call.helper))
            .filter(|call| call.arguments[0].as_ref() == Some(dynptr))
            .collect();
        let [only] = uses[..] else { return None };
        if only.arguments[1] != Some([Atom::Number(0)].into()) {
            return None;
        }
        if only.helper == helper_numbers::DYNPTR_DATA {
            return Some(vec![Origin::result(index, only.at)]);
        }
        let is_whole = only.arguments[3].is_none() || only.arguments[3] == reserve.arguments[1];
        if is_whole { only.argument(3, index) } else { None }
    }
}

/// The type that a map's definition names for `key`, as `__type` and `__array` do.
pub fn type_in_definition(dwarf: &Dwarf, map: TypeId, key: &str) -> Option<TypeId> {
    let composite = record_type::composite(dwarf, map)?;
    let member = composite.members.iter().find(|member| member.name == key)?;
    let mut id = member.id?;
    if let Some(Type::Array { element, .. }) = dwarf.unnamed(Some(id)).and_then(|id| dwarf.get(id).ok()) {
        id = element?;
    }
    dwarf.pointee(Some(id))?
}

/// Replaces the arguments of function `index` with the values that a caller passes.
fn with_arguments(origins: &[Origin], index: usize, caller: usize, call: &Call) -> Option<Vec<Origin>> {
    let mut replaced = Vec::new();
    for origin in origins {
        match (origin.argument(index), &origin.atom) {
            (Some(number), Atom::Address(_, moved)) => {
                for passed in call.argument(number, caller)? {
                    replaced.push(Origin { atom: shifted(&passed.atom, (*moved)?)?, ..passed });
                }
            }
            _ => replaced.push(origin.clone()),
        }
    }
    Some(replaced)
}
