//! Parses floating-point numbers with the C library. The parser of `core` would add 15 kB to the library.
#![allow(unsafe_code, reason = "calls the C library; no raw pointer leaves this file")]

use std::ffi::{CString, c_char, c_double};
use std::ptr::null_mut;

unsafe extern "C" {
    fn strtod_l(text: *const c_char, end: *mut *mut c_char, locale: libc::locale_t) -> c_double;
}

/// Parses a decimal number with optional sign, point and exponent, and rounds it to the nearest value. Returns `None` for any
/// other text, and infinity for a number that is too large.
pub fn parse_float(text: &str) -> Option<f64> {
    let is_decimal = |byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
    if text.is_empty() || !text.bytes().all(is_decimal) {
        return None;
    }
    let text = CString::new(text).ok()?;
    let mut end = null_mut();
    // SAFETY: the text is NUL-terminated; `end` is valid during the call and then points into the text. The decimal point of
    // the host's locale may be a comma, so this uses the locale "C": it is built into the C library, and creating it
    // cannot fail.
    let (value, len) = unsafe {
        let locale = libc::newlocale(libc::LC_ALL_MASK, c"C".as_ptr(), null_mut());
        let value = strtod_l(text.as_ptr(), &mut end, locale);
        libc::freelocale(locale);
        (value, end.offset_from(text.as_ptr()))
    };
    (len as usize == text.as_bytes().len()).then_some(value)
}
