//! What C passes in, checked and made safe to hold; what it gets back, in the layout it was compiled with.

use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::{mem, ptr, slice};

use super::types::*;
use crate::error::{Error, Result, Status};
use crate::vm::Format;

/// No struct of the header is or will be larger; a larger size is an uninitialised one.
const STRUCT_LIMIT: usize = 4096;

/// An argument that cannot be used.
pub(super) fn invalid(message: impl std::fmt::Display) -> Error {
    Error::new(Status::Inval, message)
}

/// The pointer `name` that must not be null.
pub(super) fn some<T>(pointer: *mut T, name: &str) -> Result<*mut T> {
    if pointer.is_null() { Err(invalid(format_args!("{name} is null"))) } else { Ok(pointer) }
}

/// A C string in UTF-8.
///
/// # Safety
/// `text` is null or a C string that outlives `'a`.
pub(super) unsafe fn text<'a>(text: *const c_char, name: &str) -> Result<&'a str> {
    some(text.cast_mut(), name)?;
    // SAFETY: not null, else as demanded above.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map_err(|_| invalid(format_args!("{name} is not UTF-8: {text:?}")))
}

/// A C string that may be left out.
///
/// # Safety
/// As for [`text`].
pub(super) unsafe fn optional_text<'a>(text: *const c_char, name: &str) -> Result<Option<&'a str>> {
    // SAFETY: as demanded above.
    if text.is_null() { Ok(None) } else { unsafe { self::text(text, name) }.map(Some) }
}

/// A path that may be left out; any bytes will do.
///
/// # Safety
/// As for [`text`].
pub(super) unsafe fn optional_path(path: *const c_char) -> Option<PathBuf> {
    if path.is_null() {
        return None;
    }
    // SAFETY: as demanded above.
    let bytes = unsafe { CStr::from_ptr(path) }.to_bytes();
    Some(PathBuf::from(OsStr::from_bytes(bytes)))
}

/// Paths up to a null pointer; none if there is no list.
///
/// # Safety
/// `list` is null, or points to pointers as for [`text`], the last of which is null.
pub(super) unsafe fn paths(list: *const *const c_char) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    let mut next = list;
    // SAFETY: as demanded above; the walk ends at the null pointer.
    while let Some(path) = unsafe { next.as_ref().and_then(|&path| optional_path(path)) } {
        paths.push(path);
        // SAFETY: as above, this was not the last one.
        next = unsafe { next.add(1) };
    }
    paths
}

/// `argc` C strings.
///
/// # Safety
/// `argv` is null or points to `argc` pointers as for [`text`].
pub(super) unsafe fn texts<'a>(argc: c_int, argv: *const *const c_char) -> Result<Vec<&'a str>> {
    some(argv.cast_mut(), "argv")?;
    let argc = usize::try_from(argc).map_err(|_| invalid(format_args!("argc is {argc}")))?;
    // SAFETY: as demanded above.
    let argv = unsafe { slice::from_raw_parts(argv, argc) };
    // SAFETY: as demanded above.
    argv.iter().enumerate().map(|(i, &arg)| unsafe { text(arg, &format!("argv[{i}]")) }).collect()
}

/// Bytes to read. A null pointer is an empty buffer if `len` is 0.
///
/// # Safety
/// `data` is null or points to `len` bytes that outlive `'a` and do not change meanwhile.
pub(super) unsafe fn bytes<'a>(data: *const c_void, len: usize, name: &str) -> Result<&'a [u8]> {
    check_buffer(data, len, name)?;
    // SAFETY: as demanded above; a null pointer is replaced.
    Ok(if len == 0 { &[] } else { unsafe { slice::from_raw_parts(data.cast(), len) } })
}

/// Bytes to write. A null pointer is an empty buffer if `len` is 0.
///
/// # Safety
/// As for [`bytes`], and nothing else refers to them during `'a`.
pub(super) unsafe fn bytes_mut<'a>(data: *mut c_void, len: usize, name: &str) -> Result<&'a mut [u8]> {
    check_buffer(data, len, name)?;
    // SAFETY: as demanded above; a null pointer is replaced.
    Ok(if len == 0 { &mut [] } else { unsafe { slice::from_raw_parts_mut(data.cast(), len) } })
}

/// A buffer named buf to write records to; those in RAW are structs.
///
/// # Safety
/// As for [`bytes_mut`].
pub(super) unsafe fn records_mut<'a>(buf: *mut c_void, cap: usize, format: Format) -> Result<&'a mut [u8]> {
    let align = align_of::<u64>();
    if format == Format::Raw && cap > 0 && buf.addr() % align != 0 {
        return Err(invalid(format_args!(
            "buf is at {buf:p}, and records in RAW need one aligned to {align} bytes"
        )));
    }
    // SAFETY: as demanded above.
    unsafe { bytes_mut(buf, cap, "buf") }
}

fn check_buffer(data: *const c_void, len: usize, name: &str) -> Result<()> {
    match len {
        0 => Ok(()),
        _ if len > isize::MAX.unsigned_abs() => Err(invalid(format_args!("length of {name} is {len}"))),
        _ => some(data.cast_mut(), name).map(drop),
    }
}

