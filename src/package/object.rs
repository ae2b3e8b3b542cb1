//! Checks that an object is an ELF file for BPF on this machine. libbpf checks everything else.

use std::fmt;

use super::json_value::error;
use crate::error::Result;

/// Maximum number of bytes of an object.
pub const MAX_OBJECT: usize = 64 << 20;

const ELF_HEADER: usize = 64;
const CLASS_64: u8 = 2;
const LITTLE: u8 = 1;
const BIG: u8 = 2;
const NATIVE: u8 = if cfg!(target_endian = "little") { LITTLE } else { BIG };
/// The machine number of compilers that had none for BPF yet; libbpf accepts it too.
const MACHINE_NONE: u16 = 0;
const MACHINE_BPF: u16 = 247;

/// Checks the ELF header of `object`. `path` is its path in the document, for messages.
pub(super) fn check(object: &[u8], path: &str) -> Result<()> {
    let refuse = |reason: fmt::Arguments<'_>| Err(error(format_args!("{path}: {reason}")));
    if object.len() > MAX_OBJECT {
        return refuse(format_args!("{} bytes, and at most {MAX_OBJECT} are read", object.len()));
    }
    if !object.starts_with(b"\x7fELF") {
        return refuse(format_args!(
            "not an ELF object (it starts with {:02x?})",
            &object[..object.len().min(4)]
        ));
    }
    if object.len() < ELF_HEADER {
        return refuse(format_args!("an ELF object truncated after {} bytes", object.len()));
    }
    if object[4] != CLASS_64 {
        return refuse(format_args!("not a 64-bit ELF object"));
    }
    if object[5] != NATIVE {
        let order = if object[5] == BIG { "big" } else { "little" };
        return refuse(format_args!("{order}-endian, unlike this machine"));
    }
    match u16::from_ne_bytes([object[18], object[19]]) {
        MACHINE_BPF | MACHINE_NONE => Ok(()),
        machine => refuse(format_args!("an ELF object for machine {machine}, not for BPF ({MACHINE_BPF})")),
    }
}
