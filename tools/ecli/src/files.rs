//! Reading files of bounded size.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::Path;

use crate::error::{Code, Failure, Result};

/// Bytes of the largest program; what the library takes, and a folder of BTF files beside it.
pub const MAX_BYTES: usize = 512 << 20;

/// The content of a file.
pub fn read_file(path: &str) -> Result<Vec<u8>> {
    let failed = |e: io::Error| Failure::io(Code::Source, path, &e);
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(Failure::new(
            Code::Source,
            format_args!("{path}: a folder; name a file in it{}", hint(path)),
        ));
    }
    if is_too_large(&metadata) {
        return Err(failed(too_large()));
    }
    read_all(file).map_err(failed)
}

/// A package that lies in a folder.
fn hint(folder: &str) -> String {
    let found = ["package.json", "app.wasm"].iter().map(|name| Path::new(folder).join(name));
    let found = found.filter(|path| path.exists()).map(|path| format!(", for example {}", path.display()));
    found.into_iter().next().unwrap_or_default()
}

fn is_too_large(metadata: &Metadata) -> bool {
    metadata.is_file() && metadata.len() > MAX_BYTES as u64
}

fn too_large() -> io::Error {
    io::Error::other(format!("too large for a program (at most {MAX_BYTES} bytes)"))
}

/// Everything up to the end, if that is no more than a program may have.
pub fn read_all(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_BYTES { Err(too_large()) } else { Ok(bytes) }
}

/// The content of a key or a signature: a few lines.
pub fn read_text(path: &Path) -> Result<String> {
    const MOST: u64 = 64 << 10;
    let read = || {
        let mut text = String::new();
        File::open(path)?.take(MOST + 1).read_to_string(&mut text)?;
        let is_too_large = text.len() as u64 > MOST;
        if is_too_large { Err(io::Error::other(format!("more than {MOST} bytes"))) } else { Ok(text) }
    };
    read().map_err(|error| Failure::io(Code::Source, path.display(), &error))
}
