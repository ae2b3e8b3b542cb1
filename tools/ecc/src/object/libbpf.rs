//! The only file that calls libbpf: writes BTF as C, links objects, and lists an object's maps and programs as libbpf sees
//! them. Objects are opened, never loaded.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::ptr;
use std::sync::Mutex;

use libbpf_sys as bpf;
use rustix::fs::{MemfdFlags, memfd_create};

use crate::error::{Error, Result};

/// The type of a `va_list` argument in the bindings. Where `va_list` is a struct, it is passed by address.
type VaList = *mut bpf::__va_list_tag;

unsafe extern "C" {
    fn vsnprintf(buffer: *mut c_char, size: usize, format: *const c_char, args: VaList) -> c_int;
}

/// The longest string that libbpf prints at once: a type name, a constant, a line of a warning.
const PIECE: usize = 4096;

/// A map as libbpf opens it.
pub struct Map {
    pub name: String,
    /// `BPF_MAP_TYPE_...`
    pub kind: u32,
    /// BTF id of the value; 0 if it has no type.
    pub value: u32,
    /// Whether it contains global variables.
    pub internal: bool,
    pub mmapable: bool,
}

/// A program as libbpf opens it.
pub struct Program {
    pub name: String,
    pub section: String,
    /// Whether libbpf knows the section name. It does not load programs in unknown sections.
    pub is_known: bool,
}

/// The maps and programs of an object.
pub struct Opened {
    pub maps: Vec<Map>,
    pub programs: Vec<Program>,
}

/// Opens `object` with the name `name`, without loading it.
pub fn open(object: &[u8], name: &str) -> Result<Opened> {
    let c_name = c_string(name)?;
    let opts = bpf::bpf_object_open_opts {
        sz: size_of::<bpf::bpf_object_open_opts>() as u64,
        object_name: c_name.as_ptr(),
        ..Default::default()
    };
    capture_warnings();
    // SAFETY: the buffer and the options live through the call, which copies what it keeps.
    let opened = unsafe { bpf::bpf_object__open_mem(object.as_ptr().cast(), object.len() as u64, &opts) };
    if opened.is_null() {
        return Err(format!("libbpf cannot open the object: {}", take_warnings()).into());
    }
    let result = Opened { maps: maps(opened), programs: programs(opened) };
    // SAFETY: opened above, closed once; nothing borrowed from it is left.
    unsafe { bpf::bpf_object__close(opened) };
    Ok(result)
}

fn maps(object: *mut bpf::bpf_object) -> Vec<Map> {
    let mut maps = Vec::new();
    let mut map = ptr::null_mut();
    loop {
        // SAFETY: the object is open, `map` is null or one of its maps.
        map = unsafe { bpf::bpf_object__next_map(object, map) };
        if map.is_null() {
            return maps;
        }
        // SAFETY: as above; the name is copied before the object is closed.
        maps.push(unsafe {
            Map {
                name: text(bpf::bpf_map__name(map)),
                kind: bpf::bpf_map__type(map),
                value: bpf::bpf_map__btf_value_type_id(map),
                internal: bpf::bpf_map__is_internal(map),
                mmapable: bpf::bpf_map__map_flags(map) & bpf::BPF_F_MMAPABLE != 0,
            }
        });
    }
}

fn programs(object: *mut bpf::bpf_object) -> Vec<Program> {
    let mut programs = Vec::new();
    let mut program = ptr::null_mut();
    loop {
        // SAFETY: the object is open, `program` is null or one of its programs.
        program = unsafe { bpf::bpf_object__next_program(object, program) };
        if program.is_null() {
            return programs;
        }
        // SAFETY: as above; the strings are copied before the object is closed.
        programs.push(unsafe {
            Program {
                name: text(bpf::bpf_program__name(program)),
                section: text(bpf::bpf_program__section_name(program)),
                is_known: bpf::bpf_program__type(program) != bpf::BPF_PROG_TYPE_UNSPEC,
            }
        });
    }
}

