//! Which map gets records of which size and type, as the compiled code shows it.
//!
//! The address of a record is followed to where it comes from: a variable, the value of a map, memory that a ring buffer
//! has reserved. Its type is that of the argument of the call, else that of the memory, else that of the pointers which
//! hold the address, each only if nothing speaks against it. Sizes rule types out and never choose one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use crate::analysis::record_type;
use crate::analysis::register_values::{Atom, Base, Flow, State, Value};
use crate::error::Result;
use crate::object::dwarf::{Dwarf, Type, TypeId};
use crate::object::elf::{Code, Function as Symbol};
use crate::object::instruction::{Effect, Instruction};
use crate::object::local_variables::{self, Function as Locals, Kept};

/// The kernel's numbers for maps that carry events.
pub const PERF_EVENT_ARRAY: u32 = 4;
pub const RINGBUF: u32 = 27;

/// Helpers by number.
mod helper {
    pub const MAP_LOOKUP: i32 = 1;
    pub const PERF_EVENT_OUTPUT: i32 = 25;
    pub const SK_STORAGE_GET: i32 = 107;
    pub const SKB_OUTPUT: i32 = 111;
    pub const XDP_OUTPUT: i32 = 121;
    pub const RINGBUF_OUTPUT: i32 = 130;
    pub const RINGBUF_RESERVE: i32 = 131;
    pub const RINGBUF_SUBMIT: i32 = 132;
    pub const INODE_STORAGE_GET: i32 = 145;
    pub const TASK_STORAGE_GET: i32 = 156;
    pub const MAP_LOOKUP_PERCPU: i32 = 195;
    pub const RINGBUF_RESERVE_DYNPTR: i32 = 198;
    pub const DYNPTR_WRITE: i32 = 202;
    pub const DYNPTR_DATA: i32 = 203;
    pub const CGRP_STORAGE_GET: i32 = 210;
}

/// Calls are followed that deep.
const MAX_DEPTH: u32 = 8;

/// What one call sends, in one way to reach it.
pub struct Sent {
    /// The map, where it is known.
    pub map: Option<String>,
    /// The kind of map that the call takes.
    pub kind: u32,
    /// The size of the record, where it is a constant.
    pub size: Option<u32>,
    /// The type of the record, if it is known.
    pub known: Option<TypeId>,
    /// The types that it may be, if it is not.
    pub hints: Vec<TypeId>,
}

/// All records that the code sends.
///
/// Of a program with several sources, functions may have callers in the others.
pub fn sent(dwarf: &Dwarf, code: &[Code], has_others: bool) -> Result<Vec<Sent>> {
    let locals = local_variables::functions(dwarf)?;
    let program = Program::new(dwarf, code, &locals, has_others);
    let mut sent = Vec::new();
    for (index, function) in program.functions.iter().enumerate() {
        for call in &function.calls {
            let Some(arguments) = event_arguments(call.helper) else { continue };
            let data = match call.helper {
                helper::RINGBUF_RESERVE => Some(vec![made(index, call.at)]),
                helper::RINGBUF_RESERVE_DYNPTR => program.written(index, call),
                _ => call.value(arguments.data, index),
            };
            let (map, size) = (call.value(arguments.map, index), call.value(arguments.size, index));
            let told = call.noted.map(|id| View { id, by: By::Call }).into_iter().collect();
            let way = Way { kind: arguments.kind, map, size, data, views: told };
            program.follow(index, way, MAX_DEPTH, &mut sent);
        }
    }
    Ok(sent)
}

/// The registers of a call that sends something; 0 where it has none.
struct Arguments {
    kind: u32,
    map: u8,
    size: u8,
    data: u8,
}

fn event_arguments(helper: i32) -> Option<Arguments> {
    match helper {
        helper::PERF_EVENT_OUTPUT | helper::SKB_OUTPUT | helper::XDP_OUTPUT => {
            Some(Arguments { kind: PERF_EVENT_ARRAY, map: 2, size: 5, data: 4 })
        }
        helper::RINGBUF_OUTPUT => Some(Arguments { kind: RINGBUF, map: 1, size: 3, data: 2 }),
        helper::RINGBUF_RESERVE | helper::RINGBUF_RESERVE_DYNPTR => {
            Some(Arguments { kind: RINGBUF, map: 1, size: 2, data: 0 })
        }
        _ => None,
    }
}

