//! Reads an archive in the layout of BTFHub: DISTRIBUTION/VERSION/MACHINE/RELEASE.btf, or .btf.tar.xz as BTFHub publishes
//! them.

use std::path::{Path, PathBuf};
use std::process::Command;

use eunomia::package::machine;

use crate::error::{Error, Result};
use crate::files::temporary;

const PLAIN: &str = ".btf";
const PACKED: &str = ".btf.tar.xz";

/// The BTF of one kernel.
pub struct File {
    pub path: PathBuf,
    pub place: String,
    pub release: String,
    packed: bool,
}

/// The archive in the data directory of eunomia-bpf.
pub fn default_archive() -> PathBuf {
    let dir = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let shared = || dir("XDG_DATA_HOME").or_else(|| Some(dir("HOME")?.join(".local/share")));
    let data = dir("EUNOMIA_HOME").or_else(|| Some(shared()?.join("eunomia")));
    data.unwrap_or_default().join("btfhub-archive")
}

/// The files for a machine, sorted.
pub fn files(archive: &Path, arch: &str) -> Result<Vec<File>> {
    let mut files = Vec::new();
    for distribution in entries(archive)?.iter().filter(|path| path.is_dir()) {
        for version in entries(distribution)?.iter().filter(|path| path.is_dir()) {
            for dir in entries(version)?.iter().filter(|path| path.is_dir()) {
                if machine::name(&name(dir)) != arch {
                    continue;
                }
                let place = format!("{}/{}/{arch}", name(distribution), name(version));
                files.extend(entries(dir)?.into_iter().filter_map(|path| file(path, &place)));
            }
        }
    }
    // If both forms of a file exist, the plain one is used.
    files.dedup_by(|next, file| next.place == file.place && next.release == file.release);
    if files.is_empty() {
        return Err(format!(
            "{}: no BTF for {arch} found; expected DISTRIBUTION/VERSION/MACHINE/RELEASE{PLAIN} or {PACKED}, as in \
             https://github.com/aquasecurity/btfhub-archive",
            archive.display()
        )
        .into());
    }
    Ok(files)
}

fn file(path: PathBuf, place: &str) -> Option<File> {
    let name = name(&path);
    let (release, packed) = match name.strip_suffix(PACKED) {
        Some(release) => (release, true),
        None => (name.strip_suffix(PLAIN)?, false),
    };
    Some(File { place: place.into(), release: release.into(), packed, path })
}

impl File {
    /// Reads the BTF; unpacks it if necessary.
    pub fn read(&self) -> Result<Vec<u8>> {
        if !self.packed {
            return std::fs::read(&self.path).map_err(|error| Error::io(self.path.display(), &error));
        }
        let mut tar = Command::new("tar");
        tar.arg("-xJOf").arg(&self.path);
        let output = temporary::output(&mut tar).map_err(|error| Error::io("cannot run tar", &error))?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            let reason = stderr.lines().next().unwrap_or("tar failed").to_owned();
            return Err(format!("{}: cannot unpack: {reason}", self.path.display()).into());
        }
        Ok(output.stdout)
    }
}

/// The entries of a directory, sorted by name.
fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error| Error::io(dir.display(), &error);
    let entries = dir.read_dir().map_err(failed)?;
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<Vec<_>>>()
        .map_err(failed)?;
    paths.sort();
    Ok(paths)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
