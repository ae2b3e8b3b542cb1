//! The error of a system call.

use std::ffi::NulError;
use std::{fmt, io};

use crate::error::without_number;

/// An error number of errno(3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

/// The result of a system call.
pub type Result<T, E = Errno> = std::result::Result<T, E>;

impl Errno {
    /// Returns the error of the preceding call.
    pub fn last() -> Errno {
        io::Error::last_os_error().into()
    }
}

impl From<io::Error> for Errno {
    fn from(e: io::Error) -> Errno {
        Errno(e.raw_os_error().unwrap_or(libc::EINVAL))
    }
}

/// No file or interface has a name that contains a NUL byte.
impl From<NulError> for Errno {
    fn from(_: NulError) -> Errno {
        Errno(libc::EINVAL)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        // A host gets the number from eunomia_errsys.
        f.write_str(without_number(&io::Error::from_raw_os_error(self.0).to_string()))
    }
}

/// Checks the result of a call that returns -1 and sets errno on failure.
pub fn check(ret: i32) -> Result<i32> {
    if ret < 0 { Err(Errno::last()) } else { Ok(ret) }
}