/// A place that a value comes from: in a function, at an instruction of it.
#[derive(Clone)]
struct Origin {
    function: usize,
    at: usize,
    atom: Atom,
}

/// The result of the call at a place.
fn made(function: usize, at: usize) -> Origin {
    Origin { function, at, atom: Atom::Address(Base::Made(at), Some(0)) }
}

/// Where the arguments of a call that sends something come from.
struct Way {
    kind: u32,
    map: Option<Vec<Origin>>,
    size: Option<Vec<Origin>>,
    data: Option<Vec<Origin>>,
    /// What is known of the type on the way.
    views: Vec<View>,
}

/// A type that something at an address is said to have.
#[derive(Clone, Copy)]
struct View {
    id: TypeId,
    by: By,
}

/// What says it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// The argument of the call.
    Call,
    /// The definition of the memory.
    Memory,
    /// A pointer that holds the address.
    Pointer,
}

struct Program<'a, 'd> {
    dwarf: &'a Dwarf<'d>,
    functions: Vec<Function<'a>>,
}

/// A function, and what matters of it.
struct Function<'a> {
    /// The kernel calls it, or another source.
    is_called_elsewhere: bool,
    locals: Option<&'a Locals>,
    frame: Option<u64>,
    calls: Vec<Call>,
    /// What it returns, and where.
    returned: Vec<(usize, Value)>,
    /// The types of pointers, by what they are counted from, with the offset.
    pointers: HashMap<Base, Vec<(i64, View)>>,
}

struct Call {
    at: usize,
    /// 0 for a function of the program or of the kernel.
    helper: i32,
    /// The function of the program that it calls.
    callee: Option<usize>,
    arguments: [Value; 5],
    /// The type of the argument that is sent, if a macro of ours has noted it.
    noted: Option<TypeId>,
    /// The pointers that hold an address at this place: where it points, and the type.
    held: Vec<(Atom, TypeId)>,
}

impl Call {
    fn value(&self, register: u8, function: usize) -> Option<Vec<Origin>> {
        origins(&self.arguments[usize::from(register) - 1], function, self.at)
    }
}

fn origins(value: &Value, function: usize, at: usize) -> Option<Vec<Origin>> {
    value.as_ref().map(|atoms| atoms.iter().map(|atom| Origin { function, at, atom: atom.clone() }).collect())
}

impl<'a, 'd> Program<'a, 'd> {
    fn new(dwarf: &'a Dwarf<'d>, code: &[Code], locals: &'a [Locals], has_others: bool) -> Program<'a, 'd> {
        let all: Vec<(&Code, &Symbol)> = code
            .iter()
            .flat_map(|code| code.functions.iter().map(move |function| (code, function)))
            .collect();
        let places: HashMap<(usize, u64), usize> =
            (0..).zip(&all).map(|(index, (code, symbol))| ((code.section, symbol.start), index)).collect();
        let by_name: HashMap<&str, &Locals> =
            locals.iter().map(|known| (known.name.as_str(), known)).collect();
        let handed_out: HashSet<(usize, u64)> = code.iter().flat_map(Code::addresses).collect();
        let functions = all.iter().map(|(code, symbol)| {
            let known = by_name.get(symbol.name.as_str()).copied();
            let is_called_elsewhere = !code.is_text
                || symbol.is_global && has_others
                || handed_out.contains(&(code.section, symbol.start));
            Function { is_called_elsewhere, ..Function::read(dwarf, code, symbol, known, &places) }
        });
        Program { dwarf, functions: functions.collect() }
    }

    /// Follows a call that sends something to all who call its function, until nothing is left that they decide.
    fn follow(&self, index: usize, way: Way, depth: u32, sent: &mut Vec<Sent>) {
        let is_open = [&way.map, &way.size, &way.data]
            .iter()
            .any(|origins| origins.iter().flat_map(|o| o.iter()).any(|o| o.argument(index).is_some()));
        let callers = if is_open && depth > 0 { self.callers(index) } else { Vec::new() };
        if callers.is_empty() || self.functions[index].is_called_elsewhere {
            sent.extend(self.conclude(&way));
        }
        for (caller, call) in callers {
            let replace = |origins: &Option<Vec<Origin>>| replaced(origins.as_deref()?, index, caller, call);
            let mut views = way.views.clone();
            for origin in way.data.iter().flatten().filter(|origin| origin.argument(index).is_some()) {
                views.extend(self.views(origin, MAX_DEPTH));
            }
            let (map, size, data) = (replace(&way.map), replace(&way.size), replace(&way.data));
            self.follow(caller, Way { kind: way.kind, map, size, data, views }, depth - 1, sent);
        }
    }

