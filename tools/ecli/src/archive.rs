//! Tar archives: a package, and BTF files for kernels without BTF.
//!
//! An archive may be a download, so it is not trusted. It is unpacked into a temporary directory: regular files and
//! directories only, nothing outside of it, with limits on number and size.

use std::io::Read;
use std::path::{Component, Path, PathBuf};

use tar::{Archive, EntryType};
use tempfile::TempDir;

use crate::error::{Code, Failure, Result};
use crate::files::MAX_BYTES;

const MAX_ENTRIES: usize = 100_000;
const PACKAGE: &str = "package.json";
const BTF_FOLDER: &str = "btfhub-archive";

/// An unpacked archive. Dropping it removes the files.
pub struct Unpacked {
    folder: TempDir,
}

impl Unpacked {
    /// Unpacks the archive called `name`.
    pub fn new(bytes: &[u8], name: &str) -> Result<Unpacked> {
        let folder = tempfile::Builder::new().prefix("ecli-").tempdir();
        let folder =
            folder.map_err(|e| Failure::io(Code::Failed, "cannot create a temporary directory", &e))?;
        unpack(bytes, folder.path())
            .map_err(|why| Failure::new(Code::Source, format_args!("{name}: {why}")))?;
        Ok(Unpacked { folder })
    }

    /// Reads the package.
    pub fn package(&self) -> Result<Vec<u8>> {
        let path = self.folder.path().join(PACKAGE);
        let missing =
            || Failure::new(Code::Source, format_args!("the archive has no {PACKAGE} at the top level"));
        std::fs::read(path).map_err(|_| missing())
    }

    /// The directory of BTF files, if there is one.
    pub fn btf(&self) -> Option<PathBuf> {
        let path = self.folder.path().join(BTF_FOLDER);
        path.is_dir().then_some(path)
    }
}

fn unpack(bytes: &[u8], folder: &Path) -> Result<(), String> {
    let broken = |e: std::io::Error| format!("invalid tar archive: {e}");
    let mut left = MAX_BYTES as u64;
    for (count, entry) in Archive::new(bytes).entries().map_err(broken)?.enumerate() {
        let mut entry = entry.map_err(broken)?;
        let name = entry.path().map_err(broken)?.into_owned();
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader | EntryType::XHeader) {
            continue;
        }
        let path = inside(&name).ok_or_else(|| format!("entry {name:?} is outside of the archive"))?;
        left = left
            .checked_sub(entry.size())
            .filter(|_| count < MAX_ENTRIES)
            .ok_or_else(|| format!("unpacks to more than {MAX_BYTES} bytes or {MAX_ENTRIES} files"))?;
        let path = folder.join(path);
        let written = match kind {
            EntryType::Directory => std::fs::create_dir_all(&path),
            EntryType::Regular | EntryType::Continuous => write(&mut entry, &path),
            _ => return Err(format!("entry {name:?} is not a regular file or directory")),
        };
        written.map_err(|e| format!("entry {name:?}: {e}"))?;
    }
    Ok(())
}

/// Normalizes a relative path. Returns `None` if it leads out of the directory.
fn inside(name: &Path) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for part in name.components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(path)
}

fn write(from: &mut impl Read, path: &Path) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::io::copy(from, &mut std::fs::File::create(path)?).map(drop)
}
