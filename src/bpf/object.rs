//! Opens an object, sets its variables and loads it.
//!
//! The layout of variables comes from the object's BTF as libbpf completes it, never from the metadata of a package.

use std::ffi::CString;
use std::os::fd::{OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::constants::map_type;
use super::diagnose::LoadFailure;
use super::kernel_btf::{self, KernelBtf, given_btf};
use super::map::{Map, map_error};
use super::map_memory::Machine;
use super::object_types::{ObjectTypes, check_count, check_functions, no_btf};
use super::replace::maps::{is_same_layout, is_tied};
use super::sys::object::{MapRef, Object, OpenOptions, ProgRef, possible_cpus, repeated};
use super::sys::section_handlers::set_hooks;
use super::{diagnose, elf, map_defaults};
use crate::btf::{Btf, Global, Hook};
use crate::error::{Error, Result, Status};
use crate::log::{self, Level, Log};
use crate::memory;
use crate::os::{self, Errno};
use crate::package::{NameIndex, Package};
use crate::render::{Clock, Plan};
use crate::types::{MemberFormats, Type, encode_over};

/// Options for opening an object.
#[derive(Clone, Default)]
pub struct OpenConfig {
    /// Name of the object, from the package; may be empty.
    pub name: String,
    /// Kernel BTF: a file, or a directory in the layout of BTFHub.
    pub btf_path: Option<PathBuf>,
    /// Directory for maps that are pinned by name.
    pub pin_path: Option<PathBuf>,
    /// The source of the kernel's types, if the host does not specify one.
    pub kernel_btf: KernelBtf,
    /// Hooks that were found among the kernel's types.
    pub hooks: Vec<Hook>,
    /// Whether libbpf finds the hooks of programs, without the section handlers of the library.
    pub libbpf_sections: bool,
    /// Whether another process loads the object.
    pub is_imported: bool,
    /// Whether a call of a function that the kernel lacks makes only the calling program fail to load, not the whole
    /// object.
    pub weak_kfuncs: bool,
}

/// The state of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Parsed; nothing is loaded.
    Opened,
    /// Loading failed.
    Used,
    /// Maps and programs are loaded.
    Loaded,
    /// Another process has loaded it.
    Imported,
}

/// A global variable.
pub struct Var {
    /// Its name.
    pub name: String,
    /// Its data section.
    pub section: String,
    /// Its type; an array of bytes if the type exceeds the limits.
    pub ty: Arc<Type>,
    /// Its plan for JSON, or why it has none.
    plan: Result<Plan>,
    map: usize,
    offset: usize,
}

impl Var {
    /// Whether it is a constant, which can be set before load only.
    pub fn is_constant(&self) -> bool {
        self.section.starts_with(".rodata") || self.is_kconfig()
    }

    fn plan(&self) -> Result<&Plan> {
        let refused = |e: &Error| {
            Error::new(Status::Type, format_args!("available as bytes only, not as JSON: {e}"))
                .about_variable(&self.name)
        };
        self.plan.as_ref().map_err(refused)
    }

    fn is_kconfig(&self) -> bool {
        self.section == ".kconfig"
    }
}

/// An object, with its variables and maps as its BTF describes them.
pub struct Opened {
    /// The object in libbpf.
    pub object: Object,
    /// The object's own types.
    pub btf: Btf,
    /// The formats of the members of its types.
    pub formats: MemberFormats,
    /// Its global variables.
    pub vars: Vec<Var>,
    /// The index of each variable by its name.
    places: NameIndex,
    /// Its maps, in libbpf's order.
    pub maps: Vec<Arc<Map>>,
    /// Facts of the machine for the memory of maps.
    pub machine: Machine,
    /// Its state.
    pub phase: Phase,
}