    fn callers(&self, index: usize) -> Vec<(usize, &Call)> {
        let functions = (0..).zip(&self.functions);
        let calls =
            functions.flat_map(|(caller, function)| function.calls.iter().map(move |call| (caller, call)));
        calls.filter(|(_, call)| call.callee == Some(index)).collect()
    }

    /// What is sent, with everything known.
    fn conclude(&self, way: &Way) -> Vec<Sent> {
        let size = match way.size.as_deref() {
            Some([Origin { atom: Atom::Number(size), .. }]) => u32::try_from(*size).ok(),
            _ => None,
        };
        let (known, hints) = self.record(way, size);
        let sent = |map: Option<String>| Sent { map, kind: way.kind, size, known, hints: hints.clone() };
        let maps = way.map.iter().flatten().map(|origin| match &origin.atom {
            Atom::Address(Base::Symbol(name), Some(0)) => Some(name.to_string()),
            _ => None,
        });
        let maps: Option<Vec<String>> = maps.collect();
        match maps.filter(|maps| !maps.is_empty()) {
            Some(maps) => maps.into_iter().map(|map| sent(Some(map))).collect(),
            None => vec![sent(None)],
        }
    }

    /// The type of what is sent, or else the types that it may have.
    fn record(&self, way: &Way, size: Option<u32>) -> (Option<TypeId>, Vec<TypeId>) {
        let mut chosen: Vec<Option<TypeId>> = Vec::new();
        let mut hints: Vec<TypeId> = way.views.iter().map(|view| view.id).collect();
        for origin in way.data.iter().flatten().filter(|o| !matches!(o.atom, Atom::Number(_))) {
            let mut views = way.views.clone();
            views.extend(self.views(origin, MAX_DEPTH));
            views.extend(self.memory(origin, MAX_DEPTH));
            if views.is_empty() {
                views.extend(self.met(origin, size));
            }
            hints.extend(views.iter().map(|view| view.id));
            chosen.push(choose(self.dwarf, &views, size));
        }
        if chosen.is_empty() {
            // Nothing is known of the memory, but the call may name the type.
            let told: Vec<View> = way.views.iter().filter(|view| view.by == By::Call).copied().collect();
            chosen.push(choose(self.dwarf, &told, size));
        }
        let first = chosen[0];
        let agree = |id: &Option<TypeId>| {
            id.zip(first).is_some_and(|(one, other)| record_type::same(self.dwarf, one, other))
        };
        if chosen.iter().all(agree) { (first, Vec::new()) } else { (None, hints) }
    }

    /// The types of the pointers that hold an address, here and in the functions it goes to or comes from.
    fn views(&self, origin: &Origin, depth: u32) -> Vec<View> {
        let Atom::Address(base, Some(offset)) = &origin.atom else { return Vec::new() };
        let function = &self.functions[origin.function];
        let mut views = Vec::new();
        let mut add = |at: i64, view: &View| {
            let part = record_type::parts(self.dwarf, view.id, offset - at).first().copied();
            let by = if at == *offset { view.by } else { By::Pointer };
            views.extend(part.filter(|_| self.is_inside(view.id, offset - at)).map(|id| View { id, by }));
        };
        function.pointers.get(base).into_iter().flatten().for_each(|(at, view)| add(*at, view));
        let here = function.calls.iter().filter(|call| call.at == origin.at);
        for (atom, id) in here.flat_map(|call| &call.held) {
            match atom {
                Atom::Address(held, Some(at)) if held == base => add(*at, &View { id: *id, by: By::Pointer }),
                _ => {}
            }
        }
        if depth == 0 {
            return views;
        }
        for call in function.calls.iter().filter(|call| call.callee.is_some()) {
            for (number, value) in (1..).zip(&call.arguments) {
                for at in offsets(value, base) {
                    let atom = Atom::Address(Base::Argument(number), Some(offset - at));
                    let there = Origin { function: call.callee.unwrap_or_default(), at: 0, atom };
                    views.extend(self.views(&there, depth - 1));
                }
            }
        }
        for at in function.returned.iter().flat_map(|(_, value)| offsets(value, base)) {
            for (caller, call) in self.callers(origin.function) {
                let atom = Atom::Address(Base::Made(call.at), Some(offset - at));
                let there = Origin { function: caller, at: call.at, atom };
                views.extend(self.views(&there, depth / 2));
            }
        }
        views
    }

