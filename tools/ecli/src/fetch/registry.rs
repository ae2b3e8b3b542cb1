//! A connection to one image registry: requests, and who we are where the registry asks.
//!
//! The registry has to speak HTTPS; only one on this machine may speak plain HTTP. Credentials go to the registry itself,
//! in answer to its own question and never to that of a server it redirects to; and, where it wants a token, to the
//! service that it names for that, as the standard has it. That service has to be reached by HTTPS too, unless both are
//! on this machine.

use std::cell::RefCell;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Request, RequestBuilder, StatusCode, Url};
use serde_json::Value;

use super::challenge::Challenge;
use super::http::{self, Answer, Http};
use super::login::Credentials;
use crate::error::{Code, Failure, Result};

/// Bytes of the largest token with what stands around it.
const MAX_TOKEN: usize = 1 << 20;

/// Characters of a registry's own messages that are shown.
const MAX_MESSAGE: usize = 300;

/// A registry, and what is to be done there.
pub struct Registry<'a> {
    /// What errors begin with: the image, or the registry.
    name: String,
    /// As the user has it.
    registry: &'a str,
    base: Url,
    http: Http,
    credentials: &'a Credentials,
    /// What a token has to allow, as in `repository:org/tool:pull`.
    scope: Option<String>,
    authorization: RefCell<Option<HeaderValue>>,
}

