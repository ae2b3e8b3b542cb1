//! The output buffer of the renderer.
//!
//! This is the hot path; it does not use `core::fmt`. Space is reserved once per step and written in blocks of a fixed
//! size, which may be longer than the value: the bytes after `pos` are scratch. Therefore `reserve` adds `SLACK` bytes.

/// Bytes that may be written after the end of the output; also the size of the blocks.
const SLACK: usize = 16;
/// Bytes of the longest number: 128 bits with a sign.
pub(super) const MAX_NUMBER: usize = 40;

/// Bytes that one check of the capacity covers.
const WINDOW: usize = 64;

const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();
const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// A few bytes, copied as one block whatever their number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Literal {
    bytes: [u8; Literal::MAX],
    len: u8,
}

impl Literal {
    pub(super) const MAX: usize = 16;

    /// Creates a literal of the first `MAX` of `bytes`.
    pub(super) fn new(bytes: &[u8]) -> Literal {
        let len = bytes.len().min(Literal::MAX);
        let mut literal = Literal { bytes: [0; Literal::MAX], len: len as u8 };
        literal.bytes[..len].copy_from_slice(&bytes[..len]);
        literal
    }

    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        // Changes nothing, but tells the compiler that the length is less than a window.
        usize::from(self.len) % (2 * Literal::MAX)
    }
}

/// Writes to a vector. It owns the vector, so that pointer and length stay in registers.
pub(super) struct Out {
    buf: Vec<u8>,
    pos: usize,
    /// Number of bytes written that are not the first byte of a character: columns are counted in characters.
    continuation_bytes: usize,
}

impl Out {
    /// Starts to write at `start`, over the content of `buf`; reserves `expected` bytes.
    #[inline(always)]
    pub(super) fn start_at(start: usize, buf: &mut Vec<u8>, expected: usize) -> Out {
        let mut out = Out { buf: std::mem::take(buf), pos: start, continuation_bytes: 0 };
        out.reserve(expected);
        out
    }

    /// Starts to write at the end of `buf`.
    #[inline(always)]
    pub(super) fn append(buf: &mut Vec<u8>, expected: usize) -> Out {
        Out::start_at(buf.len(), buf, expected)
    }

    /// Returns the vector in `buf`, and the end of the output; scratch bytes follow it.
    #[inline(always)]
    pub(super) fn finish(self, buf: &mut Vec<u8>) -> usize {
        *buf = self.buf;
        self.pos
    }

    /// Returns the number of characters up to here.
    #[inline(always)]
    pub(super) fn column(&self) -> usize {
        self.pos - self.continuation_bytes
    }

    /// Lets `work` continue on a copy. Calls get the address of the copy and not that of `self`, so `self` can stay in
    /// registers of the caller.
    #[inline(always)]
    pub(super) fn detached(&mut self, work: impl FnOnce(&mut Out)) {
        let mut other = Out { buf: std::mem::take(&mut self.buf), ..*self };
        work(&mut other);
        *self = other;
    }

    /// Reserves `len` bytes and the slack.
    #[inline(always)]
    pub(super) fn reserve(&mut self, len: usize) {
        let end = self.pos + len + SLACK;
        if self.buf.len() < end {
            self.buf = grown(std::mem::take(&mut self.buf), end);
        }
    }

    /// Reserves and returns the next bytes, to be written in any order. One check covers all of them, and the compiler sees
    /// that constant indices are in bounds.
    #[inline(always)]
    fn window(&mut self) -> &mut [u8; WINDOW] {
        self.reserve(WINDOW);
        self.buf[self.pos..].first_chunk_mut().expect("reserved above")
    }

    /// Writes a literal. Reserves space also for a following `byte`, `bool` or number of up to 64 bits.
    #[inline(always)]
    pub(super) fn literal(&mut self, literal: &Literal) {
        self.window()[..Literal::MAX].copy_from_slice(&literal.bytes);
        self.pos += literal.len();
    }

    /// Writes a literal and a decimal number. Reserves space.
    #[inline(always)]
    #[cfg_attr(small, optimize(speed))]
    pub(super) fn number(&mut self, literal: &Literal, is_negative: bool, magnitude: u64) {
        let window = self.window();
        window[..Literal::MAX].copy_from_slice(&literal.bytes);
        let mut at = literal.len();
        // Overwritten if the number is not negative.
        window[at] = b'-';
        at += usize::from(is_negative);
        if magnitude < 100 {
            // Flags, signals and CPUs are so frequent that they are worth a branch; a branch per digit is not.
            let (word, len) = short(magnitude as u16);
            window[at..at + 2].copy_from_slice(&word.to_le_bytes());
            self.pos += at + len;
        } else if magnitude < EIGHT_DIGITS {
            let (word, len) = leading(magnitude);
            window[at..at + 8].copy_from_slice(&word.to_le_bytes());
            self.pos += at + len;
        } else {
            self.pos += at;
            self.detached(|out| out.long(magnitude));
        }
    }

