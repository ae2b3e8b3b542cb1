//! A web server whose replies a test chooses, including wrong ones.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// The reply to a request for a path.
#[derive(Clone)]
pub enum Reply {
    /// This content.
    Content(Vec<u8>),
    /// This content, or 304 to a client that has it already.
    Tagged(&'static str, Vec<u8>),
    /// A status without content.
    Status(u16),
    /// Somewhere else.
    Redirect(String),
    /// Fewer bytes than are announced.
    Truncated(Vec<u8>),
    /// More bytes than ecli accepts, announced in advance.
    Huge,
    /// Bytes without an end, not announced.
    Endless,
    /// The first bytes, and then nothing for a long time.
    Slow(Vec<u8>),
    /// This status, these header lines, and this content.
    Full(u16, Vec<String>, Vec<u8>),
    /// This status and type, and endless content in chunks.
    EndlessChunks(u16),
    /// This status, and endless content, a byte at a time.
    Drip(u16),
}

/// A server that lives as long as the test.
pub struct Server {
    /// The URL with scheme and port, without a slash at its end.
    pub url: String,
    requests: Arc<Mutex<Vec<Vec<String>>>>,
    replies: Arc<Mutex<HashMap<String, Reply>>>,
}

impl Server {
    pub fn new() -> Server {
        Server::start("http", |stream, handle| handle(&mut &stream))
    }

    /// Starts a server with TLS and this configuration.
    pub fn tls(config: ServerConfig) -> Server {
        let config = Arc::new(config);
        Server::start("https", move |stream, handle| {
            let connection = ServerConnection::new(config.clone()).unwrap();
            handle(&mut StreamOwned::new(connection, stream));
        })
    }

    fn start(
        scheme: &str,
        serve: impl Fn(TcpStream, &dyn Fn(&mut dyn ReadWrite)) + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("{scheme}://localhost:{}", listener.local_addr().unwrap().port());
        let (requests, replies) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(HashMap::new())));
        let server = Server { url, requests: Arc::clone(&requests), replies: Arc::clone(&replies) };
        let serve = Arc::new(serve);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (serve, requests, replies) = (serve.clone(), Arc::clone(&requests), Arc::clone(&replies));
                // The server ignores a client that closes the connection.
                std::thread::spawn(move || {
                    serve(stream, &|stream: &mut dyn ReadWrite| drop(answer(stream, &requests, &replies)))
                });
            }
        });
        server
    }

    /// Sets the reply to requests for `path`, and returns the URL of the path.
    pub fn on(&self, path: &str, reply: Reply) -> String {
        self.replies.lock().unwrap().insert(path.to_owned(), reply);
        format!("{}{path}", self.url)
    }

    /// The first lines of all requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.heads().into_iter().map(|head| head[0].clone()).collect()
    }

    /// The header lines of all requests so far.
    pub fn heads(&self) -> Vec<Vec<String>> {
        self.requests.lock().unwrap().clone()
    }

    /// All header lines of all requests so far that begin with this text, in lower case.
    pub fn sent(&self, header: &str) -> Vec<String> {
        let is_it = |line: &String| line.to_lowercase().starts_with(header);
        self.heads().into_iter().flatten().filter(is_it).collect()
    }
}

pub trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

fn answer(
    stream: &mut dyn ReadWrite,
    requests: &Mutex<Vec<Vec<String>>>,
    replies: &Mutex<HashMap<String, Reply>>,
) -> std::io::Result<()> {
    let mut lines = Vec::new();
    let mut reader = BufReader::new(&mut *stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_owned());
    }
    let Some(first) = lines.first().cloned() else { return Ok(()) };
    requests.lock().unwrap().push(lines.clone());
    let target = first.split(' ').nth(1).unwrap_or_default();
    // A client sends the whole URL to a proxy.
    let path =
        target.split_once("://").map_or(target, |(_, rest)| &rest[rest.find('/').unwrap_or(rest.len())..]);
    let reply = replies.lock().unwrap().get(path).cloned().unwrap_or(Reply::Status(404));
    let tag =
        lines.iter().find_map(|line| line.to_lowercase().strip_prefix("if-none-match: ").map(str::to_owned));
    send(stream, reply, tag.as_deref())?;
    stream.flush()
}

fn send(stream: &mut dyn ReadWrite, reply: Reply, tag: Option<&str>) -> std::io::Result<()> {
    let mut head =
        |status: &str, more: &str| write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\n{more}\r\n");
    match reply {
        Reply::Content(bytes) => {
            head("200 OK", &format!("Content-Length: {}\r\n", bytes.len()))?;
            stream.write_all(&bytes)
        }
        Reply::Tagged(etag, _) if tag == Some(etag) => head("304 Not Modified", &format!("ETag: {etag}\r\n")),
        Reply::Tagged(etag, bytes) => {
            head("200 OK", &format!("ETag: {etag}\r\nContent-Length: {}\r\n", bytes.len()))?;
            stream.write_all(&bytes)
        }
        Reply::Status(status) => head(&format!("{status} Told"), "Content-Length: 0\r\n"),
        Reply::Redirect(to) => head("302 Found", &format!("Location: {to}\r\nContent-Length: 0\r\n")),
        Reply::Truncated(bytes) => {
            head("200 OK", &format!("Content-Length: {}\r\n", bytes.len() + 1000))?;
            stream.write_all(&bytes)
        }
        Reply::Huge => head("200 OK", "Content-Length: 1000000000000\r\n"),
        Reply::Endless => {
            head("200 OK", "")?;
            loop {
                stream.write_all(&[b'{'; 1 << 16])?;
            }
        }
        Reply::Slow(bytes) => {
            head("200 OK", "Content-Length: 100000\r\n")?;
            stream.write_all(&bytes)?;
            stream.flush()?;
            std::thread::sleep(Duration::from_secs(3600));
            Ok(())
        }
        Reply::Full(status, lines, bytes) => {
            let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
            let has_len = lines.to_lowercase().contains("content-length");
            let len = if has_len { String::new() } else { format!("Content-Length: {}\r\n", bytes.len()) };
            head(&format!("{status} Told"), &(lines + &len))?;
            stream.write_all(&bytes)
        }
        Reply::EndlessChunks(status) => {
            head(
                &format!("{status} Told"),
                "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n",
            )?;
            loop {
                stream.write_all(b"10000\r\n")?;
                stream.write_all(&[b' '; 1 << 16])?;
                stream.write_all(b"\r\n")?;
            }
        }
        Reply::Drip(status) => {
            head(&format!("{status} Told"), "Content-Type: application/json\r\n")?;
            loop {
                stream.write_all(b" ")?;
                stream.flush()?;
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// A self-signed certificate for this machine, in the form that a server needs and as PEM.
pub fn certificate() -> (ServerConfig, Certificate) {
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = Certificate { pem: pair.cert.pem(), key: pair.signing_key.serialize_pem() };
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(pair.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![pair.cert.der().clone()], key).unwrap();
    (config, certificate)
}

/// The certificate as a PEM file contains it.
pub struct Certificate {
    pub pem: String,
    pub key: String,
}
