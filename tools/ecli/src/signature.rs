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
use eunomia_signature::{id, private};
use minisign::{KeyPair, SecretKey, SecretKeyBox};

use crate::error::{Code, Failure, Result, say};
use crate::files::read_text;

/// The trusted keys.
pub struct Trust(eunomia_signature::Trust);

impl Trust {
    /// Reads the keys, `*.pub`, in a directory. Without one, it reads those in `$XDG_CONFIG_HOME/libeunomia/trusted` (or
    /// `~/.config/libeunomia/trusted`) and `/etc/libeunomia/trusted`. A directory or key that another user could modify is
    /// refused; of the two default directories, the other one is still used.
    pub fn open(folder: Option<&Path>) -> Result<Trust> {
        let folders = folder.map_or_else(default_folders, |folder| vec![folder.to_owned()]);
        eunomia_signature::Trust::open(folders).map(Trust).map_err(untrusted)
    }

    /// Trusts only this key.
    pub fn only(path: &Path) -> Result<Trust> {
        eunomia_signature::Trust::only(path).map(Trust).map_err(untrusted)
    }

    /// Verifies that `signature` is a signature of these bytes by a trusted key. Returns the key and the trusted comment.
    pub fn check(&self, name: &str, bytes: &[u8], signature: Option<&str>) -> Result<String> {
        self.0.check(bytes, signature).map_err(|why| untrusted(why).at(name))
    }
}

fn untrusted(why: String) -> Failure {
    Failure::new(Code::Source, why)
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
        .filter(|folder| private(folder).map_err(|why| say(format_args!("warning: {why}"))).is_ok())
        .collect()
}

fn create(path: &Path, mode: u32, text: &str) -> Result<()> {
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| Failure::io(Code::Output, path.display(), &error))
}

/// Reads the signature of a file, if there is one.
pub fn signature_beside(file: &Path) -> Result<Option<String>> {
    eunomia_signature::beside(file).map_err(untrusted)
}
