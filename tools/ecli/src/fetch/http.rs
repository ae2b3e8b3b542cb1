//! Requests by HTTP and HTTPS: bounded in size and time, proxies as the environment names them.
//!
//! All of ecli's requests, to web servers and to image registries, go through [`Http::ask`]. It follows redirects, but
//! never from https to http, and only the server that a request names gets credentials.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Once};
use std::time::Duration;

use reqwest::header::{ETAG, HeaderMap, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, Request, Response, StatusCode, Url};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, timeout, timeout_at};

use super::place::without_password;
use super::progress::Progress;
use crate::error::{Code, Failure};

const MAX_REDIRECTS: usize = 10;

/// Bytes of an answer other than success that are read: its message.
const MAX_MESSAGE: usize = 16 << 10;

/// All requests of a command together may take this many times `--timeout`.
pub const PATIENCE: u32 = 20;

/// A client for one command.
pub struct Http {
    /// Makes requests.
    pub client: Client,
    runtime: Runtime,
    silence: Duration,
    end: Instant,
    is_direct: bool,
    is_open_to_all: Arc<AtomicBool>,
}

/// Why there is no content, so far as it makes a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The server has no such file.
    Missing,
    /// Nobody answered.
    Unreachable,
    /// Anything else.
    Other,
}

/// Why there is no content.
#[derive(Debug)]
pub struct Error {
    /// What to make of it.
    pub problem: Problem,
    /// One line that begins with the URL.
    pub text: String,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::new(Code::Source, error.text)
    }
}

/// What tells whether something has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Validators {
    /// The server's name of the content.
    pub etag: Option<String>,
    /// When it last changed, in the server's words.
    pub last_modified: Option<String>,
}

/// What [`Http::get`] got.
pub enum Content {
    /// The content; validators if it can be asked for again.
    New {
        /// All of it.
        bytes: Vec<u8>,
        /// For the next time.
        validators: Option<Validators>,
    },
    /// The content is what the validators stand for.
    Unchanged,
}

/// A server's answer.
pub struct Answer {
    /// Whether it is what was asked for.
    pub status: StatusCode,
    /// Its head.
    pub headers: HeaderMap,
    /// Who answered, after all redirects.
    pub url: Url,
    /// All of the body; of an answer other than success only the beginning.
    pub bytes: Vec<u8>,
}

impl Http {
    /// A client that gives up when nothing comes for `silence`, or when all its requests together take [`PATIENCE`] times
    /// as long. `is_direct`: without proxies.
    pub fn new(silence: Duration, is_direct: bool) -> crate::error::Result<Http> {
        let is_open_to_all = Arc::new(AtomicBool::new(false));
        let client = client(silence, is_direct, redirects(Arc::clone(&is_open_to_all)))?;
        let runtime = Builder::new_current_thread().enable_io().enable_time().build();
        let runtime =
            runtime.map_err(|error| Failure::io(Code::Failed, "waiting for the network", &error))?;
        let end = Instant::now() + silence.saturating_mul(PATIENCE);
        Ok(Http { client, runtime, silence, end, is_direct, is_open_to_all })
    }

    /// Whether something has come by plain HTTP from another machine, so that anybody on the way could have changed it.
    pub fn is_open_to_all(&self) -> bool {
        self.is_open_to_all.load(Relaxed)
    }

    /// Gets a URL of at most so many bytes, unless it is still what is `known`.
    pub fn get(&self, url: &str, known: Option<&Validators>, most: usize) -> Result<Content, Error> {
        let name = without_password(url);
        let wrong = |text: String| Error { problem: Problem::Other, text: format!("{name}: {text}") };
        let mut request = self.client.get(url);
        for (name, value) in known.iter().flat_map(|known| known.questions()) {
            request = request.header(name, value);
        }
        let request = request.build().map_err(|error| wrong(reason(&error)))?;
        let answer = self.ask(&name, request, most)?;
        match answer.status {
            StatusCode::NOT_MODIFIED => Ok(Content::Unchanged),
            StatusCode::OK if answer.bytes.is_empty() => Err(wrong("the server sent nothing".into())),
            StatusCode::OK => {
                Ok(Content::New { validators: Validators::of(&answer.headers), bytes: answer.bytes })
            }
            StatusCode::NOT_FOUND | StatusCode::GONE => Err(Error {
                problem: Problem::Missing,
                ..wrong(format!("the server answers {}", answer.status))
            }),
            status => Err(wrong(format!("the server answers {status}"))),
        }
    }

    /// Sends a request and reads the answer, which may have so many bytes. `name` is what errors begin with.
    pub fn ask(&self, name: &str, request: Request, most: usize) -> Result<Answer, Error> {
        self.ask_by(&self.client, name, request, most)
    }

    /// The same for a request whose body is a secret: a redirect could have it sent on, so none is followed.
    pub fn ask_once(&self, name: &str, request: Request, most: usize) -> Result<Answer, Error> {
        let client = client(self.silence, self.is_direct, Policy::none());
        let client =
            client.map_err(|failure| Error { problem: Problem::Other, text: failure.text().to_owned() })?;
        self.ask_by(&client, name, request, most)
    }

