//! The folder for headers: kept between runs where the user has a cache, else private to this run.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::files;
use crate::files::temporary::Temporary;

/// A folder to put headers in.
pub struct Cache {
    root: PathBuf,
    /// The same, if it is for this run only.
    _private: Option<Temporary>,
}

impl Cache {
    /// `$XDG_CACHE_HOME/libeunomia`, else `~/.cache/libeunomia`, else a folder under the temporary one. One that others
    /// could change is not used.
    pub fn open() -> Result<Cache> {
        for root in user_folders() {
            if fs::DirBuilder::new().recursive(true).mode(0o700).create(&root).is_err() {
                continue;
            }
            // A header that somebody else has put there would be compiled into what runs in the kernel.
            if let Err(why) = eunomia_owner::check(&root) {
                eprintln!("ecc: warning: {why}, so nothing is kept in {}", root.display());
            } else if files::write(&root.join(".writable"), b"").is_ok() {
                return Ok(Cache { root, _private: None });
            }
        }
        let private = Temporary::folder()?;
        Ok(Cache { root: private.path().into(), _private: Some(private) })
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes the file `name` (with folders) if it is not there with this content, and returns its path.
    pub fn keep(&self, name: &str, content: &[u8]) -> Result<PathBuf> {
        let path = self.root.join(name);
        if fs::read(&path).is_ok_and(|old| old == content) {
            return Ok(path);
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)
                .map_err(|error| Error::io(format_args!("cannot make {}", folder.display()), &error))?;
        }
        files::write(&path, content)?;
        Ok(path)
    }
}

fn user_folders() -> impl Iterator<Item = PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let folders = [absolute("XDG_CACHE_HOME"), absolute("HOME").map(|home| home.join(".cache"))];
    folders.into_iter().flatten().map(|folder| folder.join("libeunomia"))
}