/// Refuses two buffers that share bytes; Rust must not see one byte through two references.
pub(super) fn disjoint(key: (*const c_void, usize), value: (*const c_void, usize)) -> Result<()> {
    let (key_at, value_at) = (key.0.addr(), value.0.addr());
    let apart = key_at.saturating_add(key.1) <= value_at || value_at.saturating_add(value.1) <= key_at;
    if apart { Ok(()) } else { Err(invalid("key and value overlap")) }
}

/// A format by its number.
pub(super) fn format(number: u32) -> Result<Format> {
    match number {
        0 => Ok(Format::Raw),
        1 => Ok(Format::Json),
        2 => Ok(Format::Text),
        _ => Err(invalid(format_args!("format {number} is unknown"))),
    }
}

/// A position; there is nothing at negative ones.
pub(super) fn index(number: c_int) -> Result<usize> {
    usize::try_from(number)
        .map_err(|_| Error::new(Status::NotFound, format_args!("there is nothing at {number}")))
}

/// A C string of `text`; NUL bytes within are left out.
pub(super) fn c_string(text: impl Into<Vec<u8>>) -> CString {
    let mut bytes = text.into();
    bytes.retain(|&byte| byte != 0);
    CString::new(bytes).unwrap_or_default()
}

/// A struct of the header whose first field is the size its user was compiled with.
///
/// # Safety
/// The type is `repr(C)`, begins with `size: usize`, and all zero bytes are a value of it.
pub(super) unsafe trait CStruct: Copy {
    /// The value of which every byte is 0.
    fn zero() -> Self {
        // SAFETY: as the trait demands.
        unsafe { mem::zeroed() }
    }
}

// SAFETY: types.rs declares them so.
unsafe impl CStruct for eunomia_options {}
// SAFETY: as above.
unsafe impl CStruct for eunomia_event {}
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

/// Size the user of the struct `name` was compiled with.
///
/// # Safety
/// `from` is null or points to a `usize`.
unsafe fn declared_size(from: *const c_void, name: &str) -> Result<usize> {
    some(from.cast_mut(), name)?;
    // SAFETY: not null, else as demanded above.
    let size = unsafe { from.cast::<usize>().read_unaligned() };
    let plausible = (mem::size_of::<usize>()..=STRUCT_LIMIT).contains(&size);
    if plausible { Ok(size) } else { Err(invalid(format_args!("size of {name} is {size}"))) }
}

/// Copies a struct in. What the caller does not have is zero; what we do not have must be zero.
/// On failure `into` holds as much as can be trusted.
///
/// # Safety
/// `from` is null or points to as many bytes as its first field says.
pub(super) unsafe fn read_struct<T: CStruct>(from: *const T, into: &mut T, name: &str) -> Result<()> {
    // SAFETY: as demanded above.
    let size = unsafe { declared_size(from.cast(), name) }?;
    let mine = mem::size_of::<T>();
    // SAFETY: both sides have so many bytes, and bytes of C may make up any value of `T`.
    unsafe { ptr::copy_nonoverlapping(from.cast::<u8>(), ptr::from_mut(into).cast(), size.min(mine)) };
    // SAFETY: the caller vouches for `size` bytes.
    let all = unsafe { slice::from_raw_parts(from.cast::<u8>(), size) };
    check_tail(all, mine, name)
}

/// Refuses bytes behind `known` that ask for something.
fn check_tail(all: &[u8], known: usize, name: &str) -> Result<()> {
    match all.iter().skip(known).position(|&byte| byte != 0) {
        Some(at) => Err(invalid(format_args!("byte {} of {name} is not 0 and not known here", known + at))),
        None => Ok(()),
    }
}

/// A struct of the caller to be written, checked before the work so that a refusal does nothing.
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
        // SAFETY: as demanded above.
        let size = unsafe { declared_size(to.cast_const().cast(), name) }?;
        Ok(Out { to, size: size.min(mem::size_of::<T>()) })
    }

    /// What stands there, zero beyond its end.
    pub(super) fn current(&self) -> T {
        let mut value = T::zero();
        // SAFETY: `new` demanded `size` bytes, and it is at most those of `T`.
        unsafe {
            ptr::copy_nonoverlapping(self.to.cast::<u8>(), ptr::from_mut(&mut value).cast(), self.size)
        };
        value
    }

    /// Writes as much of `value` as the caller knows, and that size.
    pub(super) fn write(&self, value: T) {
        // SAFETY: `new` demanded `size` bytes, at least those of the first field.
        unsafe {
            ptr::copy_nonoverlapping(ptr::from_ref(&value).cast::<u8>(), self.to.cast(), self.size);
            self.to.cast::<usize>().write_unaligned(self.size);
        }
    }
}

/// Stores a plain value, if the caller wants it.
///
/// # Safety
/// `to` is null or may be written.
pub(super) unsafe fn store<T>(to: *mut T, value: T) {
    if !to.is_null() {
        // SAFETY: as demanded above.
        unsafe { to.write(value) };
    }
}
