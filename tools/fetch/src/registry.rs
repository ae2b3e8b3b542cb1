//! Requests to one image registry, with authentication.
//!
//! A registry must use HTTPS unless it is on this machine. Credentials are sent to the registry only in response to its
//! own challenge, never to that of a server that it redirects to. If the registry requires a token, credentials are also
//! sent to the token service that it names, which must use HTTPS unless both are on this machine.

use std::cell::RefCell;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Request, RequestBuilder, StatusCode, Url};
use serde_json::Value;

use crate::challenge::Challenge;
use crate::credentials::Credentials;
use crate::error::{Code, Failure, Result};
use crate::http::{self, Http, Reply};

/// Size limit of the response with a token.
const MAX_TOKEN: usize = 1 << 20;

/// Characters of a registry's message that are shown.
const MAX_MESSAGE: usize = 300;

/// A registry, and the credentials for it.
pub struct Registry<'a> {
    /// Errors begin with this name: of the image or the registry.
    name: String,
    /// The name that the user gave.
    registry: &'a str,
    base: Url,
    http: Http,
    credentials: &'a Credentials,
    /// The access that a token must grant, such as `repository:org/tool:pull`.
    scope: Option<String>,
    authorization: RefCell<Option<HeaderValue>>,
}

impl Registry<'_> {
    /// Connects to the registry at `host`, and authenticates if the registry requires it.
    pub fn new<'a>(
        name: String,
        (registry, host): (&'a str, &str),
        credentials: &'a Credentials,
        scope: Option<String>,
        timeout: Duration,
    ) -> Result<Registry<'a>> {
        let invalid = |why: &dyn std::fmt::Display| Failure::new(Code::Source, format_args!("{name}: {why}"));
        let mut base = Url::parse(&format!("https://{host}/")).map_err(|why| invalid(&why))?;
        let is_here = base.host_str().is_some_and(http::is_this_machine);
        // Requests to this machine never go through a proxy.
        let http = Http::new(timeout, is_here)?;
        if is_here && uses_plain_http(&http, host) {
            base = Url::parse(&format!("http://{host}/")).map_err(|why| invalid(&why))?;
        }
        let authorization = RefCell::new(None);
        let registry = Registry { name, registry, base, http, credentials, scope, authorization };
        registry.send(registry.request(Method::GET, "")?, MAX_TOKEN)?;
        Ok(registry)
    }

    /// A request for a path below `/v2/`.
    pub fn request(&self, method: Method, path: &str) -> Result<RequestBuilder> {
        let url = self.base.join(&format!("v2/{path}")).map_err(|why| self.failure(why))?;
        Ok(self.http.client.request(method, url))
    }

    /// A request to the Location of a reply.
    pub fn request_at(&self, method: Method, from: &Reply, query: &[(&str, &str)]) -> Result<RequestBuilder> {
        let location =
            from.headers.get(reqwest::header::LOCATION).and_then(|location| location.to_str().ok());
        let mut url = location
            .and_then(|location| from.url.join(location).ok())
            .ok_or_else(|| self.failure("the registry did not send a valid upload URL"))?;
        let may_be_plain = self.base.scheme() == "http" && url.host_str().is_some_and(http::is_this_machine);
        if url.scheme() != "https" && !may_be_plain {
            return Err(self.failure(format_args!("refusing upload to insecure {url}")));
        }
        url.query_pairs_mut().extend_pairs(query);
        Ok(self.http.client.request(method, url))
    }

    /// Sends a request, and repeats it with credentials if the registry requires them. The reply has at most `max_size` bytes.
    pub fn send(&self, request: RequestBuilder, max_size: usize) -> Result<Reply> {
        let request = request.build().map_err(|error| self.failure(http::reason(&error)))?;
        let again = request.try_clone();
        let reply = self.send_once(request, max_size)?;
        let may_authorize = reply.status == StatusCode::UNAUTHORIZED && self.is_own(&reply.url);
        match again.filter(|_| may_authorize) {
            Some(again) if self.authorize(&reply)? => self.send_once(again, max_size),
            _ => Ok(reply),
        }
    }

    fn send_once(&self, mut request: Request, max_size: usize) -> Result<Reply> {
        // An upload may continue at another server, which must not get the credentials.
        if let Some(value) = self.authorization.borrow().clone().filter(|_| self.is_own(request.url())) {
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        let reply = self.http.send(&self.name, request, max_size)?;
        if self.http.is_insecure() {
            return Err(self.failure("refusing redirect to another machine over plain http"));
        }
        Ok(reply)
    }

    fn is_own(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }

    /// Checks that the registry accepts the credentials.
    pub fn check(&self) -> Result<()> {
        let reply = self.send(self.request(Method::GET, "")?, MAX_TOKEN)?;
        // A token without a scope may not grant access here. A registry issues a token only for valid credentials.
        let has_token = |it: &HeaderValue| it.as_bytes().starts_with(b"Bearer");
        let is_accepted =
            reply.status.is_success() || self.authorization.borrow().as_ref().is_some_and(has_token);
        if is_accepted { Ok(()) } else { Err(self.refused(&reply)) }
    }

    /// Sets the Authorization header that the registry requires. Returns `false` if there are no matching credentials.
    fn authorize(&self, reply: &Reply) -> Result<bool> {
        let text = match (Challenge::of(&reply.headers), self.credentials) {
            (Some(Challenge::Bearer { realm, service }), _) => {
                format!("Bearer {}", self.token(&realm, service.as_deref())?)
            }
            (Some(Challenge::Basic), Credentials::Password(user, password)) => basic(user, password),
            _ => return Ok(false),
        };
        let value = HeaderValue::try_from(text);
        let mut value = value.map_err(|_| self.failure("the registry issued an invalid token"))?;
        value.set_sensitive(true);
        *self.authorization.borrow_mut() = Some(value);
        Ok(true)
    }

    /// Gets a token from the service at `realm`.
    fn token(&self, realm: &str, service: Option<&str>) -> Result<String> {
        let url = self.realm(realm)?;
        let parameters: Vec<(&str, &str)> = [("service", service), ("scope", self.scope.as_deref())]
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?)))
            .collect();
        let client = &self.http.client;
        let request = match self.credentials {
            Credentials::Anonymous => client.get(with_query(url, &parameters)),
            Credentials::Password(user, password) => {
                client.get(with_query(url, &parameters)).header(AUTHORIZATION, basic(user, password))
            }
            Credentials::IdentityToken(token) => {
                let form = [("grant_type", "refresh_token"), ("client_id", "ecli"), ("refresh_token", token)];
                let form = with_query(url.clone(), &[&parameters[..], &form].concat());
                let form = form.query().unwrap_or_default().to_owned();
                client.post(url).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form)
            }
        };
        let request = request.build().map_err(|error| self.failure(http::reason(&error)))?;
        let reply = match self.credentials {
            Credentials::IdentityToken(_) => self.http.send_secret(&self.name, request, MAX_TOKEN)?,
            _ => self.http.send(&self.name, request, MAX_TOKEN)?,
        };
        if !reply.status.is_success() {
            return Err(self.refused(&reply));
        }
        let body: Value = serde_json::from_slice(&reply.bytes).unwrap_or_default();
        let token = body["token"].as_str().or(body["access_token"].as_str());
        token.map(str::to_owned).ok_or_else(|| self.failure(format_args!("{realm} issued no token")))
    }

    /// The URL of the token service, if credentials may be sent to it.
    fn realm(&self, text: &str) -> Result<Url> {
        let wrong = |why: &str| self.failure(format_args!("token service {text:?} {why}"));
        let url = Url::parse(text).map_err(|_| wrong("is not a URL"))?;
        let is_here = url.host_str().is_some_and(http::is_this_machine);
        match url.scheme() {
            "https" => {}
            "http" if self.base.scheme() == "http" && is_here => {}
            _ => return Err(wrong("does not use https, so the password could be read on the network")),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("contains a user name"));
        }
        Ok(url)
    }

    /// An error of this registry.
    pub fn failure(&self, why: impl std::fmt::Display) -> Failure {
        Failure::new(Code::Source, format_args!("{}: {why}", self.name))
    }

    /// The error of an unsuccessful reply.
    pub fn refused(&self, reply: &Reply) -> Failure {
        let registry = self.registry;
        match (reply.status, self.credentials) {
            (StatusCode::UNAUTHORIZED, Credentials::Password(user, _)) => self.failure(format_args!(
                "{registry}: wrong user {user:?} or password; log in again: ecli login {registry}"
            )),
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => self.failure(format_args!(
                "{registry}: access denied; log in if you have an account: ecli login {registry}"
            )),
            (status, _) => match message(&reply.bytes) {
                Some(message) => self.failure(message),
                None if status == StatusCode::NOT_FOUND => self.failure("no such image"),
                None => self.failure(format_args!("the registry responded {status}")),
            },
        }
    }
}

