//! The compiled object as an ELF file: reads sections and symbols, and removes debug information.

use std::collections::HashMap;
use std::rc::Rc;

use object::build::elf::{Builder, SectionData};
use object::elf;
use object::read::elf::{ElfFile64, ElfSymbol64, FileHeader};
use object::{NativeEndian, Object, ObjectSection, ObjectSymbol, RelocationTarget, SectionKind};

use crate::error::{Error, Result};

pub use eunomia::internal::constants::LOST_MAP;

/// The section to which clang writes the sizes of stack frames, with `-fstack-size-section`.
const FRAMES: &str = ".stack_sizes";

/// A compiled object.
pub struct Elf<'a> {
    bytes: &'a [u8],
    file: ElfFile64<'a, NativeEndian>,
}

/// A global variable or map.
pub struct Global {
    pub name: String,
    pub section: String,
}

/// The instructions of a section.
pub struct Code<'a> {
    pub section: usize,
    /// Whether it contains the functions that programs call. Programs have sections of their own.
    pub is_text: bool,
    pub instructions: &'a [u8],
    /// The symbols that instructions refer to, by the offset of the instruction.
    pub references: HashMap<u64, Reference>,
    pub functions: Vec<Function>,
}

/// A function in a section.
pub struct Function {
    pub name: String,
    pub is_global: bool,
    pub start: u64,
    pub size: u64,
    /// The size of its stack frame, if clang recorded it.
    pub frame: Option<u64>,
}

/// The symbol that an instruction refers to.
pub struct Reference {
    name: Rc<str>,
    pub section: usize,
    /// The offset of the symbol in its section.
    pub offset: u64,
    /// The variables in the section, if the symbol is a whole section.
    variables: Variables,
}

/// The variables in a section, sorted by offset: offset, size and name.
type Variables = Rc<[(u64, u64, Rc<str>)]>;

/// The content of each section.
#[derive(Default)]
struct Contents {
    functions: HashMap<usize, Vec<Function>>,
    variables: HashMap<usize, Variables>,
}

impl Code<'_> {
    /// The targets of instructions that take an address: section and offset.
    pub fn addresses(&self) -> impl Iterator<Item = (usize, u64)> {
        const LD_IMM64: u8 = 0x18;
        let instruction = |offset: u64| self.instructions.get(offset as usize..)?.first_chunk::<8>();
        self.references.iter().filter_map(move |(offset, reference)| {
            let instruction = instruction(*offset).filter(|bytes| bytes[0] == LD_IMM64)?;
            let [.., a, b, c, d] = *instruction;
            let target = i64::from(i32::from_ne_bytes([a, b, c, d])) + reference.offset as i64;
            Some((reference.section, u64::try_from(target).ok()?))
        })
    }
}

impl Reference {
    /// The variable that is `offset` bytes from the symbol, and the offset in it.
    pub fn resolve(&self, offset: i64) -> (Rc<str>, i64) {
        let found = u64::try_from(offset).ok().and_then(|offset| {
            let before = self.variables.partition_point(|(start, ..)| *start <= offset);
            let (start, size, name) = &self.variables[before.checked_sub(1)?];
            (offset - start < *size).then_some((start, name))
        });
        match found {
            Some((start, name)) => (name.clone(), offset - *start as i64),
            None => (self.name.clone(), offset),
        }
    }
}

/// The instructions of a function, and the symbols that they refer to, by offset.
#[derive(PartialEq)]
struct Body<'a> {
    instructions: &'a [u8],
    references: Vec<(u64, RelocationTarget)>,
}

impl<'a> Elf<'a> {
    /// Reads an object that clang wrote.
    pub fn parse(bytes: &'a [u8]) -> Result<Elf<'a>> {
        let file = ElfFile64::<NativeEndian>::parse(bytes)?;
        if file.elf_header().e_machine(NativeEndian) != elf::EM_BPF {
            return Err("clang wrote no BPF object: remove -target from the flags".into());
        }
        Ok(Elf { bytes, file })
    }

    /// The content of a section, empty if it is missing.
    pub fn section(&self, name: &str) -> &'a [u8] {
        let section = self.file.section_by_name_bytes(name.as_bytes());
        section.and_then(|section| section.data().ok()).unwrap_or_default()
    }

