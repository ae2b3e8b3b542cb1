//! Who may read the metrics, and who may start and stop programs.

use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use eunomia_agent::auth::{Auth, Role};
use eunomia_agent::error::{ApiError, Result};
use eunomia_agent::http::{Peer, Request};
use http::{StatusCode, header};

use crate::web::Users;

/// Decides about requests.
pub struct Access {
    /// The tokens.
    auth: Auth,
    /// The users of the web configuration file, which may change.
    users: Mutex<Option<Arc<Users>>>,
    /// Whether scrapes need a token if there are no users.
    is_closed: bool,
}

impl Access {
    /// Callers with these tokens have roles; `is_closed`: scrapes need one too.
    pub fn new(auth: Auth, is_closed: bool) -> Access {
        Access { auth, users: Mutex::default(), is_closed }
    }

    /// Sets the users, who may read.
    pub fn set(&self, users: Option<Arc<Users>>) {
        *self.lock() = users.filter(|users| !users.is_empty());
    }

    /// Checks that a caller may read the metrics.
    pub async fn check_scrape(&self, request: &Request) -> Result<()> {
        let is_open = !self.is_closed && self.lock().is_none();
        if is_open { Ok(()) } else { self.check(request, Role::Read).await }
    }

    /// Checks that a caller has a role.
    pub async fn check(&self, request: &Request, needed: Role) -> Result<()> {
        let role = self.role(request).await?;
        match role >= needed {
            true => Ok(()),
            false => {
                let text = format!("this needs the role {}; you have {}", needed.word(), role.word());
                Err(ApiError::new(StatusCode::FORBIDDEN, "forbidden", text))
            }
        }
    }

    async fn role(&self, request: &Request) -> Result<Role> {
        let users = self.lock().clone();
        let by_token = || self.auth.role(request.peer, &request.names, &request.head.headers);
        let Some(users) = users.filter(|_| matches!(request.peer, Peer::Network(_))) else {
            return by_token();
        };
        let mut values = request.head.headers.get_all(header::AUTHORIZATION).iter();
        let credentials = match (values.next(), values.next()) {
            (Some(value), None) => basic(value.as_bytes()),
            _ => None,
        };
        let Some((user, password)) = credentials else { return by_token().map_err(ask_for_password) };
        match users.is_valid(&user, &password).await {
            true => Ok(Role::Read),
            false => Err(unauthorized("the name of the user or the password is wrong")),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Arc<Users>>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The user and the password of an Authorization header with the scheme Basic.
fn basic(value: &[u8]) -> Option<(String, Vec<u8>)> {
    let (scheme, rest) = value.split_at_checked("Basic ".len())?;
    let decoded =
        STANDARD.decode(rest.trim_ascii()).ok().filter(|_| scheme.eq_ignore_ascii_case(b"Basic "))?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    Some((String::from_utf8(decoded[..colon].to_vec()).ok()?, decoded[colon + 1..].to_vec()))
}

/// Makes browsers ask for a password.
fn ask_for_password(error: ApiError) -> ApiError {
    match error.code {
        StatusCode::UNAUTHORIZED => unauthorized(&format!("{}, or a password", error.message)),
        _ => error,
    }
}

fn unauthorized(text: &str) -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", text)
        .header("WWW-Authenticate", "Basic realm=\"eunomia-exporter\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_read() {
        let read = |text: &str| basic(text.as_bytes());
        let expected = Some(("me".to_owned(), b"a:b".to_vec()));
        assert_eq!(read("Basic bWU6YTpi"), expected);
        assert_eq!(read("basic  bWU6YTpi "), expected);
        for text in ["", "Basic", "Basic ", "Basic !", "Bearer bWU6YTpi", "Basic bWU="] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
