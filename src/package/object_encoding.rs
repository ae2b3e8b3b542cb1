//! Encodes and decodes an object in JSON: as base64 of the object or, in layout F2, of a zlib stream. Both directions
//! have limits.

use std::borrow::Cow;

use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, Engine, GeneralPurpose, GeneralPurposeConfig};
use base64::{DecodeError, DecodeSliceError, decoded_len_estimate, prelude::BASE64_STANDARD};

use super::json_value::error;
use super::object::MAX_OBJECT;
use crate::error::{Error, Result, Status};
use crate::memory;
use crate::zlib::{self, Inflater, Progress};

/// Maximum number of bytes of base64. The largest object takes four thirds of its size; the rest is for newlines.
const MAX_BASE64: usize = MAX_OBJECT / 2 * 3;
/// Also decodes base64 without padding.
const DECODER: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Encodes an object for layout F2.
pub(super) fn encode(object: &[u8]) -> String {
    BASE64_STANDARD.encode(zlib::deflate(object))
}

/// Decodes base64. Whitespace is skipped.
pub(super) fn decode(text: &str) -> Result<Vec<u8>> {
    if text.len() > MAX_BASE64 {
        return Err(error(format_args!("{} bytes of base64, and at most {MAX_BASE64} are read", text.len())));
    }
    let text = without_whitespace(text)?;
    let mut bytes = memory::zeroed(decoded_len_estimate(text.len()))?;
    let len = DECODER.decode_slice(text.as_ref(), &mut bytes).map_err(|failure| match failure {
        DecodeSliceError::DecodeError(DecodeError::InvalidByte(offset, byte)) => {
            error(format_args!("not base64: byte 0x{byte:02x} at offset {offset}"))
        }
        _ => error("not base64: probably truncated"),
    })?;
    bytes.truncate(len);
    Ok(bytes)
}

/// Inflates `data`. Returns `None` if that gives more than `limit` bytes. Allocates `expected` bytes at first.
pub(super) fn inflate(data: &[u8], expected: usize, limit: usize) -> Result<Option<Vec<u8>>> {
    let mut inflater = Inflater::new(data).ok_or_else(|| stream_error(Progress::NoMemory))?;
    // One byte more than the limit, so that an object of exactly that size does not fill the buffer.
    let mut object = memory::zeroed(expected.min(limit) + 1)?;
    let mut len = 0;
    loop {
        let (written, progress) = inflater.fill(&mut object[len..]);
        len += written;
        match progress {
            Progress::Full if object.len() <= limit => {
                let len = (2 * object.len()).min(limit + 1);
                memory::extend(&mut object, len)?;
            }
            Progress::Done if len <= limit => break,
            Progress::Done | Progress::Full => return Ok(None),
            progress => return Err(stream_error(progress)),
        }
    }
    object.truncate(len);
    Ok(Some(object))
}

fn stream_error(progress: Progress) -> Error {
    match progress {
        Progress::NoMemory => Error::new(Status::NoMem, "out of memory"),
        Progress::Truncated => error("the zlib stream is truncated"),
        Progress::WrongChecksum => error("the checksum of the zlib stream does not match"),
        _ => error("not a zlib stream"),
    }
}

/// Returns the base64 without whitespace.
fn without_whitespace(text: &str) -> Result<Cow<'_, [u8]>> {
    if !text.bytes().any(|byte| byte.is_ascii_whitespace()) {
        return Ok(Cow::Borrowed(text.as_bytes()));
    }
    let mut stripped = memory::copy(text.as_bytes())?;
    stripped.retain(|byte| !byte.is_ascii_whitespace());
    Ok(Cow::Owned(stripped))
}