    /// Writes one byte. The space must be reserved.
    #[inline(always)]
    pub(super) fn byte(&mut self, byte: u8) {
        self.buf[self.pos] = byte;
        self.pos += 1;
    }

    /// Writes eight bytes, of which `len` are part of the output. The space must be reserved.
    #[inline(always)]
    fn word(&mut self, word: u64, len: usize) {
        let end = self.pos + 8;
        self.buf[self.pos..end].copy_from_slice(&word.to_le_bytes());
        self.pos += len;
    }

    /// Writes any bytes. Reserves space.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.buf[self.pos..self.pos + bytes.len()].copy_from_slice(bytes);
        self.pos += bytes.len();
    }

    /// Writes spaces up to a column, at least one. Reserves space.
    #[inline(always)]
    #[cfg_attr(small, optimize(speed))]
    pub(super) fn pad(&mut self, column: usize) {
        let mut count = column.saturating_sub(self.column()).max(1);
        self.reserve(count);
        while count > 0 {
            let written = count.min(SLACK);
            self.buf[self.pos..self.pos + SLACK].fill(b' ');
            self.pos += written;
            count -= written;
        }
    }

    /// Writes `true` or `false`. The space must be reserved.
    #[inline(always)]
    pub(super) fn bool(&mut self, value: bool) {
        let (word, len) = if value { (*b"true\0\0\0\0", 4) } else { (*b"false\0\0\0", 5) };
        self.word(u64::from_le_bytes(word), len);
    }

    /// Writes a decimal number. The space must be reserved.
    #[inline(always)]
    pub(super) fn u64(&mut self, value: u64) {
        if value < EIGHT_DIGITS {
            let (word, len) = leading(value);
            self.word(word, len);
        } else {
            self.detached(|out| out.long(value));
        }
    }

    /// Writes a decimal number. The space must be reserved.
    #[inline(always)]
    pub(super) fn i64(&mut self, value: i64) {
        if value < 0 {
            self.byte(b'-');
        }
        self.u64(value.unsigned_abs());
    }

    #[inline(never)]
    #[cfg_attr(small, optimize(speed))]
    fn long(&mut self, value: u64) {
        let (high, low) = (value / EIGHT_DIGITS, value % EIGHT_DIGITS);
        let first = if high < EIGHT_DIGITS { high } else { high / EIGHT_DIGITS };
        let (word, len) = leading(first);
        self.word(word, len);
        if high >= EIGHT_DIGITS {
            self.word(digits(high % EIGHT_DIGITS) | ZEROS, 8);
        }
        self.word(digits(low) | ZEROS, 8);
    }

    /// Writes a decimal number of up to 128 bits. The space must be reserved.
    pub(super) fn u128(&mut self, value: u128) {
        const NINETEEN_DIGITS: u128 = 10_000_000_000_000_000_000;
        let Ok(short) = u64::try_from(value) else {
            self.u128(value / NINETEEN_DIGITS);
            let mut low = (value % NINETEEN_DIGITS) as u64;
            let end = self.pos + 19;
            for byte in self.buf[self.pos..end].iter_mut().rev() {
                *byte = b'0' + (low % 10) as u8;
                low /= 10;
            }
            self.pos = end;
            return;
        };
        self.u64(short);
    }

    /// Writes a decimal number of up to 128 bits. The space must be reserved.
    pub(super) fn i128(&mut self, value: i128) {
        if value < 0 {
            self.byte(b'-');
        }
        self.u128(value.unsigned_abs());
    }

    /// Writes the shortest number that parses to the same value; `null` for NaN and infinities. Reserves space.
    pub(super) fn f32(&mut self, value: f32) {
        self.float(value, value.is_finite());
    }

    /// Writes a `f64` as [`Out::f32`] does.
    pub(super) fn f64(&mut self, value: f64) {
        self.float(value, value.is_finite());
    }

    fn float(&mut self, value: impl zmij::Float, is_finite: bool) {
        let mut text = zmij::Buffer::new();
        self.bytes(if is_finite { text.format_finite(value).as_bytes() } else { b"null" });
    }

    /// Writes the string up to the first NUL. Invalid UTF-8 is replaced, control characters are escaped as in JSON; quotes
    /// and backslashes only if `QUOTED`. Reserves space.
    #[inline(always)]
    #[cfg_attr(small, optimize(speed))]
    pub(super) fn text<const QUOTED: bool>(&mut self, bytes: &[u8]) {
        let first = &bytes[..bytes.len().min(WINDOW)];
        let plain = self.plain::<QUOTED>(first);
        if plain < bytes.len() && (plain == WINDOW || bytes[plain] != 0) {
            self.detached(|out| out.long_text::<QUOTED>(&bytes[plain..]));
        }
    }

    /// Writes the rest of a string that is long or has special characters.
    #[inline(never)]
    #[cfg_attr(small, optimize(speed))]
    fn long_text<const QUOTED: bool>(&mut self, bytes: &[u8]) {
        // In pieces, so that a short string in a long array does not cost the whole length.
        for (index, piece) in bytes.chunks(WINDOW).enumerate() {
            let plain = self.plain::<QUOTED>(piece);
            if plain < piece.len() {
                if piece[plain] != 0 {
                    self.escaped_text::<QUOTED>(&bytes[index * WINDOW + plain..]);
                }
                return;
            }
        }
    }

    /// Writes the bytes before the first special one, at most `WINDOW`, and returns their number. Reserves space.
    #[inline(always)]
    #[cfg_attr(small, optimize(speed))]
    fn plain<const QUOTED: bool>(&mut self, bytes: &[u8]) -> usize {
        let window = self.window();
        let mut len = 0;
        let mut rest = bytes;
        for target in window.chunks_exact_mut(16) {
            let Some((block, remaining)) = rest.split_first_chunk() else {
                len += short_plain::<QUOTED>(target, rest);
                break;
            };
            target.copy_from_slice(block);
            let plain = plain_bytes::<QUOTED>(block);
            rest = remaining;
            len += plain;
            if plain < 16 {
                break;
            }
        }
        self.pos += len;
        len
    }

    /// Writes the string up to the first NUL, character by character.
    #[cold]
    #[inline(never)]
    pub(super) fn escaped_text<const QUOTED: bool>(&mut self, bytes: &[u8]) {
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        for chunk in bytes[..end].utf8_chunks() {
            for byte in chunk.valid().bytes() {
                self.reserve(8);
                match byte {
                    byte if is_plain::<QUOTED>(byte) => self.byte(byte),
                    0x80.. => {
                        self.continuation_bytes += usize::from(byte & 0xc0 == 0x80);
                        self.byte(byte);
                    }
                    _ => self.escape(byte),
                }
            }
            if !chunk.invalid().is_empty() {
                self.continuation_bytes += REPLACEMENT.len() - 1;
                self.bytes(REPLACEMENT);
            }
        }
    }

    /// Writes the escape of a quote, backslash or control character. The space must be reserved.
    fn escape(&mut self, byte: u8) {
        let letter = match byte {
            b'"' | b'\\' => byte,
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x08 => b'b',
            0x0c => b'f',
            _ => b'u',
        };
        self.byte(b'\\');
        self.byte(letter);
        if letter == b'u' {
            self.byte(b'0');
            self.byte(b'0');
            self.hex(byte);
        }
    }

    /// Writes two hexadecimal digits. The space must be reserved.
    pub(super) fn hex(&mut self, byte: u8) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        self.byte(DIGITS[usize::from(byte >> 4)]);
        self.byte(DIGITS[usize::from(byte & 15)]);
    }
}

