//! Memory whose size an input chooses: a package, its types, its maps. It is asked for, never taken for granted, for
//! an allocation that fails elsewhere ends the host.

use crate::error::{Error, Result, Status};
use crate::os;

/// `len` bytes of zero.
pub fn zeroed(len: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    extend(&mut bytes, len)?;
    Ok(bytes)
}

/// Makes `bytes` `len` long, with zeros at its end.
pub fn extend(bytes: &mut Vec<u8>, len: usize) -> Result<()> {
    bytes.try_reserve_exact(len.saturating_sub(bytes.len())).map_err(|_| short_of(len))?;
    bytes.resize(len, 0);
    Ok(())
}

/// A copy of `bytes`.
pub fn copy(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(bytes.len()).map_err(|_| short_of(bytes.len()))?;
    copy.extend_from_slice(bytes);
    Ok(copy)
}

/// Looks whether there are `len` bytes, before code that takes many small pieces and cannot tell that there are not.
pub fn room(len: usize) -> Result<()> {
    if os::try_memory(len) { Ok(()) } else { Err(short_of(len)) }
}

fn short_of(len: usize) -> Error {
    Error::new(Status::NoMem, format_args!("out of memory: {len} bytes are needed"))
}
