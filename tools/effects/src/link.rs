//! Links the functions of an object as libbpf does, without the kernel.
//!
//! Like libbpf (libbpf.c: `elf_collect`, `add_programs`, `collect_prog_relos`, `reloc_code`), it identifies functions by
//! section and offset, reads only relocations without an addend, and searches callees only in `.text`. If the two could
//! differ (functions that overlap, several relocations of one instruction), the code of the program is unknown.

use std::collections::{BTreeMap, BTreeSet};

use eunomia::btf::Btf;

use crate::code::{Code, Reference};
use crate::elf::{self, Section, Symbol};
use crate::instruction::{
    BYTES, CALL, FUNCTION, Instruction, LOAD_64, MAP, MAP_BY_INDEX, MAP_VALUE, MAP_VALUE_BY_INDEX,
    PSEUDO_CALL, PSEUDO_KFUNC,
};

const OVERLAP: &str = "functions overlap";
const MALFORMED: &str = "malformed object";
/// Limit on the instructions of a program and its callees. The verifier visits at most a million.
const MAX_INSTRUCTIONS: usize = 1 << 18;
/// Limit on the linked instructions of an object, per instruction in it, but at least `MIN_WORK`. There are more linked
/// instructions, because each program gets its own copy of the functions that programs share.
const MAX_GROWTH: usize = 64;
const MIN_WORK: usize = 1 << 20;

/// A function of an object.
struct Function<'a> {
    name: String,
    section: usize,
    /// In instructions.
    start: usize,
    code: &'a [u8],
    overlaps: bool,
}

impl Function<'_> {
    fn len(&self) -> usize {
        self.code.len() / BYTES
    }
}

/// The target of a relocation.
#[derive(Clone)]
enum Target {
    /// A function in `.text`: the byte offset of its symbol.
    Text(u64),
    /// A map, or a variable in a data section.
    Data(Reference),
    /// A function or variable of the kernel.
    Extern(String),
    /// Several relocations, or one that libbpf refuses.
    Invalid,
}

/// The functions of an object and the targets of their instructions.
pub struct Object<'a> {
    /// Sorted by section and offset.
    functions: Vec<Function<'a>>,
    by_name: BTreeMap<String, Vec<usize>>,
    /// By section and instruction index.
    targets: BTreeMap<(usize, usize), Target>,
    relocated: BTreeSet<(usize, usize)>,
    text: Option<usize>,
    /// Instructions that may still be linked.
    remaining: usize,
}

