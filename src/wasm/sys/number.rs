//! Numbers as C's `printf` prints them, for the `printf` of guests.

/// A number, with the letter of its conversion in C's `printf`.
pub enum Number {
    /// `d`.
    Signed(i64),
    /// `u`, `o`, `x`, `X` or `p`.
    Unsigned(u64, u8),
    /// `e`, `f`, `g` or one of these in capitals.
    Float(f64, u8),
}

/// Formats a number as C's `printf` does. Unknown flags are ignored; width and precision are limited to 127.
pub fn format_number(flags: &[u8], width: usize, precision: Option<usize>, number: Number) -> Vec<u8> {
    /// Enough for the largest number with its precision and a NUL.
    const SIZE: usize = 512;
    let letter = match number {
        Number::Signed(_) => b'd',
        Number::Unsigned(_, letter) if b"uoxX".contains(&letter) => letter,
        Number::Unsigned(..) => b'x',
        Number::Float(_, letter) if b"eEfFgG".contains(&letter) => letter,
        Number::Float(..) => b'f',
    };
    let mut format = vec![b'%'];
    let is_pointer = matches!(number, Number::Unsigned(_, b'p'));
    format.extend(b"+- #0".iter().filter(|flag| flags.contains(flag) || is_pointer && **flag == b'#'));
    format.extend_from_slice(width.min(127).to_string().trim_start_matches('0').as_bytes());
    if let Some(precision) = precision {
        format.extend_from_slice(format!(".{}", precision.min(127)).as_bytes());
    }
    format.extend_from_slice(if matches!(number, Number::Float(..)) { b"" } else { b"ll" });
    format.extend_from_slice(&[letter, 0]);
    let mut text = vec![0_u8; SIZE];
    let (out, format) = (text.as_mut_ptr().cast(), format.as_ptr().cast());
    // SAFETY: the NUL-terminated format has one conversion of the type that is passed, and `text` has SIZE bytes.
    let len = unsafe {
        match number {
            Number::Signed(value) => libc::snprintf(out, SIZE, format, value),
            Number::Unsigned(value, _) => libc::snprintf(out, SIZE, format, value),
            Number::Float(value, _) => libc::snprintf(out, SIZE, format, value),
        }
    };
    text.truncate(usize::try_from(len).unwrap_or(0).min(SIZE - 1));
    text
}
