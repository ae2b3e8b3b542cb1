//! How an object stands in a JSON text: base64, in layout F2 of a zlib stream. Bounded both ways.

use std::borrow::Cow;

use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, Engine, GeneralPurpose, GeneralPurposeConfig};
use base64::{DecodeError, DecodeSliceError, decoded_len_estimate, prelude::BASE64_STANDARD};

use super::node::error;
use super::object::MAX_OBJECT;
use crate::error::{Error, Result, Status};
use crate::memory;
use crate::zlib::{self, Inflater, Progress};

/// The largest object takes four thirds of its size; the rest is for line feeds.
const MAX_TEXT: usize = MAX_OBJECT / 2 * 3;
/// Files without the padding at the end are read too.
const DECODER: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The object as the text of layout F2.
pub(super) fn pack(object: &[u8]) -> String {
    BASE64_STANDARD.encode(zlib::deflate(object))
}

/// Bytes of a base64 text, line feeds and blanks skipped.
pub(super) fn decode(text: &str) -> Result<Vec<u8>> {
    if text.len() > MAX_TEXT {
        return Err(error(format_args!("{} bytes of base64, and at most {MAX_TEXT} are read", text.len())));
    }
    let text = unfold(text)?;
    let mut bytes = memory::zeroed(decoded_len_estimate(text.len()))?;
    let len = DECODER.decode_slice(text.as_ref(), &mut bytes).map_err(|failure| match failure {
        DecodeSliceError::DecodeError(DecodeError::InvalidByte(offset, byte)) => {
            error(format_args!("not base64: byte 0x{byte:02x} at offset {offset}"))
        }
        _ => error("not base64: it seems cut off"),
    })?;
    bytes.truncate(len);
    Ok(bytes)
}

/// Inflates `data`; none if that gives more than `limit` bytes. Memory for `expected` bytes is taken at once.
pub(super) fn inflate(data: &[u8], expected: usize, limit: usize) -> Result<Option<Vec<u8>>> {
    let mut inflater = Inflater::new(data).ok_or_else(|| damaged(Progress::NoMemory))?;
    // One byte of room beyond the limit, so that an object of exactly that size has not filled the buffer.
    let mut object = memory::zeroed(expected.min(limit) + 1)?;
    let mut len = 0;
    loop {
        let (written, progress) = inflater.fill(&mut object[len..]);
        len += written;
        match progress {
            Progress::Full if object.len() <= limit => {
                let room = (2 * object.len()).min(limit + 1);
                memory::extend(&mut object, room)?;
            }
            Progress::Done if len <= limit => break,
            Progress::Done | Progress::Full => return Ok(None),
            progress => return Err(damaged(progress)),
        }
    }
    object.truncate(len);
    Ok(Some(object))
}

fn damaged(progress: Progress) -> Error {
    match progress {
        Progress::NoMemory => Error::new(Status::NoMem, "out of memory"),
        Progress::Truncated => error("the zlib stream is cut off"),
        Progress::WrongChecksum => error("the checksum of the zlib stream does not match"),
        _ => error("not a zlib stream"),
    }
}

fn unfold(text: &str) -> Result<Cow<'_, [u8]>> {
    if !text.bytes().any(|byte| byte.is_ascii_whitespace()) {
        return Ok(Cow::Borrowed(text.as_bytes()));
    }
    let mut unfolded = memory::copy(text.as_bytes())?;
    unfolded.retain(|byte| !byte.is_ascii_whitespace());
    Ok(Cow::Owned(unfolded))
}
