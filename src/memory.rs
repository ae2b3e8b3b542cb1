//! Allocations whose size depends on the input: a package, its types, its maps. Running out of memory is an error here; an
//! allocation that fails elsewhere aborts the host.

use crate::error::{Error, Result, Status};
use crate::os;

/// Allocates `len` zero bytes.
pub fn zeroed(len: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    extend(&mut bytes, len)?;
    Ok(bytes)
}

/// Extends `bytes` to `len` bytes with zeros.
pub fn extend(bytes: &mut Vec<u8>, len: usize) -> Result<()> {
    bytes.try_reserve_exact(len.saturating_sub(bytes.len())).map_err(|_| short_of(len))?;
    bytes.resize(len, 0);
    Ok(())
}

/// Copies `bytes`.
pub fn copy(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(bytes.len()).map_err(|_| short_of(bytes.len()))?;
    copy.extend_from_slice(bytes);
    Ok(copy)
}

/// Checks that `len` bytes can be allocated, before code that makes many small allocations and would abort.
pub fn check_available(len: usize) -> Result<()> {
    if os::try_memory(len) { Ok(()) } else { Err(short_of(len)) }
}

fn short_of(len: usize) -> Error {
    Error::new(Status::NoMem, format_args!("out of memory: {len} bytes are needed"))
}
