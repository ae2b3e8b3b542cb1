//! The web configuration file, in the format of Prometheus: TLS, and users with passwords.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use bcrypt::HashParts;
use eunomia_agent::spec::digest;
use eunomia_agent::tls::{Files, Tls};
use serde::Deserialize;
use tokio::sync::Semaphore;

use crate::config::{parse, read_text};

/// Maximum cost of a hash. A check with it takes several seconds.
const MAX_COST: u32 = 16;

/// A web configuration.
pub struct Web {
    /// The server's end of TLS, if it is used.
    pub tls: Option<Tls>,
    /// The users.
    pub users: Arc<Users>,
    /// The files that it consists of.
    pub paths: Vec<PathBuf>,
}

/// The file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    tls_server_config: Option<TlsServer>,
    /// Names and bcrypt hashes.
    #[serde(default)]
    basic_auth_users: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TlsServer {
    cert_file: PathBuf,
    key_file: PathBuf,
    #[serde(default)]
    client_ca_file: Option<PathBuf>,
    #[serde(default)]
    client_auth_type: ClientAuth,
    /// The server speaks TLS 1.3 only, so every minimum is met.
    #[serde(default, rename = "min_version")]
    _min_version: Version,
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq)]
enum ClientAuth {
    #[default]
    NoClientCert,
    VerifyClientCertIfGiven,
    RequireAndVerifyClientCert,
}

#[derive(Default, Deserialize)]
enum Version {
    #[serde(rename = "TLS10")]
    One,
    #[serde(rename = "TLS11")]
    OneOne,
    #[default]
    #[serde(rename = "TLS12")]
    OneTwo,
    #[serde(rename = "TLS13")]
    OneThree,
}

impl Web {
    /// Reads a file. Paths in it are relative to its directory. The error is one line.
    pub fn read(path: &Path) -> Result<Web, String> {
        let failed = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
        eunomia_owner::check(path)?;
        let text = read_text(path).map_err(|why| failed(&why))?;
        let written: Written = parse(&text).map_err(|problem| failed(&problem))?;
        let users = Users::new(written.basic_auth_users).map_err(|why| failed(&why))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut paths = vec![path.to_owned()];
        let tls = written.tls_server_config.map(|tls| tls.open(folder, &mut paths)).transpose();
        Ok(Web { tls: tls.map_err(|why| failed(&why))?, users: Arc::new(users), paths })
    }
}

impl TlsServer {
    fn open(self, folder: &Path, paths: &mut Vec<PathBuf>) -> Result<Tls, String> {
        let files = Files { certificate: folder.join(self.cert_file), key: folder.join(self.key_file) };
        let clients = self.client_ca_file.map(|path| folder.join(path));
        match (self.client_auth_type, &clients) {
            (ClientAuth::NoClientCert, Some(_)) => {
                return Err("client_ca_file has no effect without client_auth_type, such as RequireAndVerifyClientCert".into());
            }
            (ClientAuth::NoClientCert, None) | (_, Some(_)) => {}
            (_, None) => {
                return Err("client_auth_type requires client_ca_file, the authorities of clients".into());
            }
        }
        paths.extend([files.certificate.clone(), files.key.clone()].into_iter().chain(clients.clone()));
        Tls::open(files, clients, self.client_auth_type == ClientAuth::RequireAndVerifyClientCert)
    }
}

/// Users and the hashes of their passwords.
pub struct Users {
    hashes: BTreeMap<String, String>,
    /// The hash that is checked for an unknown user, so that the check takes as long as for a known user.
    none: String,
    /// The last valid password of each user, as a digest with a random key. Comparing a hash takes long, and the same
    /// credentials come with each scrape.
    valid: Mutex<HashMap<String, String>>,
    key: [u64; 2],
    /// Lets one caller at a time compare a hash, so that wrong passwords use at most one CPU.
    turn: Semaphore,
}

