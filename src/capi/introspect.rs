//! The contents of a package: description, sources, programs, types.

use std::ffi::{c_char, c_int};
use std::sync::Arc;

use super::args::{self, CStruct, Out, non_null, store, string};
use super::events::type_pointer;
use super::guard::guard;
use super::handle::{Returned, eunomia_vm};
use super::types::*;
use crate::error::{Result, Status};
use crate::types::{Field, Type};
use crate::vm::{ProgInfo, SourceInfo};

/// ---- Contents of a package ----
///
/// Returns a description of the whole package as a JSON object.
///
///   out  receives the JSON, valid until the next call on the vm
///   len  receives its length; may be NULL
///
/// The object has these keys. Later releases may add keys.
///   kind           kind of the package
///   state          "opened", "loaded" or "attached"
///   lost_kernel    what eunomia_stats.lost_kernel counts
///   kernel_memory  maximum bytes of kernel memory that eunomia_load takes
///   variables      name, section, type, constant, value (null if JSON cannot represent it)
///   maps           name, kind, key_size, value_size, max_entries, bytes, key_type, value_type
///   programs       name, section, autoload, loaded, attached, instead_of, skipped (the reason)
///   meta           metadata of the package
///
/// Returns: EUNOMIA_OK or
///   EUNOMIA_ERR_STATE  no package is open
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_describe(
    vm: *mut eunomia_vm,
    out: *mut *const c_char,
    len: *mut usize,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe {
        guard(vm, |vm| {
            let (out, text) = (non_null(out, "out")?, vm.vm.describe()?);
            store(len, text.len());
            store(out, vm.keep_string(text));
            Ok(())
        })
    }
}

/// Returns the number of event sources, after load. A package without sources is valid; it just
/// runs.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_source_count(vm: *const eunomia_vm) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { guard(vm, |vm| vm.vm.source_count()) }
}

/// Describes an event source, by index.
///
///   index  0 to eunomia_source_count - 1
///   out    receives the description; set out->size first
///
/// Returns: EUNOMIA_OK or
///   EUNOMIA_ERR_NOT_FOUND  index is out of range
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_source_at(
    vm: *const eunomia_vm,
    index: c_int,
    out: *mut eunomia_source_info,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe {
        guard(vm, |vm| {
            let (out, found) = (Out::new(out, "out")?, vm.vm.source_at(args::index(index)?)?);
            out.write(source_info(&found));
            vm.keep(Returned::Source(found));
            Ok(())
        })
    }
}

fn source_info(of: &SourceInfo) -> eunomia_source_info {
    let &SourceInfo { kind, record_size, events, lost, lost_known, .. } = of;
    let lost_known = lost_known as u32;
    let interval_ms = of.sample.as_ref().map_or(0, |sample| sample.interval_ms);
    let (r#type, key_type) = (type_pointer(of.ty.as_ref()), type_pointer(of.key_ty.as_ref()));
    let numbers =
        eunomia_source_info { interval_ms, record_size, events, lost, lost_known, ..CStruct::zero() };
    eunomia_source_info { name: of.name.as_ptr(), kind: kind as u32, r#type, key_type, ..numbers }
}

/// Returns the number of programs.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_prog_count(vm: *const eunomia_vm) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { guard(vm, |vm| vm.vm.prog_count()) }
}

/// Describes a program, by index.
///
///   index  0 to eunomia_prog_count - 1
///   out    receives the description; set out->size first
///
/// Returns: EUNOMIA_OK or
///   EUNOMIA_ERR_NOT_FOUND  index is out of range
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_prog_at(
    vm: *const eunomia_vm,
    index: c_int,
    out: *mut eunomia_prog_info,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { guard(vm, |vm| describe_prog(vm, out, || vm.vm.prog_at(args::index(index)?))) }
}

/// Describes a program, by name.
///
///   name  name of the program
///   out   receives the description; set out->size first
///
/// Returns: EUNOMIA_OK or
///   EUNOMIA_ERR_NOT_FOUND  no such program
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_prog_find(
    vm: *const eunomia_vm,
    name: *const c_char,
    out: *mut eunomia_prog_info,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { guard(vm, |vm| describe_prog(vm, out, || vm.vm.prog_find(string(name, "name")?))) }
}

/// Writes what `find` returns and keeps it alive, because C borrows its strings.
unsafe fn describe_prog(
    vm: &eunomia_vm,
    out: *mut eunomia_prog_info,
    find: impl FnOnce() -> Result<ProgInfo>,
) -> Result<()> {
    // SAFETY: the caller keeps the contract of the header.
    let (out, found) = (unsafe { Out::new(out, "out") }?, find()?);
    out.write(prog_info(&found));
    vm.keep(Returned::Prog(found));
    Ok(())
}

fn prog_info(of: &ProgInfo) -> eunomia_prog_info {
    let &ProgInfo { kind, id, run_count, run_ns, .. } = of;
    let (name, section, target) = (of.name.as_ptr(), of.section.as_ptr(), of.target.as_ptr());
    let numbers = eunomia_prog_info { r#type: kind, id, run_count, run_ns, ..CStruct::zero() };
    eunomia_prog_info { name, section, target, flags: prog_flags(of), ..numbers }
}

fn prog_flags(of: &ProgInfo) -> u32 {
    let flag = |on: bool, flag: eunomia_prog_flag| if on { flag as u32 } else { 0 };
    flag(of.autoload, eunomia_prog_flag::EUNOMIA_PROG_AUTOLOAD)
        | flag(of.loaded, eunomia_prog_flag::EUNOMIA_PROG_LOADED)
        | flag(of.attached, eunomia_prog_flag::EUNOMIA_PROG_ATTACHED)
}

/// Sets whether eunomia_load loads a program, before load.
///
///   prog  name of the program
///   on    not 0 to load it, 0 to leave it out
///
/// Returns: EUNOMIA_OK or
///   EUNOMIA_ERR_NOT_FOUND  no such program
///   EUNOMIA_ERR_STATE      the package is loaded already
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_prog_set_autoload(
    vm: *mut eunomia_vm,
    prog: *const c_char,
    on: c_int,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { guard(vm, |vm| vm.vm.prog_set_autoload(string(prog, "prog")?, on != 0)) }
}

/// Sets where a program attaches, before attach.
///
///   prog  name of the program
///   json  an object with the keys below, or an array of objects for several targets
///
/// The keys are attach, path, func, offset, address, build_id, pid, cgroup, perf_event, interface,
/// flags, tchook and tcopts; docs/package.md describes them. If a key does not apply to the type of
/// the program, eunomia_attach fails with EUNOMIA_ERR_INVAL.
///
/// Returns: EUNOMIA_OK or
///   EUNOMIA_ERR_NOT_FOUND  no such program
///   EUNOMIA_ERR_INVAL      the JSON is malformed or has an unknown key
///   EUNOMIA_ERR_STATE      the package is attached already
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_prog_set_target_json(
    vm: *mut eunomia_vm,
    prog: *const c_char,
    json: *const c_char,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { guard(vm, |vm| vm.vm.prog_set_target_json(string(prog, "prog")?, string(json, "json")?)) }
}

/// ---- Types of raw bytes: any thread, until eunomia_destroy of their vm ----
///
/// Returns the type's name in C, such as "struct event"; "" for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_type_name(r#type: *const eunomia_type) -> *const c_char {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { type_of(r#type) }.map_or(c"".as_ptr(), |ty| ty.name.as_c_str().as_ptr())
}

/// Returns the type's eunomia_type_kind, without typedefs and qualifiers; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_type_kind_of(r#type: *const eunomia_type) -> u32 {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { type_of(r#type) }.map_or(0, |ty| ty.kind as u32)
}

