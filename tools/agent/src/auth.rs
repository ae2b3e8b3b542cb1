//! Determines what a caller may do: by the user at the other end of the unix socket, or by the token of a request.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, StatusCode, header};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::error::{ApiError, Result};
use crate::http::Peer;

/// Maximum size of the file of tokens, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// The role of a caller; each role includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// List tasks and read their events.
    Read,
    /// Start, change and stop tasks. Programs in the kernel can do what root can, so this role is equal to root.
    Operate,
    /// At present, this role has the same rights as `Operate`.
    Admin,
}

impl Role {
    /// Returns its name.
    pub fn word(self) -> &'static str {
        match self {
            Role::Read => "read",
            Role::Operate => "operate",
            Role::Admin => "admin",
        }
    }

    fn from_word(word: &str) -> Option<Role> {
        [Role::Read, Role::Operate, Role::Admin].into_iter().find(|role| role.word() == word)
    }
}

/// Determines the roles of callers.
#[derive(Default)]
pub struct Auth {
    tokens: Option<Tokens>,
    /// Whether every caller over TCP may do everything.
    is_open: bool,
}

/// A file with the digests of tokens.
struct Tokens {
    path: PathBuf,
    read: Mutex<Option<(Stamp, Arc<List>)>>,
}

/// The lines of a file, or why it cannot be used.
type List = Result<Vec<(Role, Proof)>, String>;

/// The proof of a caller's identity.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Proof {
    /// A token with this digest.
    Token([u8; 32]),
    /// A certificate with this DNS name.
    Certificate(String),
}

/// Changes when a file is written or replaced.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    size: u64,
    changed: (i64, i64),
}

impl Auth {
    /// Reads tokens from `path`, and reads them again whenever the file changes. If `is_open`, callers need no token.
    pub fn new(path: Option<PathBuf>, is_open: bool) -> Result<Auth, String> {
        let auth = Auth { tokens: path.map(|path| Tokens { path, read: Mutex::default() }), is_open };
        auth.check()?;
        Ok(auth)
    }

    /// Checks that the file of tokens can be used. The error is one line.
    pub fn check(&self) -> Result<(), String> {
        self.tokens.as_ref().map_or(Ok(()), |tokens| (*tokens.list()).clone().map(drop))
    }

    /// The role of a caller. `names` are those in its certificate.
    pub fn role(&self, peer: Peer, names: &[String], headers: &HeaderMap) -> Result<Role> {
        match peer {
            Peer::Local { uid: 0 } => Ok(Role::Admin),
            // The mode of the socket lets in its owner and its group.
            Peer::Local { .. } => match self.token(headers)? {
                Some(role) => Ok(role),
                None => Ok(Role::Read),
            },
            Peer::Network(_) if self.is_open => Ok(Role::Admin),
            Peer::Network(_) => match self.token(headers)? {
                Some(role) => Ok(role),
                None => self.certificate(names)?.ok_or_else(|| refuse(names)),
            },
        }
    }

    /// The role of a caller with these names in its certificate; `None` if the file has none for them.
    fn certificate(&self, names: &[String]) -> Result<Option<Role>> {
        let Some(tokens) = self.tokens.as_ref().filter(|_| !names.is_empty()) else { return Ok(None) };
        let list = tokens.list();
        let lines = list.as_ref().as_ref().map_err(|why| unusable(why))?;
        let is_own = |proof: &Proof| matches!(proof, Proof::Certificate(name) if names.contains(name));
        Ok(lines.iter().filter(|(_, proof)| is_own(proof)).map(|(role, _)| *role).max())
    }

    /// The role of the token of a request; `None` if it has none.
    fn token(&self, headers: &HeaderMap) -> Result<Option<Role>> {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(ApiError::invalid("more than one Authorization header"));
        }
        let token = value.to_str().ok().and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("Bearer").then(|| token.trim())
        });
        let Some(token) = token.filter(|token| !token.is_empty()) else {
            return Err(unauthorized("the Authorization header is not \"Bearer TOKEN\""));
        };
        let Some(tokens) = &self.tokens else {
            return Err(unauthorized("the server has no tokens").hint("start it with --tokens FILE"));
        };
        match &*tokens.list() {
            Ok(list) => find(list, token).map(Some).ok_or_else(|| unauthorized("the token is not valid")),
            Err(why) => Err(unusable(why)),
        }
    }
}

fn unusable(why: &str) -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "tokens", why)
}

/// The error for a caller without a token.
fn refuse(names: &[String]) -> ApiError {
    if names.is_empty() {
        return unauthorized("a token is required")
            .hint("send the header \"Authorization: Bearer TOKEN\"; clients of the former ecli-server cannot, and need a server with --insecure-no-auth");
    }
    let names = names.join(", ");
    unauthorized(&format!("there is no role for the certificate of {names}"))
        .hint("add a line \"ROLE cert:NAME\" to the file of tokens, or send a token")
}

fn unauthorized(text: &str) -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", text).header("WWW-Authenticate", "Bearer")
}

/// Compares with all tokens, in a time that does not depend on which of them is found.
fn find(list: &[(Role, Proof)], token: &str) -> Option<Role> {
    let digest: [u8; 32] = Sha256::digest(token).into();
    let mut found = None;
    for (role, proof) in list {
        let Proof::Token(known) = proof else { continue };
        let is_same: Choice = known.ct_eq(&digest);
        if bool::from(is_same) {
            found = Some(*role);
        }
    }
    found
}

