//! Why a system call failed.

use std::ffi::NulError;
use std::{fmt, io};

/// Why a system call failed, as errno(3) numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

/// What a system call gives.
pub type Result<T, E = Errno> = std::result::Result<T, E>;

impl Errno {
    /// That of the call before.
    pub fn last() -> Errno {
        io::Error::last_os_error().into()
    }
}

impl From<io::Error> for Errno {
    fn from(e: io::Error) -> Errno {
        Errno(e.raw_os_error().unwrap_or(libc::EINVAL))
    }
}

/// A text with a NUL is no name of anything.
impl From<NulError> for Errno {
    fn from(_: NulError) -> Errno {
        Errno(libc::EINVAL)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        // Without the number that std adds: a host asks for it by eunomia_errsys.
        let text = io::Error::from_raw_os_error(self.0).to_string();
        f.write_str(text.split(" (os error").next().unwrap_or(&text))
    }
}

/// The result of a call that answers -1 and sets errno.
pub fn check(ret: i32) -> Result<i32> {
    if ret < 0 { Err(Errno::last()) } else { Ok(ret) }
}
