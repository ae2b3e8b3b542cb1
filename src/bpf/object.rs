//! Opening an object and setting its variables, up to the moment the kernel gets it.
//!
//! Layout comes from the object's BTF as libbpf completes it, never from a package's metadata.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::attach::online_cpus;
use super::map_memory::Machine;
use super::map::{Map, kind, map_error};
use super::sys::object::{MapRef, Object, OpenOptions, ProgRef, possible_cpus, repeated};
use super::{btf_hook, diagnose, elf, map_defaults};
use crate::btf::{Btf, Hook, Index, Relocation};
use crate::error::{Error, Result, Status};
use crate::log::{self, Level, Log};
use crate::memory;
use crate::os::{self, Errno, KernelFile};
use crate::package::{MAX_ENTRIES, Package, Places, machine};
use crate::render::{Clock, Plan};
use crate::types::{MemberFormats, Type, encode_over};

/// What an object is opened with.
#[derive(Clone, Default)]
pub struct OpenConfig {
    /// Name of the object, may be empty.
    pub name: String,
    /// Kernel BTF: a file or a BTFHub-style folder.
    pub btf_path: Option<PathBuf>,
    /// Folder for maps that are pinned by name.
    pub pin_path: Option<PathBuf>,
    /// Where to find the kernel's types, if the host does not say.
    pub kernel_btf: KernelBtf,
    /// Hooks of the kernel that were found among its types.
    pub hooks: Vec<Hook>,
    /// Whether programs that call a function which the kernel lacks are refused by themselves, not all with them.
    pub weak_kfuncs: bool,
}

/// Where the types of the kernel at hand are.
#[derive(Clone, Default)]
pub enum KernelBtf {
    /// Where libbpf looks for them by itself.
    #[default]
    Usual,
    /// In memory: of the package, for a kernel that has none, or as much of the kernel's as the object asks for.
    Memory(Arc<File>),
    /// The package has those of other kernels; here is what was looked for.
    Others(String),
}

impl KernelBtf {
    /// Finds those of a kernel without BTF in the package.
    fn of_package(package: &Package) -> Result<KernelBtf> {
        let ((release, machine), (id, version)) = (os::kernel(), distribution());
        let place = format!("{id}/{version}/{}", machine::name(&machine));
        let Some(btf) = package.kernel_btf(&place, &release)? else {
            return Ok(KernelBtf::Others(format!("{place}/{release}")));
        };
        let failed = |e: os::Errno| Error::sys(Status::System, e.0, format_args!("BTF of the package: {e}"));
        os::memory_file(&btf).map(|file| KernelBtf::Memory(Arc::new(file))).map_err(failed)
    }

    /// The path by which libbpf opens it.
    fn path(&self) -> Option<PathBuf> {
        match self {
            KernelBtf::Memory(file) => Some(format!("/proc/self/fd/{}", file.as_raw_fd()).into()),
            _ => None,
        }
    }
}

/// Of the running kernel.
static INDEX: Mutex<Index> = Mutex::new(Index::new());

/// What an object's own BTF and sections say before libbpf has it.
struct ObjectTypes {
    btf: Btf,
    relocations: Vec<Relocation>,
    hooks: Vec<Hook>,
}