impl Opened {
    /// Opens the object of a package. Nothing is loaded.
    pub fn open(package: &Package, config: &mut OpenConfig, log: &Arc<Log>) -> Result<Opened> {
        let types = ObjectTypes::read(&package.object, config.libbpf_sections)?;
        check_functions(&package.object)?;
        if !config.is_imported {
            (config.kernel_btf, config.hooks) = kernel_btf::find(types, package, config.btf_path.as_deref())?;
        }
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
        let mut places = NameIndex::default();
        for (index, var) in vars.iter().enumerate().rev() {
            places.insert(&var.name, index);
        }
        let machine = machine()?;
        Ok(Opened { object, btf, formats, vars, places, maps, machine, phase: Phase::Opened })
    }

    /// Opens the object again, with its initial values, because libbpf loads an object only once. The old object is closed
    /// first, because descriptors may be scarce.
    pub fn reopen(self, elf: &[u8], config: &OpenConfig, log: &Arc<Log>) -> Result<Opened> {
        drop(self.object);
        let mut maps = self.maps;
        let object = open_again(elf, &self.btf, config, log, &mut maps)?;
        Ok(Opened { object, maps, phase: Phase::Opened, ..self })
    }

    /// Opens the object again after a failed load, in which libbpf has removed everything from the kernel.
    pub fn renew(&mut self, elf: &[u8], config: &OpenConfig, log: &Arc<Log>) -> Result<()> {
        self.object = open_again(elf, &self.btf, config, log, &mut self.maps)?;
        self.phase = Phase::Opened;
        Ok(())
    }

    /// Interns the types of keys and values: replaces each with an equal one from `kept`, or adds it. This is possible
    /// because the host has no pointer to these types yet.
    pub fn share_map_types(&mut self, kept: &mut Vec<Arc<Type>>) -> Result<()> {
        self.maps.iter_mut().try_for_each(|map| {
            let map = unshared(map)?;
            let plans = [&mut map.key, &mut map.value].into_iter().filter_map(|form| form.plan.as_mut());
            plans.for_each(|plan| plan.intern_type(kept));
            Ok(())
        })
    }

