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
