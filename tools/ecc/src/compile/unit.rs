//! A unit is one compiled source. Several units are linked to one object.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::analysis::exports::Exports;
use crate::analysis::limits;
use crate::error::Result;
use crate::files;
use crate::object::btf::Btf;
use crate::object::dwarf::Dwarf;
use crate::object::elf::{self, Elf};
use crate::object::libbpf;

/// Largest source that is read, in bytes.
const MAX_SOURCE: usize = 64 << 20;

/// One compiled source.
pub struct Unit<'a> {
    source: &'a Path,
    pub elf: Elf<'a>,
    pub dwarf: Dwarf<'a>,
    /// The event types that annotations of this source name; filled in by the analysis.
    pub exports: Exports,
}

/// Reads the object of each source.
pub fn parse<'a>(sources: &[&'a Path], objects: &'a [Vec<u8>]) -> Result<Vec<Unit<'a>>> {
    sources.iter().zip(objects).map(|(source, object)| Unit::new(source, object)).collect()
}

impl<'a> Unit<'a> {
    fn new(source: &'a Path, object: &'a [u8]) -> Result<Unit<'a>> {
        let elf = Elf::parse(object)?;
        limits::check(source, &elf)?;
        own_btf(source, &elf)?;
        let dwarf = Dwarf::read(|name| elf.section(name), Path::new("."))?;
        Ok(Unit { source, elf, dwarf, exports: Exports::default() })
    }
}

/// Links several units to one object; returns `None` if there is only one. Debug information is left out because
/// libbpf's linker does not merge it.
pub fn link(units: &[Unit]) -> Result<Option<Vec<u8>>> {
    if units.len() <= 1 {
        return Ok(None);
    }
    let stripped = |unit: &Unit| {
        let btf = own_btf(unit.source, &unit.elf)?;
        Ok((unit.source.display().to_string(), unit.elf.strip(btf.to_bytes(), None)?))
    };
    libbpf::link(&units.iter().map(stripped).collect::<Result<Vec<_>>>()?).map(Some)
}

/// The BTF of an object.
pub fn own_btf(source: &Path, elf: &Elf) -> Result<Btf> {
    let source = source.display();
    let section = elf.section(".BTF");
    if section.is_empty() {
        return Err(
            format!("{source}: the object has no BTF: no program in it, or -g0 among the flags").into()
        );
    }
    let mut btf = Btf::parse(section).ok_or_else(|| format!("{source}: clang wrote malformed BTF"))?;
    btf.make_global(elf::LOST_MAP);
    Ok(btf)
}

/// The name of the program. Checks first that the file is a C source with content.
pub fn program_name(source: &Path) -> Result<OsString> {
    let content = files::read(source, MAX_SOURCE)?;
    if content.trim_ascii().is_empty() {
        return Err(format!("{}: the file is empty", source.display()).into());
    }
    let file = source.file_name().unwrap_or_default().as_bytes();
    if !file.ends_with(b".c") {
        return Err(format!("{}: not a C source: its name must end in .c", source.display()).into());
    }
    match file.split(|&byte| byte == b'.').next() {
        Some(name) if !name.is_empty() => Ok(OsStr::from_bytes(name).into()),
        _ => Err(format!("{}: the file name is empty before its first dot", source.display()).into()),
    }
}