impl Tokens {
    fn list(&self) -> Arc<List> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = Stamp::of(&self.path);
        if let (Some((known, list)), Ok(stamp)) = (&*read, &stamp)
            && known == stamp
        {
            return Arc::clone(list);
        }
        // While the file cannot be read, no token is valid: a token that was removed from it must not stay valid.
        let list = Arc::new(read_tokens(&self.path).map_err(|why| format!("{}: {why}", self.path.display())));
        *read = stamp.ok().map(|stamp| (stamp, Arc::clone(&list)));
        list
    }
}

impl Stamp {
    fn of(path: &Path) -> std::io::Result<Stamp> {
        let about = fs::metadata(path)?;
        let changed = (about.ctime(), about.ctime_nsec());
        Ok(Stamp { file: (about.dev(), about.ino()), size: about.len(), changed })
    }
}

fn read_tokens(path: &Path) -> List {
    eunomia_owner::check(path)?;
    if fs::metadata(path).map_err(|error| error.to_string())?.len() > MAX_FILE {
        return Err(format!("larger than {MAX_FILE} bytes"));
    }
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines.map(|(number, line)| parse(line).ok_or_else(|| malformed(number))).collect()
}

fn malformed(number: usize) -> String {
    format!(
        "line {number}: expected read, operate or admin, and the SHA-256 of a token in 64 hexadecimal digits or cert:NAME"
    )
}

fn parse(line: &str) -> Option<(Role, Proof)> {
    let mut words = line.split_ascii_whitespace();
    let (role, proof) = (Role::from_word(words.next()?)?, words.next()?);
    if let Some(name) = proof.strip_prefix("cert:").filter(|name| !name.is_empty()) {
        return Some((role, Proof::Certificate(name.to_owned())));
    }
    let digits = Some(proof).filter(|digits| digits.len() == 64 && digits.is_ascii())?;
    let mut digest = [0; 32];
    for (index, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * index..2 * index + 2], 16).ok()?;
    }
    Some((role, Proof::Token(digest)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::digest;

    const REMOTE: Peer =
        Peer::Network(std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9));

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, value.parse().unwrap());
        }
        headers
    }

    fn role(auth: &Auth, values: &[&str]) -> Result<Role, String> {
        auth.role(REMOTE, &[], &headers(values)).map_err(|error| error.message)
    }

    #[test]
    fn users_of_the_socket_are_known_by_the_kernel() {
        let auth = Auth::default();
        assert_eq!(auth.role(Peer::Local { uid: 0 }, &[], &headers(&[])), Ok(Role::Admin));
        assert_eq!(auth.role(Peer::Local { uid: 1000 }, &[], &headers(&[])), Ok(Role::Read));
        assert!(auth.role(Peer::Local { uid: 1000 }, &[], &headers(&["Bearer x"])).is_err());
        assert_eq!(Auth::new(None, true).unwrap().role(REMOTE, &[], &headers(&[])), Ok(Role::Admin));
    }

    #[test]
    fn a_token_has_the_role_of_its_line_until_the_line_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let line = |role: &str, token: &str| format!("{role} {} of {token}\n", digest(token.as_bytes()));
        fs::write(&path, format!("# tokens\n\n{}{}", line("read", "one"), line("operate", "two"))).unwrap();
        let auth = Auth::new(Some(path.clone()), false).unwrap();
        assert_eq!(role(&auth, &["Bearer one"]), Ok(Role::Read));
        assert_eq!(role(&auth, &["bearer  two"]), Ok(Role::Operate));
        assert_eq!(role(&auth, &[]), Err("a token is required".into()));
        assert_eq!(role(&auth, &["Bearer three"]), Err("the token is not valid".into()));
        let scheme = "the Authorization header is not \"Bearer TOKEN\"";
        for value in ["Basic one", "one", "Bearer ", "Bearer"] {
            assert_eq!(role(&auth, &[value]), Err(scheme.into()), "{value}");
        }
        assert_eq!(
            role(&auth, &["Bearer one", "Bearer two"]),
            Err("more than one Authorization header".into())
        );
        // The digest itself is not a token.
        assert!(role(&auth, &[&format!("Bearer {}", digest(b"two"))]).is_err());
        let replaced = folder.path().join("new");
        fs::write(&replaced, line("read", "one")).unwrap();
        fs::rename(&replaced, &path).unwrap();
        assert_eq!(role(&auth, &["Bearer two"]), Err("the token is not valid".into()));
        fs::write(&path, format!("{}adm x\n", line("read", "one"))).unwrap();
        let why = role(&auth, &["Bearer one"]).unwrap_err();
        assert!(why.contains("tokens: line 2: expected read, operate or admin"), "{why}");
        fs::remove_file(&path).unwrap();
        assert!(role(&auth, &["Bearer one"]).is_err());
    }

    #[test]
    fn a_certificate_has_the_role_of_its_name_unless_a_token_is_sent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let token = digest(b"one");
        fs::write(&path, format!("read cert:a.example\noperate cert:b.example of b\nread {token}\n"))
            .unwrap();
        let auth = Auth::new(Some(path), false).unwrap();
        let role = |names: &[&str], values: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            auth.role(REMOTE, &names, &headers(values)).map_err(|error| error.message)
        };
        assert_eq!(role(&["a.example"], &[]), Ok(Role::Read));
        assert_eq!(role(&["a.example", "b.example"], &[]), Ok(Role::Operate));
        assert_eq!(role(&["b.example"], &["Bearer one"]), Ok(Role::Read));
        assert_eq!(
            role(&["c.example"], &[]),
            Err("there is no role for the certificate of c.example".into())
        );
        // The name of a certificate is not a token.
        assert_eq!(role(&[], &["Bearer cert:a.example"]), Err("the token is not valid".into()));
    }

    #[test]
    fn a_file_that_others_can_write_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(Auth::new(Some(path), false).err().unwrap().contains("writable by others"));
    }
}