    /// Loads maps and programs. A failure names the program; the detail of the error is the verifier's log of that
    /// program, complete if the program is `traced`. Ends early when `stop` becomes readable.
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
        let (loaded, printed) = log::capture(log, || {
            set_hooks(&self.object, &config.hooks);
            self.object.load(traced, stop)
        });
        let failed = |error| LoadFailure { error, prog: None, lacks_kfunc: false };
        loaded.map_err(|e| match e.0 {
            libc::ECANCELED => failed(Error::new(Status::Stopped, "stop was called")),
            _ => diagnose::load_error(
                e,
                &printed,
                &self.object,
                &self.btf,
                config.btf_path.as_deref(),
                &config.kernel_btf,
            ),
        })?;
        self.attach_maps().map_err(failed)?;
        self.phase = Phase::Loaded;
        Ok(())
    }

    /// Makes map `index` use the descriptor of a map that another process has created.
    pub fn import(&mut self, index: usize, fd: OwnedFd) -> Result<()> {
        unshared(&mut self.maps[index])?.import_fd(fd)
    }

    fn attach_maps(&mut self) -> Result<()> {
        for (map, raw) in self.maps.iter_mut().zip(self.object.maps()) {
            unshared(map)?.attach_fd(raw)?;
        }
        Ok(())
    }

    /// Sets the number of entries of map `index` (bytes of a ring buffer, pages of an arena), before load.
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

    /// Whether a data section has the same variables as one of another object, static ones included.
    #[inline(never)]
    pub fn has_same_data(&self, map: usize, other: &Opened, at: usize) -> bool {
        let own = self.btf.data(self.object.map(map).value_type());
        let others = other.btf.data(other.object.map(at).value_type());
        let ty = |of: &Opened, id: u32| of.formats.type_from_btf(&of.btf, id).ok();
        let is_same = |(one, two): (&Global<'_>, &Global<'_>)| {
            let types = ty(self, one.type_id).zip(ty(other, two.type_id));
            (one.name, one.offset, one.size) == (two.name, two.offset, two.size)
                && types.is_some_and(|(one, two)| is_same_layout(&one, &two) && !is_tied(&one))
        };
        !own.is_empty() && own.len() == others.len() && own.iter().zip(&others).all(is_same)
    }

    /// Returns the variable with that name.
    pub fn var(&self, name: &str) -> Result<&Var> {
        self.var_index(name).map(|index| &self.vars[index])
    }

    /// Whether there is a variable with that name.
    pub fn has_var(&self, name: &str) -> bool {
        self.places.get(name).is_some()
    }

    /// Returns the index of the variable with that name.
    pub fn var_index(&self, name: &str) -> Result<usize> {
        let names = || self.vars.iter().map(|var| var.name.clone());
        self.places.get(name).ok_or_else(|| Error::unknown("variable", name, &mut names()))
    }

    /// Sets a variable from JSON, with range checks.
    pub fn set_var_json(&self, name: &str, value: &Value) -> Result<()> {
        let var = self.var(name)?;
        var.plan()?;
        // Members that the JSON object does not name keep their values.
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

    /// Returns the bytes of a variable: its initial value before load, its current value after load.
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

    /// Returns a variable as JSON.
    pub fn var_json(&self, name: &str) -> Result<Vec<u8>> {
        let plan = self.var(name)?.plan()?;
        let bytes = self.var_bytes(name)?;
        memory::check_available(plan.max_json_len()).map_err(|e| e.about_variable(name))?;
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
            return Err(Error::new(
                Status::State,
                format_args!("a constant ({section}) can only be set before load"),
            )
            .about_variable(&var.name));
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

    /// Whether libbpf's memory has the current value. Constants do not change after load. Other sections are shared with the
    /// kernel if it can map arrays (Linux 5.5).
    fn in_memory(&self, var: &Var) -> bool {
        self.phase == Phase::Opened
            || self.phase != Phase::Imported && (var.is_constant() || self.object.map(var.map).is_mapped())
    }

    /// Reads the whole section of a variable from the kernel.
    fn section(&self, var: &Var) -> Result<Vec<u8>> {
        let map = &self.maps[var.map];
        let mut section = memory::zeroed(map.value_len()).map_err(|e| e.at(&var.section))?;
        map.fd()?.lookup(&[0; 4], &mut section).map_err(|e| map_error(map, "lookup", e))?;
        Ok(section)
    }
}

/// Opens an ELF object with libbpf.
fn open(elf: &[u8], config: &OpenConfig, log: &Arc<Log>) -> Result<Object> {
    let text = |path: &Path| {
        CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| {
            Error::new(Status::Inval, format_args!("path {:?} contains a NUL byte", path.to_string_lossy()))
        })
    };
    let given = config.btf_path.as_deref().map_or(Ok(None), given_btf)?;
    let kernel_btf = given.or_else(|| config.kernel_btf.path());
    let kernel_btf = kernel_btf.as_deref().map(text).transpose()?;
    let pin_path = config.pin_path.as_deref().map(text).transpose()?;
    let name = object_name(&config.name);
    let options =
        OpenOptions { name: &name, kernel_btf: kernel_btf.as_deref(), pin_path: pin_path.as_deref() };
    let (opened, printed) = log::capture(log, || {
        let object = Object::open(elf, &options)?;
        // The definition of a ring buffer may name the type of its records. libbpf then sets a value size, which the
        // kernel refuses.
        object.maps().filter(|map| map.kind() == map_type::RINGBUF).try_for_each(MapRef::clear_sizes)?;
        // libbpf would map an arena at its requested address, over any mapping of the host there.
        object.maps().filter(|map| map.kind() == map_type::ARENA).try_for_each(MapRef::clear_address)?;
        object.maps().try_for_each(map_defaults::complete)?;
        Ok(object)
    });
    let object = opened.map_err(|e| diagnose::open_error(e, &printed))?;
    check_count("programs", object.progs().len()).map_err(|e| e.at("object"))?;
    check_count("maps", object.maps().len()).map_err(|e| e.at("object"))?;
    object.maps().filter(|map| map.pin_path().is_some()).try_for_each(check_pin)?;
    Ok(object)
}