    /// The type of a pointer that meets an address where paths meet, for debug information loses variables there. Only
    /// if the function has pointers to no other type of the size.
    fn met(&self, origin: &Origin, size: Option<u32>) -> Vec<View> {
        let Atom::Address(base @ Base::Made(_), Some(0)) = &origin.atom else { return Vec::new() };
        let function = &self.functions[origin.function];
        let values = function.calls.iter().flat_map(|call| &call.arguments);
        let meeting = values.filter(|value| offsets(value, base) == [0]).flatten().flatten();
        let mut met: Vec<TypeId> = Vec::new();
        for other in meeting {
            let Atom::Address(other, Some(0)) = other else { continue };
            let pointers = function.pointers.get(other).into_iter().flatten();
            met.extend(pointers.filter(|(at, _)| *at == 0).map(|(_, view)| view.id));
        }
        let is_of_size = |id: &TypeId| size.is_some() && self.dwarf.size(*id) == size;
        let locals = function.locals.iter().flat_map(|locals| &locals.locals);
        let mut pointed = locals.filter_map(|local| self.dwarf.pointee(local.ty)?).filter(is_of_size);
        met.retain(is_of_size);
        match met.first() {
            Some(&id) if pointed.all(|other| record_type::same(self.dwarf, id, other)) => {
                vec![View { id, by: By::Pointer }]
            }
            _ => Vec::new(),
        }
    }

    fn is_inside(&self, id: TypeId, offset: i64) -> bool {
        offset == 0 || self.dwarf.size(id).is_some_and(|size| (0..i64::from(size)).contains(&offset))
    }

    /// The types of the memory that an address is in, at that place.
    fn memory(&self, origin: &Origin, depth: u32) -> Vec<View> {
        let Atom::Address(base, Some(offset)) = &origin.atom else { return Vec::new() };
        let function = &self.functions[origin.function];
        let part = |id: TypeId, at: i64| {
            let id =
                record_type::parts(self.dwarf, id, at).first().copied().filter(|_| self.is_inside(id, at));
            id.map(|id| View { id, by: By::Memory })
        };
        match base {
            Base::Frame => {
                let objects = function.objects(self.dwarf, *offset);
                let here = objects.iter().filter(|(_, _, local)| local.is_kept_at(origin.at as u64));
                let here: Vec<_> = here.collect();
                let objects = if here.is_empty() { objects.iter().collect() } else { here };
                objects.iter().filter_map(|(id, start, _)| part(*id, offset - start)).collect()
            }
            Base::Symbol(name) => self.declared(name).and_then(|id| part(id, *offset)).into_iter().collect(),
            Base::Made(at) => {
                let Some(call) = function.calls.iter().find(|call| call.at == *at) else { return Vec::new() };
                if let (Some(callee), true) = (call.callee, depth > 0) {
                    return self.returned(callee, *offset, depth - 1);
                }
                self.map_value(origin.function, call, depth)
                    .and_then(|id| part(id, *offset))
                    .into_iter()
                    .collect()
            }
            Base::Argument(_) => Vec::new(),
        }
    }

    /// The types of what a function returns; none if some of it is not known.
    fn returned(&self, callee: usize, offset: i64, depth: u32) -> Vec<View> {
        let mut views = Vec::new();
        for (at, value) in &self.functions[callee].returned {
            let origins = origins(value, callee, *at).unwrap_or_default();
            for origin in origins.iter().filter(|origin| !matches!(origin.atom, Atom::Number(_))) {
                let Some(atom) = shifted(&origin.atom, offset) else { return Vec::new() };
                let origin = Origin { atom, ..origin.clone() };
                views.extend(self.views(&origin, 0));
                views.extend(self.memory(&origin, depth));
            }
        }
        views
    }

