//! Arguments from C, checked and converted, and structs returned in the layout that the caller was compiled with.

use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;
use std::{mem, ptr, slice};

use super::types::*;
use crate::error::{Error, Result, Status};
use crate::vm::Format;

/// No struct of the header is or will be larger. A larger size means uninitialized memory.
const STRUCT_LIMIT: usize = 4096;

/// Returns the error for an invalid argument.
pub(super) fn invalid(message: impl std::fmt::Display) -> Error {
    Error::new(Status::Inval, message)
}

/// Returns `pointer` unless it is null. `name` is the argument.
pub(super) fn non_null<T>(pointer: *mut T, name: &str) -> Result<*mut T> {
    if pointer.is_null() { Err(invalid(format_args!("{name} is null"))) } else { Ok(pointer) }
}

/// Returns a C string, which must be UTF-8.
///
/// # Safety
/// `text` is null or a C string that outlives `'a`.
pub(super) unsafe fn string<'a>(text: *const c_char, name: &str) -> Result<&'a str> {
    non_null(text.cast_mut(), name)?;
    // SAFETY: not null, else as required above.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map_err(|_| invalid(format_args!("{name} is not UTF-8: {text:?}")))
}

/// Returns a C string, or `None` for a null pointer.
///
/// # Safety
/// As for [`string`].
pub(super) unsafe fn optional_string<'a>(text: *const c_char, name: &str) -> Result<Option<&'a str>> {
    // SAFETY: as required above.
    if text.is_null() { Ok(None) } else { unsafe { self::string(text, name) }.map(Some) }
}

/// Returns a path of any bytes, or `None` for a null pointer.
///
/// # Safety
/// As for [`string`].
pub(super) unsafe fn optional_path(path: *const c_char) -> Option<PathBuf> {
    if path.is_null() {
        return None;
    }
    // SAFETY: as required above.
    let bytes = unsafe { CStr::from_ptr(path) }.to_bytes();
    Some(PathBuf::from(OsStr::from_bytes(bytes)))
}

/// Returns the paths of a list that ends with a null pointer. A null list is empty.
///
/// # Safety
/// `list` is null, or points to an array that ends with a null pointer, and each other element is a C
/// string as for [`string`].
pub(super) unsafe fn paths(list: *const *const c_char) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    let mut next = list;
    // SAFETY: as required above; the loop ends at the null pointer.
    while let Some(path) = unsafe { next.as_ref().and_then(|&path| optional_path(path)) } {
        paths.push(path);
        // SAFETY: as above, this was not the last one.
        next = unsafe { next.add(1) };
    }
    paths
}

/// Returns the `argc` C strings of a command line.
///
/// # Safety
/// `argv` is null or points to `argc` pointers as for [`string`].
pub(super) unsafe fn strings<'a>(argc: c_int, argv: *const *const c_char) -> Result<Vec<&'a str>> {
    non_null(argv.cast_mut(), "argv")?;
    let argc = usize::try_from(argc).map_err(|_| invalid(format_args!("argc is negative: {argc}")))?;
    // SAFETY: as required above.
    let argv = unsafe { slice::from_raw_parts(argv, argc) };
    // SAFETY: as required above.
    argv.iter().enumerate().map(|(i, &arg)| unsafe { string(arg, &format!("argv[{i}]")) }).collect()
}

/// Returns a buffer to read. A null pointer is an empty buffer if `len` is 0.
///
/// # Safety
/// `data` is null or points to `len` bytes that outlive `'a` and do not change during it.
pub(super) unsafe fn bytes<'a>(data: *const c_void, len: usize, name: &str) -> Result<&'a [u8]> {
    check_buffer(data, len, name)?;
    // SAFETY: as required above; a null pointer is replaced.
    Ok(if len == 0 { &[] } else { unsafe { slice::from_raw_parts(data.cast(), len) } })
}