/// Grows by a fixed step: the new bytes have to be zeroed, and `buf` may already contain many lines.
#[cold]
#[inline(never)]
fn grown(mut buf: Vec<u8>, end: usize) -> Vec<u8> {
    const STEP: usize = 512;
    buf.resize(end + STEP, 0);
    buf
}

/// Returns at most eight digits without leading zeros, the first in the lowest byte, and their number.
#[inline(always)]
fn leading(value: u64) -> (u64, usize) {
    let digits = digits(value);
    // The last digit stays even if it is zero.
    let zeros = (digits | 1 << 56).trailing_zeros() & !7;
    ((digits | ZEROS) >> zeros, 8 - (zeros / 8) as usize)
}

/// As `leading`, for a number below 100.
#[inline(always)]
fn short(value: u16) -> (u16, usize) {
    let tens = (value * 103) >> 10;
    let digits = tens | (value - tens * 10) << 8 | 0x3030;
    let is_long = value >= 10;
    (if is_long { digits } else { digits >> 8 }, 1 + usize::from(is_long))
}

const EIGHT_DIGITS: u64 = 100_000_000;
const ZEROS: u64 = 0x3030_3030_3030_3030;

/// Returns the eight decimal digits of a number below 10^8, the first in the lowest byte. Each step splits all lanes in two
/// at once; the factors are reciprocals that are exact in the range of a lane.
#[inline]
fn digits(value: u64) -> u64 {
    let (high, low) = (value / 10_000, value % 10_000);
    let fours = high | low << 32;
    let hundreds = ((fours * 10_486) >> 20) & 0x7f_0000_007f;
    let twos = hundreds | (fours - hundreds * 100) << 16;
    let tens = ((twos * 103) >> 10) & 0x000f_000f_000f_000f;
    tens | (twos - tens * 10) << 8
}