impl ObjectTypes {
    /// Reads it, and checks it: libbpf follows much of it without looking where it leads.
    fn read(elf: &[u8]) -> Result<ObjectTypes> {
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
            check_count("types of the kernel", btf.count_asked(&relocations))?;
            let hooks = btf_hook::of_sections(elf);
            check_count("sections of programs", hooks.len())?;
            Ok(ObjectTypes { btf, relocations, hooks })
        };
        read().map_err(|e: Error| e.at("object"))
    }

    /// Looks for the kernel's types and hooks for a package with this object.
    fn find(self, package: &Package, config: &mut OpenConfig) -> Result<()> {
        let given = config.btf_path.as_deref();
        if diagnose::kernel_has_btf() && given.is_none_or(Path::is_dir) {
            (config.kernel_btf, config.hooks) = self.in_kernel().unwrap_or_default();
        } else if given.is_none() && package.has_kernel_btf() {
            config.kernel_btf = KernelBtf::of_package(package)?;
        }
        Ok(())
    }

    /// The types of the kernel that it asks for, where libbpf finds all that it needs among them, and its hooks. It would
    /// take several times as long with the whole.
    fn in_kernel(mut self) -> Option<(KernelBtf, Vec<Hook>)> {
        if self.relocations.is_empty() && self.hooks.is_empty() {
            return None;
        }
        let kernel = KernelFile::open(diagnose::KERNEL_BTF).ok()?;
        // If another thread is at it, that is no reason to wait.
        let (mut shared, mut own) = (INDEX.try_lock(), Index::new());
        let index = shared.as_deref_mut().unwrap_or(&mut own);
        let excerpt = self.btf.excerpt(&self.relocations, &mut self.hooks, &kernel, index).ok()?;
        let suffices = excerpt.suffices && !self.relocations.is_empty();
        let types = if suffices { os::memory_file(&excerpt.btf).ok() } else { None };
        Some((types.map_or(KernelBtf::Usual, |file| KernelBtf::Memory(Arc::new(file))), self.hooks))
    }
}

/// How far an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Parsed; nothing is in the kernel.
    Opened,
    /// Loading it failed.
    Used,
    /// Maps and programs are in the kernel.
    Loaded,
}

/// A global variable.
pub struct Var {
    /// Its name.
    pub name: String,
    /// The data section it is in.
    pub section: String,
    /// Its type; bytes if that is beyond the limits.
    pub ty: Arc<Type>,
    /// How it looks as JSON, or why it cannot be had as JSON.
    plan: Result<Plan>,
    map: usize,
    offset: usize,
}

impl Var {
    /// Whether it is a constant for the program: settable before load only.
    pub fn is_constant(&self) -> bool {
        self.section.starts_with(".rodata") || self.is_kconfig()
    }

    fn plan(&self) -> Result<&Plan> {
        let refused = |e: &Error| {
            let text = format_args!("as bytes only, not as JSON: {e}");
            Error::new(Status::Type, text).about_variable(&self.name)
        };
        self.plan.as_ref().map_err(refused)
    }

    fn is_kconfig(&self) -> bool {
        self.section == ".kconfig"
    }
}

/// Why an object could not be loaded.
pub struct LoadFailure {
    /// What the host gets to know.
    pub error: Error,
    /// The program without which it might have been.
    pub prog: Option<usize>,
    /// Whether the kernel lacks a function that a program calls; which one, libbpf does not say.
    pub lacks_kfunc: bool,
}

/// An object with what its BTF tells about it.
pub struct Opened {
    /// libbpf's side.
    pub object: Object,
    /// The object's own types.
    pub btf: Btf,
    /// The formats of the members of its types.
    pub formats: MemberFormats,
    /// Its global variables.
    pub vars: Vec<Var>,
    /// Where each of them stands.
    places: Places,
    /// Its maps, in libbpf's order.
    pub maps: Vec<Arc<Map>>,
    /// What its maps are counted by.
    pub machine: Machine,
    /// How far it is.
    pub phase: Phase,
}

impl Opened {
    /// Opens a package's object. Nothing reaches the kernel.
    pub fn open(package: &Package, config: &mut OpenConfig, log: &Arc<Log>) -> Result<Opened> {
        let types = ObjectTypes::read(&package.object)?;
        check_functions(&package.object)?;
        types.find(package, config)?;
        let object = open(&package.object, config, log)?;
        check_names(&object)?;
        let btf = Btf::parse(object.btf().ok_or_else(no_btf)?).map_err(|e| e.at("object"))?;
        let formats = package.meta.formats.iter();
        let mut requested = formats.map(|format| [&*format.structure, &*format.member, &*format.format]);
        let formats = MemberFormats::new(&btf, &mut requested, &mut |[structure, member, format], reason| {
            let text = format!("format {format:?} of {structure}.{member} left out: {reason}");
            log.write(Level::Warn, &text);
        });
        let maps = object.maps().map(|map| Map::describe(map, &btf, &formats, log).map(Arc::new));
        let maps = maps.collect::<Result<_>>()?;
        let vars = variables(&object, &btf, &formats)?;
        let mut places = Places::default();
        for (index, var) in vars.iter().enumerate().rev() {
            places.insert(&var.name, index);
        }
        Ok(Opened { object, btf, formats, vars, places, maps, machine: machine()?, phase: Phase::Opened })
    }

