//! Files that appear whole or not at all.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::{Error, Result};

/// A file that is written but does not bear its name yet; dropped, it is gone.
pub struct Draft {
    draft: PathBuf,
    path: PathBuf,
}

impl Draft {
    /// Writes `bytes` beside `path`, in the same file system.
    pub fn write(path: &Path, bytes: &[u8]) -> Result<Draft> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mut name = std::ffi::OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(format!(".{}.{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
        let draft = Draft { draft: path.with_file_name(name), path: path.into() };
        fs::File::create_new(&draft.draft)
            .and_then(|mut file| file.write_all(bytes))
            .map_err(|error| draft.error(&error))?;
        Ok(draft)
    }

    /// Gives the file its name.
    pub fn publish(self) -> Result<()> {
        fs::rename(&self.draft, &self.path).map_err(|error| self.error(&error))
    }

    fn error(&self, error: &std::io::Error) -> Error {
        Error::io(format_args!("cannot write {}", self.path.display()), error)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After publish there is nothing left under this name.
        let _ = fs::remove_file(&self.draft);
    }
}

/// Writes one file.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    Draft::write(path, bytes)?.publish()
}

/// Writes files of `folder`, all of them or none, and says so if asked.
pub fn write_all(folder: &Path, files: &[(PathBuf, Vec<u8>)], verbose: bool) -> Result<()> {
    fs::create_dir_all(folder)
        .map_err(|error| Error::io(format_args!("cannot make the folder {}", folder.display()), &error))?;
    let drafts = files.iter().map(|(path, bytes)| Draft::write(path, bytes));
    let drafts: Vec<_> = drafts.collect::<Result<_>>()?;
    drafts.into_iter().try_for_each(Draft::publish)?;
    if verbose {
        files.iter().for_each(|(path, bytes)| eprintln!("ecc: {}: {} bytes", path.display(), bytes.len()));
    }
    Ok(())
}
