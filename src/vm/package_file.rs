//! Reads a package file, and names the file in every error about it.

use std::path::Path;

use crate::error::{Error, Result, Status};
use crate::os::{self, Errno};

/// Maximum size of a package file in bytes: an object may have 64 MiB, and base64 adds a third.
const MAX_FILE: usize = 128 << 20;

/// Reads a package file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    let name = path.to_string_lossy();
    let failed = |e: Errno| {
        let status = match e.0 {
            libc::ENOENT => Status::NotFound,
            libc::EACCES | libc::EPERM => Status::Perm,
            libc::ENOMEM => Status::NoMem,
            _ => Status::System,
        };
        Error::sys(status, e.0, e).about_file(&name)
    };
    let data = os::read_file(path, MAX_FILE).map_err(failed)?;
    if data.len() > MAX_FILE {
        let text = format!("too large for a package (at most {MAX_FILE} bytes)");
        return Err(Error::new(Status::Package, text).about_file(&name));
    }
    Ok(data)
}

/// Adds the path to the beginning of an error of [`Vm::open_file`](crate::Vm::open_file). The file is the subject if
/// its content is at fault and the error has no subject of its own.
pub(super) fn name_in(error: Error, path: &Path) -> Error {
    let name = path.to_string_lossy();
    let is_about_content = matches!(error.status(), Status::Package | Status::Unsupported);
    if is_about_content && error.subject().is_none() { error.about_file(&name) } else { error.at(name) }
}
