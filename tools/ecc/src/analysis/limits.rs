//! The limits of the package format, checked before the long work begins.

use std::path::Path;

use eunomia::package::MAX_ENTRIES;

use crate::error::Result;
use crate::object::elf::Elf;

/// Refuses an object with more maps, programs, or variables in a section than readers of packages accept.
pub fn check(source: &Path, elf: &Elf) -> Result<()> {
    let globals = elf.globals();
    for of_section in globals.chunk_by(|one, next| one.section == next.section) {
        let section = &of_section[0].section;
        let what = if section == ".maps" { "maps".into() } else { format!("variables in {section}") };
        check_count(source, of_section.len(), &what)?;
    }
    check_count(source, elf.program_count(), "programs")
}

/// Refuses a struct with more members than readers of packages accept.
pub fn check_members(name: &str, count: usize) -> Result<()> {
    check_count(Path::new(&format!("struct {name}")), count, "members")
}

fn check_count(owner: &Path, count: usize, what: &str) -> Result<()> {
    if count <= MAX_ENTRIES {
        return Ok(());
    }
    let hint = if what == "programs" { "" } else { "; an array counts as one" };
    Err(format!("{}: {count} {what}, at most {MAX_ENTRIES} fit a package{hint}", owner.display()).into())
}
