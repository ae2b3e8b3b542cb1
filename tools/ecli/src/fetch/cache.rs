//! Downloads are kept, and the server is asked whether they are still what it has.
//!
//! A folder of two files for each URL, named by the URL's digest: the content, and what is known of it. The content's own
//! digest is part of that, so that a file that was cut short or changed is not taken for the download.

use std::fs;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Once;

use serde_json::{Value, json};

use super::http::Validators;
use super::place::without_password;
use super::sha256;
use crate::error::say;

/// The folder of downloads.
pub struct Cache {
    folder: PathBuf,
}

/// A download of before.
pub struct Kept {
    /// Its content.
    pub bytes: Vec<u8>,
    /// What to ask the server with.
    pub validators: Validators,
}

/// A line about a download of before.
pub struct Entry {
    /// Where it came from.
    pub url: String,
    /// Its content has so many bytes.
    pub len: u64,
}

impl Cache {
    /// `$EUNOMIA_HOME/cache`, else `$XDG_CACHE_HOME/libeunomia/ecli`, else the same under `~/.cache`; `None` where there is
    /// no such folder and none can be made, or where others could change what is in it.
    pub fn open() -> Option<Cache> {
        let absolute =
            |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = absolute("EUNOMIA_HOME").map(|home| home.join("cache"));
        let own = |folder: PathBuf| folder.join("libeunomia/ecli");
        let user = || absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache"))).map(own);
        let folder = home.or_else(user)?;
        // What is run as root must not be for others to change.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).ok()?;
        match eunomia_owner::check(&folder) {
            Ok(()) => Some(Cache { folder }),
            Err(why) => {
                static ONCE: Once = Once::new();
                ONCE.call_once(|| {
                    say(format_args!(
                        "warning: {why}, so downloads are not kept; EUNOMIA_HOME can name a folder of your own"
                    ));
                });
                None
            }
        }
    }

    /// What is kept of a URL, if it is whole.
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

    /// Keeps a download. That it cannot be kept is no reason not to run it.
    pub fn keep(&self, url: &str, bytes: &[u8], validators: &Validators) {
        let (content, about) = self.paths(url);
        let Validators { etag, last_modified } = validators;
        let facts = json!({
            "url": url, "sha256": sha256(bytes), "len": bytes.len(), "etag": etag, "last_modified": last_modified
        });
        let kept = write(&content, bytes).and_then(|()| write(&about, facts.to_string().as_bytes()));
        if let Err(error) = kept {
            let folder = self.folder.display();
            say(format_args!("{folder} cannot be written, so the download is not kept: {error}"));
        }
    }

    /// All that is kept, by URL.
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

/// A file that is there whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut draft = tempfile::NamedTempFile::new_in(folder)?;
    draft.write_all(bytes)?;
    draft.persist(path)?;
    Ok(())
}