/// Refuses names that are not file names. libbpf appends the name to the pin directory, so a name with a slash could reach
/// another directory.
fn check_pin(map: MapRef<'_>) -> Result<()> {
    let name = map.name().to_bytes();
    if !name.contains(&b'/') && name != b"." && name != b".." {
        return Ok(());
    }
    let text = "is pinned by its name, which is not a valid file name";
    Err(map.about(Error::new(Status::Package, text)))
}

/// Opens the object again. `btf` and `maps` are those of the object that it replaces.
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
        elf::weaken(&mut weak, &|name| btf.has_function(name));
    }
    let object = open(if weak.is_empty() { elf } else { &weak }, config, log)?;
    maps.iter_mut().zip(object.maps()).try_for_each(|(map, raw)| {
        unshared(map)?.detach_fd(raw);
        Ok(())
    })?;
    Ok(object)
}

/// Refuses repeated names. Programs and maps are looked up by name, so only the first of several would be found.
fn check_names(object: &Object) -> Result<()> {
    let twice =
        |kind| Error::new(Status::Package, format_args!("the object has several {kind} with this name"));
    let mut programs: Vec<_> = object.progs().map(ProgRef::name).collect();
    if let Some(name) = repeated(&mut programs) {
        return Err(twice("programs").about_program(&name.to_string_lossy(), ""));
    }
    let mut maps: Vec<_> = object.maps().map(MapRef::name).collect();
    repeated(&mut maps).map_or(Ok(()), |name| Err(twice("maps").about_map(&name.to_string_lossy())))
}

/// Returns exclusive access to a map, which has no other user before load.
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
    Error::new(Status::Package, format_args!("is outside of {}", var.section)).about_variable(&var.name)
}

fn variables(object: &Object, btf: &Btf, formats: &MemberFormats) -> Result<Vec<Var>> {
    let mut vars = Vec::new();
    for (map, raw) in object.maps().enumerate().filter(|(_, raw)| raw.is_internal()) {
        for global in btf.globals(raw.value_type()) {
            let (ty, plan) = match formats.type_from_btf(btf, global.type_id) {
                Ok(ty) => (Arc::clone(&ty), Plan::new(&ty)),
                Err(e) if e.status() == Status::Type => (Type::bytes(global.size), Err(e)),
                Err(e) => return Err(e.about_variable(global.name)),
            };
            let (name, section) = (global.name.to_owned(), global.section.to_owned());
            vars.push(Var { name, section, ty, plan, map, offset: global.offset as usize });
        }
    }
    Ok(vars)
}

/// Returns the facts of this machine.
fn machine() -> Result<Machine> {
    let failed = |e: Errno| Error::sys(Status::System, e.0, format_args!("possible CPUs: {e}"));
    let possible_cpus = possible_cpus().map_err(failed)? as u64;
    let online_cpus = os::online_cpus().map_or(possible_cpus, |cpus| cpus.len() as u64);
    Ok(Machine { possible_cpus, online_cpus, page: os::page_size() })
}

fn unknown_section(prog: ProgRef<'_>) -> Error {
    let section = prog.section().to_string_lossy();
    prog.about(Error::new(Status::Package, format_args!("libbpf does not support section {section:?}")), "")
}

/// Returns a valid name for an object. libbpf accepts names of up to 63 characters.
fn object_name(name: &str) -> CString {
    let name: String = name.chars().filter(char::is_ascii_graphic).take(63).collect();
    CString::new(if name.is_empty() { "eunomia".into() } else { name }).unwrap_or_default()
}
