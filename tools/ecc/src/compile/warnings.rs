//! Warnings about a program that compiles but probably does not do what its author wants.

use std::path::Path;

use eunomia::package::{Meta, args};

use crate::object::elf::Elf;
use crate::object::libbpf::Opened;

/// Prints lists of warnings.
pub fn print(lists: &[&[String]]) {
    for warning in lists.iter().copied().flatten() {
        eprintln!("ecc: warning: {warning}");
    }
}

/// Things that an object may lack, but rarely lacks on purpose.
pub fn missing(source: &Path, elf: &Elf, opened: &Opened) -> Vec<String> {
    let source = source.display();
    let mut missing = Vec::new();
    if opened.programs.is_empty() {
        missing.push(format!("{source}: no program found; put SEC(\"...\") before a function"));
    } else if elf.section("license").is_empty() {
        let fix = "char LICENSE[] SEC(\"license\") = \"GPL\";";
        missing.push(format!("{source}: no license: the kernel refuses many helpers; add {fix}"));
    }
    for program in opened.programs.iter().filter(|program| !program.is_known) {
        let (name, section) = (&program.name, &program.section);
        missing.push(format!("{source}: {name}: unknown SEC() name {section:?}; libbpf will not load it"));
    }
    missing
}

/// Options whose requested name is already taken. They get a different name, or no short one.
pub fn renamed_options(meta: &Meta) -> Vec<String> {
    let mut warnings = Vec::new();
    for spec in args::specs(meta) {
        let requested =
            meta.vars.iter().find(|var| var.name == spec.name).and_then(|var| var.cmdarg.as_ref());
        let Some(requested) = requested else { continue };
        if let Some(short) = requested.short.filter(|_| spec.short.is_none()) {
            warnings.push(format!("{}: option -{short} is already taken", spec.name));
        }
        if let Some(long) = requested.long.as_ref().filter(|long| **long != spec.long) {
            let renamed = format!("option --{long} is already taken, renamed to --{}", spec.long);
            warnings.push(format!("{}: {renamed}", spec.name));
        }
    }
    warnings
}