    /// Opens it once more, with the values it was compiled with: libbpf loads an object only once. What is in the
    /// kernel goes first, since descriptors may be what was short.
    pub fn reopen(self, elf: &[u8], config: &OpenConfig, log: &Arc<Log>) -> Result<Opened> {
        drop(self.object);
        let mut maps = self.maps;
        let object = open_again(elf, &self.btf, config, log, &mut maps)?;
        Ok(Opened { object, maps, phase: Phase::Opened, ..self })
    }

    /// The same after a load that failed, of which libbpf has left nothing in the kernel.
    pub fn renew(&mut self, elf: &[u8], config: &OpenConfig, log: &Arc<Log>) -> Result<()> {
        self.object = open_again(elf, &self.btf, config, log, &mut self.maps)?;
        self.phase = Phase::Opened;
        Ok(())
    }

    /// Has the types of values be the equal ones among `kept`, or adds them there. For what nobody has seen yet.
    pub fn share_value_types(&mut self, kept: &mut Vec<Arc<Type>>) -> Result<()> {
        self.maps.iter_mut().try_for_each(|map| {
            if let Some(plan) = &mut unshared(map)?.value.plan {
                plan.share_type(kept);
            }
            Ok(())
        })
    }

    /// Hands maps and programs to the kernel. A program that fails is named; its log is the error's detail, in full if it
    /// is `traced`. Ends early once `stop` is readable.
    pub fn load(
        &mut self,
        config: &OpenConfig,
        log: &Arc<Log>,
        traced: Option<usize>,
        stop: RawFd,
    ) -> Result<(), LoadFailure> {
        if let Some(index) = self.object.progs().position(|prog| prog.autoload() && prog.kind() == 0) {
            let error = unknown_section(self.object.prog(index));
            return Err(LoadFailure { error, prog: Some(index), lacks_kfunc: false });
        }
        self.phase = Phase::Used;
        let (loaded, printed) = log::capture(log, || self.object.load(&config.hooks, traced, stop));
        let failed = |error| LoadFailure { error, prog: None, lacks_kfunc: false };
        loaded.map_err(|e| match e.0 {
            libc::ECANCELED => failed(Error::new(Status::Stopped, "stop was called")),
            _ => diagnose::load_error(e, &printed, &self.object, &self.btf, config),
        })?;
        self.attach_maps().map_err(failed)?;
        self.phase = Phase::Loaded;
        Ok(())
    }

    fn attach_maps(&mut self) -> Result<()> {
        for (map, raw) in self.maps.iter_mut().zip(self.object.maps()) {
            unshared(map)?.attach_fd(raw)?;
        }
        Ok(())
    }

    /// Sets the number of entries of map `index`, the bytes of a ring buffer, the pages of an arena; before load.
    pub fn set_max_entries(&mut self, index: usize, count: u32) -> Result<()> {
        let (map, raw) = (&mut self.maps[index], self.object.map(index));
        let refused = |text: &str| Err(raw.about(Error::new(Status::Inval, text)));
        if raw.is_internal() {
            return refused("a data section has one entry");
        }
        if count == 0 {
            return refused("it needs at least one entry");
        }
        let map = unshared(map)?;
        let set = raw.set_max_entries(count);
        map.max_entries = raw.max_entries();
        set.map_err(|e| map_error(map, "number of entries", e))
    }

    /// The variable of that name.
    pub fn var(&self, name: &str) -> Result<&Var> {
        self.var_index(name).map(|index| &self.vars[index])
    }

    /// Whether there is a variable of that name.
    pub fn has_var(&self, name: &str) -> bool {
        self.places.get(name).is_some()
    }