/// The value of `Authorization` for a user and a password.
fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

fn with_query(mut url: Url, pairs: &[(&str, &str)]) -> Url {
    url.query_pairs_mut().extend_pairs(pairs);
    url
}

/// The messages in an error response, shortened.
fn message(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let reason = |error: &Value| match error["message"].as_str() {
        None | Some("") => error["code"].as_str().map(str::to_owned),
        Some(message) => Some(message.to_owned()),
    };
    let reasons: Vec<String> = body["errors"].as_array()?.iter().filter_map(reason).collect();
    let message = shorten(&reasons.join(", "));
    (!message.is_empty()).then_some(message)
}

/// The beginning of a registry's message, on one line.
pub fn shorten(message: &str) -> String {
    message.chars().take(MAX_MESSAGE).map(|c| if c == '\n' { ' ' } else { c }).collect()
}

/// Whether a registry on this machine uses plain HTTP. A registry that uses TLS responds to plain HTTP with 400 or not
/// at all.
fn uses_plain_http(http: &Http, host: &str) -> bool {
    let request = http.client.get(format!("http://{host}/v2/")).build();
    let reply = request.ok().and_then(|request| http.send(host, request, MAX_TOKEN).ok());
    reply.is_some_and(|reply| reply.status.is_success() || reply.status == StatusCode::UNAUTHORIZED)
}