impl<'a> Object<'a> {
    /// Reads an object. Errors are reported for its programs.
    pub fn new(elf: &'a [u8]) -> Object<'a> {
        Object::read(elf).unwrap_or_else(|| Object {
            functions: Vec::new(),
            by_name: BTreeMap::new(),
            targets: BTreeMap::new(),
            relocated: BTreeSet::new(),
            text: None,
            remaining: 0,
        })
    }

    fn read(elf: &'a [u8]) -> Option<Object<'a>> {
        let sections = elf::sections(elf)?;
        let symbols = elf::symbols(&sections)?;
        let is_code = |section: &Section<'_>| {
            section.kind == elf::PROGBITS && section.flags & elf::EXECUTABLE != 0 && !section.is_skipped()
        };
        let text = sections.iter().rposition(|it| it.name == b".text" && is_code(it) && !it.data.is_empty());
        let functions = functions(&sections, &symbols, is_code)?;
        let mut by_name: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (index, function) in functions.iter().enumerate().filter(|(_, it)| Some(it.section) != text) {
            by_name.entry(function.name.clone()).or_default().push(index);
        }
        // A single function is a program in any section.
        if let [only] = &functions[..] {
            by_name.insert(only.name.clone(), vec![0]);
        }
        let types = sections.iter().find(|it| it.name == b".BTF").and_then(|it| Btf::parse(it.data).ok())?;
        let targets = targets(&sections, &symbols, &types, text);
        let relocated = relocated(&sections, &types)?;
        let count: usize = functions.iter().map(Function::len).sum();
        let remaining = count.saturating_mul(MAX_GROWTH).max(MIN_WORK);
        Some(Object { functions, by_name, targets, relocated, text, remaining })
    }

    /// The program called `name` with the functions that it calls. `own` is its code in libbpf before the object is loaded;
    /// if it differs from the code found here, the result is unknown.
    pub fn code(&mut self, name: &str, own: &[[u8; BYTES]]) -> Code {
        let main = match self.by_name.get(name).map(Vec::as_slice) {
            Some(&[main]) => main,
            Some(_) => return Code::unknown("several programs have this name"),
            None => return Code::unknown("its instructions were not found in the object"),
        };
        if self.functions[main].code != own.as_flattened() {
            return Code::unknown("its instructions were not found in the object");
        }
        self.link(main).unwrap_or_else(Code::unknown)
    }

    /// Appends to a program what it calls, as libbpf does.
    fn link(&mut self, main: usize) -> Result<Code, String> {
        let mut code = Code::default();
        let mut positions = BTreeMap::new();
        self.link_from(main, &mut positions, &mut code)?;
        // If a program throws, the kernel calls a function that no instruction names (`exception_callback` in its BTF).
        // Any function in `.text` may be this one.
        let throws = |name: &str| name == "bpf_throw" || name.starts_with('#');
        if code.references.values().any(|it| matches!(it, Reference::Kernel(name) if throws(name))) {
            for index in 0..self.functions.len() {
                if Some(self.functions[index].section) == self.text && !positions.contains_key(&index) {
                    code.starts.insert(code.instructions.len());
                    self.link_from(index, &mut positions, &mut code)?;
                }
            }
        }
        code.find_functions();
        Ok(code)
    }

    /// Appends a function and its callees in the order of libbpf: each callee follows the function that first calls it.
    fn link_from(
        &mut self,
        root: usize,
        positions: &mut BTreeMap<usize, usize>,
        code: &mut Code,
    ) -> Result<(), String> {
        positions.insert(root, code.instructions.len());
        self.append(root, code)?;
        // Functions in progress, with the next instruction of each.
        let mut waiting = vec![(root, 0)];
        while let Some((index, within)) = waiting.pop() {
            if within == self.functions[index].len() {
                continue;
            }
            waiting.push((index, within + 1));
            let position = positions[&index] + within;
            let Some(callee) = self.callee(index, within, code.instructions[position])? else { continue };
            let next = code.instructions.len();
            let target = *positions.entry(callee).or_insert(next);
            if target == next {
                self.append(callee, code)?;
                waiting.push((callee, 0));
            }
            let ahead = target as i64 - position as i64 - 1;
            code.instructions[position].imm = i32::try_from(ahead).map_err(|_| MALFORMED)?;
        }
        Ok(())
    }

    /// Appends the instructions of a function and their references.
    fn append(&mut self, index: usize, code: &mut Code) -> Result<(), String> {
        let function = &self.functions[index];
        let (start, len) = (code.instructions.len(), function.len());
        if function.overlaps {
            return Err(OVERLAP.into());
        }
        if start + len > MAX_INSTRUCTIONS {
            return Err(format!("more than {MAX_INSTRUCTIONS} instructions"));
        }
        self.remaining = self.remaining.checked_sub(len).ok_or("the programs of the object are too large")?;
        let read = function.code.chunks_exact(BYTES).map(|bytes| bytes.try_into().map(Instruction::new));
        code.instructions.extend(read.filter_map(Result::ok));
        let range = (function.section, function.start)..(function.section, function.start + len);
        code.relocated.extend(self.relocated.range(range.clone()).map(|(_, at)| at - function.start + start));
        for ((_, at), target) in self.targets.range(range) {
            relocate(at - function.start + start, target, code)?;
        }
        for position in start..start + len {
            let instruction = code.instructions[position];
            let is_number = matches!(instruction.src, MAP | MAP_VALUE | MAP_BY_INDEX | MAP_VALUE_BY_INDEX)
                && instruction.code == LOAD_64;
            if is_number || (instruction.code == CALL && instruction.src == PSEUDO_KFUNC) {
                let reference = match instruction.code {
                    CALL => Reference::Kernel(format!("#{}", instruction.imm)),
                    _ => Reference::Number,
                };
                code.references.entry(position).or_insert(reference);
            }
        }
        Ok(())
    }

    /// The function that an instruction calls or loads the address of, by the rules of libbpf.
    fn callee(&self, index: usize, within: usize, instruction: Instruction) -> Result<Option<usize>, String> {
        let function = &self.functions[index];
        let is_call = instruction.code == CALL
            && instruction.src == PSEUDO_CALL
            && instruction.dst == 0
            && instruction.off == 0;
        let is_address = instruction.code == LOAD_64 && instruction.src == FUNCTION;
        if !is_call && !is_address {
            return Ok(None);
        }
        let imm = i64::from(instruction.imm);
        let position = match self.targets.get(&(function.section, function.start + within)) {
            Some(Target::Extern(_)) if is_call => return Ok(None),
            Some(Target::Text(at)) if is_call => (*at / BYTES as u64) as i64 + imm + 1,
            Some(Target::Text(at)) => (*at as i64).saturating_add(imm) / BYTES as i64,
            None if is_call => (function.start + within) as i64 + imm + 1,
            _ => return Err(MALFORMED.into()),
        };
        let text = self.text.ok_or(MALFORMED)?;
        let position = usize::try_from(position).map_err(|_| MALFORMED)?;
        let end = self.functions.partition_point(|it| (it.section, it.start) <= (text, position));
        let found = end.checked_sub(1).filter(|&found| {
            let function = &self.functions[found];
            function.section == text && position < function.start + function.len()
        });
        found.map(Some).ok_or_else(|| MALFORMED.into())
    }
}

/// Applies a relocation to the instruction at `position`.
fn relocate(position: usize, target: &Target, code: &mut Code) -> Result<(), String> {
    let instruction = &mut code.instructions[position];
    match target {
        Target::Invalid => return Err("malformed relocations".into()),
        Target::Text(_) if instruction.code == LOAD_64 => instruction.src = FUNCTION,
        Target::Text(_) => {}
        Target::Extern(name) if instruction.code == CALL => {
            code.references.insert(position, Reference::Kernel(name.clone()));
            // A helper call that was there is kept, so that it is reported too.
            if instruction.src != crate::instruction::HELPER {
                instruction.src = PSEUDO_KFUNC;
            }
        }
        // A kernel configuration value, or the address of a kernel variable.
        Target::Extern(_) => instruction.src = crate::instruction::BTF_ID,
        Target::Data(reference) => {
            let is_value = matches!(reference, Reference::Map(maps) if maps.is_empty());
            instruction.src = if is_value { MAP_VALUE } else { MAP };
            code.references.insert(position, reference.clone());
        }
    }
    Ok(())
}

/// All functions, sorted by section and offset.
fn functions<'a>(
    sections: &[Section<'a>],
    symbols: &[Symbol<'a>],
    is_code: impl Fn(&Section<'_>) -> bool,
) -> Option<Vec<Function<'a>>> {
    let mut functions = Vec::new();
    for symbol in symbols.iter().filter(|symbol| symbol.kind == elf::FUNCTION && symbol.size > 0) {
        let Some(section) = sections.get(usize::from(symbol.section)).filter(|it| is_code(it)) else {
            continue;
        };
        let (start, size) = (usize::try_from(symbol.value).ok()?, usize::try_from(symbol.size).ok()?);
        let code = section.data.get(start..start.checked_add(size)?)?;
        if start % BYTES != 0 || size % BYTES != 0 {
            return None;
        }
        let name = String::from_utf8_lossy(symbol.name).into_owned();
        let (section, start) = (symbol.section.into(), start / BYTES);
        functions.push(Function { name, section, start, code, overlaps: false });
    }
    functions.sort_by_key(|it| (it.section, it.start));
    mark_overlapping(&mut functions);
    Some(functions)
}

/// Marks functions that share instructions.
fn mark_overlapping(functions: &mut [Function<'_>]) {
    // The function so far with the last end.
    let mut furthest = 0;
    for index in 1..functions.len() {
        let end = |it: &Function<'_>| (it.section, it.start + it.len());
        let (own, reached) = (end(&functions[index]), end(&functions[furthest]));
        if own.0 == reached.0 && functions[index].start < reached.1 {
            functions[furthest].overlaps = true;
            functions[index].overlaps = true;
        }
        if own > reached {
            furthest = index;
        }
    }
}

/// The targets of relocations, by section and instruction index.
fn targets(
    sections: &[Section<'_>],
    symbols: &[Symbol<'_>],
    types: &Btf,
    text: Option<usize>,
) -> BTreeMap<(usize, usize), Target> {
    let maps_at = sections.iter().rposition(|section| section.name == b".maps");
    let maps = maps_at.map(|at| (at, maps(at, symbols, types)));
    let mut targets = BTreeMap::new();
    for section in sections.iter().filter(|section| section.kind == elf::REL && !section.is_skipped()) {
        let of = section.info as usize;
        if sections.get(of).is_none_or(|it| it.flags & elf::EXECUTABLE == 0) {
            continue;
        }
        for relocation in elf::relocations(section) {
            let symbol = symbols.get(relocation.symbol as usize);
            let target =
                symbol.map_or(Target::Invalid, |symbol| target(symbol, sections, text, maps.as_ref()));
            let key = (of, relocation.at as usize / BYTES);
            targets.entry(key).and_modify(|known| *known = Target::Invalid).or_insert(target);
        }
    }
    targets
}

/// The names of the maps at each offset of their section.
type Maps = BTreeMap<u64, BTreeSet<String>>;

fn target(
    symbol: &Symbol<'_>,
    sections: &[Section<'_>],
    text: Option<usize>,
    maps: Option<&(usize, Maps)>,
) -> Target {
    let section = usize::from(symbol.section);
    if section == 0 {
        let is_extern = symbol.binding != elf::LOCAL && symbol.kind == elf::NO_TYPE;
        let name = essential(&String::from_utf8_lossy(symbol.name)).to_owned();
        return if is_extern { Target::Extern(name) } else { Target::Invalid };
    }
    match (sections.get(section), maps) {
        _ if Some(section) == text => Target::Text(symbol.value),
        (Some(_), Some((at, maps))) if *at == section => {
            let names = maps.get(&symbol.value).cloned();
            names.map_or(Target::Invalid, |names| Target::Data(Reference::Map(names)))
        }
        // A variable. Its map belongs to the object only and gets no name here.
        (Some(_), _) => Target::Data(Reference::Map(BTreeSet::new())),
        (None, _) => Target::Invalid,
    }
}

/// The maps in the section `at`. libbpf uses the offsets in BTF, or those of the symbols if BTF has none yet.
fn maps(at: usize, symbols: &[Symbol<'_>], types: &Btf) -> Maps {
    let sections = (1..types.len()).filter(|id| types.name(*id) == Some(".maps"));
    let (mut maps, mut unplaced) = (Maps::new(), BTreeSet::new());
    for id in sections {
        for variable in types.globals(id) {
            if types.section_size(id) == Some(0) {
                unplaced.insert(variable.name);
            } else {
                maps.entry(variable.offset.into()).or_default().insert(variable.name.to_owned());
            }
        }
    }
    for symbol in symbols {
        let name = String::from_utf8_lossy(symbol.name);
        if usize::from(symbol.section) == at && !name.is_empty() || unplaced.contains(&*name) {
            maps.entry(symbol.value).or_default().insert(name.into_owned());
        }
    }
    maps
}

/// The instructions that CO-RE can change, by section and instruction index.
fn relocated(sections: &[Section<'_>], types: &Btf) -> Option<BTreeSet<(usize, usize)>> {
    let mut all = BTreeSet::new();
    let Some(ext) = sections.iter().find(|it| it.name == b".BTF.ext") else { return Some(all) };
    // libbpf uses the first of several sections with the same name.
    let mut by_name: BTreeMap<&[u8], usize> = BTreeMap::new();
    for (index, section) in sections.iter().enumerate() {
        by_name.entry(section.name).or_insert(index);
    }
    for relocation in eunomia::btf::relocations(ext.data)? {
        let name = types.string(relocation.section)?.as_bytes();
        if let Some(section) = by_name.get(name) {
            all.insert((*section, relocation.offset as usize / BYTES));
        }
    }
    Some(all)
}

/// The name without a flavor suffix, which libbpf ignores: `bpf_throw___new` is `bpf_throw`.
fn essential(name: &str) -> &str {
    let bytes = name.as_bytes();
    let separator =
        |at: &usize| bytes[*at] != b'_' && &bytes[at + 1..at + 4] == b"___" && bytes[at + 4] != b'_';
    let last = bytes.len().checked_sub(4).and_then(|end| (0..end).rev().find(separator));
    last.and_then(|at| name.get(..=at)).unwrap_or(name)
}