    /// Where the variable of that name stands among all.
    pub fn var_index(&self, name: &str) -> Result<usize> {
        let names = || self.vars.iter().map(|var| var.name.clone());
        self.places.get(name).ok_or_else(|| Error::unknown("variable", name, &mut names()))
    }

    /// Sets a variable from JSON, range-checked.
    pub fn set_var_json(&self, name: &str, value: &Value) -> Result<()> {
        let var = self.var(name)?;
        var.plan()?;
        // Members that an object does not name keep their values.
        let mut bytes = if value.is_object() { self.var_bytes(name)? } else { zeroed(var)? };
        encode_over(&var.ty, value, &mut bytes).map_err(|e| e.about_variable(name))?;
        self.write(var, &bytes)
    }

    /// Sets a variable from its bytes.
    pub fn set_var(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let var = self.var(name)?;
        if bytes.len() != var.ty.size {
            let (given, size) = (bytes.len(), var.ty.size);
            let error =
                Error::new(Status::Type, format_args!("{given} bytes given, {} has {size}", var.ty.name));
            return Err(error.about_variable(name));
        }
        self.write(var, bytes)
    }

    /// A variable's bytes: the initial value before load, the running one after.
    pub fn var_bytes(&self, name: &str) -> Result<Vec<u8>> {
        let var = self.var(name)?;
        let mut bytes = zeroed(var)?;
        if self.in_memory(var) {
            if !self.object.map(var.map).read(var.offset, &mut bytes) {
                return Err(outside(var));
            }
        } else {
            let section = self.section(var)?;
            let range = section.get(var.offset..var.offset + bytes.len());
            bytes.copy_from_slice(range.ok_or_else(|| outside(var))?);
        }
        Ok(bytes)
    }

    /// A variable as JSON.
    pub fn var_json(&self, name: &str) -> Result<Vec<u8>> {
        let plan = self.var(name)?.plan()?;
        let bytes = self.var_bytes(name)?;
        memory::room(plan.longest()).map_err(|e| e.about_variable(name))?;
        let mut out = Vec::new();
        plan.json(&bytes, &Clock::new(os::boot_time), &mut out);
        Ok(out)
    }

    fn write(&self, var: &Var, bytes: &[u8]) -> Result<()> {
        if var.is_kconfig() {
            let text = "the kernel's configuration sets it";
            return Err(Error::new(Status::State, text).about_variable(&var.name));
        }
        if var.is_constant() && self.phase == Phase::Loaded {
            let section = &var.section;
            let text = format_args!("a constant ({section}) can only be set before load");
            return Err(Error::new(Status::State, text).about_variable(&var.name));
        }
        if self.in_memory(var) {
            let written = self.object.map(var.map).write(var.offset, bytes);
            return if written { Ok(()) } else { Err(outside(var)) };
        }
        let mut section = self.section(var)?;
        let range = section.get_mut(var.offset..var.offset + bytes.len());
        range.ok_or_else(|| outside(var))?.copy_from_slice(bytes);
        self.maps[var.map].set(&[0; 4], &section, 0)
    }

    /// Whether libbpf's memory is the variable itself. Constants never change after load; the rest is shared
    /// with the kernel where it can map arrays (Linux 5.5).
    fn in_memory(&self, var: &Var) -> bool {
        self.phase == Phase::Opened || var.is_constant() || self.object.map(var.map).is_mapped()
    }

    /// The whole section of a variable, from the kernel.
    fn section(&self, var: &Var) -> Result<Vec<u8>> {
        let map = &self.maps[var.map];
        let mut section = memory::zeroed(map.value_len()).map_err(|e| e.at(&var.section))?;
        map.fd()?.lookup(&[0; 4], &mut section).map_err(|e| map_error(map, "lookup", e))?;
        Ok(section)
    }
}

