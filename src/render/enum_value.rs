//! Writes values of enums: the name of the constant or, if the value has no name, the number.

use super::out::Out;
use super::steps::{Code, Constants};

impl Code {
    /// Writes a value of `bits` bits by its table of constants.
    #[cfg_attr(small, optimize(speed))]
    pub(super) fn write_enum(&self, table: u32, value: u64, bits: u32, quoted: bool, out: &mut Out) {
        let Constants { names, signed, mask, quotes_numbers } = &self.enums[table as usize];
        let number = if *signed { sign_extend(value, bits) } else { value };
        let Ok(found) = names.binary_search_by_key(&(number & mask), |name| name.0) else {
            let in_quotes = quoted && *quotes_numbers;
            if in_quotes {
                out.byte(b'"');
            }
            if *signed {
                out.i64(number as i64)
            } else {
                out.u64(number)
            }
            if in_quotes {
                out.byte(b'"');
            }
            return;
        };
        let (_, start, len) = names[found];
        let name = &self.names[start as usize..(start + len) as usize];
        out.bytes(if quoted { name } else { &name[1..name.len() - 1] });
    }
}

/// Copies the highest of the lowest `bits` bits to all bits above it.
fn sign_extend(value: u64, bits: u32) -> u64 {
    let unused = 64 - bits.clamp(1, 64);
    ((value << unused) as i64 >> unused) as u64
}