    fn ask_by(&self, client: &Client, name: &str, request: Request, most: usize) -> Result<Answer, Error> {
        let wrong = |problem, text: &str| Error { problem, text: format!("{name}: {text}") };
        self.note(request.url());
        let exchange = async {
            let response = client.execute(request).await.map_err(|error| {
                let unreachable = error.is_connect() || error.is_timeout();
                wrong(if unreachable { Problem::Unreachable } else { Problem::Other }, &reason(&error))
            })?;
            let (status, headers, url) =
                (response.status(), response.headers().clone(), response.url().clone());
            let bytes = if status.is_success() {
                body(response, name, most).await?
            } else {
                message(response, self.silence).await
            };
            Ok(Answer { status, headers, url, bytes })
        };
        // The clock belongs to the runtime.
        self.runtime.block_on(async { timeout_at(self.end, exchange).await }).unwrap_or_else(|_| {
            let time = humantime::format_duration(self.silence.saturating_mul(PATIENCE));
            Err(wrong(Problem::Other, &format!("not done after {time}, which is {PATIENCE} times --timeout")))
        })
    }

    fn note(&self, url: &Url) {
        if is_open_to_all(url) {
            self.is_open_to_all.store(true, Relaxed);
        }
    }
}

/// The name that we go by.
const USER_AGENT: &str = concat!("ecli/", env!("CARGO_PKG_VERSION"));

/// The cryptography of TLS: rustls leaves the choice to the program. This one needs no cmake and no assembler.
fn use_ring() {
    static ONCE: Once = Once::new();
    // Only a second choice fails.
    ONCE.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
}

fn client(silence: Duration, is_direct: bool, redirects: Policy) -> crate::error::Result<Client> {
    use_ring();
    let client = Client::builder()
        .user_agent(USER_AGENT)
        // What stands behind `?` in a URL may be a secret.
        .referer(false)
        .connect_timeout(silence)
        .read_timeout(silence)
        .redirect(redirects);
    let client = if is_direct { client.no_proxy() } else { client };
    client.build().map_err(|error| Failure::new(Code::Failed, format_args!("HTTP: {}", reason(&error))))
}

/// Redirects that are followed. reqwest takes the credentials out where another server is named.
fn redirects(is_open: Arc<AtomicBool>) -> Policy {
    Policy::custom(move |attempt: Attempt| {
        let was_secret = attempt.previous().iter().any(|url| url.scheme() == "https");
        if attempt.previous().len() > MAX_REDIRECTS {
            return attempt.error(format!("more than {MAX_REDIRECTS} redirections"));
        }
        if was_secret && attempt.url().scheme() != "https" {
            let to = without_password(attempt.url().as_str()).into_owned();
            return attempt
                .error(format!("redirected from https to {to}, which anybody may change on its way"));
        }
        if is_open_to_all(attempt.url()) {
            is_open.store(true, Relaxed);
        }
        attempt.follow()
    })
}

/// Whether what comes from there can be changed on its way by others.
fn is_open_to_all(url: &Url) -> bool {
    url.scheme() != "https" && !url.host_str().is_some_and(is_this_machine)
}

/// Whether a host, as URLs and references have it, is this machine for sure.
pub fn is_this_machine(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    host == "localhost" || address.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

/// The whole body.
async fn body(mut response: Response, name: &str, most: usize) -> Result<Vec<u8>, Error> {
    let wrong = |why: std::fmt::Arguments| Error { problem: Problem::Other, text: format!("{name}: {why}") };
    let too_large = || wrong(format_args!("larger than {most} bytes"));
    let len = response.content_length();
    if len.is_some_and(|len| len > most as u64) {
        return Err(too_large());
    }
    let progress = Progress::new(name, len);
    let mut bytes = Vec::new();
    loop {
        let piece = response.chunk().await.map_err(|error| {
            wrong(format_args!("broke off after {} bytes: {}", bytes.len(), reason(&error)))
        })?;
        let Some(piece) = piece else { return Ok(bytes) };
        if bytes.len() + piece.len() > most {
            return Err(too_large());
        }
        bytes.extend_from_slice(&piece);
        progress.at(bytes.len());
    }
}

/// The beginning of the body of a refusal. It is worth no error of its own, and no long wait.
async fn message(mut response: Response, silence: Duration) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = async {
        while let Ok(Some(piece)) = response.chunk().await {
            bytes.extend_from_slice(&piece[..piece.len().min(MAX_MESSAGE - bytes.len())]);
            if bytes.len() == MAX_MESSAGE {
                break;
            }
        }
    };
    let _ = timeout(silence, read).await;
    bytes
}

impl Validators {
    fn of(headers: &HeaderMap) -> Option<Validators> {
        let text = |name| Some(headers.get(name)?.to_str().ok()?.to_owned());
        let found = Validators { etag: text(ETAG), last_modified: text(LAST_MODIFIED) };
        (found != Validators::default()).then_some(found)
    }

    fn questions(&self) -> impl Iterator<Item = (reqwest::header::HeaderName, &str)> {
        let etag = self.etag.as_deref().map(|etag| (IF_NONE_MATCH, etag));
        let date = self.last_modified.as_deref().map(|date| (IF_MODIFIED_SINCE, date));
        etag.into_iter().chain(date)
    }
}

/// What is behind an error, without the URL, which we say ourselves: the cause that comes last says most.
pub fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "nothing comes any more; --timeout lets it wait for longer".into();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    if let Some(error) = cause.downcast_ref::<std::io::Error>()
        && error.kind() == std::io::ErrorKind::ConnectionRefused
    {
        return "Connection refused; no server listens there".into();
    }
    let text = cause.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}