/// Hands an ELF object to libbpf.
fn open(elf: &[u8], config: &OpenConfig, log: &Arc<Log>) -> Result<Object> {
    let text = |path: &Path| {
        CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| {
            Error::new(Status::Inval, format_args!("path {:?} has a NUL byte in it", path.to_string_lossy()))
        })
    };
    let given = config.btf_path.as_deref().map_or(Ok(None), kernel_btf)?;
    let kernel_btf = given.or_else(|| config.kernel_btf.path());
    let kernel_btf = kernel_btf.as_deref().map(text).transpose()?;
    let pin_path = config.pin_path.as_deref().map(text).transpose()?;
    let name = object_name(&config.name);
    let options =
        OpenOptions { name: &name, kernel_btf: kernel_btf.as_deref(), pin_path: pin_path.as_deref() };
    let (opened, printed) = log::capture(log, || {
        let object = Object::open(elf, &options)?;
        // A definition may name the type of the records, which gives it a size that the kernel refuses.
        object.maps().filter(|map| map.kind() == kind::RINGBUF).try_for_each(MapRef::clear_sizes)?;
        // At the address that it asks for, libbpf would put an arena over whatever the host has there.
        object.maps().filter(|map| map.kind() == kind::ARENA).try_for_each(MapRef::clear_address)?;
        object.maps().try_for_each(map_defaults::complete)?;
        Ok(object)
    });
    let object = opened.map_err(|e| diagnose::open_error(e, &printed))?;
    check_count("programs", object.progs().len()).map_err(|e| e.at("object"))?;
    check_count("maps", object.maps().len()).map_err(|e| e.at("object"))?;
    object.maps().filter(|map| map.pin_path().is_some()).try_for_each(check_pin)?;
    Ok(object)
}

/// libbpf appends the name to the folder of pins as it is: a name with a slash would be a file of another folder.
fn check_pin(map: MapRef<'_>) -> Result<()> {
    let name = map.name().to_bytes();
    if !name.contains(&b'/') && name != b"." && name != b".." {
        return Ok(());
    }
    let text = "is pinned by its name, which must be that of a file";
    Err(map.about(Error::new(Status::Package, text)))
}

/// Hands it over once more; `btf` and `maps` are those of the object that it replaces.
fn open_again(
    elf: &[u8],
    btf: &Btf,
    config: &OpenConfig,
    log: &Arc<Log>,
    maps: &mut [Arc<Map>],
) -> Result<Object> {
    let mut weak = Vec::new();
    if config.weak_kfuncs {
        weak = memory::copy(elf)?;
        elf::weaken(&mut weak, &|name| btf.is_function(name));
    }
    let object = open(if weak.is_empty() { elf } else { &weak }, config, log)?;
    maps.iter_mut().zip(object.maps()).try_for_each(|(map, raw)| {
        unshared(map)?.detach_fd(raw);
        Ok(())
    })?;
    Ok(object)
}

/// Whatever has a name is found by it: of two programs or maps with one name only the first would be.
fn check_names(object: &Object) -> Result<()> {
    let twice =
        |kind| Error::new(Status::Package, format_args!("the object has several {kind} of this name"));
    let mut programs: Vec<_> = object.progs().map(ProgRef::name).collect();
    if let Some(name) = repeated(&mut programs) {
        return Err(twice("programs").about_program(&name.to_string_lossy(), ""));
    }
    let mut maps: Vec<_> = object.maps().map(MapRef::name).collect();
    repeated(&mut maps).map_or(Ok(()), |name| Err(twice("maps").about_map(&name.to_string_lossy())))
}

