//! Numbers as C's `printf` prints them, for the `printf` of guests.

/// A number to print, with the letter that C's `printf` knows its form by.
pub enum Number {
    /// `d`.
    Signed(i64),
    /// `u`, `o`, `x`, `X` or `p`.
    Unsigned(u64, u8),
    /// `e`, `f`, `g` or one of these in capitals.
    Float(f64, u8),
}

/// A number as C's `printf` prints it. Flags that it does not know are left out; width and precision are at most 127.
pub fn format_number(flags: &[u8], width: usize, precision: Option<usize>, number: Number) -> Vec<u8> {
    /// Room for the largest number, its precision and a NUL.
    const ROOM: usize = 512;
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
    let mut text = vec![0_u8; ROOM];
    let (out, format) = (text.as_mut_ptr().cast(), format.as_ptr().cast());
    // SAFETY: the format, which ends in a NUL, wants one number of just that type, and `text` has that room.
    let len = unsafe {
        match number {
            Number::Signed(value) => libc::snprintf(out, ROOM, format, value),
            Number::Unsigned(value, _) => libc::snprintf(out, ROOM, format, value),
            Number::Float(value, _) => libc::snprintf(out, ROOM, format, value),
        }
    };
    text.truncate(usize::try_from(len).unwrap_or(0).min(ROOM - 1));
    text
}