impl Registry<'_> {
    /// A registry at `host` that knows who we are, if it wants to.
    pub fn new<'a>(
        name: String,
        (registry, host): (&'a str, &str),
        credentials: &'a Credentials,
        scope: Option<String>,
        timeout: Duration,
    ) -> Result<Registry<'a>> {
        let wrong = |why: &dyn std::fmt::Display| Failure::new(Code::Source, format_args!("{name}: {why}"));
        let mut base = Url::parse(&format!("https://{host}/")).map_err(|why| wrong(&why))?;
        let is_here = base.host_str().is_some_and(http::is_this_machine);
        // No proxy stands between us and this machine, and none may see what we tell it.
        let http = Http::new(timeout, is_here)?;
        if is_here && speaks_plain(&http, host) {
            base = Url::parse(&format!("http://{host}/")).map_err(|why| wrong(&why))?;
        }
        let authorization = RefCell::new(None);
        let registry = Registry { name, registry, base, http, credentials, scope, authorization };
        registry.ask(registry.request(Method::GET, "")?, MAX_TOKEN)?;
        Ok(registry)
    }

    /// A request for `path` of the registry's interface.
    pub fn request(&self, method: Method, path: &str) -> Result<RequestBuilder> {
        let url = self.base.join(&format!("v2/{path}")).map_err(|why| self.failure(why))?;
        Ok(self.http.client.request(method, url))
    }

    /// A request to where an answer says that it goes on.
    pub fn request_at(
        &self,
        method: Method,
        from: &Answer,
        query: &[(&str, &str)],
    ) -> Result<RequestBuilder> {
        let place = from.headers.get(reqwest::header::LOCATION).and_then(|place| place.to_str().ok());
        let mut url = place
            .and_then(|place| from.url.join(place).ok())
            .ok_or_else(|| self.failure("the registry does not say where to send it"))?;
        let may_be_plain = self.base.scheme() == "http" && url.host_str().is_some_and(http::is_this_machine);
        if url.scheme() != "https" && !may_be_plain {
            return Err(self.failure(format_args!(
                "sent on without https to {url}, which anybody may change on its way"
            )));
        }
        url.query_pairs_mut().extend_pairs(query);
        Ok(self.http.client.request(method, url))
    }

    /// Asks, and says who we are if that is what the registry asks in return. The answer may have so many bytes.
    pub fn ask(&self, request: RequestBuilder, most: usize) -> Result<Answer> {
        let request = request.build().map_err(|error| self.failure(http::reason(&error)))?;
        let again = request.try_clone();
        let answer = self.send(request, most)?;
        let may_answer = answer.status == StatusCode::UNAUTHORIZED && self.is_own(&answer.url);
        match again.filter(|_| may_answer) {
            Some(again) if self.authorize(&answer)? => self.send(again, most),
            _ => Ok(answer),
        }
    }

    fn send(&self, mut request: Request, most: usize) -> Result<Answer> {
        // An upload may go on elsewhere, and credentials must not.
        if let Some(value) = self.authorization.borrow().clone().filter(|_| self.is_own(request.url())) {
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        let answer = self.http.ask(&self.name, request, most)?;
        if self.http.is_open_to_all() {
            return Err(self.failure("the registry leads to another machine by plain http"));
        }
        Ok(answer)
    }

    fn is_own(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }

    /// Whether the credentials are taken: a wrong password is found out here, not with the first image.
    pub fn check(&self) -> Result<()> {
        let answer = self.ask(self.request(Method::GET, "")?, MAX_TOKEN)?;
        // A token for nothing in particular need not open this, and was had all the same.
        let has_token = |it: &HeaderValue| it.as_bytes().starts_with(b"Bearer");
        let is_fine =
            answer.status.is_success() || self.authorization.borrow().as_ref().is_some_and(has_token);
        if is_fine { Ok(()) } else { Err(self.refused(&answer)) }
    }

    /// Makes what the registry wants to see from now on; `false` if we have nothing of the kind.
    fn authorize(&self, answer: &Answer) -> Result<bool> {
        let text = match (Challenge::of(&answer.headers), self.credentials) {
            (Some(Challenge::Bearer { realm, service }), _) => {
                format!("Bearer {}", self.token(&realm, service.as_deref())?)
            }
            (Some(Challenge::Basic), Credentials::Password(user, password)) => basic(user, password),
            _ => return Ok(false),
        };
        let value = HeaderValue::try_from(text);
        let mut value =
            value.map_err(|_| self.failure("the registry hands out a token with other than letters"))?;
        value.set_sensitive(true);
        *self.authorization.borrow_mut() = Some(value);
        Ok(true)
    }

    /// A token of the service at `realm`.
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
        let answer = match self.credentials {
            Credentials::IdentityToken(_) => self.http.ask_once(&self.name, request, MAX_TOKEN)?,
            _ => self.http.ask(&self.name, request, MAX_TOKEN)?,
        };
        if !answer.status.is_success() {
            return Err(self.refused(&answer));
        }
        let answer: Value = serde_json::from_slice(&answer.bytes).unwrap_or_default();
        let token = answer["token"].as_str().or(answer["access_token"].as_str());
        token.map(str::to_owned).ok_or_else(|| self.failure(format_args!("{realm} hands out no token")))
    }

    /// The address of the service that hands out tokens, if credentials may go there.
    fn realm(&self, text: &str) -> Result<Url> {
        let wrong = |why: &str| self.failure(format_args!("the registry names {text:?} for tokens, {why}"));
        let url = Url::parse(text).map_err(|_| wrong("which is not a URL"))?;
        let is_here = url.host_str().is_some_and(http::is_this_machine);
        match url.scheme() {
            "https" => {}
            "http" if self.base.scheme() == "http" && is_here => {}
            _ => return Err(wrong("where anybody on the way could read the password")),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("with a user of its own"));
        }
        Ok(url)
    }

    /// A failure of this registry.
    pub fn failure(&self, why: impl std::fmt::Display) -> Failure {
        Failure::new(Code::Source, format_args!("{}: {why}", self.name))
    }

    /// The failure that an answer other than success is.
    pub fn refused(&self, answer: &Answer) -> Failure {
        let registry = self.registry;
        match (answer.status, self.credentials) {
            (StatusCode::UNAUTHORIZED, Credentials::Password(user, _)) => self.failure(format_args!(
                "{registry}: user {user:?} or the password is not accepted; `ecli login {registry}` with others"
            )),
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => self.failure(format_args!(
                "{registry} refuses access; `ecli login {registry}` if you have an account there"
            )),
            (status, _) => match said(&answer.bytes) {
                Some(said) => self.failure(said),
                None if status == StatusCode::NOT_FOUND => self.failure("there is no such image"),
                None => self.failure(format_args!("the registry answers {status}")),
            },
        }
    }
}

/// `Authorization` by user and password.
fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

fn with_query(mut url: Url, pairs: &[(&str, &str)]) -> Url {
    url.query_pairs_mut().extend_pairs(pairs);
    url
}

/// The reasons in a registry's refusal, cut short.
fn said(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let reason = |error: &Value| match error["message"].as_str() {
        None | Some("") => error["code"].as_str().map(str::to_owned),
        Some(message) => Some(message.to_owned()),
    };
    let reasons: Vec<String> = body["errors"].as_array()?.iter().filter_map(reason).collect();
    let said = cut(&reasons.join(", "));
    (!said.is_empty()).then_some(said)
}

/// The beginning of a registry's words, in one line.
pub fn cut(words: &str) -> String {
    words.chars().take(MAX_MESSAGE).map(|c| if c == '\n' { ' ' } else { c }).collect()
}

/// Whether a registry on this machine speaks plain HTTP. One that wants TLS answers 400, if at all.
fn speaks_plain(http: &Http, host: &str) -> bool {
    let request = http.client.get(format!("http://{host}/v2/")).build();
    let answer = request.ok().and_then(|request| http.ask(host, request, MAX_TOKEN).ok());
    answer.is_some_and(|answer| answer.status.is_success() || answer.status == StatusCode::UNAUTHORIZED)
}
