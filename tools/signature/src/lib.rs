//! Verifies signatures of programs, in the format of minisign, over the same bytes that run.
//!
//! Trusted keys are files, `*.pub`, in a directory. A directory or key that another user could modify is refused. Errors are
//! one line.

use std::fs::{self, File};
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use minisign::{PublicKey, PublicKeyBox, SignatureBox};

/// The suffix of a signature's file name, after the name of the program.
pub const SUFFIX: &str = ".minisig";

/// Maximum size of the file of a key or a signature, in bytes.
const MAX_FILE: u64 = 64 << 10;

/// The trusted keys.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    keys: Vec<(PathBuf, PublicKey)>,
    folders: Vec<PathBuf>,
}

impl Trust {
    /// Reads the keys in these directories.
    pub fn open(folders: Vec<PathBuf>) -> Result<Trust, String> {
        let mut keys = Vec::new();
        for folder in &folders {
            private(folder)?;
            for path in keys_in(folder) {
                keys.push((path.clone(), public_key(&path)?));
            }
        }
        Ok(Trust { keys, folders })
    }

    /// Trusts only this key.
    pub fn only(path: &Path) -> Result<Trust, String> {
        Ok(Trust { keys: vec![(path.to_owned(), public_key(path)?)], folders: Vec::new() })
    }

    /// Verifies that `signature` is a signature of these bytes by a trusted key. Returns the key and the trusted comment.
    pub fn check(&self, bytes: &[u8], signature: Option<&str>) -> Result<String, String> {
        let signature = signature
            .ok_or("not signed: no .minisig file found; the author can create one with `ecli sign`")?;
        let signature =
            SignatureBox::from_string(signature).map_err(|why| format!("invalid signature file: {why}"))?;
        let Some((path, key)) = self.keys.iter().find(|(_, key)| key.keynum() == signature.keynum()) else {
            return Err(format!("signed by key {}, {}", id(signature.keynum()), self.trusted()));
        };
        minisign::verify(key, &signature, Cursor::new(bytes), true, false, false).map_err(|_| {
            let id = id(key.keynum());
            format!("its signature by key {id} does not match: the file or the signature was modified")
        })?;
        let comment = signature.trusted_comment().unwrap_or_default();
        Ok(format!("signed by {} ({}), {comment}", path.display(), id(key.keynum())))
    }

    fn trusted(&self) -> String {
        let folders: Vec<_> = self.folders.iter().map(|folder| folder.display().to_string()).collect();
        match (self.keys.len(), folders.is_empty()) {
            (_, true) => "not by the given key".into(),
            (0, _) => format!(
                "but no key is trusted; put trusted public keys (*.pub) into {}",
                folders.join(" or ")
            ),
            (count, _) => format!("which is not among the {count} trusted keys in {}", folders.join(" and ")),
        }
    }
}

/// Refuses a key or directory of keys that another user could modify.
pub fn private(path: &Path) -> Result<(), String> {
    eunomia_owner::check(path).map_err(|why| {
        format!("{why}, so no key in {} is trusted; restrict access with chown and chmod", path.display())
    })
}

/// The id of a key, as minisign prints it.
pub fn id(keynum: &[u8]) -> String {
    keynum.iter().rev().map(|byte| format!("{byte:02X}")).collect()
}

fn keys_in(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut keys: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|end| end == "pub")).collect();
    keys.sort();
    keys
}

fn public_key(path: &Path) -> Result<PublicKey, String> {
    private(path)?;
    PublicKeyBox::from_string(&read(path)?)
        .and_then(PublicKeyBox::into_public_key)
        .map_err(|why| format!("{}: {why}", path.display()))
}

/// Reads a key or a signature.
fn read(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_string(&mut text));
    read.map_err(|error| eunomia_owner::failure(path, &error))?;
    match text.len() as u64 > MAX_FILE {
        true => Err(format!("{}: more than {MAX_FILE} bytes", path.display())),
        false => Ok(text),
    }
}

/// Reads the signature of a file, if there is one.
pub fn beside(file: &Path) -> Result<Option<String>, String> {
    let path = path_of(file);
    if let Ok(false) = path.try_exists() { Ok(None) } else { read(&path).map(Some) }
}

/// The path of the signature of a file.
pub fn path_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(SUFFIX);
    name.into()
}
