//! Where functions keep their variables: in which register, or in which part of the stack, at which instructions.

use std::ops::Range;
use std::rc::Rc;

use gimli::{AttributeValue, Operation};

use crate::error::Result;
use crate::object::dwarf::{Dwarf, Entry, Slice, TypeId, reference};

/// The local variable in which `include/bpf_helpers.h` keeps what is sent.
const NOTED: &str = "__eunomia_data";

/// Places in a section.
pub type Ranges = Vec<Range<u64>>;

/// A function that there is code of.
pub struct Function {
    pub name: String,
    pub parameters: Vec<Option<TypeId>>,
    pub locals: Vec<Local>,
}

/// A variable or parameter, of the function itself or of one that was inlined.
pub struct Local {
    pub ty: Option<TypeId>,
    /// The code in which it is known.
    pub scope: Rc<Ranges>,
    pub kept: Vec<(Range<u64>, Kept)>,
    /// Whether it is what a macro of ours sends.
    pub is_noted: bool,
}

/// How a variable is kept.
#[derive(Clone, Copy, Debug)]
pub enum Kept {
    /// Its value is that of a register and a number.
    Register(u8, i64),
    /// Its value is an address in the stack frame.
    Address(i64),
    /// It lies at that address in the stack frame.
    Memory(i64),
}

/// Reads all functions that there is code of.
pub fn functions(dwarf: &Dwarf) -> Result<Vec<Function>> {
    let mut functions: Vec<Function> = Vec::new();
    // The code of the entries around the current one.
    let mut scopes: Vec<Rc<Ranges>> = Vec::new();
    let mut cursor = dwarf.unit.entries();
    let mut depth: isize = 0;
    while let Some((step, entry)) = cursor.next_dfs()? {
        depth += step;
        scopes.truncate(usize::try_from(depth).unwrap_or(0));
        let own = match entry.tag() {
            gimli::DW_TAG_subprogram | gimli::DW_TAG_inlined_subroutine | gimli::DW_TAG_lexical_block => {
                ranges(dwarf, entry)?
            }
            _ => Vec::new(),
        };
        let around = scopes.last().cloned().unwrap_or_default();
        let scope = if own.is_empty() { around } else { Rc::new(own) };
        match entry.tag() {
            gimli::DW_TAG_subprogram if depth == 1 => {
                let name = text(dwarf, entry)?;
                functions.push(Function { name, parameters: Vec::new(), locals: Vec::new() });
            }
            gimli::DW_TAG_variable | gimli::DW_TAG_formal_parameter if depth > 1 => {
                let Some(function) = functions.last_mut() else { continue };
                let local = local(dwarf, entry, &scope)?;
                if depth == 2 && entry.tag() == gimli::DW_TAG_formal_parameter {
                    function.parameters.push(local.ty);
                }
                function.locals.push(local);
            }
            _ => {}
        }
        scopes.push(scope);
    }
    // An abstract one has no code.
    functions.retain(|function| function.locals.iter().any(|local| !local.scope.is_empty()));
    Ok(functions)
}

fn local<'a>(dwarf: &Dwarf<'a>, entry: &Entry<'_, 'a>, scope: &Rc<Ranges>) -> Result<Local> {
    let origin = reference(entry, gimli::DW_AT_abstract_origin)?;
    let mut ty = reference(entry, gimli::DW_AT_type)?;
    if let (Some(origin), None) = (origin, ty) {
        ty = reference(&dwarf.unit.entry(origin)?, gimli::DW_AT_type)?;
    }
    let is_noted = text(dwarf, entry)? == NOTED;
    Ok(Local { ty, scope: scope.clone(), kept: kept(dwarf, entry, scope)?, is_noted })
}

/// The name, which may stand at what this is an instance of.
fn text<'a>(dwarf: &Dwarf<'a>, entry: &Entry<'_, 'a>) -> Result<String> {
    let name = dwarf.name(entry)?;
    match reference(entry, gimli::DW_AT_abstract_origin)? {
        Some(origin) if name.is_empty() => dwarf.name(&dwarf.unit.entry(origin)?),
        _ => Ok(name),
    }
}

fn ranges<'a>(dwarf: &Dwarf<'a>, entry: &Entry<'_, 'a>) -> Result<Ranges> {
    let mut ranges = Vec::new();
    let mut found = dwarf.dwarf.die_ranges(&dwarf.unit, entry)?;
    while let Some(range) = found.next()? {
        ranges.push(range.begin..range.end);
    }
    Ok(ranges)
}

fn kept<'a>(dwarf: &Dwarf<'a>, entry: &Entry<'_, 'a>, scope: &Ranges) -> Result<Vec<(Range<u64>, Kept)>> {
    let mut places = Vec::new();
    match entry.attr_value(gimli::DW_AT_location)? {
        None => {}
        Some(AttributeValue::Exprloc(expression)) => {
            if let Some(kept) = place(dwarf, expression)? {
                places.extend(scope.iter().map(|range| (range.clone(), kept)));
            }
        }
        Some(value) => {
            let Some(mut list) = dwarf.dwarf.attr_locations(&dwarf.unit, value)? else { return Ok(places) };
            while let Some(entry) = list.next()? {
                let kept = place(dwarf, entry.data)?;
                places.extend(kept.map(|kept| (entry.range.begin..entry.range.end, kept)));
            }
        }
    }
    Ok(places)
}

/// The place that an expression names, if it is a simple one.
fn place(dwarf: &Dwarf, expression: gimli::Expression<Slice>) -> Result<Option<Kept>> {
    const FRAME: gimli::Register = gimli::Register(10);
    let mut operations = expression.operations(dwarf.unit.encoding());
    let first = operations.next()?;
    let second = operations.next()?;
    let is_value = matches!(second, Some(Operation::StackValue));
    if operations.next()?.is_some() || second.is_some() && !is_value {
        return Ok(None);
    }
    Ok(match first {
        Some(Operation::Register { register: FRAME }) => Some(Kept::Address(0)),
        Some(Operation::Register { register }) => Some(Kept::Register(register.0 as u8, 0)),
        Some(
            Operation::FrameOffset { offset } | Operation::RegisterOffset { register: FRAME, offset, .. },
        ) => Some(if is_value { Kept::Address(offset) } else { Kept::Memory(offset) }),
        Some(Operation::RegisterOffset { register, offset, .. }) if is_value => {
            Some(Kept::Register(register.0 as u8, offset))
        }
        _ => None,
    })
}
