//! Reads and checks the BTF and the sections of an object before libbpf uses them.

use super::constants::opcode;
use super::{btf_hook, elf};
use crate::btf::{Btf, Hook, Relocation};
use crate::error::{Error, Result, Status};
use crate::package::MAX_ENTRIES;

/// The types of an object, and its references to the kernel's types.
pub struct ObjectTypes {
    /// Its types.
    pub btf: Btf,
    /// The CO-RE relocations, which refer to the kernel's types.
    pub relocations: Vec<Relocation>,
    /// The hooks of its programs.
    pub hooks: Vec<Hook>,
}

impl ObjectTypes {
    /// Reads and checks an object. libbpf uses many of these offsets and ids without a check. With `libbpf_sections` libbpf finds
    /// the hooks.
    pub fn read(elf: &[u8], libbpf_sections: bool) -> Result<ObjectTypes> {
        let damaged = "object: truncated or damaged: invalid section table";
        let section = |name| {
            let sections = elf::sections(elf, name).ok_or_else(|| Error::new(Status::Package, damaged))?;
            match sections[..] {
                [] => Ok(None),
                [section] => Ok(Some(section)),
                _ => Err(Error::new(
                    Status::Package,
                    format_args!("object: has several sections named {name:?}"),
                )),
            }
        };
        let read = || {
            let btf = Btf::parse(section(".BTF")?.ok_or_else(no_btf)?)?;
            btf.check_for_libbpf()?;
            check_time(elf, &btf)?;
            let relocations = section(".BTF.ext")?.map_or(Ok(Vec::new()), |ext| btf.relocations(ext))?;
            // Each is searched among all types of the kernel.
            check_count("types of the kernel", btf.count_relocated_types(&relocations))?;
            let hooks = if libbpf_sections { Vec::new() } else { btf_hook::section_hooks(elf) };
            check_count("sections of programs", hooks.len())?;
            Ok(ObjectTypes { btf, relocations, hooks })
        };
        read().map_err(|e: Error| e.at("object"))
    }
}

/// Refuses an object on which libbpf would spend more than a few seconds.
fn check_time(elf: &[u8], btf: &Btf) -> Result<()> {
    const MAX_STEPS: usize = 1 << 30;
    match elf::steps(elf, btf.len() as usize, btf.variable_count()) {
        Some(0..=MAX_STEPS) => Ok(()),
        _ => Err(Error::new(Status::Package, "too many symbols, relocations and types")),
    }
}

/// Refuses functions that end after the first half of an instruction that loads an address. libbpf writes to both halves without
/// a check.
pub fn check_functions(elf: &[u8]) -> Result<()> {
    const INSTRUCTION: usize = 8;
    let is_truncated =
        |code: &[u8]| code.rchunks_exact(INSTRUCTION).next().is_some_and(|last| last[0] == opcode::LOAD_64);
    if elf::functions(elf).is_some_and(|functions| functions.into_iter().any(is_truncated)) {
        return Err(Error::new(
            Status::Package,
            "object: a function ends in the middle of a 16-byte instruction",
        ));
    }
    Ok(())
}

/// Refuses counts above the limit.
pub fn check_count(what: &str, count: usize) -> Result<()> {
    if count <= MAX_ENTRIES {
        return Ok(());
    }
    Err(Error::new(Status::Package, format_args!("{count} {what}, and at most {MAX_ENTRIES} are supported")))
}

/// The error of an object without BTF.
pub fn no_btf() -> Error {
    Error::new(Status::Package, "object: has no BTF; compile it with clang -g")
}
