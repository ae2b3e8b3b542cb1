//! Reads the head of a request, and refuses everything that HTTP servers are known to interpret in different ways.

use bytes::BytesMut;
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::body::too_large;
use super::limits::Limits;
use crate::error::{ApiError, Result};

/// Values of the Host header that name this machine.
const LOCAL_HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// Reads until the head is complete. Returns what was read, which may include the beginning of the body; `None` if the
/// connection was closed without a byte. `is_secret`: the connection uses TLS.
pub async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    limits: &Limits,
    is_secret: bool,
) -> Result<Option<BytesMut>> {
    let mut head = BytesMut::with_capacity(1024);
    let mut checked = 0;
    loop {
        // One more byte than the limit, so that a larger head is noticed.
        let mut piece = (&mut *stream).take((limits.head_bytes + 1 - head.len()) as u64);
        let count = piece.read_buf(&mut head).await.unwrap_or(0);
        match (count, head.is_empty()) {
            (0, true) => return Ok(None),
            (0, false) => return Err(ApiError::invalid("the connection was closed within the headers")),
            _ => {}
        }
        if let Some(end) = end_of_head(&head, checked)? {
            check(&head[..end], limits, is_secret)?;
            return Ok(Some(head));
        }
        checked = head.len();
        if head.len() > limits.head_bytes {
            let text = format!("the request line and the headers exceed {} bytes", limits.head_bytes);
            return Err(ApiError::new(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "headers_too_large",
                text,
            ));
        }
    }
}

/// The length of the head, if it is complete. Bytes before `checked` are known to be correct.
fn end_of_head(bytes: &[u8], checked: usize) -> Result<Option<usize>> {
    match bytes[0] {
        0x16 => {
            return Err(ApiError::invalid("this is the beginning of TLS; the server speaks HTTP here")
                .hint("write http:// instead of https://"));
        }
        b'\r' | b'\n' => return Err(ApiError::invalid("the request begins with an empty line")),
        _ => {}
    }
    for index in checked..bytes.len() {
        if bytes[index] != b'\n' {
            continue;
        }
        if bytes[index - 1] != b'\r' {
            return Err(ApiError::invalid("a line of the headers ends with LF instead of CR LF"));
        }
        if bytes[..index - 1].ends_with(b"\r\n") {
            return Ok(Some(index + 1));
        }
    }
    Ok(None)
}

fn check(head: &[u8], limits: &Limits, is_secret: bool) -> Result<()> {
    let mut headers = vec![httparse::EMPTY_HEADER; limits.headers];
    let mut request = httparse::Request::new(&mut headers);
    let parsed = request.parse(head);
    let too_many = || {
        let text = format!("more than {} headers", limits.headers);
        ApiError::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large", text)
    };
    match parsed {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(ApiError::invalid("the headers are incomplete")),
        Err(httparse::Error::TooManyHeaders) => return Err(too_many()),
        Err(httparse::Error::Version) => return Err(not_version_1_1()),
        Err(error) => return Err(ApiError::invalid(format_args!("invalid HTTP: {error}"))),
    }
    if request.version != Some(1) {
        return Err(not_version_1_1());
    }
    check_target(request.path.unwrap_or_default(), limits)?;
    let headers = Headers(request.headers);
    let host = check_host(&headers, is_secret || limits.any_host)?;
    check_origin(&headers, host, is_secret)?;
    check_body(&headers, limits)
}

fn not_version_1_1() -> ApiError {
    ApiError::new(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "invalid", "the server speaks HTTP/1.1 only")
}

fn check_target(target: &str, limits: &Limits) -> Result<()> {
    if target.len() > limits.target_bytes {
        let text = format!("the path is longer than {} bytes", limits.target_bytes);
        return Err(ApiError::new(StatusCode::URI_TOO_LONG, "invalid", text));
    }
    match target.starts_with('/') {
        true => Ok(()),
        false => Err(ApiError::invalid("the request target must be a path that begins with /")),
    }
}

struct Headers<'a>(&'a [httparse::Header<'a>]);

impl<'a> Headers<'a> {
    /// The values of a header.
    fn all(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let found = self.0.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
        found.map(|header| header.value)
    }

    /// The value of a header that may occur once.
    fn one(&self, name: &str) -> Result<Option<&'a str>> {
        let mut all = self.all(name);
        let Some(value) = all.next() else { return Ok(None) };
        if all.next().is_some() {
            return Err(ApiError::invalid(format_args!("more than one {name} header")));
        }
        let invalid = |_| ApiError::invalid(format_args!("the {name} header contains invalid characters"));
        std::str::from_utf8(value).map(Some).map_err(invalid)
    }
}

/// Checks that the Host header names this machine. After DNS rebinding (an attacker makes the name of another host refer to this
/// machine), a web page of that host sends the other name. With TLS this check is not needed, because the caller has compared the
/// name with the certificate of this server.
fn check_host<'a>(headers: &Headers<'a>, is_any: bool) -> Result<&'a str> {
    let host = headers.one("Host")?.ok_or_else(|| ApiError::invalid("the Host header is missing"))?;
    if is_any {
        return Ok(host);
    }
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, port),
        _ => (host, ""),
    };
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit());
    if is_port && LOCAL_HOSTS.iter().any(|local| local.eq_ignore_ascii_case(name)) {
        return Ok(host);
    }
    let text = format!("the Host header is {host:?}, which is not a name of this machine");
    Err(ApiError::new(StatusCode::MISDIRECTED_REQUEST, "forbidden", text)
        .hint(format_args!("use one of {}", LOCAL_HOSTS.join(", "))))
}

/// Checks the Origin header, in which browsers name the page that sends a request. Only pages of this server may send requests.
fn check_origin(headers: &Headers, host: &str, is_secret: bool) -> Result<()> {
    let Some(origin) = headers.one("Origin")? else { return Ok(()) };
    let scheme = if is_secret { "https://" } else { "http://" };
    match origin.strip_prefix(scheme).is_some_and(|origin| origin.eq_ignore_ascii_case(host)) {
        true => Ok(()),
        false => {
            let text = format!("the Origin header is {origin:?}: requests of web pages are refused");
            Err(ApiError::new(StatusCode::FORBIDDEN, "forbidden", text))
        }
    }
}

/// Checks that the length of the body is unambiguous.
fn check_body(headers: &Headers, limits: &Limits) -> Result<()> {
    let length = headers.one("Content-Length")?;
    let encoding = headers.one("Transfer-Encoding")?;
    if length.is_some() && encoding.is_some() {
        return Err(ApiError::invalid("both Content-Length and Transfer-Encoding are present"));
    }
    if let Some(encoding) = encoding.filter(|encoding| !encoding.eq_ignore_ascii_case("chunked")) {
        let text = format!("Transfer-Encoding is {encoding:?}; only chunked is supported");
        return Err(ApiError::new(StatusCode::NOT_IMPLEMENTED, "unsupported", text));
    }
    if let Some(length) = length {
        if length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(ApiError::invalid(format_args!("Content-Length is {length:?}, not a number")));
        }
        if length.parse().map_or(true, |length: usize| length > limits.body_bytes) {
            return Err(too_large(limits));
        }
    }
    match headers.one("Content-Encoding")?.filter(|encoding| !encoding.eq_ignore_ascii_case("identity")) {
        Some(encoding) => {
            let text = format!("Content-Encoding is {encoding:?}; send the body uncompressed");
            Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported", text))
        }
        None => Ok(()),
    }
}
