//! From a source to a package.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use eunomia::package::{Meta, Package, args};
use eunomia::{Options, Vm};

use serde_json::Value;

use crate::analysis::alternatives::{self, Chain};
use crate::analysis::events::{self, Events};
use crate::analysis::exports::Exports;
use crate::analysis::limits;
use crate::analysis::members::Members;
use crate::analysis::metadata::{Comments, Parts, object_name};
use crate::analysis::send_calls;
use crate::btfgen;
use crate::btfgen::KernelBtf;
use crate::error::{Error, Result};
use crate::files;
use crate::object::btf::Btf;
use crate::object::dwarf::Dwarf;
use crate::object::elf::{self, Elf};
use crate::object::libbpf;
use crate::object::line_info;
use crate::options::Flags;
use crate::toolchain::bpf_headers::{self, Headers};
use crate::toolchain::cache::Cache;
use crate::toolchain::clang::{self, Clang, Search, Types};
use crate::toolchain::machine::Machine;
use crate::toolchain::shell_words;
use crate::toolchain::vmlinux;

/// The file that a package goes to.
pub const PACKAGE: &str = "package.json";

/// Largest source that is read, in bytes.
const MAX_SOURCE: usize = 64 << 20;

/// A compiled program.
pub struct Compiled {
    /// The name of the source up to the first dot.
    pub name: OsString,
    /// The object without debug information, and its metadata.
    pub package: Package,
    /// The metadata as the compiler made it.
    pub meta: Value,
    /// What kernels without BTF need.
    pub kernels: Vec<KernelBtf>,
}

/// Compiles `source`, whose events `header` defines, for each machine that is asked for; tells the user what is strange
/// about it.
pub fn compile(source: &Path, header: Option<&Path>, flags: &Flags) -> Result<Compiled> {
    compile_all(&[source], header, flags)
}

/// Compiles sources, and links them to one program if there are several. It has the name of the first.
pub fn compile_all(sources: &[&Path], header: Option<&Path>, flags: &Flags) -> Result<Compiled> {
    let machines = flags.target.machines()?;
    let mut all = machines.iter().map(|machine| compile_for(machine, sources, header, flags));
    // There is at least one.
    let mut compiled = all.next().ok_or("no machine to compile for")??;
    for other in all {
        let other = other?;
        compiled.package.add_object(&other.package);
        compiled.kernels.extend(other.kernels);
    }
    Ok(compiled)
}

fn compile_for(
    machine: &Machine,
    sources: &[&Path],
    header: Option<&Path>,
    flags: &Flags,
) -> Result<Compiled> {
    let compiled = compile_with(Types::Used, machine, sources, header, flags)?;
    match compiled {
        Some(compiled) => Ok(compiled),
        None => compile_with(Types::All, machine, sources, header, flags)?
            .ok_or_else(|| "the types of events are not clear".into()),
    }
}