/// Returns a buffer to write. A null pointer is an empty buffer if `len` is 0.
///
/// # Safety
/// As for [`bytes`], and nothing else refers to them during `'a`.
pub(super) unsafe fn bytes_mut<'a>(data: *mut c_void, len: usize, name: &str) -> Result<&'a mut [u8]> {
    check_buffer(data, len, name)?;
    // SAFETY: as required above; a null pointer is replaced.
    Ok(if len == 0 { &mut [] } else { unsafe { slice::from_raw_parts_mut(data.cast(), len) } })
}

/// Returns the buffer `buf` for records. RAW records are structs and so require alignment.
///
/// # Safety
/// As for [`bytes_mut`].
pub(super) unsafe fn records_mut<'a>(buf: *mut c_void, cap: usize, format: Format) -> Result<&'a mut [u8]> {
    let align = align_of::<u64>();
    if format == Format::Raw && cap > 0 && buf.addr() % align != 0 {
        return Err(invalid(format_args!(
            "buf is at {buf:p}, but RAW records require {align}-byte alignment"
        )));
    }
    // SAFETY: as required above.
    unsafe { bytes_mut(buf, cap, "buf") }
}

fn check_buffer(data: *const c_void, len: usize, name: &str) -> Result<()> {
    match len {
        0 => Ok(()),
        _ if len > isize::MAX.unsigned_abs() => {
            Err(invalid(format_args!("{name} is too large: {len} bytes")))
        }
        _ => non_null(data.cast_mut(), name).map(drop),
    }
}

/// Fails if two buffers share bytes, because Rust must not have two references to one byte. `names` are their names.
pub(super) fn disjoint(
    one: (*const c_void, usize),
    other: (*const c_void, usize),
    names: &str,
) -> Result<()> {
    let (at, other_at) = (one.0.addr(), other.0.addr());
    let is_disjoint = at.saturating_add(one.1) <= other_at || other_at.saturating_add(other.1) <= at;
    if is_disjoint { Ok(()) } else { Err(invalid(format_args!("{names} overlap"))) }
}

/// Converts a timeout in milliseconds; a negative one is no limit.
pub(super) fn timeout(milliseconds: c_int) -> Option<Duration> {
    u64::try_from(milliseconds).ok().map(Duration::from_millis)
}

/// Returns the format with that number.
#[inline(always)]
pub(super) fn format(number: u32) -> Result<Format> {
    match number {
        0 => Ok(Format::Raw),
        1 => Ok(Format::Json),
        2 => Ok(Format::Text),
        _ => Err(unknown_format(number)),
    }
}

#[cold]
fn unknown_format(number: u32) -> Error {
    invalid(format_args!("unknown format {number}"))
}

/// Converts an index from C. A negative index is out of range.
pub(super) fn index(number: c_int) -> Result<usize> {
    usize::try_from(number)
        .map_err(|_| Error::new(Status::NotFound, format_args!("index {number} out of range")))
}

/// Returns `text` as a C string, without the NUL bytes that it contains.
pub(super) fn c_string(text: impl Into<Vec<u8>>) -> CString {
    let mut bytes = text.into();
    bytes.retain(|&byte| byte != 0);
    CString::new(bytes).unwrap_or_default()
}

/// A struct of the header. Its first field is the size that the caller was compiled with.
///
/// # Safety
/// The type is `repr(C)`, begins with `size: usize`, and is valid with all bytes zero.
pub(super) unsafe trait CStruct: Copy {
    /// Returns the value with all bytes 0.
    fn zero() -> Self {
        // SAFETY: as the trait requires.
        unsafe { mem::zeroed() }
    }
}

// SAFETY: types.rs declares it so.
unsafe impl CStruct for eunomia_options {}
// SAFETY: as above.
unsafe impl CStruct for eunomia_event {}
// SAFETY: as above.
unsafe impl CStruct for eunomia_records {}
// SAFETY: as above.
unsafe impl CStruct for eunomia_stats {}
// SAFETY: as above.
unsafe impl CStruct for eunomia_map_info {}
// SAFETY: as above.
unsafe impl CStruct for eunomia_field {}
// SAFETY: as above.
unsafe impl CStruct for eunomia_source_info {}
// SAFETY: as above.
unsafe impl CStruct for eunomia_prog_info {}
// SAFETY: as above.
unsafe impl CStruct for eunomia_batch {}
// SAFETY: as above.
unsafe impl CStruct for eunomia_prog_input {}
// SAFETY: as above.
unsafe impl CStruct for eunomia_prog_result {}
// SAFETY: as above.
unsafe impl CStruct for eunomia_replace_options {}
// SAFETY: as above.
unsafe impl CStruct for eunomia_exported {}

