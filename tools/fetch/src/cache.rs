//! Caches downloads. The server decides whether a cached copy is current.
//!
//! The cache is a directory with two files per URL, named by the digest of the URL: the content, and a JSON file about it.
//! The JSON file holds the digest of the content, so that truncated or modified content is not used.

use std::fs;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Once;

use serde_json::{Value, json};

use crate::download::sha256;
use crate::error::say;
use crate::http::Validators;
use crate::location::without_password;

/// The cache directory.
pub struct Cache {
    folder: PathBuf,
}

/// A cached download.
pub struct Kept {
    /// Its content.
    pub bytes: Vec<u8>,
    /// The validators with which the server can check whether the copy is current.
    pub validators: Validators,
}

/// One cached download in a list.
pub struct Entry {
    /// Its URL.
    pub url: String,
    /// Its size in bytes.
    pub len: u64,
}

impl Cache {
    /// Opens `$EUNOMIA_HOME/cache`, `$XDG_CACHE_HOME/libeunomia/ecli` or `~/.cache/libeunomia/ecli`. Returns `None` if the
    /// directory cannot be created or another user could modify its files.
    pub fn open() -> Option<Cache> {
        let absolute =
            |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = absolute("EUNOMIA_HOME").map(|home| home.join("cache"));
        let own = |folder: PathBuf| folder.join("libeunomia/ecli");
        let user = || absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache"))).map(own);
        let folder = home.or_else(user)?;
        // The content may run as root, so no other user may modify it.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).ok()?;
        match eunomia_owner::check(&folder) {
            Ok(()) => Some(Cache { folder }),
            Err(why) => {
                static ONCE: Once = Once::new();
                ONCE.call_once(|| {
                    say(format_args!(
                        "warning: {why}, so downloads are not cached; set EUNOMIA_HOME to a directory of your own"
                    ));
                });
                None
            }
        }
    }

    /// Returns the cached download of a URL if it is intact.
    pub fn find(&self, url: &str) -> Option<Kept> {
        let (content, about) = self.paths(url);
        let about: Value = serde_json::from_slice(&fs::read(about).ok()?).ok()?;
        let text = |key: &str| about[key].as_str().map(str::to_owned);
        let bytes = fs::read(content).ok()?;
        let is_whole =
            about["sha256"].as_str() == Some(&sha256(&bytes)) && about["url"].as_str() == Some(url);
        let validators = Validators { etag: text("etag"), last_modified: text("last_modified") };
        is_whole.then_some(Kept { bytes, validators })
    }

    /// Stores a download. A failure is only logged.
    pub fn keep(&self, url: &str, bytes: &[u8], validators: &Validators) {
        let (content, about) = self.paths(url);
        let Validators { etag, last_modified } = validators;
        let facts = json!({
            "url": url, "sha256": sha256(bytes), "len": bytes.len(), "etag": etag, "last_modified": last_modified
        });
        let kept = write(&content, bytes).and_then(|()| write(&about, facts.to_string().as_bytes()));
        if let Err(error) = kept {
            let folder = self.folder.display();
            say(format_args!("{folder}: cannot cache the download: {error}"));
        }
    }

    /// All cached downloads, sorted by URL.
    pub fn list(&self) -> Vec<Entry> {
        let files = fs::read_dir(&self.folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let entry = |path: PathBuf| {
            let about: Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
            Some(Entry {
                url: without_password(about["url"].as_str()?).into_owned(),
                len: about["len"].as_u64()?,
            })
        };
        let about = files.filter(|path| path.extension().is_some_and(|end| end == "json"));
        let mut entries: Vec<Entry> = about.filter_map(entry).collect();
        entries.sort_by(|a, b| a.url.cmp(&b.url));
        entries
    }

    fn paths(&self, url: &str) -> (PathBuf, PathBuf) {
        let name = sha256(url.as_bytes());
        (self.folder.join(&name), self.folder.join(name + ".json"))
    }
}

/// Writes a file atomically.
fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut draft = tempfile::NamedTempFile::new_in(folder)?;
    draft.write_all(bytes)?;
    draft.persist(path)?;
    Ok(())
}