/// Returns nothing if the types that are used do not tell what an event is: one that is only named in an expression may
/// be missing among them.
fn compile_with(
    types: Types,
    machine: &Machine,
    sources: &[&Path],
    header: Option<&Path>,
    flags: &Flags,
) -> Result<Option<Compiled>> {
    let names = sources.iter().map(|source| program_name(source)).collect::<Result<Vec<_>>>()?;
    let name = names.into_iter().next().ok_or("no source is given")?;
    let object_name = &object_name(name.as_bytes());
    let header = header.map(|header| {
        let path = header.canonicalize();
        path.map_err(|error| Error::io(header.display(), &error))
    });
    let header = header.transpose()?;
    let clang = Clang::find(flags.clang_bin.as_deref())?;
    let cache = Cache::open()?;
    // With debug information.
    let unstripped = |source: &&Path| {
        run_clang(source, flags, machine, &clang, &cache, |s| clang.compile(source, s, types, flags.verbose))
    };
    let objects = sources.iter().map(unstripped).collect::<Result<Vec<_>>>()?;
    let parts = sources.iter().zip(&objects).map(|(source, object)| Part::new(source, object));
    let mut parts = parts.collect::<Result<Vec<_>>>()?;

    let linked = if parts.len() > 1 { Some(link(&parts)?) } else { None };
    let elf = Elf::parse(linked.as_ref().unwrap_or(&objects[0]))?;
    let source = sources[0];
    limits::check(source, &elf)?;
    let mut btf = own_btf(&elf).map_err(|reason| format!("{}: {reason}", source.display()))?;
    let opened = libbpf::open(&elf.strip(btf.to_bytes(), None)?, object_name)?;
    let foreign = Foreign::new(&clang, &cache);
    let own = |file: &Path| !foreign.has(file);
    let mut comments = Comments::default();
    for part in &mut parts {
        let read = Comments::read(&part.dwarf, own)?;
        part.exports = Exports::read(&part.dwarf, own, &read.export_configs())?;
        comments.merge(read);
    }
    let mut events = Events::default();
    for part in &parts {
        let program = events::Program {
            dwarf: &part.dwarf,
            opened: &opened,
            sent: &send_calls::sent(&part.dwarf, &part.elf.code(), parts.len() > 1)?,
            sampled: &comments.sampled(),
            exports: &part.exports,
        };
        events.merge(program.events(header.as_deref(), own, &mut btf)?);
    }
    if types == Types::Used && events.is_open() {
        return Ok(None);
    }
    events.finish(&btf);
    let (elf, btf, opened) = (&elf, &btf, &opened);
    let mut members = Members::default();
    for part in &parts {
        members.merge(Members::read(&part.dwarf, own, btf)?);
    }
    let members = &members;
    let free = opened.programs.iter().filter(|program| !comments.choose(&program.name));
    let mut chains = alternatives::chains(free, &|one, other| elf.is_same_code(one, other));
    // One program stands in for one only.
    chains.retain(|chain| !chain.stand_ins().any(|program| comments.name_as_stand_in(program)));
    let (comments, events, chains) = (&comments, &events, &chains[..]);
    let meta = Parts { object_name, elf, btf, opened, comments, events, members, chains }.meta();
    for note in chains.iter().filter_map(Chain::note) {
        eprintln!("ecc: note: {note}");
    }
    let missing = missing(source, elf, opened);
    for warning in [&comments.warnings, &members.warnings, &events.warnings, &missing].into_iter().flatten() {
        eprintln!("ecc: warning: {warning}");
    }
    // Where this source happens to lie would only make it give different objects.
    let folder = source_folder(source).canonicalize().unwrap_or_default();
    let plain_name = |name: &str| {
        let file = Path::new(name).canonicalize().ok().filter(|file| own(file))?;
        Some(relative(&folder, &file).display().to_string())
    };
    let (types, lines) = line_info::rename_files(btf, elf.section(".BTF.ext"), &plain_name)
        .ok_or("the line information that clang wrote is damaged")?;
    let object = elf.strip(types, Some(lines))?;
    let located = |error: eunomia::Error| comments.locate(&meta, &error).unwrap_or_else(|| error.to_string());
    let mut package = Package::build(&object, meta.clone()).map_err(located)?;
    for warning in renamed_options(&package.meta) {
        eprintln!("ecc: warning: {warning}");
    }
    if !machine.is_foreign() {
        try_values(&object, &meta).map_err(located)?;
    }
    if let Some(arch) = machine.arch {
        package.set_arch(arch);
    }
    let archive = flags.target.archive();
    let kernels = archive.map(|archive| btfgen::kernels(&package, &archive, machine.name())).transpose()?;
    let kernels = kernels.unwrap_or_default();
    for kernel in &kernels {
        package.add_kernel_btf(&kernel.place, &kernel.release, &kernel.btf);
    }
    Ok(Some(Compiled { name, package, meta, kernels }))
}