/// Returns the size that the caller set in the struct `name`.
///
/// # Safety
/// `from` is null or points to a `usize`.
unsafe fn declared_size(from: *const c_void, name: &str) -> Result<usize> {
    non_null(from.cast_mut(), name)?;
    // SAFETY: not null, else as required above.
    let size = unsafe { from.cast::<usize>().read_unaligned() };
    let is_plausible = (mem::size_of::<usize>()..=STRUCT_LIMIT).contains(&size);
    if is_plausible {
        Ok(size)
    } else {
        Err(invalid(format_args!("{name}: size is {size}, not that of the struct")))
    }
}

/// Copies a struct in. Fields that the caller lacks are zero; fields that this library lacks must be zero.
/// On failure `into` has the fields that both sides know.
///
/// # Safety
/// `from` is null or points to as many bytes as its first field says.
pub(super) unsafe fn read_struct<T: CStruct>(from: *const T, into: &mut T, name: &str) -> Result<()> {
    // SAFETY: as required above.
    let size = unsafe { declared_size(from.cast(), name) }?;
    let mine = mem::size_of::<T>();
    // SAFETY: both sides have so many bytes, and any bytes are a valid `T`.
    unsafe { ptr::copy_nonoverlapping(from.cast::<u8>(), ptr::from_mut(into).cast(), size.min(mine)) };
    // SAFETY: as required above.
    let all = unsafe { slice::from_raw_parts(from.cast::<u8>(), size) };
    check_tail(all, mine, name)
}

/// Fails if a byte after the first `known` ones is not 0.
fn check_tail(all: &[u8], known: usize, name: &str) -> Result<()> {
    match all.iter().skip(known).position(|&byte| byte != 0) {
        Some(at) => Err(invalid(format_args!(
            "{name}: byte {} is not 0, but this library knows {known} bytes (newer header?)",
            known + at
        ))),
        None => Ok(()),
    }
}

/// A struct of the caller to write to. It is checked before the work, so that a failure changes nothing.
pub(super) struct Out<T> {
    to: *mut T,
    size: usize,
}

impl<T: CStruct> Out<T> {
    /// Checks the pointer and the declared size.
    ///
    /// # Safety
    /// `to` is null, or may be read and written for as many bytes as its first field says, until the
    /// last use of the `Out`.
    pub(super) unsafe fn new(to: *mut T, name: &str) -> Result<Out<T>> {
        // SAFETY: as required above.
        let size = unsafe { declared_size(to.cast_const().cast(), name) }?;
        Ok(Out { to, size: size.min(mem::size_of::<T>()) })
    }

    /// Returns the current content, with zeros after its end.
    pub(super) fn current(&self) -> T {
        let mut value = T::zero();
        // SAFETY: `new` required `size` bytes, at most those of `T`.
        unsafe {
            ptr::copy_nonoverlapping(self.to.cast::<u8>(), ptr::from_mut(&mut value).cast(), self.size)
        };
        value
    }

    /// Writes the fields of `value` that the caller knows, and stores their size.
    pub(super) fn write(&self, value: T) {
        // SAFETY: `new` required `size` bytes, at least those of the first field.
        unsafe {
            ptr::copy_nonoverlapping(ptr::from_ref(&value).cast::<u8>(), self.to.cast(), self.size);
            self.to.cast::<usize>().write_unaligned(self.size);
        }
    }
}

/// Stores a value unless the pointer is null.
///
/// # Safety
/// `to` is null or may be written.
pub(super) unsafe fn store<T>(to: *mut T, value: T) {
    if !to.is_null() {
        // SAFETY: as required above.
        unsafe { to.write(value) };
    }
}