/// Returns the type's size in bytes; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_type_size(r#type: *const eunomia_type) -> usize {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { type_of(r#type) }.map_or(0, |ty| ty.size)
}

/// Returns the number of members, elements or constants; 0 for NULL and for other kinds of types.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_type_count(r#type: *const eunomia_type) -> u32 {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { type_of(r#type) }.map_or(0, |ty| ty.count.max(ty.fields.len() as u32))
}

/// Describes a member of a struct or union, an element of an array or a constant of an enum.
///
///   type   the outer type
///   index  0 to eunomia_type_count - 1
///   out    receives the description; set out->size first
///
/// Returns: EUNOMIA_OK or, without setting eunomia_errmsg,
///   EUNOMIA_ERR_INVAL      type or out is NULL, or out->size is wrong
///   EUNOMIA_ERR_NOT_FOUND  index is out of range
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_type_field(
    r#type: *const eunomia_type,
    index: u32,
    out: *mut eunomia_field,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    let (ty, out) = unsafe { (type_of(r#type), Out::new(out, "out")) };
    let (Some(ty), Ok(out)) = (ty, out) else { return Status::Inval as c_int };
    let Some(found) = field(ty, index) else { return Status::NotFound as c_int };
    out.write(found);
    0
}

/// Returns the type of a pointer made by `type_pointer`.
unsafe fn type_of<'a>(ty: *const eunomia_type) -> Option<&'a Type> {
    // SAFETY: null or from `type_pointer`; the header lets it live until destroy.
    unsafe { ty.cast::<Type>().as_ref() }
}

fn field(of: &Type, index: u32) -> Option<eunomia_field> {
    match &of.elem {
        Some(elem) => (index < of.count).then(|| element(elem, index)),
        None => of.fields.get(index as usize).map(member),
    }
}

fn element(ty: &Arc<Type>, index: u32) -> eunomia_field {
    let bit_size = u32::try_from(ty.size).unwrap_or(u32::MAX).saturating_mul(8);
    let (name, bit_offset) = (c"".as_ptr(), index.saturating_mul(bit_size));
    eunomia_field { name, r#type: type_pointer(Some(ty)), bit_offset, bit_size, ..CStruct::zero() }
}

fn member(of: &Field) -> eunomia_field {
    let &Field { bit_offset, bit_size, value, .. } = of;
    let (name, r#type) = (of.name.as_c_str().as_ptr(), type_pointer(Some(&of.ty)));
    eunomia_field { name, r#type, bit_offset, bit_size, value, ..CStruct::zero() }
}
