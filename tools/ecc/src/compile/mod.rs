//! The pipeline from sources to a package.
//!
//! clang compiles each source to an object with debug information (`clang.rs`). Several objects are linked to one
//! (`unit.rs`). The analysis finds annotations, event types and alternative programs, and the metadata is built from
//! its results. At the end the debug information is removed and the package is built (`package.rs`).

mod clang;
mod own_files;
mod package;
mod unit;
mod warnings;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use eunomia::package::Package;
use serde_json::Value;

use crate::analysis::annotations::Annotations;
use crate::analysis::events::{self, Events};
use crate::analysis::exports::Exports;
use crate::analysis::members::Members;
use crate::analysis::metadata::{Parts, object_name};
use crate::analysis::{alternatives, limits, send_calls};
use crate::btfgen::KernelBtf;
use crate::error::{Error, Result};
use crate::object::btf::Btf;
use crate::object::elf::Elf;
use crate::object::libbpf::{self, Opened};
use crate::options::Flags;
use crate::toolchain::clang::Types;
use crate::toolchain::machine::Machine;

pub use clang::dependencies;

use clang::Tools;
use own_files::OwnFiles;
use unit::Unit;

/// The file name of a package.
pub const PACKAGE: &str = "package.json";

/// A compiled program.
pub struct Compiled {
    /// The file name of the first source up to its first dot.
    pub name: OsString,
    /// The object without debug information, and its metadata.
    pub package: Package,
    /// The metadata as the compiler built it.
    pub meta: Value,
    /// BTF for kernels that have none.
    pub kernels: Vec<KernelBtf>,
}

/// Compiles `source`, whose event structs `header` defines, for each requested machine. Prints warnings.
pub fn compile(source: &Path, header: Option<&Path>, flags: &Flags) -> Result<Compiled> {
    compile_all(&[source], header, flags)
}

/// Compiles sources and links them to one program, named after the first.
pub fn compile_all(sources: &[&Path], header: Option<&Path>, flags: &Flags) -> Result<Compiled> {
    let machines = flags.target.machines()?;
    let job = Job::new(sources, header, flags)?;
    let mut all = machines.iter().map(|machine| job.compile_for(machine));
    let mut compiled = all.next().ok_or("no machine to compile for")??;
    for other in all {
        let other = other?;
        compiled.package.add_object(&other.package);
        compiled.kernels.extend(other.kernels);
    }
    Ok(compiled)
}

/// The sources to compile, and the tools for that.
struct Job<'a> {
    sources: &'a [&'a Path],
    /// The first source. The program is named after it.
    source: &'a Path,
    name: OsString,
    header: Option<PathBuf>,
    flags: &'a Flags,
    tools: Tools,
    own_files: OwnFiles,
}

/// The object that is analysed: of the only source, or linked from several.
struct Program<'a> {
    object_name: String,
    elf: Elf<'a>,
    btf: Btf,
    opened: Opened,
}

/// The findings of the analysis in the units of a program.
struct Findings {
    annotations: Annotations,
    events: Events,
    members: Members,
    alternatives: Vec<alternatives::Group>,
}

impl<'a> Job<'a> {
    fn new(sources: &'a [&'a Path], header: Option<&Path>, flags: &'a Flags) -> Result<Job<'a>> {
        let names = sources.iter().map(|source| unit::program_name(source)).collect::<Result<Vec<_>>>()?;
        let named = names.into_iter().zip(sources).next();
        let (name, source) = named.ok_or("no source given")?;
        let canonical = |header: &Path| {
            let path = header.canonicalize();
            path.map_err(|error| Error::io(header.display(), &error))
        };
        let header = header.map(canonical).transpose()?;
        let tools = Tools::find(flags)?;
        let own_files = OwnFiles::new(&tools);
        Ok(Job { sources, source, name, header, flags, tools, own_files })
    }

    /// Compiles for one machine. Without further flags, clang describes only the types of variables and functions. A
    /// type that only an expression names is missing then. So if the type of an event was not found, clang runs again
    /// and describes all types.
    fn compile_for(&self, machine: &Machine) -> Result<Compiled> {
        match self.run(machine, Types::Used)? {
            Some(compiled) => Ok(compiled),
            None => self.run(machine, Types::All)?.ok_or_else(|| "the event types are ambiguous".into()),
        }
    }

