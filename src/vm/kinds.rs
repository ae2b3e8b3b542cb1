//! Kinds of packages, and which kind some bytes are.

use crate::error::{Error, Result, Status};

/// Kinds of packages; bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A JSON package, or an object with its metadata.
    Json = 1,
    /// A WASM module that carries packages.
    Wasm = 2,
}

/// What the package is; an error if the caller does not want such a one.
pub fn check_kinds(data: &[u8], kinds: u32) -> Result<Kind> {
    const KNOWN: u32 = Kind::Json as u32 | Kind::Wasm as u32;
    if kinds == 0 || kinds & !KNOWN != 0 {
        return Err(Error::new(Status::Inval, format_args!("kinds: {kinds} is not a set of package kinds")));
    }
    let is_wasm = data.starts_with(b"\0asm");
    let kind = if is_wasm { Kind::Wasm } else { Kind::Json };
    if kinds & kind as u32 == 0 {
        let (is, wanted) = if is_wasm { ("a WASM module", "JSON") } else { ("no WASM module", "WASM") };
        return Err(Error::new(
            Status::Package,
            format_args!("the package is {is}, and only {wanted} is wanted"),
        ));
    }
    Ok(kind)
}
