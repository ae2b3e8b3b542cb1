//! The directory for headers: kept between runs if the user has a cache directory, else private to this run.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::files;
use crate::files::temporary::Temporary;

/// A directory for headers.
pub struct Cache {
    root: PathBuf,
    /// Removes the directory if it is for this run only.
    _private: Option<Temporary>,
}

impl Cache {
    /// Opens `$XDG_CACHE_HOME/libeunomia`, else `~/.cache/libeunomia`, else a private temporary directory. A directory that
    /// other users can write to is not used.
    pub fn open() -> Result<Cache> {
        for root in user_dirs() {
            if fs::DirBuilder::new().recursive(true).mode(0o700).create(&root).is_err() {
                continue;
            }
            // A header that another user puts there would be compiled into code that runs in the kernel.
            if let Err(reason) = eunomia_owner::check(&root) {
                eprintln!("ecc: warning: {reason}; not using {} as the header cache", root.display());
            } else if files::write(&root.join(".writable"), b"").is_ok() {
                return Ok(Cache { root, _private: None });
            }
        }
        let private = Temporary::directory()?;
        Ok(Cache { root: private.path().into(), _private: Some(private) })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Writes the file `name` unless it exists with this content. Returns its path.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<PathBuf> {
        let path = self.root.join(name);
        if fs::read(&path).is_ok_and(|old| old == content) {
            return Ok(path);
        }
        files::create_dir(files::directory_of(&path))?;
        files::write(&path, content)?;
        Ok(path)
    }
}

fn user_dirs() -> impl Iterator<Item = PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let dirs = [absolute("XDG_CACHE_HOME"), absolute("HOME").map(|home| home.join(".cache"))];
    dirs.into_iter().flatten().map(|dir| dir.join("libeunomia"))
}