fn is_plain<const QUOTED: bool>(byte: u8) -> bool {
    matches!(byte, 0x20..0x80) && !(QUOTED && matches!(byte, b'"' | b'\\'))
}

/// Copies fewer than 16 bytes, and counts those before the first special one.
#[inline(never)]
fn short_plain<const QUOTED: bool>(target: &mut [u8], bytes: &[u8]) -> usize {
    let mut block = [0; 16];
    block[..bytes.len()].copy_from_slice(bytes);
    target.copy_from_slice(&block);
    plain_bytes::<QUOTED>(&block)
}

/// Counts the bytes before the first special one. There is no branch between the two words, because the end of a name is
/// not predictable.
#[inline(always)]
fn plain_bytes<const QUOTED: bool>(block: &[u8; 16]) -> usize {
    let block = u128::from_le_bytes(*block);
    let (low, high) = (block as u64, (block >> 64) as u64);
    let special = u128::from(special_bytes::<QUOTED>(high)) << 64 | u128::from(special_bytes::<QUOTED>(low));
    // Without a mark there are 128 trailing zeros, so all 16 bytes are plain.
    special.trailing_zeros() as usize / 8
}

/// Marks in the high bit each byte that is not plain. Marks above the lowest one may be wrong, because borrows propagate
/// upwards.
#[inline]
fn special_bytes<const QUOTED: bool>(word: u64) -> u64 {
    let below = |limit: u64, word: u64| word.wrapping_sub(ONES * limit) & !word;
    let equal = |byte: u8| below(1, word ^ (ONES * u64::from(byte)));
    let quotes = if QUOTED { equal(b'"') | equal(b'\\') } else { 0 };
    (below(0x20, word) | quotes | word) & HIGHS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Out)) -> String {
        let mut buf = Vec::new();
        let mut out = Out::append(&mut buf, MAX_NUMBER);
        write(&mut out);
        let end = out.finish(&mut buf);
        buf.truncate(end);
        String::from_utf8(buf).unwrap()
    }

    #[test]
    fn every_length_of_number_is_written_as_the_standard_library_does() {
        let mut power = 1u128;
        for _ in 0..39 {
            for value in [power - 1, power, power + 1, power.saturating_mul(7)] {
                assert_eq!(written(|out| out.u128(value)), value.to_string());
                assert_eq!(
                    written(|out| out.i128((value as i128).wrapping_neg())),
                    (value as i128).wrapping_neg().to_string()
                );
                assert_eq!(written(|out| out.u64(value as u64)), (value as u64).to_string());
                assert_eq!(written(|out| out.i64(value as i64)), (value as i64).to_string());
            }
            power = power.saturating_mul(10);
        }
        assert_eq!(written(|out| out.u64(u64::MAX)), u64::MAX.to_string());
        assert_eq!(written(|out| out.i64(i64::MIN)), i64::MIN.to_string());
        assert_eq!(written(|out| out.i128(i128::MIN)), i128::MIN.to_string());
        assert_eq!(written(|out| out.u128(u128::MAX)), u128::MAX.to_string());
    }

    #[test]
    fn a_number_after_its_literal_has_its_sign_and_all_digits() {
        let literal = Literal::new(b"\"n\":");
        for value in (0..2000).chain([99_999_999, 100_000_000, u64::MAX]) {
            assert_eq!(written(|out| out.number(&literal, false, value)), format!("\"n\":{value}"));
            assert_eq!(written(|out| out.number(&literal, true, value)), format!("\"n\":-{value}"));
        }
    }

    #[test]
    fn all_eight_digit_lanes_split_exactly() {
        for value in (0..EIGHT_DIGITS).step_by(997).chain(0..20_000) {
            assert_eq!(written(|out| out.u64(value)), value.to_string());
        }
    }

    #[test]
    fn any_byte_at_any_position_is_escaped_as_a_json_reader_expects() {
        for byte in 0..=255u8 {
            for index in 0..20 {
                let mut bytes = [b'a'; 20];
                bytes[index] = byte;
                let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(20);
                let json = format!("\"{}\"", written(|out| out.text::<true>(&bytes)));
                let read: String = serde_json::from_str(&json).unwrap();
                assert_eq!(read, String::from_utf8_lossy(&bytes[..end]));
            }
        }
    }
}