/// Links objects to one. Each has the name of its source.
pub fn link(objects: &[(String, Vec<u8>)]) -> Result<Vec<u8>> {
    let linked = memfd_create("linked", MemfdFlags::CLOEXEC).map_err(|error| error.to_string())?;
    let mut linked = File::from(linked);
    capture_warnings();
    // SAFETY: the descriptor stays open until the linker is freed; no options.
    let linker = unsafe { bpf::bpf_linker__new_fd(linked.as_raw_fd(), ptr::null_mut()) };
    if linker.is_null() {
        return Err(format!("libbpf cannot link: {}", take_warnings()).into());
    }
    let mut failed = None;
    for (name, object) in objects {
        // SAFETY: the linker is alive and reads the bytes during the call only.
        let status = unsafe {
            let bytes = object.as_ptr().cast_mut().cast();
            bpf::bpf_linker__add_buf(linker, bytes, object.len() as u64, ptr::null())
        };
        if status != 0 {
            failed = Some(name);
            break;
        }
    }
    // SAFETY: the linker is alive; it is freed once.
    let finished = unsafe {
        let finished = failed.is_none() && bpf::bpf_linker__finalize(linker) == 0;
        bpf::bpf_linker__free(linker);
        finished
    };
    if !finished {
        return Err(link_error(failed).into());
    }
    let mut object = Vec::new();
    let read = linked.rewind().and_then(|()| linked.read_to_end(&mut object));
    read.map_err(|error| Error::io("the linked object", &error))?;
    Ok(object)
}

fn link_error(failed: Option<&String>) -> String {
    let warnings = take_warnings();
    // libbpf identifies a source by the address of its object, which is of no use here.
    let end = warnings.find(" in 'mem:").unwrap_or(warnings.len());
    let name = failed.map_or(String::new(), |name| format!("{name}: "));
    format!("{name}cannot be linked with the other sources: {}", &warnings[..end])
}

/// The content of a BTF file as C.
pub struct Declarations {
    pub types: String,
    /// Prototypes of the kernel functions that programs may call, one per line.
    pub kfuncs: String,
}

/// Every type and kfunc in the BTF file `path` (raw or in an ELF).
pub fn declarations(path: &Path) -> Result<Declarations> {
    let c_path = c_string(path.to_str().ok_or("the path of the BTF file is not UTF-8")?)?;
    capture_warnings();
    // SAFETY: a NUL-terminated path; no BTF.ext is requested.
    let btf = unsafe { bpf::btf__parse(c_path.as_ptr(), ptr::null_mut()) };
    if btf.is_null() {
        return Err(format!("{}: invalid BTF: {}", path.display(), take_warnings()).into());
    }
    // SAFETY: parsed above.
    let kfuncs = unsafe { kfuncs(btf) };
    let mut output: Vec<u8> = Vec::new();
    let mut end_of_types = 0;
    // SAFETY: `output` outlives the dumper, which is the only user of it until freed.
    let dumper = unsafe { bpf::btf_dump__new(btf, Some(append), (&raw mut output).cast(), ptr::null()) };
    let mut failed = dumper.is_null();
    if !failed {
        // SAFETY: dumper and BTF are alive, the ids in range.
        failed = unsafe { (1..bpf::btf__type_cnt(btf)).any(|id| bpf::btf_dump__dump_type(dumper, id) != 0) };
        end_of_types = output.len();
        // SAFETY: as above; the names live through the calls.
        failed |= unsafe { kfuncs.iter().any(|kfunc| !emit_kfunc(dumper, kfunc, &raw mut output)) };
        // SAFETY: freed once, before its BTF.
        unsafe { bpf::btf_dump__free(dumper) };
    }
    // SAFETY: parsed above, freed once, after its dumper.
    unsafe { bpf::btf__free(btf) };
    let kfuncs = output.split_off(end_of_types);
    match (String::from_utf8(output), String::from_utf8(kfuncs)) {
        (Ok(types), Ok(kfuncs)) if !failed => Ok(Declarations { types, kfuncs }),
        _ => Err(format!("{}: cannot write BTF as C: {}", path.display(), take_warnings()).into()),
    }
}

/// A kernel function that programs may call.
struct Kfunc {
    name: CString,
    prototype: u32,
}

