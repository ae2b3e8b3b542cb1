//! Maps by name, as bytes and as JSON.

use std::ffi::{c_char, c_int, c_void};

use super::args::{self, CStruct, Out, bytes, bytes_mut, text};
use super::events::{batch, receiver, type_pointer};
use super::guard::{Lent, guard};
use super::types::{eunomia_batch, eunomia_event_fn, eunomia_map_info, eunomia_vm};
use crate::error::Result;
use crate::vm::MapInfo;

/// ---- Maps, by name ----
///
/// Returns the number of maps of the package, those of global variables (.data and so on) included.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_map_count(vm: *const eunomia_vm) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { guard(vm, |vm| vm.vm.map_count()) }
}

/// Describes the map at index, from 0. Set out->size first. Beyond the last: NOT_FOUND.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_map_at(
    vm: *const eunomia_vm,
    index: c_int,
    out: *mut eunomia_map_info,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { guard(vm, |vm| describe(vm, out, || vm.vm.map_at(args::index(index)?))) }
}

/// Describes the map of that name. Set out->size first.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_map_find(
    vm: *const eunomia_vm,
    name: *const c_char,
    out: *mut eunomia_map_info,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { guard(vm, |vm| describe(vm, out, || vm.vm.map_find(text(name, "name")?))) }
}

/// Writes what `find` finds and keeps it, for its strings are lent.
unsafe fn describe(
    vm: &eunomia_vm,
    out: *mut eunomia_map_info,
    find: impl FnOnce() -> Result<MapInfo>,
) -> Result<()> {
    // SAFETY: the caller keeps the contract of the header.
    let (out, found) = (unsafe { Out::new(out, "out") }?, find()?);
    out.write(map_info(&found));
    vm.lend(Lent::Map(found));
    Ok(())
}

fn map_info(of: &MapInfo) -> eunomia_map_info {
    let &MapInfo { kind, key_size, value_size, max_entries, fd, cpus, bytes, .. } = of;
    let (key_type, value_type) = (type_pointer(of.key_type.as_ref()), type_pointer(of.value_type.as_ref()));
    let sizes = eunomia_map_info { kind, key_size, value_size, max_entries, ..CStruct::zero() };
    eunomia_map_info { name: of.name.as_ptr(), key_type, value_type, fd, cpus, bytes, ..sizes }
}

/// Sets how many entries a map has; the bytes of a ring buffer, rounded up to a power of two of pages; the pages of an
/// arena. Before load. Not for maps of global variables.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_map_set_max_entries(
    vm: *mut eunomia_vm,
    map: *const c_char,
    count: u32,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { guard(vm, |vm| vm.vm.map_set_max_entries(text(map, "map")?, count)) }
}

/// Copies the value under key to val, whose lengths must be exactly those of the map; see
/// eunomia_map_info.cpus for per-CPU maps. NOT_FOUND: no such key. key and val must not overlap.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_map_get(
    vm: *mut eunomia_vm,
    map: *const c_char,
    key: *const c_void,
    klen: usize,
    val: *mut c_void,
    vlen: usize,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe {
        guard(vm, |vm| {
            args::disjoint((key, klen), (val, vlen))?;
            let (map, key) = (text(map, "map")?, bytes(key, klen, "key")?);
            vm.vm.map_get(map, key, bytes_mut(val, vlen, "val")?)
        })
    }
}

/// Stores val under key. flags: BPF_ANY 0, BPF_NOEXIST 1, BPF_EXIST 2. SYSTEM with errsys EEXIST: the key is
/// there already and flags is BPF_NOEXIST, with errsys E2BIG: the map is full, or the index of an array out
/// of range. NOT_FOUND: there is no such key and flags is BPF_EXIST.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_map_set(
    vm: *mut eunomia_vm,
    map: *const c_char,
    key: *const c_void,
    klen: usize,
    val: *const c_void,
    vlen: usize,
    flags: u64,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe {
        guard(vm, |vm| {
            let (map, key) = (text(map, "map")?, bytes(key, klen, "key")?);
            vm.vm.map_set(map, key, bytes(val, vlen, "val")?, flags)
        })
    }
}

/// Deletes key and its value. NOT_FOUND: no such key.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_map_del(
    vm: *mut eunomia_vm,
    map: *const c_char,
    key: *const c_void,
    klen: usize,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { guard(vm, |vm| vm.vm.map_del(text(map, "map")?, bytes(key, klen, "key")?)) }
}

/// Stores the key after key in next. NULL key: the first one. NOT_FOUND: there are no more. key and next
/// may be the same buffer; both have klen bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_map_next(
    vm: *mut eunomia_vm,
    map: *const c_char,
    key: *const c_void,
    next: *mut c_void,
    klen: usize,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header; the key is copied, for it may be in `next`.
    unsafe {
        guard(vm, |vm| {
            let from = if key.is_null() { None } else { Some(bytes(key, klen, "key")?.to_vec()) };
            vm.vm.map_next(text(map, "map")?, from.as_deref(), bytes_mut(next, klen, "next")?)
        })
    }
}

/// Gives out the value under a key, both as JSON; of a per-CPU map an array. Borrowed until the next call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_map_get_json(
    vm: *mut eunomia_vm,
    map: *const c_char,
    key: *const c_char,
    out: *mut *const c_char,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe {
        guard(vm, |vm| {
            let out = args::some(out, "out")?;
            args::store(out, vm.lend_text(vm.vm.map_get_json(text(map, "map")?, text(key, "key")?)?));
            Ok(())
        })
    }
}

/// Stores a value under a key, both as JSON, checked against their types. Else as eunomia_map_set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_map_set_json(
    vm: *mut eunomia_vm,
    map: *const c_char,
    key: *const c_char,
    val: *const c_char,
    flags: u64,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe {
        guard(vm, |vm| vm.vm.map_set_json(text(map, "map")?, text(key, "key")?, text(val, "val")?, flags))
    }
}

/// Deletes a key, given as JSON, and its value.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_map_del_json(
    vm: *mut eunomia_vm,
    map: *const c_char,
    key: *const c_char,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { guard(vm, |vm| vm.vm.map_del_json(text(map, "map")?, text(key, "key")?)) }
}

/// Calls fn for each entry of a map, as an EUNOMIA_EVENT_MAP_ENTRY that stats do not count. Returns the number
/// of entries. Those that come or go meanwhile may be missed or seen.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_map_each(
    vm: *mut eunomia_vm,
    map: *const c_char,
    format: u32,
    r#fn: eunomia_event_fn,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe {
        guard(vm, |vm| {
            let (map, format) = (text(map, "map")?, args::format(format)?);
            vm.vm.map_each(map, format, &mut receiver(vm, r#fn, arg)?)
        })
    }
}

/// Stores all entries of a map in buf, laid out and aligned as for eunomia_read. Returns their number. TOO_SMALL: all of
/// them take out->need bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_map_dump(
    vm: *mut eunomia_vm,
    map: *const c_char,
    format: u32,
    buf: *mut c_void,
    cap: usize,
    out: *mut eunomia_batch,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe {
        guard(vm, |vm| {
            let (map, format) = (text(map, "map")?, args::format(format)?);
            let buf = args::records_mut(buf, cap, format)?;
            batch(out, |batch| vm.vm.map_dump(map, format, buf, batch))
        })
    }
}