    /// Runs the whole pipeline once. Returns `None` if the event types are ambiguous and `types` may be the reason.
    fn run(&self, machine: &Machine, types: Types) -> Result<Option<Compiled>> {
        let objects = self.objects(machine, types)?;
        let mut units = unit::parse(self.sources, &objects)?;
        let linked = unit::link(&units)?;
        let mut program = self.open(linked.as_deref().unwrap_or(&objects[0]))?;

        let Some(findings) = self.analyse(&mut units, &mut program, types)? else { return Ok(None) };
        let meta = program.metadata(&findings);
        self.report(&program, &findings);
        self.emit(machine, &program, &findings.annotations, meta).map(Some)
    }

    /// The object of each source, with debug information.
    fn objects(&self, machine: &Machine, types: Types) -> Result<Vec<Vec<u8>>> {
        let compile = |source: &&Path| {
            self.tools.with_search(source, self.flags, machine, |search| {
                self.tools.clang.compile(source, search, types, self.flags.verbose)
            })
        };
        self.sources.iter().map(compile).collect()
    }

    /// Opens the object that becomes part of the package.
    fn open<'o>(&self, object: &'o [u8]) -> Result<Program<'o>> {
        let elf = Elf::parse(object)?;
        limits::check(self.source, &elf)?;
        let btf = unit::own_btf(self.source, &elf)?;
        let object_name = object_name(self.name.as_encoded_bytes());
        let opened = libbpf::open(&elf.strip(btf.to_bytes(), None)?, &object_name)?;
        Ok(Program { object_name, elf, btf, opened })
    }

    /// Analyses all units. Adds the types of events to the BTF of the program.
    fn analyse(&self, units: &mut [Unit], program: &mut Program, types: Types) -> Result<Option<Findings>> {
        let is_own = |file: &Path| self.own_files.contains(file);
        let mut annotations = Annotations::default();
        for unit in units.iter_mut() {
            let read = Annotations::read(&unit.dwarf, is_own)?;
            unit.exports = Exports::read(&unit.dwarf, is_own, &read.export_configs())?;
            annotations.merge(read);
        }
        let mut events = self.events(units, program, &annotations)?;
        if types == Types::Used && events.has_untyped_map() {
            return Ok(None);
        }
        events.finish(&program.btf);
        let mut members = Members::default();
        for unit in units.iter() {
            members.merge(Members::read(&unit.dwarf, is_own, &program.btf)?);
        }
        let alternatives = program.alternatives(&annotations);
        Ok(Some(Findings { annotations, events, members, alternatives }))
    }

    fn events(&self, units: &[Unit], program: &mut Program, annotations: &Annotations) -> Result<Events> {
        let mut events = Events::default();
        for unit in units {
            let sources = events::Sources {
                dwarf: &unit.dwarf,
                opened: &program.opened,
                sent: &send_calls::sent(&unit.dwarf, &unit.elf.code(), units.len() > 1)?,
                sampled: &annotations.sampled_maps(),
                exports: &unit.exports,
            };
            let is_own = |file: &Path| self.own_files.contains(file);
            events.merge(sources.events(self.header.as_deref(), is_own, &mut program.btf)?);
        }
        Ok(events)
    }

    /// Prints notes and warnings.
    fn report(&self, program: &Program, findings: &Findings) {
        for note in findings.alternatives.iter().filter_map(alternatives::Group::note) {
            eprintln!("ecc: note: {note}");
        }
        let Findings { annotations, events, members, .. } = findings;
        let missing = warnings::missing(self.source, &program.elf, &program.opened);
        warnings::print(&[&annotations.warnings, &members.warnings, &events.warnings, &missing]);
    }
}

impl Program<'_> {
    /// Groups of alternative programs. The source may decide by annotations when a program is used; then it is in no
    /// group.
    fn alternatives(&self, annotations: &Annotations) -> Vec<alternatives::Group> {
        let free = self.opened.programs.iter().filter(|program| !annotations.has_use_rule(&program.name));
        let mut groups = alternatives::find(free, &|one, other| self.elf.is_same_code(one, other));
        // A program can replace one other program only.
        groups.retain(|group| !group.fallbacks().any(|program| annotations.is_fallback(program)));
        groups
    }

    fn metadata(&self, findings: &Findings) -> Value {
        let Findings { annotations, events, members, alternatives } = findings;
        let Program { object_name, elf, btf, opened } = self;
        Parts { object_name, elf, btf, opened, annotations, events, members, alternatives }.meta()
    }
}
