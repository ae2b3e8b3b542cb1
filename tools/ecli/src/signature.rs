//! Signatures of programs in the format of minisign. They are verified over the same bytes that run.
//!
//! Trusted keys are files in a directory. The signature of a program is `FILE.minisig`, the URL with that suffix, or a layer
//! of the image.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use minisign::{KeyPair, PublicKey, PublicKeyBox, SecretKey, SecretKeyBox, SignatureBox};

use crate::error::{Code, Failure, Result, say};
use crate::files::read_text;

/// Appended to the name of a program for the name of its signature.
pub const SIGNATURE_SUFFIX: &str = ".minisig";

/// The trusted keys.
pub struct Trust {
    keys: Vec<(PathBuf, PublicKey)>,
    folders: Vec<PathBuf>,
}

impl Trust {
    /// Reads the keys, `*.pub`, in a directory. Without one, it reads those in `$XDG_CONFIG_HOME/libeunomia/trusted` (or
    /// `~/.config/libeunomia/trusted`) and `/etc/libeunomia/trusted`. A directory or key that another user could modify is
    /// refused; of the two default directories, the other one is still used.
    pub fn open(folder: Option<&Path>) -> Result<Trust> {
        let folders = match folder {
            Some(folder) => {
                private(folder)?;
                vec![folder.to_owned()]
            }
            None => default_folders(),
        };
        let mut keys = Vec::new();
        for path in folders.iter().flat_map(|folder| keys_in(folder)) {
            keys.push((path.clone(), public_key(&path)?));
        }
        Ok(Trust { keys, folders })
    }

    /// Trusts only this key.
    pub fn only(path: &Path) -> Result<Trust> {
        Ok(Trust { keys: vec![(path.to_owned(), public_key(path)?)], folders: Vec::new() })
    }

    /// Verifies that `signature` is a signature of these bytes by a trusted key. Returns the key and the trusted comment.
    pub fn check(&self, name: &str, bytes: &[u8], signature: Option<&str>) -> Result<String> {
        let refused = |why: String| Failure::new(Code::Source, format_args!("{name}: {why}"));
        let signature = signature.ok_or_else(|| {
            refused("not signed: no .minisig file found; the author can create one with `ecli sign`".into())
        })?;
        let signature = SignatureBox::from_string(signature)
            .map_err(|why| refused(format!("invalid signature file: {why}")))?;
        let Some((path, key)) = self.keys.iter().find(|(_, key)| key.keynum() == signature.keynum()) else {
            return Err(refused(format!("signed by key {}, {}", id(signature.keynum()), self.trusted())));
        };
        minisign::verify(key, &signature, std::io::Cursor::new(bytes), true, false, false).map_err(|_| {
            refused(format!(
                "its signature by key {} does not match: the file or the signature was modified",
                id(key.keynum())
            ))
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

/// Generates a key pair. Without a password, anyone who can read the file can use the secret key.
pub fn generate(public: &Path, secret: &Path, password: Option<String>) -> Result<String> {
    let failed =
        |why: minisign::PError| Failure::new(Code::Failed, format_args!("cannot generate keys: {why}"));
    let pair = match password {
        Some(password) => KeyPair::generate_encrypted_keypair(Some(password)),
        None => KeyPair::generate_unencrypted_keypair(),
    };
    let pair = pair.map_err(failed)?;
    let secret_text = pair.sk.to_box(None).map_err(failed)?.into_string();
    let public_text = pair.pk.to_box().map_err(failed)?.into_string();
    // An existing key is never overwritten: it may be the only copy.
    create(secret, 0o600, &secret_text)?;
    create(public, 0o644, &public_text)?;
    Ok(id(pair.pk.keynum()))
}

/// A secret key in its file.
pub struct Secret {
    path: PathBuf,
    text: String,
    bytes: Vec<u8>,
}

impl Secret {
    /// Reads the file. Its key may be encrypted with a password.
    pub fn open(path: &Path) -> Result<Secret> {
        let text = read_text(path).map_err(|failure| match path.exists() {
            true => failure,
            false => failure.at_end("; create a key pair with `ecli keygen`"),
        })?;
        let bytes = text.lines().nth(1).and_then(|line| STANDARD.decode(line.trim()).ok());
        let bytes = bytes.filter(|bytes| bytes.len() > KDF.end).ok_or_else(|| {
            Failure::new(
                Code::Source,
                format_args!("{}: not a secret key of ecli or minisign", path.display()),
            )
        })?;
        Ok(Secret { path: path.to_owned(), text, bytes })
    }

    /// Whether using it requires a password.
    pub fn is_locked(&self) -> bool {
        self.bytes[KDF] != [0, 0]
    }

    /// Signs the bytes and the comment.
    pub fn sign(&self, password: Option<String>, bytes: &[u8], comment: &str) -> Result<String> {
        let wrong = |why: minisign::PError| {
            Failure::new(Code::Source, format_args!("{}: {why}", self.path.display()))
        };
        let key = if self.is_locked() {
            SecretKeyBox::from_string(&self.text).and_then(|key| key.into_secret_key(password))
        } else {
            // minisign writes no checksum into such a key, but SecretKeyBox requires one.
            SecretKey::from_bytes(&self.bytes)
        };
        let signed =
            minisign::sign(None, &key.map_err(wrong)?, std::io::Cursor::new(bytes), Some(comment), None);
        Ok(signed.map_err(wrong)?.into_string())
    }
}

/// The bytes of a secret key that name the key derivation function; zero without a password.
const KDF: std::ops::Range<usize> = 2..4;

fn default_folders() -> Vec<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let user = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")));
    let folders = [user, Some("/etc".into())].into_iter().flatten();
    let folders = folders.map(|folder| folder.join("libeunomia/trusted"));
    folders
        .filter(|folder| {
            private(folder).map_err(|failure| say(format_args!("warning: {}", failure.text()))).is_ok()
        })
        .collect()
}

/// Refuses a key or directory of keys that another user could modify.
fn private(path: &Path) -> Result<()> {
    eunomia_owner::check(path).map_err(|why| {
        let text = format!(
            "{why}, so no key in {} is trusted; restrict access with chown and chmod",
            path.display()
        );
        Failure::new(Code::Source, text)
    })
}

fn keys_in(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut keys: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|end| end == "pub")).collect();
    keys.sort();
    keys
}

fn public_key(path: &Path) -> Result<PublicKey> {
    private(path)?;
    PublicKeyBox::from_string(&read_text(path)?)
        .and_then(PublicKeyBox::into_public_key)
        .map_err(|why| Failure::new(Code::Source, format_args!("{}: {why}", path.display())))
}

fn create(path: &Path, mode: u32, text: &str) -> Result<()> {
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| Failure::io(Code::Output, path.display(), &error))
}

/// The id of a key, as minisign prints it.
fn id(keynum: &[u8]) -> String {
    keynum.iter().rev().map(|byte| format!("{byte:02X}")).collect()
}

/// Reads the signature of a file, if there is one.
pub fn signature_beside(file: &Path) -> Result<Option<String>> {
    let path = with_signature_suffix(file);
    if let Ok(false) = path.try_exists() { Ok(None) } else { read_text(&path).map(Some) }
}

/// The path of the signature of a file.
pub fn with_signature_suffix(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(SIGNATURE_SUFFIX);
    name.into()
}
