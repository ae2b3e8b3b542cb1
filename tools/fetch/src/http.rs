//! HTTP and HTTPS requests of bounded size and time, through the proxies of the environment.
//!
//! All requests go through [`Http::send`]. It follows redirects, but never from https to http. Credentials go only
//! to the server that the request names.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Once};
use std::time::Duration;

use reqwest::header::{ETAG, HeaderMap, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, Request, Response, StatusCode, Url};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, timeout, timeout_at};

use crate::error::{Code, Failure, program, without_errno};
use crate::location::without_password;
use crate::progress::Progress;

const MAX_REDIRECTS: usize = 10;

/// Bytes of an error response that are read.
const MAX_MESSAGE: usize = 16 << 10;

/// All requests of a download together may take this many times the idle timeout.
pub const MAX_TIMEOUTS: u32 = 20;

/// A client for one download.
pub struct Http {
    /// Creates requests.
    pub client: Client,
    runtime: Runtime,
    timeout: Duration,
    deadline: Instant,
    is_direct: bool,
    is_insecure: Arc<AtomicBool>,
}

/// The class of a download error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The server does not have the file.
    Missing,
    /// No server responded.
    Unreachable,
    /// Anything else.
    Other,
}

/// A failed request.
#[derive(Debug)]
pub struct Error {
    /// Its class.
    pub problem: Problem,
    /// One line that begins with the URL.
    pub text: String,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::new(Code::Source, error.text)
    }
}

/// Header values that identify a version of the content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Validators {
    /// The entity tag.
    pub etag: Option<String>,
    /// The time of the last modification, as the server formats it.
    pub last_modified: Option<String>,
}

/// The result of [`Http::get`].
pub enum Content {
    /// New content.
    New {
        /// All bytes.
        bytes: Vec<u8>,
        /// The validators for the next request; `None` if the server sent none.
        validators: Option<Validators>,
    },
    /// The content has not changed since the validators were sent.
    Unchanged,
}

/// The response of a server.
pub struct Reply {
    /// The status code.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The URL after all redirects.
    pub url: Url,
    /// The whole body, or the beginning of an error response.
    pub bytes: Vec<u8>,
}

impl Http {
    /// A client with an idle timeout. All its requests together may take [`MAX_TIMEOUTS`] times as long. If
    /// `is_direct` is set, it uses no proxies.
    pub fn new(timeout: Duration, is_direct: bool) -> crate::error::Result<Http> {
        let is_insecure = Arc::new(AtomicBool::new(false));
        let client = client(timeout, is_direct, redirects(Arc::clone(&is_insecure)))?;
        let runtime = Builder::new_current_thread().enable_io().enable_time().build();
        let runtime = runtime.map_err(|error| Failure::io(Code::Failed, "network runtime", &error))?;
        let deadline = Instant::now() + timeout.saturating_mul(MAX_TIMEOUTS);
        Ok(Http { client, runtime, timeout, deadline, is_direct, is_insecure })
    }

    /// Whether a response came over plain HTTP from another machine, so that it may have been modified.
    pub fn is_insecure(&self) -> bool {
        self.is_insecure.load(Relaxed)
    }

    /// Gets the content of a URL unless it matches the validators. Fails if it is larger than `max_size` bytes.
    pub fn get(&self, url: &str, known: Option<&Validators>, max_size: usize) -> Result<Content, Error> {
        let name = without_password(url);
        let wrong = |text: String| Error { problem: Problem::Other, text: format!("{name}: {text}") };
        let mut request = self.client.get(url);
        for (name, value) in known.iter().flat_map(|known| known.headers()) {
            request = request.header(name, value);
        }
        let request = request.build().map_err(|error| wrong(reason(&error)))?;
        let reply = self.send(&name, request, max_size)?;
        match reply.status {
            StatusCode::NOT_MODIFIED => Ok(Content::Unchanged),
            StatusCode::OK if reply.bytes.is_empty() => Err(wrong("the response is empty".into())),
            StatusCode::OK => {
                Ok(Content::New { validators: Validators::of(&reply.headers), bytes: reply.bytes })
            }
            StatusCode::NOT_FOUND | StatusCode::GONE => Err(Error {
                problem: Problem::Missing,
                ..wrong(format!("the server responded {}", reply.status))
            }),
            status => Err(wrong(format!("the server responded {status}"))),
        }
    }

    /// Sends a request and reads the response of at most `max_size` bytes. Errors begin with `name`.
    pub fn send(&self, name: &str, request: Request, max_size: usize) -> Result<Reply, Error> {
        self.send_with(&self.client, name, request, max_size)
    }

    /// Sends a request whose body is a secret. Redirects are not followed, because they could forward the secret.
    pub fn send_secret(&self, name: &str, request: Request, max_size: usize) -> Result<Reply, Error> {
        let client = client(self.timeout, self.is_direct, Policy::none());
        let client =
            client.map_err(|failure| Error { problem: Problem::Other, text: failure.text().to_owned() })?;
        self.send_with(&client, name, request, max_size)
    }