/// Options whose name another one has already: they get another, or no short one.
fn renamed_options(meta: &Meta) -> Vec<String> {
    let mut warnings = Vec::new();
    for spec in args::specs(meta) {
        let asked = meta.vars.iter().find(|var| var.name == spec.name).and_then(|var| var.cmdarg.as_ref());
        if let Some(short) = asked.and_then(|asked| asked.short).filter(|_| spec.short.is_none()) {
            warnings.push(format!("{}: -{short} is another option already", spec.name));
        }
        if let Some(long) = asked.and_then(|asked| asked.long.as_ref()).filter(|long| **long != spec.long) {
            warnings
                .push(format!("{}: --{long} is another option already; it is --{}", spec.name, spec.long));
        }
    }
    warnings
}

/// Has the library set the values that the package gives to variables, as it will before each run.
fn try_values(object: &[u8], meta: &Value) -> eunomia::Result<()> {
    let vm = Vm::new(Options::default())?;
    vm.open_object(object, Some(&meta.to_string()))?;
    vm.args_set(&["ecc"]).map(drop)
}

/// What one source has become.
struct Part<'a> {
    source: &'a Path,
    elf: Elf<'a>,
    dwarf: Dwarf<'a>,
    exports: Exports,
}

impl<'a> Part<'a> {
    fn new(source: &'a Path, object: &'a [u8]) -> Result<Part<'a>> {
        let elf = Elf::parse(object)?;
        limits::check(source, &elf)?;
        own_btf(&elf).map_err(|reason| format!("{}: {reason}", source.display()))?;
        let dwarf = Dwarf::read(|name| elf.section(name), Path::new("."))?;
        Ok(Part { source, elf, dwarf, exports: Exports::default() })
    }
}

/// The parts as one object. Debug information stays behind: libbpf's linker would not join it.
fn link(parts: &[Part]) -> Result<Vec<u8>> {
    let stripped = |part: &Part| {
        let btf = own_btf(&part.elf)?;
        Ok((part.source.display().to_string(), part.elf.strip(btf.to_bytes(), None)?))
    };
    libbpf::link(&parts.iter().map(stripped).collect::<Result<Vec<_>>>()?)
}

/// The name of the program, after a look at whether there is one.
fn program_name(source: &Path) -> Result<OsString> {
    let content = files::read(source, MAX_SOURCE)?;
    if content.trim_ascii().is_empty() {
        return Err(format!("{}: the file is empty", source.display()).into());
    }
    let file = source.file_name().unwrap_or_default().as_bytes();
    if !file.ends_with(b".c") {
        return Err(format!("{}: not a C source, whose name ends in .c", source.display()).into());
    }
    match file.split(|&byte| byte == b'.').next() {
        Some(name) if !name.is_empty() => Ok(OsStr::from_bytes(name).into()),
        _ => Err(format!("{}: there is no name before the first dot", source.display()).into()),
    }
}

/// What an object can be without, and hardly is on purpose.
fn missing(source: &Path, elf: &Elf, opened: &libbpf::Opened) -> Vec<String> {
    let source = source.display();
    let mut missing = Vec::new();
    if opened.programs.is_empty() {
        missing.push(format!("{source}: no program in it; SEC(\"...\") before a function makes it one"));
    } else if elf.section("license").is_empty() {
        let how = "char LICENSE[] SEC(\"license\") = \"GPL\";";
        missing
            .push(format!("{source}: no license, without which the kernel refuses many helpers; add {how}"));
    }
    for program in opened.programs.iter().filter(|program| !program.is_known) {
        let (name, section) = (&program.name, &program.section);
        missing.push(format!(
            "{source}: {name} is in the section {section:?}, which libbpf does not know and will not load"
        ));
    }
    missing
}

/// The way from a folder to a file, both absolute.
fn relative(folder: &Path, file: &Path) -> PathBuf {
    let shared = folder.components().zip(file.components()).take_while(|(one, other)| one == other).count();
    let up = folder.components().skip(shared).map(|_| Component::ParentDir);
    up.chain(file.components().skip(shared)).collect()
}

/// The folder that a source lies in.
pub fn source_folder(source: &Path) -> PathBuf {
    let folder = source.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new(".")).into()
}

