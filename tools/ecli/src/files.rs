//! Reading files of bounded size.

use std::fmt::Display;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::Path;

use crate::error::{Code, Failure, Result};

/// Size limit of a program: the limit of the library plus space for a directory of BTF files.
pub const MAX_BYTES: usize = 512 << 20;

/// Reads a program file.
pub fn read_file(path: &str) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(|error| Failure::io(Code::Source, path, &error))?;
    read_opened(file, path)
}

/// Reads a program file that has been opened.
pub fn read_opened(file: File, path: &str) -> Result<Vec<u8>> {
    let failed = |e: io::Error| Failure::io(Code::Source, path, &e);
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(Failure::new(
            Code::Source,
            format_args!("{path}: is a directory; specify a file in it{}", hint(path)),
        ));
    }
    if is_too_large(&metadata) {
        return Err(failed(too_large()));
    }
    read_all(file).map_err(failed)
}

/// Names a package in a directory.
fn hint(directory: &str) -> String {
    let found = ["package.json", "app.wasm"].iter().map(|name| Path::new(directory).join(name));
    let found = found.filter(|path| path.exists()).map(|path| format!(", such as {}", path.display()));
    found.into_iter().next().unwrap_or_default()
}

fn is_too_large(metadata: &Metadata) -> bool {
    metadata.is_file() && metadata.len() > MAX_BYTES as u64
}

fn too_large() -> io::Error {
    io::Error::other(format!("larger than {MAX_BYTES} bytes"))
}

/// Reads a program up to the end of file.
pub fn read_all(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_BYTES { Err(too_large()) } else { Ok(bytes) }
}

/// Reads a key or a signature.
pub fn read_text(path: &Path) -> Result<String> {
    let file = File::open(path).map_err(|error| Failure::io(Code::Source, path.display(), &error))?;
    read_opened_text(file, path.display())
}

/// Reads a key or a signature that has been opened.
pub fn read_opened_text(file: File, path: impl Display) -> Result<String> {
    const MOST: u64 = 64 << 10;
    let read = || {
        let mut text = String::new();
        file.take(MOST + 1).read_to_string(&mut text)?;
        let is_too_large = text.len() as u64 > MOST;
        if is_too_large { Err(io::Error::other(format!("more than {MOST} bytes"))) } else { Ok(text) }
    };
    read().map_err(|error| Failure::io(Code::Source, path, &error))
}