    /// The type of the values of the map that a call looks into.
    fn map_value(&self, function: usize, call: &Call, depth: u32) -> Option<TypeId> {
        const LOOKUPS: [i32; 6] = [
            helper::MAP_LOOKUP,
            helper::MAP_LOOKUP_PERCPU,
            helper::SK_STORAGE_GET,
            helper::INODE_STORAGE_GET,
            helper::TASK_STORAGE_GET,
            helper::CGRP_STORAGE_GET,
        ];
        if !LOOKUPS.contains(&call.helper) {
            return None;
        }
        match &call.value(1, function)?[..] {
            [Origin { atom: Atom::Address(Base::Symbol(name), Some(0)), .. }] => {
                definition(self.dwarf, self.declared(name)?, "value")
            }
            // The map is the value of another one.
            [Origin { atom: Atom::Address(Base::Made(at), Some(0)), .. }] if depth > 0 => {
                let outer = self.functions[function].calls.iter().find(|call| call.at == *at)?;
                let [Origin { atom: Atom::Address(Base::Symbol(name), Some(0)), .. }] =
                    &outer.value(1, function)?[..]
                else {
                    return None;
                };
                let inner = definition(self.dwarf, self.declared(name)?, "values")?;
                definition(self.dwarf, inner, "value")
            }
            _ => None,
        }
    }

    /// The type of a variable or map.
    fn declared(&self, name: &str) -> Option<TypeId> {
        self.dwarf.declarations.iter().find(|declared| declared.name == name)?.written
    }

    /// What is written through the dynptr that a call reserves, if that is one thing at its beginning.
    fn written(&self, index: usize, reserve: &Call) -> Option<Vec<Origin>> {
        let dynptr = reserve.arguments[3].as_ref()?;
        let same = |call: &&Call, number: usize| call.arguments[number].as_ref() == Some(dynptr);
        let calls = self.functions[index].calls.iter();
        let uses: Vec<&Call> = calls
            .filter(|call| {
                call.helper == helper::DYNPTR_WRITE && same(call, 0)
                    || call.helper == helper::DYNPTR_DATA && same(call, 0)
            })
            .collect();
        let [only] = uses[..] else { return None };
        let is_zero = |number: usize| only.arguments[number] == Some([Atom::Number(0)].into());
        if !is_zero(1) {
            return None;
        }
        if only.helper == helper::DYNPTR_DATA {
            return Some(vec![made(index, only.at)]);
        }
        let is_whole = only.arguments[3].is_none() || only.arguments[3] == reserve.arguments[1];
        if is_whole { only.value(3, index) } else { None }
    }
}

/// The type that a map's definition names, as `__type` and `__array` do.
pub fn definition(dwarf: &Dwarf, map: TypeId, key: &str) -> Option<TypeId> {
    let composite = record_type::composite(dwarf, map)?;
    let member = composite.members.iter().find(|member| member.name == key)?;
    let mut id = member.id?;
    if let Some(Type::Array { element, .. }) = dwarf.unnamed(Some(id)).and_then(|id| dwarf.get(id).ok()) {
        id = element?;
    }
    dwarf.pointee(Some(id))?
}

impl Origin {
    /// Which argument of its function it is.
    fn argument(&self, function: usize) -> Option<u8> {
        match &self.atom {
            Atom::Address(Base::Argument(number), _) if self.function == function => Some(*number),
            _ => None,
        }
    }
}

/// Origins with what a caller gives in place of the arguments of `index`.
fn replaced(origins: &[Origin], index: usize, caller: usize, call: &Call) -> Option<Vec<Origin>> {
    let mut replaced = Vec::new();
    for origin in origins {
        match (origin.argument(index), &origin.atom) {
            (Some(number), Atom::Address(_, moved)) => {
                for given in call.value(number, caller)? {
                    replaced.push(Origin { atom: shifted(&given.atom, (*moved)?)?, ..given });
                }
            }
            _ => replaced.push(origin.clone()),
        }
    }
    Some(replaced)
}

fn shifted(atom: &Atom, by: i64) -> Option<Atom> {
    match atom {
        Atom::Number(number) => Some(Atom::Number(number.checked_add(by)?)),
        Atom::Address(base, offset) => Some(Atom::Address(base.clone(), Some((*offset)?.checked_add(by)?))),
    }
}