impl Users {
    fn new(hashes: BTreeMap<String, String>) -> Result<Users, String> {
        let mut highest = 0;
        for (name, hash) in &hashes {
            let about = format!("basic_auth_users: the hash of {name:?}");
            let parts = HashParts::from_str(hash);
            let parts =
                parts.map_err(|error| format!("{about}: {error}; create one with htpasswd -nBC 10 USER"))?;
            highest = highest.max(parts.get_cost());
            if highest > MAX_COST {
                return Err(format!("{about} has a cost above {MAX_COST}"));
            }
            if name.is_empty() || name.contains(':') {
                return Err(format!(
                    "basic_auth_users: {name:?} is not a valid user name; it must not be empty or contain ':'"
                ));
            }
        }
        let random = || RandomState::new().hash_one(0);
        Ok(Users {
            hashes,
            none: format!("$2b${highest:02}$abcdefghijklmnopqrstuu5Lo0g67CiD3M4RpN1BmBb4Crp5w7dbK"),
            valid: Mutex::default(),
            key: [random(), random()],
            turn: Semaphore::new(1),
        })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Whether the password of a user is correct.
    pub async fn is_valid(self: Arc<Users>, user: &str, password: &[u8]) -> bool {
        let [one, other] = self.key.map(u64::to_ne_bytes);
        let seen = digest(&[&one, &other, password].concat());
        let is_known = |users: &Users| {
            let valid = users.valid.lock().unwrap_or_else(PoisonError::into_inner);
            valid.get(user).is_some_and(|known| *known == seen)
        };
        if is_known(&self) {
            return true;
        }
        let Ok(_turn) = self.turn.acquire().await else { return false };
        if is_known(&self) {
            return true;
        }
        let password = password.to_vec();
        let hash = self.hashes.get(user).unwrap_or(&self.none).clone();
        let compared = tokio::task::spawn_blocking(move || bcrypt::verify(&password, &hash).unwrap_or(false));
        let is_valid = compared.await.unwrap_or(false) && self.hashes.contains_key(user);
        if is_valid {
            let mut valid = self.valid.lock().unwrap_or_else(PoisonError::into_inner);
            valid.insert(user.to_owned(), seen);
        }
        is_valid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.yaml");
        std::fs::write(&path, text).unwrap();
        Web::read(&path).err().unwrap()
    }

    #[test]
    fn mistakes_are_explained() {
        for (text, expected) in [
            ("tls_config: {}", "line 1, column 1: unknown field `tls_config`"),
            ("tls_server_config: {cert_file: a}", "missing field `key_file`"),
            ("tls_server_config: {cert_file: a, key_file: b, min_version: TLS14}", "unknown variant `TLS14`"),
            (
                "tls_server_config: {cert_file: a, key_file: b, client_ca_file: c}",
                "has no effect without client_auth_type",
            ),
            (
                "tls_server_config: {cert_file: a, key_file: b, client_auth_type: RequireAndVerifyClientCert}",
                "client_auth_type requires client_ca_file",
            ),
            (
                "tls_server_config: {cert_file: a, key_file: b, client_auth_type: RequireAnyClientCert}",
                "unknown variant",
            ),
            ("tls_server_config: {cert_file: a, key_file: b}", "/a: "),
            ("basic_auth_users: {me: secret}", "the hash of \"me\": "),
            (
                "basic_auth_users: {'a:b': $2b$10$abcdefghijklmnopqrstuu5Lo0g67CiD3M4RpN1BmBb4Crp5w7dbK}",
                "\"a:b\" is not a valid user name",
            ),
            (
                "basic_auth_users: {me: $2b$17$abcdefghijklmnopqrstuu5Lo0g67CiD3M4RpN1BmBb4Crp5w7dbK}",
                "has a cost above 16",
            ),
        ] {
            let found = problem(text);
            assert!(found.contains(expected), "{text}: {found}");
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_password_is_known_once_it_was_valid() {
        let hash = bcrypt::hash("secret", 4).unwrap();
        let users = Arc::new(Users::new(BTreeMap::from([("me".to_owned(), hash)])).unwrap());
        for _ in 0..2 {
            assert!(Arc::clone(&users).is_valid("me", b"secret").await);
            assert!(!Arc::clone(&users).is_valid("me", b"other").await);
            assert!(!Arc::clone(&users).is_valid("you", b"secret").await);
        }
        assert_eq!(users.valid.lock().unwrap().len(), 1);
    }
}
