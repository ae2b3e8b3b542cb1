//! Downloads by HTTP and HTTPS: bounded in size and time, proxies as the environment names them.

use std::sync::Once;
use std::time::Duration;

use reqwest::header::{ETAG, HeaderMap, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, Response, StatusCode};
use tokio::runtime::{Builder, Runtime};

use super::progress::Progress;
use crate::error::{Code, Failure};

const MAX_REDIRECTS: usize = 10;

/// A client for one command.
pub struct Http {
    client: Client,
    runtime: Runtime,
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

/// What a server said.
pub enum Answer {
    /// The content; validators if it can be asked for again.
    Body {
        /// All of it.
        bytes: Vec<u8>,
        /// For the next time.
        validators: Option<Validators>,
    },
    /// The content is what the validators stand for.
    Unchanged,
}

impl Http {
    /// A client that gives up when nothing comes for `timeout`.
    pub fn new(timeout: Duration) -> crate::error::Result<Http> {
        use_ring();
        let client = Client::builder()
            .user_agent(USER_AGENT)
            .connect_timeout(timeout)
            .read_timeout(timeout)
            .redirect(Policy::custom(redirect))
            .build()
            .map_err(|error| Failure::new(Code::Failed, format_args!("HTTP: {}", reason(&error))))?;
        Ok(Http { client, runtime: runtime()? })
    }

    /// Gets a URL of at most so many bytes, unless it is still what is `known`.
    pub fn get(&self, url: &str, known: Option<&Validators>, most: usize) -> Result<Answer, Error> {
        self.runtime.block_on(async {
            let mut request = self.client.get(url);
            for (name, value) in known.iter().flat_map(|known| known.questions()) {
                request = request.header(name, value);
            }
            let response = request.send().await.map_err(|error| {
                let unreachable = error.is_connect() || error.is_timeout();
                let problem = if unreachable { Problem::Unreachable } else { Problem::Other };
                Error { problem, text: format!("{url}: {}", reason(&error)) }
            })?;
            match response.status() {
                StatusCode::NOT_MODIFIED => Ok(Answer::Unchanged),
                StatusCode::OK => {
                    let validators = Validators::of(response.headers());
                    Ok(Answer::Body { bytes: body(response, url, most).await?, validators })
                }
                status => Err(refused(url, status)),
            }
        })
    }
}

/// The name that we go by.
pub const USER_AGENT: &str = concat!("ecli/", env!("CARGO_PKG_VERSION"));

/// One thread is enough for what waits for one server.
pub fn runtime() -> crate::error::Result<Runtime> {
    let runtime = Builder::new_current_thread().enable_io().enable_time().build();
    runtime.map_err(|error| Failure::io(Code::Failed, "waiting for the network", &error))
}

/// The cryptography of TLS: rustls leaves the choice to the program. This one needs no cmake and no assembler.
pub fn use_ring() {
    static ONCE: Once = Once::new();
    // Only a second choice fails.
    ONCE.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
}

fn redirect(attempt: Attempt) -> reqwest::redirect::Action {
    let was_secret = attempt.previous().iter().any(|url| url.scheme() == "https");
    if attempt.previous().len() > MAX_REDIRECTS {
        attempt.error(format!("more than {MAX_REDIRECTS} redirections"))
    } else if was_secret && attempt.url().scheme() != "https" {
        let to = attempt.url().to_string();
        attempt.error(format!("redirected from https to {to}, which anybody may change on its way"))
    } else {
        attempt.follow()
    }
}

fn refused(url: &str, status: StatusCode) -> Error {
    let problem = match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => Problem::Missing,
        _ => Problem::Other,
    };
    Error { problem, text: format!("{url}: the server answers {status}") }
}

async fn body(mut response: Response, url: &str, most: usize) -> Result<Vec<u8>, Error> {
    let wrong = |why: std::fmt::Arguments| Error { problem: Problem::Other, text: format!("{url}: {why}") };
    let too_large = || wrong(format_args!("larger than {most} bytes"));
    let len = response.content_length();
    if len.is_some_and(|len| len > most as u64) {
        return Err(too_large());
    }
    let progress = Progress::new(url, len);
    let mut bytes = Vec::new();
    loop {
        let piece = response.chunk().await.map_err(|error| {
            wrong(format_args!("broke off after {} bytes: {}", bytes.len(), reason(&error)))
        })?;
        let Some(piece) = piece else { break };
        if bytes.len() + piece.len() > most {
            return Err(too_large());
        }
        bytes.extend_from_slice(&piece);
        progress.at(bytes.len());
    }
    if bytes.is_empty() {
        return Err(wrong(format_args!("the server sent nothing")));
    }
    Ok(bytes)
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
    let text = cause.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}