/// The offsets from `base` that a value may be.
fn offsets(value: &Value, base: &Base) -> Vec<i64> {
    let atoms = value.iter().flatten();
    atoms
        .filter_map(|atom| match atom {
            Atom::Address(of, Some(offset)) if of == base => Some(*offset),
            _ => None,
        })
        .collect()
}

/// The type of a record that is seen as all these types, if nothing speaks against it.
fn choose(dwarf: &Dwarf, views: &[View], size: Option<u32>) -> Option<TypeId> {
    let views: Vec<&View> = views.iter().filter(|view| !record_type::is_bytes(dwarf, view.id)).collect();
    let mut told = views.iter().filter(|view| view.by == By::Call);
    if let Some(first) = told.next().filter(|first| record_type::fits(dwarf, first.id, size)) {
        if told.all(|other| record_type::same(dwarf, first.id, other.id)) {
            return Some(first.id);
        }
    }
    // One of them has to hold all others at its beginning, and so on.
    let is_part = |one: TypeId, other: TypeId| record_type::begins_with(dwarf, one, other);
    let apart = |one: &&View, other: &&View| !is_part(one.id, other.id) && !is_part(other.id, one.id);
    if views.iter().any(|one| views.iter().any(|other| apart(one, other))) {
        return None;
    }
    let fits = |view: &&&View| {
        let is_exact = dwarf.size(view.id) == size;
        record_type::fits(dwarf, view.id, size) && (is_exact || !record_type::is_buffer(dwarf, view.id))
    };
    // The smallest that is large enough, of equal ones the outermost.
    let fitting: Vec<TypeId> = views.iter().filter(fits).map(|view| view.id).collect();
    let whole = fitting.iter().copied().filter(|id| dwarf.size(*id) >= size);
    let is_inside = |one: TypeId, other: TypeId| is_part(other, one) && !record_type::same(dwarf, one, other);
    match size {
        Some(_) => whole
            .reduce(|best, next| {
                let (is_less, is_equal) =
                    (dwarf.size(next) < dwarf.size(best), dwarf.size(next) == dwarf.size(best));
                if is_less || is_equal && is_inside(best, next) { next } else { best }
            })
            .or_else(|| fitting.first().copied()),
        // A pointer says what begins there, such as a packet's header, and not where it ends.
        None if views.iter().all(|view| view.by == By::Pointer) => None,
        None => fitting.iter().copied().reduce(|best, next| if is_inside(best, next) { next } else { best }),
    }
}

