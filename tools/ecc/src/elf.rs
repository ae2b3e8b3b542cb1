//! The compiled object as an ELF file: its sections and symbols, and the same object without debug information.

use std::collections::HashMap;

use object::build::elf::{Builder, SectionData};
use object::elf;
use object::read::elf::{ElfFile64, ElfSymbol64, FileHeader};
use object::{NativeEndian, Object, ObjectSection, ObjectSymbol, RelocationTarget, SectionKind};

use crate::error::{Error, Result};

/// The map that counts lost events; see `include/bpf_helpers.h`.
pub const LOST_MAP: &str = "__eunomia_lost";

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
    pub instructions: &'a [u8],
    /// The names that instructions refer to, by the offset of the instruction.
    pub references: HashMap<u64, String>,
}

/// The instructions of a function, and what they refer to, by offset.
#[derive(PartialEq)]
struct Function<'a> {
    instructions: &'a [u8],
    references: Vec<(u64, RelocationTarget)>,
}

impl<'a> Elf<'a> {
    /// Reads what clang wrote.
    pub fn parse(bytes: &'a [u8]) -> Result<Elf<'a>> {
        let file = ElfFile64::<NativeEndian>::parse(bytes)?;
        if file.elf_header().e_machine(NativeEndian) != elf::EM_BPF {
            return Err("clang made no BPF object: is another -target among the flags?".into());
        }
        Ok(Elf { bytes, file })
    }

    /// The content of a section, empty if it is missing.
    pub fn section(&self, name: &str) -> &'a [u8] {
        let section = self.file.section_by_name_bytes(name.as_bytes());
        section.and_then(|section| section.data().ok()).unwrap_or_default()
    }

    /// The variables that other objects could see, in the order of their sections and offsets.
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
        globals.sort_by_key(|(place, _)| *place);
        globals.into_iter().map(|(_, global)| global).collect()
    }

    /// How many functions lie in sections of their own, as programs do.
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
        let sections = self.file.sections().filter(|section| section.kind() == SectionKind::Text);
        sections
            .map(|section| {
                let symbol = |target| match target {
                    RelocationTarget::Symbol(index) => self.file.symbol_by_index(index).ok()?.name().ok(),
                    _ => None,
                };
                let references = section.relocations();
                Code {
                    instructions: section.data().unwrap_or_default(),
                    references: references
                        .filter_map(|(offset, target)| Some((offset, symbol(target.target())?.to_string())))
                        .collect(),
                }
            })
            .collect()
    }

    /// Whether two functions consist of the same instructions, with the same symbols in the same places.
    pub fn is_same_code(&self, one: &str, other: &str) -> bool {
        self.function(one).is_some_and(|one| Some(one) == self.function(other))
    }

    fn function(&self, name: &str) -> Option<Function<'a>> {
        let named = |symbol: &ElfSymbol64<'_, '_, NativeEndian>| {
            symbol.elf_symbol().st_type() == elf::STT_FUNC && symbol.name() == Ok(name)
        };
        let symbol = self.file.symbols().find(named)?;
        let section = self.file.section_by_index(symbol.section_index()?).ok()?;
        let (start, size) = (symbol.address(), symbol.size());
        let instructions = section.data_range(start, size).ok()??;
        let references = section.relocations().filter(|(offset, _)| (start..start + size).contains(offset));
        let references = references.map(|(offset, target)| (offset - start, target.target())).collect();
        Some(Function { instructions, references })
    }

    /// The object with other BTF, and with other line information if that is given; without debug information and what
    /// only linkers want.
    pub fn strip(&self, btf: Vec<u8>, ext: Option<Vec<u8>>) -> Result<Vec<u8>> {
        let mut builder = Builder::read64(self.bytes)?;
        for section in &mut builder.sections {
            let name = section.name.as_slice();
            // libbpf takes offsets from the instructions and the symbols, never from relocations of BTF.
            section.delete = name.starts_with(b".debug_")
                || name.starts_with(b".rel.debug_")
                || [&b".rel.BTF"[..], b".rel.BTF.ext"].contains(&name);
            if name == b".BTF" {
                section.data = SectionData::Data(btf.clone().into());
            }
            if let Some(ext) = ext.as_ref().filter(|_| name == b".BTF.ext") {
                section.data = SectionData::Data(ext.clone().into());
            }
        }
        for symbol in &mut builder.symbols {
            if symbol.name.as_slice() == LOST_MAP.as_bytes() {
                // Each of several sources that are linked brings it.
                symbol.set_st_info(elf::STB_WEAK, symbol.st_type());
            }
            // Named in bpf_helpers.h, but not defined in a program without ring buffers.
            symbol.delete = symbol.name.as_slice() == LOST_MAP.as_bytes() && symbol.section.is_none();
        }
        builder.delete_orphans();
        // clang keeps the names of sections among those of symbols, where the builder writes none.
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

impl From<object::Error> for Error {
    fn from(error: object::Error) -> Error {
        format!("the compiled object: {error}").into()
    }
}

impl From<object::build::Error> for Error {
    fn from(error: object::build::Error) -> Error {
        format!("the compiled object: {error}").into()
    }
}
