//! `NAME.tar`: a package with kernel BTF, for loaders that expect both in an archive.

use std::io;
use std::path::Path;

use tar::{Builder, Header};

use crate::btfgen;
use crate::compile::{Compiled, PACKAGE};
use crate::error::{Error, Result};

/// The archive: the package, the object, and kernel BTF in the directories of a BTFHub archive.
pub fn archive(compiled: &Compiled, json: &[u8]) -> Result<Vec<u8>> {
    let mut object = compiled.name.clone();
    object.push(".bpf.o");
    let failed = |error: io::Error| Error::io("the archive", &error);
    let mut archive = Builder::new(Vec::new());
    add(&mut archive, Path::new(PACKAGE), json).map_err(failed)?;
    add(&mut archive, Path::new(&object), &compiled.package.object).map_err(failed)?;
    for (path, btf) in btfgen::tree(&compiled.kernels) {
        add(&mut archive, Path::new(&path), btf).map_err(failed)?;
    }
    archive.into_inner().map_err(failed)
}

/// Adds a file without owner and time, so that the same input gives the same bytes.
fn add(archive: &mut Builder<Vec<u8>>, path: &Path, content: &[u8]) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(0);
    archive.append_data(&mut header, path, content)
}