    fn send_with(
        &self,
        client: &Client,
        name: &str,
        request: Request,
        max_size: usize,
    ) -> Result<Reply, Error> {
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
                body(response, name, max_size).await?
            } else {
                message(response, self.timeout).await
            };
            Ok(Reply { status, headers, url, bytes })
        };
        self.runtime.block_on(async { timeout_at(self.deadline, exchange).await }).unwrap_or_else(|_| {
            let time = humantime::format_duration(self.timeout.saturating_mul(MAX_TIMEOUTS));
            let option = program().timeout.map(|option| format!(" ({MAX_TIMEOUTS} times {option})"));
            let text = format!("not finished after {time}{}", option.unwrap_or_default());
            Err(wrong(Problem::Other, &text))
        })
    }

    fn note(&self, url: &Url) {
        if is_insecure(url) {
            self.is_insecure.store(true, Relaxed);
        }
    }
}

/// Selects ring as the cryptography of TLS: it needs neither cmake nor an assembler to build.
fn use_ring() {
    static ONCE: Once = Once::new();
    // Fails only if a provider is installed already.
    ONCE.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
}

fn client(timeout: Duration, is_direct: bool, redirects: Policy) -> crate::error::Result<Client> {
    use_ring();
    let client = Client::builder()
        .user_agent(format!("{}/{}", program().name, env!("CARGO_PKG_VERSION")))
        // The query of a URL may contain a secret.
        .referer(false)
        .connect_timeout(timeout)
        .read_timeout(timeout)
        .redirect(redirects);
    let client = if is_direct { client.no_proxy() } else { client };
    client.build().map_err(|error| Failure::new(Code::Failed, format_args!("HTTP: {}", reason(&error))))
}

/// The policy for redirects. reqwest removes the credentials when the server changes.
fn redirects(is_open: Arc<AtomicBool>) -> Policy {
    Policy::custom(move |attempt: Attempt| {
        let was_https = attempt.previous().iter().any(|url| url.scheme() == "https");
        if attempt.previous().len() > MAX_REDIRECTS {
            return attempt.error(format!("more than {MAX_REDIRECTS} redirects"));
        }
        if was_https && attempt.url().scheme() != "https" {
            let to = without_password(attempt.url().as_str()).into_owned();
            return attempt.error(format!("refusing redirect from https to insecure {to}"));
        }
        if is_insecure(attempt.url()) {
            is_open.store(true, Relaxed);
        }
        attempt.follow()
    })
}

/// Whether the response of a URL could be modified on the network.
fn is_insecure(url: &Url) -> bool {
    url.scheme() != "https" && !url.host_str().is_some_and(is_this_machine)
}

/// Whether a host name or address is certainly this machine.
pub fn is_this_machine(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    host == "localhost" || address.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

/// Reads the whole body.
async fn body(mut response: Response, name: &str, max_size: usize) -> Result<Vec<u8>, Error> {
    let wrong = |why: std::fmt::Arguments| Error { problem: Problem::Other, text: format!("{name}: {why}") };
    let too_large = || wrong(format_args!("larger than {max_size} bytes"));
    let len = response.content_length();
    if len.is_some_and(|len| len > max_size as u64) {
        return Err(too_large());
    }
    let progress = Progress::new(name, len);
    let mut bytes = Vec::new();
    loop {
        let piece = response.chunk().await.map_err(|error| {
            wrong(format_args!("transfer failed after {} bytes: {}", bytes.len(), reason(&error)))
        })?;
        let Some(piece) = piece else { return Ok(bytes) };
        if bytes.len() + piece.len() > max_size {
            return Err(too_large());
        }
        bytes.extend_from_slice(&piece);
        progress.set(bytes.len());
    }
}

/// Reads the beginning of an error response. Errors and timeouts end it early.
async fn message(mut response: Response, limit: Duration) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = async {
        while let Ok(Some(piece)) = response.chunk().await {
            bytes.extend_from_slice(&piece[..piece.len().min(MAX_MESSAGE - bytes.len())]);
            if bytes.len() == MAX_MESSAGE {
                break;
            }
        }
    };
    let _ = timeout(limit, read).await;
    bytes
}

impl Validators {
    fn of(headers: &HeaderMap) -> Option<Validators> {
        let text = |name| Some(headers.get(name)?.to_str().ok()?.to_owned());
        let found = Validators { etag: text(ETAG), last_modified: text(LAST_MODIFIED) };
        (found != Validators::default()).then_some(found)
    }

    /// The headers of a conditional request.
    fn headers(&self) -> impl Iterator<Item = (reqwest::header::HeaderName, &str)> {
        let etag = self.etag.as_deref().map(|etag| (IF_NONE_MATCH, etag));
        let date = self.last_modified.as_deref().map(|date| (IF_MODIFIED_SINCE, date));
        etag.into_iter().chain(date)
    }
}

/// The root cause of an error, without the URL, which callers add.
pub fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        let option = program().timeout.map(|option| format!(" (see {option})"));
        return format!("timed out waiting for data{}", option.unwrap_or_default());
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    if let Some(error) = cause.downcast_ref::<std::io::Error>()
        && error.kind() == std::io::ErrorKind::ConnectionRefused
    {
        return "Connection refused; no server listens on this port".into();
    }
    cause.downcast_ref::<std::io::Error>().map_or_else(|| cause.to_string(), without_errno)
}
