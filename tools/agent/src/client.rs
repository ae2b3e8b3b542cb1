//! Sends requests to a server.

use std::fmt::{self, Display, Formatter};
use std::io::{self, Error};
use std::path::PathBuf;

use bytes::Bytes;
use http::request::Builder;
use http::{Method, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpStream, UnixStream};

use crate::http::Stream;
use crate::tls;

/// Maximum size of a response that is not a stream, in bytes.
const MAX_BODY: usize = 64 << 20;
/// Maximum length of a line of a stream, in bytes.
const MAX_LINE: usize = 16 << 20;

/// The address of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A unix socket.
    Local(PathBuf),
    /// A host and a port: `127.0.0.1:8527`.
    Network(String),
    /// A host and a port, with TLS.
    Secure(String),
}

impl Endpoint {
    /// Reads `unix:PATH`, `http://HOST:PORT` or `https://HOST:PORT`.
    pub fn parse(text: &str) -> Result<Endpoint, String> {
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Endpoint::Local(path.trim_start_matches("//").into()));
        }
        let (is_secure, rest) = match text.strip_prefix("https://") {
            Some(rest) => (true, Some(rest)),
            None => (false, text.strip_prefix("http://")),
        };
        let rest = rest.map(|rest| rest.trim_end_matches('/'));
        let kind = if is_secure { Endpoint::Secure } else { Endpoint::Network };
        match rest.filter(|rest| !rest.is_empty() && !rest.contains(['/', '@', '?', '#', ' '])) {
            Some(host) if host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) => {
                Ok(kind(host.to_owned()))
            }
            Some(host) => Ok(kind(format!("{host}:8527"))),
            None => Err(format!("{text}: expected unix:PATH, http://HOST:PORT or https://HOST:PORT")),
        }
    }
}

impl Display for Endpoint {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Local(path) => write!(f, "unix:{}", path.display()),
            Endpoint::Network(host) => write!(f, "http://{host}"),
            Endpoint::Secure(host) => write!(f, "https://{host}"),
        }
    }
}

/// The reason why a request failed.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// The server cannot be reached, or its response is not HTTP: one line.
    Connection(String),
    /// The server has sent an error: the status code of the response and its body.
    Refused(u16, Value),
}

/// Sends requests, each on a new connection.
#[derive(Clone, Debug)]
pub struct Client {
    /// The address of the server.
    pub endpoint: Endpoint,
    /// The token that is sent.
    pub token: Option<String>,
    /// The file with the authorities of servers, instead of those of the system.
    pub authority: Option<PathBuf>,
    /// The certificate that is sent.
    pub certificate: Option<tls::Files>,
}