/// The functions with the tag `bpf_kfunc`, each name once.
///
/// # Safety
/// `btf` is alive.
unsafe fn kfuncs(btf: *const bpf::btf) -> Vec<Kfunc> {
    const DECL_TAG: u32 = 17;
    const FUNC: u32 = 12;
    let mut kfuncs: Vec<Kfunc> = Vec::new();
    // SAFETY: the BTF is alive, and ids below the count have a type; libbpf has checked what types refer to.
    unsafe {
        let kind = |ty: &bpf::btf_type| ty.info >> 24 & 0x1f;
        let name = |ty: &bpf::btf_type| bpf::btf__name_by_offset(btf, ty.name_off);
        for id in 1..bpf::btf__type_cnt(btf) {
            let Some(tag) = bpf::btf__type_by_id(btf, id).as_ref() else { continue };
            if kind(tag) != DECL_TAG || text(name(tag)) != "bpf_kfunc" {
                continue;
            }
            let function = bpf::btf__type_by_id(btf, tag.__bindgen_anon_1.type_).as_ref();
            let Some(function) = function.filter(|function| kind(function) == FUNC) else { continue };
            let name = CStr::from_ptr(name(function));
            if !kfuncs.iter().any(|known| *known.name == *name) {
                kfuncs.push(Kfunc { name: name.into(), prototype: function.__bindgen_anon_1.type_ });
            }
        }
    }
    kfuncs
}

/// Writes a kfunc's prototype with `dumper`, whose output is `output`. Returns false if libbpf fails.
///
/// # Safety
/// Both are alive, and nothing else uses the output.
unsafe fn emit_kfunc(dumper: *mut bpf::btf_dump, kfunc: &Kfunc, output: *mut Vec<u8>) -> bool {
    let opts = bpf::btf_dump_emit_type_decl_opts {
        sz: size_of::<bpf::btf_dump_emit_type_decl_opts>() as u64,
        field_name: kfunc.name.as_ptr(),
        ..Default::default()
    };
    // SAFETY: the caller guarantees this; the reference that `append` creates ends before the next write.
    unsafe {
        (*output).extend_from_slice(b"extern ");
        let emitted = bpf::btf_dump__emit_type_decl(dumper, kfunc.prototype, &opts) == 0;
        (*output).extend_from_slice(b" __attribute__((weak, section(\".ksyms\")));\n");
        emitted
    }
}

/// The callback for libbpf's C output. `output` is the `Vec<u8>` passed to `btf_dump__new`.
unsafe extern "C" fn append(output: *mut c_void, format: *const c_char, args: VaList) {
    // SAFETY: see `declarations`; no other reference to the vector is in use during a dump.
    let output = unsafe { &mut *output.cast::<Vec<u8>>() };
    // SAFETY: format and arguments come from libbpf and fit each other.
    unsafe { print(output, format, args) };
}

static WARNINGS: Mutex<String> = Mutex::new(String::new());

/// Collects libbpf's warnings from now on.
fn capture_warnings() {
    take_warnings();
    // SAFETY: the function may be called from any thread.
    unsafe { bpf::libbpf_set_print(Some(warn)) };
}

/// Returns libbpf's warnings in one line, and discards them.
fn take_warnings() -> String {
    let text = std::mem::take(&mut *WARNINGS.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
    let lines: Vec<_> = text.lines().map(|line| line.trim_start_matches("libbpf: ")).collect();
    lines.join("; ")
}

unsafe extern "C" fn warn(level: bpf::libbpf_print_level, format: *const c_char, args: VaList) -> c_int {
    if level == bpf::LIBBPF_WARN {
        let mut piece = Vec::new();
        // SAFETY: format and arguments come from libbpf and fit each other.
        unsafe { print(&mut piece, format, args) };
        let mut text = WARNINGS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        text.push_str(&String::from_utf8_lossy(&piece));
    }
    0
}

/// Appends the formatted text to `output`.
///
/// # Safety
/// `args` contains the arguments that `format` specifies.
unsafe fn print(output: &mut Vec<u8>, format: *const c_char, args: VaList) {
    output.reserve(PIECE);
    let spare = output.spare_capacity_mut();
    // SAFETY: the caller guarantees that the arguments fit; at least PIECE bytes are free.
    let length = unsafe { vsnprintf(spare.as_mut_ptr().cast(), PIECE, format, args) };
    let written = usize::try_from(length).unwrap_or(0).min(PIECE - 1);
    // SAFETY: vsnprintf has filled this many bytes, and a NUL after them that is not kept.
    unsafe { output.set_len(output.len() + written) };
}

fn c_string(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| format!("{text:?}: contains a NUL byte").into())
}

/// # Safety
/// `text` is null or NUL-terminated.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the caller guarantees that the string is NUL-terminated.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
