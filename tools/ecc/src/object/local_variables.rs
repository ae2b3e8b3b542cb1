//! The locations of local variables: the register or stack slot of a variable, and the instructions for which it applies.

use std::ops::Range;
use std::rc::Rc;

use gimli::{AttributeValue, Operation};

use crate::error::Result;
use crate::object::dwarf::{Dwarf, Entry, Slice, TypeId, reference};

/// The local variable in which the macros of `include/bpf_helpers.h` store the address of what is sent.
const SENT_DATA: &str = "__eunomia_data";

/// Ranges of offsets in a section.
pub type Ranges = Vec<Range<u64>>;

/// A function that has code.
pub struct Function {
    pub name: String,
    pub parameters: Vec<Option<TypeId>>,
    pub locals: Vec<Local>,
}

/// A variable or parameter of the function itself or of an inlined one.
pub struct Local {
    pub ty: Option<TypeId>,
    /// The code in which it is visible.
    pub scope: Rc<Ranges>,
    pub locations: Vec<(Range<u64>, Location)>,
    /// Whether it belongs to a macro of `include/bpf_helpers.h` and has the address of what is sent.
    pub is_sent_data: bool,
}

impl Local {
    /// Whether the variable has a location at an instruction.
    pub fn is_live_at(&self, at: u64) -> bool {
        self.locations.iter().any(|(range, _)| range.contains(&at))
    }
}

/// The location of a variable.
#[derive(Clone, Copy, Debug)]
pub enum Location {
    /// The value is that of a register plus a number.
    Register(u8, i64),
    /// The value is the address of this offset in the stack frame.
    Address(i64),
    /// The variable is stored at this offset in the stack frame.
    Memory(i64),
}

/// Reads all functions that have code.
pub fn functions(dwarf: &Dwarf) -> Result<Vec<Function>> {
    let mut functions: Vec<Function> = Vec::new();
    // The code of the enclosing entries.
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
        let enclosing = scopes.last().cloned().unwrap_or_default();
        let scope = if own.is_empty() { enclosing } else { Rc::new(own) };
        match entry.tag() {
            gimli::DW_TAG_subprogram if depth == 1 => {
                let name = name(dwarf, entry)?;
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
    // Abstract instances of inlined functions have no code.
    functions.retain(|function| function.locals.iter().any(|local| !local.scope.is_empty()));
    Ok(functions)
}

fn local<'a>(dwarf: &Dwarf<'a>, entry: &Entry<'_, 'a>, scope: &Rc<Ranges>) -> Result<Local> {
    let origin = reference(entry, gimli::DW_AT_abstract_origin)?;
    let mut ty = reference(entry, gimli::DW_AT_type)?;
    if let (Some(origin), None) = (origin, ty) {
        ty = reference(&dwarf.unit.entry(origin)?, gimli::DW_AT_type)?;
    }
    let is_sent_data = name(dwarf, entry)? == SENT_DATA;
    Ok(Local { ty, scope: scope.clone(), locations: locations(dwarf, entry, scope)?, is_sent_data })
}

/// The name of an entry, or of the one that it is an instance of.
fn name<'a>(dwarf: &Dwarf<'a>, entry: &Entry<'_, 'a>) -> Result<String> {
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

fn locations<'a>(
    dwarf: &Dwarf<'a>,
    entry: &Entry<'_, 'a>,
    scope: &Ranges,
) -> Result<Vec<(Range<u64>, Location)>> {
    let mut locations = Vec::new();
    match entry.attr_value(gimli::DW_AT_location)? {
        None => {}
        Some(AttributeValue::Exprloc(expression)) => {
            if let Some(location) = location(dwarf, expression)? {
                locations.extend(scope.iter().map(|range| (range.clone(), location)));
            }
        }
        Some(value) => {
            let list = dwarf.dwarf.attr_locations(&dwarf.unit, value)?;
            let Some(mut list) = list else { return Ok(locations) };
            while let Some(entry) = list.next()? {
                let location = location(dwarf, entry.data)?;
                locations.extend(location.map(|found| (entry.range.begin..entry.range.end, found)));
            }
        }
    }
    Ok(locations)
}

/// The location that a simple expression describes; `None` for others.
fn location(dwarf: &Dwarf, expression: gimli::Expression<Slice>) -> Result<Option<Location>> {
    const FRAME: gimli::Register = gimli::Register(10);
    let mut operations = expression.operations(dwarf.unit.encoding());
    let first = operations.next()?;
    let second = operations.next()?;
    let is_value = matches!(second, Some(Operation::StackValue));
    if operations.next()?.is_some() || second.is_some() && !is_value {
        return Ok(None);
    }
    Ok(match first {
        Some(Operation::Register { register: FRAME }) => Some(Location::Address(0)),
        Some(Operation::Register { register }) => Some(Location::Register(register.0 as u8, 0)),
        Some(
            Operation::FrameOffset { offset } | Operation::RegisterOffset { register: FRAME, offset, .. },
        ) => Some(if is_value { Location::Address(offset) } else { Location::Memory(offset) }),
        Some(Operation::RegisterOffset { register, offset, .. }) if is_value => {
            Some(Location::Register(register.0 as u8, offset))
        }
        _ => None,
    })
}