    /// The variables with external linkage, sorted by section and offset.
    pub fn globals(&self) -> Vec<Global> {
        let symbols = self
            .file
            .symbols()
            .filter(|symbol| symbol.is_global() && symbol.elf_symbol().st_type() == elf::STT_OBJECT);
        let global = |symbol: ElfSymbol64<'_, '_, NativeEndian>| {
            let index = symbol.section_index()?;
            let section = self.file.section_by_index(index).ok()?.name().ok()?.into();
            let name = symbol.name().ok()?.into();
            Some(((index.0, symbol.address()), Global { name, section }))
        };
        let mut globals: Vec<_> = symbols.filter_map(global).collect();
        globals.sort_by_key(|(position, _)| *position);
        globals.into_iter().map(|(_, global)| global).collect()
    }

    /// The number of functions outside of `.text`: these are programs.
    pub fn program_count(&self) -> usize {
        let is_program = |symbol: &ElfSymbol64<'_, '_, NativeEndian>| {
            let section = symbol.section_index().and_then(|index| self.file.section_by_index(index).ok());
            symbol.elf_symbol().st_type() == elf::STT_FUNC
                && section.is_some_and(|section| section.name() != Ok(".text"))
        };
        self.file.symbols().filter(is_program).count()
    }

    /// The code, by section.
    pub fn code(&self) -> Vec<Code<'a>> {
        let mut contents = self.contents();
        let sections = self.file.sections().filter(|section| section.kind() == SectionKind::Text);
        let code = sections.map(|section| {
            let index = section.index().0;
            let targets = section.relocations();
            let reference = |target| self.reference(target, &contents);
            let references =
                targets.filter_map(|(offset, target)| Some((offset, reference(target.target())?))).collect();
            Code {
                section: index,
                is_text: section.name() == Ok(".text"),
                instructions: section.data().unwrap_or_default(),
                references,
                functions: contents.functions.remove(&index).unwrap_or_default(),
            }
        });
        code.collect()
    }

    /// The functions and variables of each section, found in one pass.
    fn contents(&self) -> Contents {
        let frames = self.frames();
        let mut variables: HashMap<usize, Vec<(u64, u64, Rc<str>)>> = HashMap::new();
        let mut contents = Contents::default();
        for symbol in self.file.symbols() {
            let (Some(section), Ok(name)) = (symbol.section_index(), symbol.name()) else { continue };
            let (start, size) = (symbol.address(), symbol.size());
            match symbol.elf_symbol().st_type() {
                elf::STT_FUNC => {
                    let frame = frames.get(&(section.0, start)).copied();
                    let is_global = symbol.is_global();
                    let function = Function { name: name.into(), is_global, start, size, frame };
                    contents.functions.entry(section.0).or_default().push(function);
                }
                elf::STT_OBJECT => variables.entry(section.0).or_default().push((start, size, name.into())),
                _ => {}
            }
        }
        for (section, mut variables) in variables {
            variables.sort();
            contents.variables.insert(section, variables.into());
        }
        contents
    }

    fn reference(&self, target: RelocationTarget, contents: &Contents) -> Option<Reference> {
        let RelocationTarget::Symbol(index) = target else { return None };
        let symbol = self.file.symbol_by_index(index).ok()?;
        let section = symbol.section_index();
        let is_section = symbol.elf_symbol().st_type() == elf::STT_SECTION;
        let inside = section.filter(|_| is_section).and_then(|index| contents.variables.get(&index.0));
        let variables = inside.cloned().unwrap_or_default();
        let name = symbol.name().ok()?.into();
        Some(Reference {
            name,
            section: section.map_or(0, |index| index.0),
            offset: symbol.address(),
            variables,
        })
    }

    /// The sizes of the stack frames, by section and offset of the function.
    fn frames(&self) -> HashMap<(usize, u64), u64> {
        let mut frames = HashMap::new();
        for section in self.file.sections().filter(|section| section.name() == Ok(FRAMES)) {
            let data = section.data().unwrap_or_default();
            for (offset, relocation) in section.relocations() {
                let RelocationTarget::Symbol(index) = relocation.target() else { continue };
                let Ok(symbol) = self.file.symbol_by_index(index) else { continue };
                let entry = data.get(offset as usize..).and_then(|entry| entry.split_first_chunk::<8>());
                let (Some((address, size)), Some(section)) = (entry, symbol.section_index()) else {
                    continue;
                };
                let start = symbol.address().wrapping_add(u64::from_ne_bytes(*address));
                frames.extend(leb128(size).map(|size| ((section.0, start), size)));
            }
        }
        frames
    }

    /// Whether two functions have the same instructions and refer to the same symbols at the same offsets.
    pub fn is_same_code(&self, one: &str, other: &str) -> bool {
        self.body(one).is_some_and(|one| Some(one) == self.body(other))
    }

    fn body(&self, name: &str) -> Option<Body<'a>> {
        let named = |symbol: &ElfSymbol64<'_, '_, NativeEndian>| {
            symbol.elf_symbol().st_type() == elf::STT_FUNC && symbol.name() == Ok(name)
        };
        let symbol = self.file.symbols().find(named)?;
        let section = self.file.section_by_index(symbol.section_index()?).ok()?;
        let (start, size) = (symbol.address(), symbol.size());
        let instructions = section.data_range(start, size).ok()??;
        let references = section.relocations().filter(|(offset, _)| (start..start + size).contains(offset));
        let references = references.map(|(offset, target)| (offset - start, target.target())).collect();
        Some(Body { instructions, references })
    }

    /// The object with new BTF, and with new line information if `ext` is given. Debug information and sections that only
    /// linkers need are removed.
    pub fn strip(&self, btf: Vec<u8>, ext: Option<Vec<u8>>) -> Result<Vec<u8>> {
        let mut builder = Builder::read64(self.bytes)?;
        for section in &mut builder.sections {
            let name = section.name.as_slice();
            // libbpf reads offsets from instructions and symbols, never from relocations of BTF.
            section.delete = name.starts_with(b".debug_")
                || name.starts_with(b".rel.debug_")
                || [FRAMES.as_bytes(), b".rel.stack_sizes", b".rel.BTF", b".rel.BTF.ext"].contains(&name);
            if name == b".BTF" {
                section.data = SectionData::Data(btf.clone().into());
            }
            if let Some(ext) = ext.as_ref().filter(|_| name == b".BTF.ext") {
                section.data = SectionData::Data(ext.clone().into());
            }
        }
        for symbol in &mut builder.symbols {
            if symbol.name.as_slice() == LOST_MAP.as_bytes() {
                // Weak, because each source defines this map, and several sources may be linked.
                symbol.set_st_info(elf::STB_WEAK, symbol.st_type());
            }
            // bpf_helpers.h declares this map, but a program without ring buffers does not define it.
            symbol.delete = symbol.name.as_slice() == LOST_MAP.as_bytes() && symbol.section.is_none();
        }
        builder.delete_orphans();
        // clang stores the names of sections in the table of symbol names, to which the builder writes no section names.
        let names = builder.sections.add();
        names.name = b".shstrtab"[..].into();
        names.sh_type = elf::SHT_STRTAB;
        names.sh_addralign = 1;
        names.data = SectionData::SectionString;
        let mut stripped = Vec::new();
        builder.write(&mut stripped)?;
        Ok(stripped)
    }
}

/// Decodes an unsigned LEB128 number.
fn leb128(bytes: &[u8]) -> Option<u64> {
    let len = bytes.iter().position(|byte| byte & 0x80 == 0).filter(|len| *len < 9)? + 1;
    Some(bytes[..len].iter().rev().fold(0, |number, byte| number << 7 | u64::from(byte & 0x7f)))
}

impl From<object::Error> for Error {
    fn from(error: object::Error) -> Error {
        format!("malformed object: {error}").into()
    }
}

impl From<object::build::Error> for Error {
    fn from(error: object::build::Error) -> Error {
        format!("malformed object: {error}").into()
    }
}
