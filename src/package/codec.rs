//! How an object stands in a JSON text: base64, in layout F2 of a zlib stream. Bounded both ways.

use std::borrow::Cow;

use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, Engine, GeneralPurpose, GeneralPurposeConfig};
use base64::{DecodeError, prelude::BASE64_STANDARD};
use miniz_oxide::deflate::compress_to_vec_zlib;
use miniz_oxide::inflate::{TINFLStatus, decompress_to_vec_zlib_with_limit};

use super::MAX_OBJECT;

const BEST_COMPRESSION: u8 = 9;
/// The largest object takes four thirds of its size; the rest is for line feeds.
const MAX_TEXT: usize = MAX_OBJECT / 2 * 3;
/// Files without the padding at the end are read too.
const DECODER: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The object as the text of layout F2.
pub(super) fn pack(object: &[u8]) -> String {
    BASE64_STANDARD.encode(compress_to_vec_zlib(object, BEST_COMPRESSION))
}

/// Bytes of a base64 text, line feeds and blanks skipped.
pub(super) fn decode(text: &str) -> Result<Vec<u8>, String> {
    if text.len() > MAX_TEXT {
        return Err(format!("{} bytes of base64, and at most {MAX_TEXT} are read", text.len()));
    }
    let text = unfold(text);
    DECODER.decode(text.as_ref()).map_err(|error| match error {
        DecodeError::InvalidByte(offset, byte) => {
            format!("not base64: byte 0x{byte:02x} at offset {offset}")
        }
        _ => "not base64: it seems cut off".to_owned(),
    })
}

/// Inflates `data`; none if that gives more than `limit` bytes, which is also all that gets allocated.
pub(super) fn inflate(data: &[u8], limit: usize) -> Result<Option<Vec<u8>>, &'static str> {
    // One byte of room beyond the limit, so that an object of exactly that size has not filled the buffer.
    match decompress_to_vec_zlib_with_limit(data, limit + 1) {
        Ok(object) => Ok(Some(object).filter(|object| object.len() <= limit)),
        Err(error) => match error.status {
            TINFLStatus::HasMoreOutput => Ok(None),
            TINFLStatus::FailedCannotMakeProgress | TINFLStatus::NeedsMoreInput => {
                Err("the zlib stream is cut off")
            }
            TINFLStatus::Adler32Mismatch => Err("the checksum of the zlib stream does not match"),
            _ => Err("not a zlib stream"),
        },
    }
}

fn unfold(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|byte| byte.is_ascii_whitespace()) {
        Cow::Owned(text.split_ascii_whitespace().collect())
    } else {
        Cow::Borrowed(text)
    }
}
