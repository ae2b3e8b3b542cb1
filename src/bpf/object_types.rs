//! What an object's own BTF and sections say, read and checked before libbpf has it.

use super::constants::opcode;
use super::{btf_hook, elf};
use crate::btf::{Btf, Hook, Relocation};
use crate::error::{Error, Result, Status};
use crate::package::MAX_ENTRIES;

/// What an object's own BTF and sections say before libbpf has it.
pub struct ObjectTypes {
    /// Its types.
    pub btf: Btf,
    /// What of the kernel's types its code depends on.
    pub relocations: Vec<Relocation>,
    /// What its programs attach to.
    pub hooks: Vec<Hook>,
}

impl ObjectTypes {
    /// Reads it, and checks it: libbpf follows much of it without looking where it leads.
    pub fn read(elf: &[u8]) -> Result<ObjectTypes> {
        let damaged = "object: cut off or damaged: its section table makes no sense";
        let section = |name| {
            let sections = elf::sections(elf, name).ok_or_else(|| Error::new(Status::Package, damaged))?;
            match sections[..] {
                [] => Ok(None),
                [section] => Ok(Some(section)),
                _ => {
                    Err(Error::new(Status::Package, format_args!("object: it has several sections {name:?}")))
                }
            }
        };
        let read = || {
            let btf = Btf::parse(section(".BTF")?.ok_or_else(no_btf)?)?;
            btf.check_for_libbpf()?;
            check_time(elf, &btf)?;
            let relocations = section(".BTF.ext")?.map_or(Ok(Vec::new()), |ext| btf.relocations(ext))?;
            // Each is looked for among all types of the kernel.
            check_count("types of the kernel", btf.count_relocated_types(&relocations))?;
            let hooks = btf_hook::of_sections(elf);
            check_count("sections of programs", hooks.len())?;
            Ok(ObjectTypes { btf, relocations, hooks })
        };
        read().map_err(|e: Error| e.at("object"))
    }
}

/// Refuses what would keep libbpf busy for more than a few seconds.
fn check_time(elf: &[u8], btf: &Btf) -> Result<()> {
    const MAX_STEPS: usize = 1 << 30;
    match elf::steps(elf, btf.len() as usize, btf.variable_count()) {
        Some(0..=MAX_STEPS) => Ok(()),
        _ => Err(Error::new(Status::Package, "too many symbols, relocations and types to be read in time")),
    }
}

/// libbpf writes both halves of an instruction that loads an address, and trusts that there are two.
pub fn check_functions(elf: &[u8]) -> Result<()> {
    const INSTRUCTION: usize = 8;
    let is_cut =
        |code: &[u8]| code.rchunks_exact(INSTRUCTION).next().is_some_and(|last| last[0] == opcode::LOAD_64);
    if elf::functions(elf).is_some_and(|functions| functions.into_iter().any(is_cut)) {
        return Err(Error::new(Status::Package, "object: a function ends within an instruction of 16 bytes"));
    }
    Ok(())
}

/// Refuses more than the library loads.
pub fn check_count(what: &str, count: usize) -> Result<()> {
    if count <= MAX_ENTRIES {
        return Ok(());
    }
    Err(Error::new(Status::Package, format_args!("{count} {what}, and at most {MAX_ENTRIES} are loaded")))
}

/// The error of an object without BTF.
pub fn no_btf() -> Error {
    Error::new(Status::Package, "object: it has no BTF; compile it with clang -g")
}