impl Client {
    /// Sends a request and returns the body of the response, JSON.
    pub fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        run(self.value(method, path, body, None))
    }

    /// Sends a package that replaces the one with this digest.
    pub fn replace_if(&self, path: &str, body: &Value, digest: &str) -> Result<Value, Failure> {
        run(self.value(Method::PUT, path, Some(body), Some(digest)))
    }

    /// Sends bytes and returns the status of the response, the number of seconds after which to try again, if it has one, and its
    /// body.
    pub async fn post(
        &self,
        path: &str,
        headers: &[(String, String)],
        body: Vec<u8>,
    ) -> Result<(u16, Option<u64>, Vec<u8>), Failure> {
        let mut request = self.head(Method::POST, path);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let response = self.exchange(request, body).await?;
        let after =
            response.headers().get(header::RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse().ok());
        let code = response.status().as_u16();
        let collected = Limited::new(response.into_body(), MAX_BODY).collect().await;
        let bytes = collected.map_err(|error| self.failed(&error))?.to_bytes();
        Ok((code, after, bytes.to_vec()))
    }

    async fn value(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        digest: Option<&str>,
    ) -> Result<Value, Failure> {
        let response = self.send(method, path, body, digest).await?;
        let collected = Limited::new(response, MAX_BODY).collect().await;
        let bytes = collected.map_err(|error| self.failed(&error))?.to_bytes();
        serde_json::from_slice(&bytes).map_err(|error| self.failed(&error))
    }

    /// Sends a request and passes the lines of the response to `lines` when they arrive, until that returns
    /// `false`. One call may get several lines, each with its line feed.
    pub fn lines(&self, path: &str, mut lines: impl FnMut(&[u8]) -> bool) -> Result<(), Failure> {
        run(async {
            let mut response = self.send(Method::GET, path, None, None).await?;
            let mut rest = Vec::new();
            while let Some(frame) = response.frame().await {
                let frame = frame.map_err(|error| self.failed(&error))?;
                rest.extend_from_slice(frame.data_ref().map_or(&[], |data| &data[..]));
                let end = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                if end > 0 && !lines(&rest[..end]) {
                    return Ok(());
                }
                rest.drain(..end);
                if rest.len() > MAX_LINE {
                    return Err(self.failed(&"a line is too long"));
                }
            }
            Ok(())
        })
    }

    /// Begins a request.
    fn head(&self, method: Method, path: &str) -> Builder {
        let host = match &self.endpoint {
            Endpoint::Local(_) => "localhost",
            Endpoint::Network(host) | Endpoint::Secure(host) => host,
        };
        let request = http::Request::builder().method(method).uri(path).header(header::HOST, host);
        match &self.token {
            Some(token) => request.header(header::AUTHORIZATION, format!("Bearer {token}")),
            None => request,
        }
    }

    /// Sends a request over a new connection.
    async fn exchange(&self, request: Builder, body: Vec<u8>) -> Result<http::Response<Incoming>, Failure> {
        let request = request.body(Full::new(Bytes::from(body))).map_err(|error| self.failed(&error))?;
        let stream = self.connect().await.map_err(|error| self.failed(&error))?;
        let connected = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = connected.map_err(|error| self.failed(&error))?;
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(|error| self.failed(&error))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        digest: Option<&str>,
    ) -> Result<Incoming, Failure> {
        let mut request = self.head(method, path);
        if let Some(digest) = digest {
            request = request.header(header::IF_MATCH, format!("\"{digest}\""));
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        let response = self.exchange(request, body.into_bytes()).await?;
        if response.status().is_success() {
            return Ok(response.into_body());
        }
        let code = response.status().as_u16();
        let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
        let bytes = body.map(|body| body.to_bytes()).unwrap_or_default();
        Err(Failure::Refused(code, serde_json::from_slice(&bytes).unwrap_or_default()))
    }

    async fn connect(&self) -> io::Result<Stream> {
        Ok(match &self.endpoint {
            Endpoint::Local(path) => Stream::Local(UnixStream::connect(path).await?),
            Endpoint::Network(host) => Stream::Network(TcpStream::connect(host.as_str()).await?),
            Endpoint::Secure(host) => {
                let connector = tls::connector(self.authority.as_deref(), self.certificate.as_ref());
                let (connector, name) =
                    (connector.map_err(Error::other)?, tls::server_name(host).map_err(Error::other)?);
                let stream = connector.connect(name, TcpStream::connect(host.as_str()).await?).await?;
                Stream::Tls(Box::new(stream.into()))
            }
        })
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> Failure {
        let error = error.to_string();
        let error = error.split(" (os error").next().unwrap_or(&error).to_owned();
        Failure::Connection(format!("{}: {error}", self.endpoint))
    }
}

fn run<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => Err(Failure::Connection(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read() {
        let local = |path: &str| Ok(Endpoint::Local(path.into()));
        let network = |host: &str| Ok(Endpoint::Network(host.to_owned()));
        assert_eq!(Endpoint::parse("unix:/run/a.sock"), local("/run/a.sock"));
        assert_eq!(Endpoint::parse("unix:///run/a.sock"), local("/run/a.sock"));
        assert_eq!(Endpoint::parse("http://127.0.0.1:8527/"), network("127.0.0.1:8527"));
        assert_eq!(Endpoint::parse("http://localhost"), network("localhost:8527"));
        assert_eq!(Endpoint::parse("http://[::1]:9"), network("[::1]:9"));
        assert_eq!(Endpoint::parse("https://a.example"), Ok(Endpoint::Secure("a.example:8527".into())));
        for text in ["", "unix:", "localhost:1", "http://", "http://a/b", "http://u@h", "https://"] {
            assert!(Endpoint::parse(text).is_err(), "{text}");
        }
    }
}
