//! A zlib bomb.

use base64::prelude::{BASE64_STANDARD, Engine};

/// Returns a zlib stream of zeros as base64 text. It inflates to about 1000 times its length, and has no checksum.
pub fn bomb(inflated: usize) -> String {
    // One block of fixed Huffman codes: a zero, then "copy 258 bytes from one byte back" over and over. Codes are stored
    // from their highest bit, so the 13 bits of a copy are 11000101 00000 from the left.
    let header = [1, 1, 0];
    let zero = [0, 0, 1, 1, 0, 0, 0, 0];
    let copy = [1, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0];
    let bits: Vec<u8> = header.into_iter().chain(zero).chain(copy.repeat(inflated / 258)).collect();
    let byte = |bits: &[u8]| bits.iter().rev().fold(0, |byte, bit| byte << 1 | bit);
    BASE64_STANDARD.encode([0x78, 0x9c].into_iter().chain(bits.chunks(8).map(byte)).collect::<Vec<u8>>())
}