impl<'a> Function<'a> {
    fn read(
        dwarf: &Dwarf,
        code: &Code,
        symbol: &Symbol,
        locals: Option<&'a Locals>,
        places: &HashMap<(usize, u64), usize>,
    ) -> Function<'a> {
        let mut function = Function {
            is_called_elsewhere: false,
            locals,
            frame: symbol.frame,
            calls: Vec::new(),
            returned: Vec::new(),
            pointers: HashMap::new(),
        };
        let bytes = code.instructions.get(symbol.start as usize..(symbol.start + symbol.size) as usize);
        let Some(flow) = bytes.and_then(|bytes| Flow::new(symbol, bytes, &code.references)) else {
            return function;
        };
        let pointers = function.pointer_variables(dwarf);
        let mut starts: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for (index, (range, ..)) in pointers.iter().enumerate() {
            starts.entry(range.start).or_default().push(index);
        }
        flow.each(|at, instruction, state| {
            for &index in starts.get(&(at as u64)).into_iter().flatten() {
                let (_, kept, id) = &pointers[index];
                function.point(&function.value(*kept, state), *id, By::Pointer);
            }
            match instruction.effect() {
                Effect::Helper(_) | Effect::Function => {
                    let callee = callee(code, instruction, at, places);
                    let helper = if callee.is_none() { instruction.imm } else { 0 };
                    let arguments = [1, 2, 3, 4, 5].map(|number| state.register(number).clone());
                    let noted = function.noted(dwarf, at as u64);
                    let live = pointers.iter().filter(|(range, ..)| range.contains(&(at as u64)));
                    let held = live.flat_map(|(_, kept, id)| {
                        let value = function.value(*kept, state);
                        value.into_iter().flatten().map(|atom| (atom, *id))
                    });
                    let held = held.collect();
                    if let (helper::RINGBUF_SUBMIT, Some(id)) = (helper, noted) {
                        function.point(&arguments[0], id, By::Call);
                    }
                    function.calls.push(Call { at, helper, callee, arguments, noted, held });
                }
                Effect::Exit => function.returned.push((at, state.register(0).clone())),
                _ => {}
            }
        });
        function
    }

    /// The variables that are pointers: where they are kept in which part of the code, and what they point to.
    fn pointer_variables(&self, dwarf: &Dwarf) -> Vec<(Range<u64>, Kept, TypeId)> {
        let mut pointers = Vec::new();
        for local in self.locals.iter().flat_map(|locals| &locals.locals) {
            let Some(Some(id)) = dwarf.pointee(local.ty) else { continue };
            if !record_type::is_bytes(dwarf, id) {
                pointers.extend(local.kept.iter().map(|(range, kept)| (range.clone(), *kept, id)));
            }
        }
        pointers
    }

    /// Notes the type of what a value points to.
    fn point(&mut self, value: &Value, id: TypeId, by: By) {
        for atom in value.iter().flatten() {
            if let Atom::Address(base @ (Base::Made(_) | Base::Argument(_)), Some(offset)) = atom {
                self.pointers.entry(base.clone()).or_default().push((*offset, View { id, by }));
            }
        }
    }

    /// The value of a variable.
    fn value(&self, kept: Kept, state: &State) -> Value {
        match kept {
            Kept::Register(register, offset) => {
                let atoms = state.register(register).as_ref()?.iter();
                atoms.map(|atom| shifted(atom, offset)).collect()
            }
            Kept::Address(offset) => Some([Atom::Address(Base::Frame, Some(self.in_frame(offset)?))].into()),
            Kept::Memory(offset) => state.stack(self.in_frame(offset)?).clone(),
        }
    }

    /// An offset from the end of the frame. clang counts from the other end.
    fn in_frame(&self, offset: i64) -> Option<i64> {
        if offset < 0 { Some(offset) } else { Some(offset - i64::try_from(self.frame?).ok()?) }
    }

    /// The variables that lie at an offset of the frame, by turns: type and where it begins.
    fn objects(&self, dwarf: &Dwarf, offset: i64) -> Vec<(TypeId, i64, &'a local_variables::Local)> {
        let mut objects = Vec::new();
        for local in self.locals.iter().flat_map(|locals| &locals.locals) {
            let places = local.kept.iter().filter_map(|(_, kept)| match kept {
                Kept::Memory(offset) => self.in_frame(*offset),
                _ => None,
            });
            let Some(id) = local.ty else { continue };
            let size = i64::from(dwarf.size(id).unwrap_or(0));
            let start = places.into_iter().find(|start| (*start..start + size).contains(&offset));
            objects.extend(start.map(|start| (id, start, local)));
        }
        objects
    }

    /// The type that a macro of ours has noted for the call at a place.
    fn noted(&self, dwarf: &Dwarf, at: u64) -> Option<TypeId> {
        let locals = self.locals.iter().flat_map(|locals| &locals.locals);
        let around = locals.filter(|l| l.is_noted && l.scope.iter().any(|range| range.contains(&at)));
        let len = |local: &&local_variables::Local| {
            local.scope.iter().map(|range| range.end - range.start).sum::<u64>()
        };
        let id = dwarf.pointee(around.min_by_key(len)?.ty)??;
        (!record_type::is_bytes(dwarf, id)).then_some(id)
    }
}

impl local_variables::Local {
    fn is_kept_at(&self, at: u64) -> bool {
        self.kept.iter().any(|(range, _)| range.contains(&at))
    }
}

/// The function of the program that an instruction calls.
fn callee(
    code: &Code,
    instruction: Instruction,
    at: usize,
    places: &HashMap<(usize, u64), usize>,
) -> Option<usize> {
    if instruction.effect() != Effect::Function {
        return None;
    }
    let skipped = (i64::from(instruction.imm) + 1) * 8;
    let place = match code.references.get(&(at as u64)) {
        Some(reference) => (reference.section, reference.place as i64 + skipped),
        None => (code.section, at as i64 + skipped),
    };
    places.get(&(place.0, u64::try_from(place.1).ok()?)).copied()
}
