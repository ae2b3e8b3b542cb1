//! Maps by name, as bytes and as JSON.

use std::ffi::{c_char, c_int, c_void};

use super::args::{self, CStruct, Out, bytes, bytes_mut, string};
use super::events::{batch, receiver, type_pointer};
use super::guard::guard;
use super::handle::{Returned, eunomia_vm};
use super::types::{eunomia_batch, eunomia_event_fn, eunomia_map_info};
use crate::error::Result;
use crate::vm::MapInfo;

/// ---- Maps, by name ----
///
/// Returns the number of maps of the package, including those of global variables (.data and so on).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_map_count(vm: *const eunomia_vm) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { guard(vm, |vm| vm.vm.map_count()) }
}

/// Describes a map, by index.
///
///   index  0 to eunomia_map_count - 1
///   out    receives the description; set out->size first
///
/// Returns: EUNOMIA_OK or
///   EUNOMIA_ERR_NOT_FOUND  index is out of range
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_map_at(
    vm: *const eunomia_vm,
    index: c_int,
    out: *mut eunomia_map_info,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { guard(vm, |vm| describe(vm, out, || vm.vm.map_at(args::index(index)?))) }
}

/// Describes a map, by name.
///
///   name  name of the map
///   out   receives the description; set out->size first
///
/// Returns: EUNOMIA_OK or
///   EUNOMIA_ERR_NOT_FOUND  no such map
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_map_find(
    vm: *const eunomia_vm,
    name: *const c_char,
    out: *mut eunomia_map_info,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { guard(vm, |vm| describe(vm, out, || vm.vm.map_find(string(name, "name")?))) }
}

/// Writes what `find` returns and keeps it alive, because C borrows its strings.
unsafe fn describe(
    vm: &eunomia_vm,
    out: *mut eunomia_map_info,
    find: impl FnOnce() -> Result<MapInfo>,
) -> Result<()> {
    // SAFETY: the caller keeps the contract of the header.
    let (out, found) = (unsafe { Out::new(out, "out") }?, find()?);
    out.write(map_info(&found));
    vm.keep(Returned::Map(found));
    Ok(())
}

fn map_info(of: &MapInfo) -> eunomia_map_info {
    let &MapInfo { kind, key_size, value_size, max_entries, fd, cpus, bytes, .. } = of;
    let (key_type, value_type) = (type_pointer(of.key_type.as_ref()), type_pointer(of.value_type.as_ref()));
    let sizes = eunomia_map_info { kind, key_size, value_size, max_entries, ..CStruct::zero() };
    eunomia_map_info { name: of.name.as_ptr(), key_type, value_type, fd, cpus, bytes, ..sizes }
}

/// Sets the maximum number of entries of a map, before load.
///
///   map    name of the map; not a map of global variables
///   count  number of entries; for a ring buffer its size in bytes, rounded up to a power of two and at
///          least a page; for an arena its number of pages
///
/// Returns: EUNOMIA_OK or
///   EUNOMIA_ERR_NOT_FOUND  no such map
///   EUNOMIA_ERR_INVAL      the map does not allow this number of entries
///   EUNOMIA_ERR_STATE      the package is loaded already
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_map_set_max_entries(
    vm: *mut eunomia_vm,
    map: *const c_char,
    count: u32,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { guard(vm, |vm| vm.vm.map_set_max_entries(string(map, "map")?, count)) }
}

/// Copies the value of a key into a buffer.
///
///   map   name of the map
///   key   the key
///   klen  bytes of key; must be key_size of the map
///   val   the buffer; must not overlap key
///   vlen  bytes of val; must be value_size of the map, for a per-CPU map see eunomia_map_info.cpus
///
/// Returns: EUNOMIA_OK or
///   EUNOMIA_ERR_NOT_FOUND  no such map or key
///   EUNOMIA_ERR_INVAL      klen or vlen is wrong, or key and val overlap
///   EUNOMIA_ERR_STATE      the package is not loaded
///   EUNOMIA_ERR_SYSTEM     the system call failed
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
            args::disjoint((key, klen), (val, vlen), "key and val")?;
            let (map, key) = (string(map, "map")?, bytes(key, klen, "key")?);
            vm.vm.map_get(map, key, bytes_mut(val, vlen, "val")?)
        })
    }
}

/// Stores a value under a key.
///
///   map    name of the map
///   key    the key
///   klen   bytes of key; must be key_size of the map
///   val    the value
///   vlen   bytes of val, as for eunomia_map_get
///   flags  BPF_ANY (0), BPF_NOEXIST (1) or BPF_EXIST (2)
///
/// Returns: EUNOMIA_OK or
///   EUNOMIA_ERR_NOT_FOUND  no such map; or no such key, with BPF_EXIST
///   EUNOMIA_ERR_INVAL      klen or vlen is wrong
///   EUNOMIA_ERR_STATE      the package is not loaded
///   EUNOMIA_ERR_SYSTEM     eunomia_errsys is EEXIST: the key exists, with BPF_NOEXIST;
///                          E2BIG: the map is full, or the index of an array is out of range
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
            let (map, key) = (string(map, "map")?, bytes(key, klen, "key")?);
            vm.vm.map_set(map, key, bytes(val, vlen, "val")?, flags)
        })
    }
}

