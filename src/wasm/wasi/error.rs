//! Results of WASI functions: 0 or an error number, and access to the guest's memory with such results.

use crate::os::Errno;
use crate::wasm::sys::guest::Guest;

/// Error numbers of WASI.
pub mod number {
    pub const ACCES: u16 = 2;
    pub const AGAIN: u16 = 6;
    pub const BADF: u16 = 8;
    pub const FAULT: u16 = 21;
    pub const INVAL: u16 = 28;
    pub const IO: u16 = 29;
    pub const ISDIR: u16 = 31;
    pub const LOOP: u16 = 32;
    pub const MFILE: u16 = 33;
    pub const NAMETOOLONG: u16 = 37;
    pub const NOENT: u16 = 44;
    pub const NOSYS: u16 = 52;
    pub const NOTDIR: u16 = 54;
    pub const ROFS: u16 = 69;
    pub const SPIPE: u16 = 70;
    pub const NOTCAPABLE: u16 = 76;
}

/// The reason why a function does not succeed.
pub enum Failure {
    /// The guest gets this error number.
    Number(u16),
    /// The guest ends.
    End,
}

/// A result of a WASI function.
pub type Result<T = ()> = std::result::Result<T, Failure>;

impl From<u16> for Failure {
    fn from(number: u16) -> Failure {
        Failure::Number(number)
    }
}

impl From<Errno> for Failure {
    fn from(e: Errno) -> Failure {
        Failure::Number(match e.0 {
            libc::EACCES | libc::EPERM => number::ACCES,
            libc::EAGAIN => number::AGAIN,
            libc::EBADF => number::BADF,
            libc::EINVAL => number::INVAL,
            libc::EISDIR => number::ISDIR,
            libc::ELOOP => number::LOOP,
            libc::EMFILE | libc::ENFILE => number::MFILE,
            libc::ENAMETOOLONG => number::NAMETOOLONG,
            libc::ENOENT => number::NOENT,
            libc::ENOTDIR => number::NOTDIR,
            libc::ESPIPE => number::SPIPE,
            libc::EXDEV => number::NOTCAPABLE,
            _ => number::IO,
        })
    }
}

/// Returns a result to the guest.
pub fn to_guest(result: Result) -> Option<u64> {
    match result {
        Ok(()) => Some(0),
        Err(Failure::Number(number)) => Some(number.into()),
        Err(Failure::End) => None,
    }
}

/// Writes to the guest's memory.
pub fn write(guest: Guest<'_>, at: u64, bytes: &[u8]) -> Result {
    guest.write(at as u32, bytes).ok_or(Failure::Number(number::FAULT))
}

/// Writes a 32-bit number to the guest's memory.
pub fn write_u32(guest: Guest<'_>, at: u64, number: usize) -> Result {
    write(guest, at, &(number as u32).to_le_bytes())
}

/// Reads from the guest's memory.
pub fn read(guest: Guest<'_>, at: u32, len: u32) -> Result<Vec<u8>> {
    guest.read(at, len).ok_or(Failure::Number(number::FAULT))
}

/// Returns the 32-bit number at an offset.
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

/// Returns the 64-bit number at an offset.
pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}