fn check_count(what: &str, count: usize) -> Result<()> {
    if count <= MAX_ENTRIES {
        return Ok(());
    }
    Err(Error::new(Status::Package, format_args!("{count} {what}, and at most {MAX_ENTRIES} are loaded")))
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
fn check_functions(elf: &[u8]) -> Result<()> {
    const LOAD_64: u8 = 0x18;
    const INSTRUCTION: usize = 8;
    let is_cut = |code: &[u8]| code.rchunks_exact(INSTRUCTION).next().is_some_and(|last| last[0] == LOAD_64);
    if elf::functions(elf).is_some_and(|functions| functions.into_iter().any(is_cut)) {
        return Err(Error::new(Status::Package, "object: a function ends within an instruction of 16 bytes"));
    }
    Ok(())
}

/// The map, which nobody else uses before load.
fn unshared(map: &mut Arc<Map>) -> Result<&mut Map> {
    let busy = || Error::new(Status::Busy, "in use before load");
    if Arc::strong_count(map) > 1 {
        return Err(map.about(busy()));
    }
    Arc::get_mut(map).ok_or_else(busy)
}

fn zeroed(var: &Var) -> Result<Vec<u8>> {
    memory::zeroed(var.ty.size).map_err(|e| e.about_variable(&var.name))
}

fn outside(var: &Var) -> Error {
    Error::new(Status::Package, format_args!("lies outside of {}", var.section)).about_variable(&var.name)
}

fn variables(object: &Object, btf: &Btf, formats: &MemberFormats) -> Result<Vec<Var>> {
    let mut vars = Vec::new();
    for (map, raw) in object.maps().enumerate().filter(|(_, raw)| raw.is_internal()) {
        for global in btf.globals(raw.value_type()) {
            let (ty, plan) = match formats.type_from_btf(btf, global.type_id) {
                Ok(ty) => (Arc::clone(&ty), Plan::new(&ty)),
                Err(e) if e.status == Status::Type => (Type::bytes(global.size), Err(e)),
                Err(e) => return Err(e.about_variable(global.name)),
            };
            let (name, section) = (global.name.to_owned(), global.section.to_owned());
            vars.push(Var { name, section, ty, plan, map, offset: global.offset as usize });
        }
    }
    Ok(vars)
}

/// The machine at hand.
fn machine() -> Result<Machine> {
    let failed = |e: Errno| Error::sys(Status::System, e.0, format_args!("possible CPUs: {e}"));
    let possible_cpus = possible_cpus().map_err(failed)? as u64;
    let online_cpus = online_cpus().map_or(possible_cpus, |cpus| cpus.len() as u64);
    Ok(Machine { possible_cpus, online_cpus, page: os::page_size() })
}

fn unknown_section(prog: ProgRef<'_>) -> Error {
    let section = prog.section().to_string_lossy();
    prog.about(Error::new(Status::Package, format_args!("libbpf knows no section {section:?}")), "")
}

fn no_btf() -> Error {
    Error::new(Status::Package, "object: it has no BTF; compile it with clang -g")
}

/// libbpf takes names of up to 63 characters.
fn object_name(name: &str) -> CString {
    let name: String = name.chars().filter(char::is_ascii_graphic).take(63).collect();
    CString::new(if name.is_empty() { "eunomia".into() } else { name }).unwrap_or_default()
}

/// What to hand to libbpf for a BTF path: a file always, out of a folder only what the kernel lacks.
fn kernel_btf(path: &Path) -> Result<Option<PathBuf>> {
    if !path.is_dir() {
        return if path.exists() { Ok(Some(path.into())) } else { Err(no_file(path)) };
    }
    if diagnose::kernel_has_btf() {
        return Ok(None);
    }
    let (release, machine) = os::kernel();
    let (id, version) = distribution();
    let file = |machine: &str| path.join(format!("{id}/{version}/{machine}/{release}.btf"));
    // BTFHub has another name for some machines.
    let (own, hubs) = (file(&machine), file(machine::name(&machine)));
    if own.exists() {
        Ok(Some(own))
    } else if hubs.exists() {
        Ok(Some(hubs))
    } else {
        Err(no_file(&own))
    }
}

fn no_file(path: &Path) -> Error {
    let missing = Error::new(Status::NotFound, "does not exist");
    missing.about_file(&path.to_string_lossy()).at("btf_path")
}

/// ID and VERSION_ID of os-release(5), the first two levels of a BTFHub archive.
fn distribution() -> (String, String) {
    let text = os::read_text("/etc/os-release").unwrap_or_default();
    let value = |key: &str| {
        let mut values = text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        values.next().unwrap_or_default().trim_matches(['"', '\'']).to_owned()
    };
    (value("ID"), value("VERSION_ID"))
}