/// The files that `source` is made of, itself included.
pub fn dependencies(source: &Path, flags: &Flags) -> Result<Vec<PathBuf>> {
    let clang = Clang::find(flags.clang_bin.as_deref())?;
    let machines = flags.target.machines()?;
    let cache = Cache::open()?;
    let mut all = Vec::new();
    for machine in &machines {
        all.extend(run_clang(source, flags, machine, &clang, &cache, |s| clang.dependencies(source, s))?);
    }
    Ok(all)
}

/// Has clang do a job with all that is there to be included.
fn run_clang<T>(
    source: &Path,
    options: &Flags,
    machine: &Machine,
    clang: &Clang,
    cache: &Cache,
    job: impl FnOnce(&Search) -> Result<T>,
) -> Result<T> {
    let headers = Headers::unpack(cache)?;
    let given = machine.vmlinux.as_deref();
    let kernel = if given.is_none() && machine.is_foreign() { None } else { vmlinux::Source::open(given)? };
    let vmlinux = kernel.as_ref().map(|kernel| kernel.folder(cache));
    let flags = options.additional_cflags.iter().map(|text| shell_words::split("--additional-cflags", text));
    let flags = flags.collect::<Result<Vec<_>>>()?.concat();
    let defines = if options.no_count_lost { &[][..] } else { &[bpf_headers::COUNT_LOST] };
    // The folder of the source first: a vmlinux.h beside the source is the one that is meant. Collections that bring
    // one for each architecture keep them in folders named as libbpf names these.
    let folder = source_folder(source);
    let arch = machine.libbpf_name();
    let of_arch = folder.join(arch);
    let mut folders = vec![folder.as_path()];
    if given.is_none() && of_arch.join("vmlinux.h").exists() {
        folders.push(&of_arch);
    }
    folders.push(&headers.libbpf);
    folders.extend(vmlinux.as_deref());
    let search = Search {
        defines,
        wrapper: &headers.wrapper,
        flags: &flags,
        folders,
        fallback: &headers.fallback,
        cache: cache.root(),
        arch,
    };
    let there = vmlinux.as_ref().is_some_and(|folder| folder.join("vmlinux.h").exists());
    if !there && clang.misses(source, "vmlinux.h", &search)? {
        match (&kernel, &vmlinux) {
            (Some(kernel), Some(folder)) => kernel.make(folder)?,
            _ if machine.is_foreign() => {
                let name = machine.name();
                return Err(format!(
                    "no vmlinux.h for {name}: this kernel is of another machine; give that header, BTF or a vmlinux of \
                     one with --vmlinux {name}=FILE"
                )
                .into());
            }
            _ => {
                return Err(
                    "no vmlinux.h: this kernel has no BTF to make it from; give one with --vmlinux".into()
                );
            }
        }
    }
    job(&search)
}

fn own_btf(elf: &Elf) -> std::result::Result<Btf, &'static str> {
    let section = elf.section(".BTF");
    if section.is_empty() {
        return Err("the object has no BTF: there is no program in it, or -g0 is among the flags");
    }
    let mut btf = Btf::parse(section).ok_or("the BTF that clang wrote is damaged")?;
    btf.make_global(elf::LOST_MAP);
    Ok(btf)
}

/// The files that are not the program's own: of the system, of libbpf, of the kernel.
struct Foreign {
    folders: Vec<PathBuf>,
}

impl Foreign {
    fn new(clang: &Clang, cache: &Cache) -> Foreign {
        let folders = clang.system_folders().iter().map(PathBuf::as_path);
        let folders = folders.chain([cache.root(), Path::new(clang::CACHE_NAME)]);
        Foreign { folders: folders.map(|path| path.canonicalize().unwrap_or(path.into())).collect() }
    }

    fn has(&self, file: &Path) -> bool {
        // Collections keep several: vmlinux_608.h behind a link of the usual name.
        let name = file.file_name().unwrap_or_default().as_encoded_bytes();
        name.starts_with(b"vmlinux") && name.ends_with(b".h")
            || bpf_headers::is_libbpf(file)
            || self.folders.iter().any(|folder| file.starts_with(folder))
    }
}