/// Deletes a key and its value.
///
///   map   name of the map
///   key   the key
///   klen  bytes of key; must be key_size of the map
///
/// Returns: EUNOMIA_OK or
///   EUNOMIA_ERR_NOT_FOUND  no such map or key
///   EUNOMIA_ERR_INVAL      klen is wrong
///   EUNOMIA_ERR_STATE      the package is not loaded
///   EUNOMIA_ERR_SYSTEM     the system call failed
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_map_del(
    vm: *mut eunomia_vm,
    map: *const c_char,
    key: *const c_void,
    klen: usize,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { guard(vm, |vm| vm.vm.map_del(string(map, "map")?, bytes(key, klen, "key")?)) }
}

/// Copies the key that follows a given key.
///
///   map   name of the map
///   key   the key; NULL for the first key of the map
///   next  receives the following key; may be the same buffer as key
///   klen  bytes of key and of next; must be key_size of the map
///
/// Returns: EUNOMIA_OK or
///   EUNOMIA_ERR_NOT_FOUND  no such map, or key is the last one
///   EUNOMIA_ERR_INVAL      klen is wrong
///   EUNOMIA_ERR_STATE      the package is not loaded
///   EUNOMIA_ERR_SYSTEM     the system call failed
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_map_next(
    vm: *mut eunomia_vm,
    map: *const c_char,
    key: *const c_void,
    next: *mut c_void,
    klen: usize,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header; the key is copied, because it may be in `next`.
    unsafe {
        guard(vm, |vm| {
            let from = if key.is_null() { None } else { Some(bytes(key, klen, "key")?.to_vec()) };
            vm.vm.map_next(string(map, "map")?, from.as_deref(), bytes_mut(next, klen, "next")?)
        })
    }
}

/// Returns the value of a key, both as JSON. The value of a per-CPU map is an array.
///
///   map  name of the map
///   key  the key in JSON
///   out  receives the value in JSON, valid until the next call on the vm
///
/// Returns: EUNOMIA_OK, an error as for eunomia_map_get, or
///   EUNOMIA_ERR_TYPE  the key does not fit the map
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
            let out = args::non_null(out, "out")?;
            args::store(out, vm.keep_string(vm.vm.map_get_json(string(map, "map")?, string(key, "key")?)?));
            Ok(())
        })
    }
}

/// Stores a value under a key, both as JSON.
///
///   map    name of the map
///   key    the key in JSON
///   val    the value in JSON
///   flags  as for eunomia_map_set
///
/// Returns: EUNOMIA_OK, an error as for eunomia_map_set, or
///   EUNOMIA_ERR_TYPE  the key or the value does not fit the map
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
        guard(vm, |vm| {
            vm.vm.map_set_json(string(map, "map")?, string(key, "key")?, string(val, "val")?, flags)
        })
    }
}

/// Deletes a key and its value.
///
///   map  name of the map
///   key  the key in JSON
///
/// Returns: EUNOMIA_OK, an error as for eunomia_map_del, or
///   EUNOMIA_ERR_TYPE  the key does not fit the map
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_map_del_json(
    vm: *mut eunomia_vm,
    map: *const c_char,
    key: *const c_char,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { guard(vm, |vm| vm.vm.map_del_json(string(map, "map")?, string(key, "key")?)) }
}

/// Calls a function for each entry of a map, with an event of kind EUNOMIA_EVENT_MAP_ENTRY. These
/// events are not counted in eunomia_stats.
///
///   map       name of the map
///   format    an eunomia_format
///   callback  called for each entry
///   arg       first argument of callback; may be NULL
///
/// Entries that are added or deleted during the call may be missed.
///
/// Returns: the number of entries, or
///   EUNOMIA_ERR_NOT_FOUND  no such map
///   EUNOMIA_ERR_STATE      the package is not loaded
///   EUNOMIA_ERR_CALLBACK   callback returned a value < 0
///   EUNOMIA_ERR_SYSTEM     a system call failed
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_map_each(
    vm: *mut eunomia_vm,
    map: *const c_char,
    format: u32,
    callback: eunomia_event_fn,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe {
        guard(vm, |vm| {
            let (map, format) = (string(map, "map")?, args::format(format)?);
            vm.vm.map_each(map, format, receiver(vm, callback, arg)?)
        })
    }
}

/// Stores all entries of a map in a buffer.
///
///   map     name of the map
///   format  an eunomia_format
///   buf     the buffer, filled as by eunomia_read
///   cap     bytes of buf
///   out     receives what was stored; set out->size first
///
/// Returns: the number of entries, or
///   EUNOMIA_ERR_TOO_SMALL  the entries need out->need bytes; nothing was stored
///   EUNOMIA_ERR_NOT_FOUND  no such map
///   EUNOMIA_ERR_STATE      the package is not loaded
///   EUNOMIA_ERR_SYSTEM     a system call failed
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
            let (map, format) = (string(map, "map")?, args::format(format)?);
            let buf = args::records_mut(buf, cap, format)?;
            batch(vm, out, |batch| vm.vm.map_dump(map, format, buf, batch))
        })
    }
}
