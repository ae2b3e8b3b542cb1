//! Floating-point numbers from their decimal text, by the C library: every host has its code in memory, while that of
//! `core` would take 15 kB of ours.
#![allow(unsafe_code, reason = "the calls of the C library; nothing outside this file sees a raw pointer")]

use std::ffi::{CString, c_char, c_double};
use std::ptr::null_mut;

unsafe extern "C" {
    fn strtod_l(text: *const c_char, end: *mut *mut c_char, locale: libc::locale_t) -> c_double;
}

/// The number that `text` is as a whole, rounded to the nearest one there is: digits with an optional sign, point and
/// exponent. None for anything else; infinite if it is too large.
pub fn parse_float(text: &str) -> Option<f64> {
    let is_decimal = |byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
    if text.is_empty() || !text.bytes().all(is_decimal) {
        return None;
    }
    let text = CString::new(text).ok()?;
    let mut end = null_mut();
    // SAFETY: the text ends with a NUL, `end` lives for the call and then points into the text. The host's own locale
    // may write a comma; the locale "C" is part of the C library, takes no memory and cannot fail.
    let (value, len) = unsafe {
        let locale = libc::newlocale(libc::LC_ALL_MASK, c"C".as_ptr(), null_mut());
        let value = strtod_l(text.as_ptr(), &mut end, locale);
        libc::freelocale(locale);
        (value, end.offset_from(text.as_ptr()))
    };
    (len as usize == text.as_bytes().len()).then_some(value)
}
