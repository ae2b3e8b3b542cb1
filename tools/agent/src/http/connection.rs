//! Serves one connection: reads the head and the request, sends the response, and closes the connection.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::body::Body;
use super::head;
use super::slots::{Slot, Slots};
use super::stream::{Peer, Rewound, Stream};
use crate::error::ApiError;
use crate::tls::Tls;

/// Maximum number of bytes that are read after the response. If unread bytes are left, closing sends a reset, and the
/// caller may lose the response.
const LINGER_TIME: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 16 << 20;

/// A connection that was just accepted.
pub enum Accepted {
    /// Requests can be read from it.
    Plain(Stream),
    /// The TLS handshake comes first.
    Tls(TcpStream, Arc<Tls>),
}

/// A request whose head was checked.
pub struct Request {
    /// Who sends it.
    pub peer: Peer,
    /// The names in the certificate of the caller.
    pub names: Arc<[String]>,
    /// Method, path and headers.
    pub head: Parts,
    /// The body, not read yet.
    pub body: Incoming,
}

/// A response.
pub type Response = http::Response<Body>;

/// A function that handles requests.
pub trait Handler: Send + Sync + 'static {
    /// Handles a request. The future is dropped when the caller closes the connection.
    fn handle(self: Arc<Self>, request: Request) -> Pin<Box<dyn Future<Output = Response> + Send>>;
}

/// A response with a JSON text.
pub fn json(code: StatusCode, text: String) -> Response {
    let mut response = http::Response::new(Body::Whole(Some(Bytes::from(text))));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    response
}

/// A response with an error.
pub fn error(error: &ApiError) -> Response {
    let mut response = json(error.code, error.to_json());
    for (name, value) in &error.headers {
        if let Ok(value) = header::HeaderValue::from_str(value) {
            response.headers_mut().insert(*name, value);
        }
    }
    response
}

/// Serves one connection until it is closed.
pub async fn run(accepted: Accepted, peer: Peer, slot: Slot, slots: Arc<Slots>, handler: Arc<dyn Handler>) {
    let limits = slots.limits();
    let deadline = Instant::now() + limits.head_time;
    let (mut stream, names, is_secret) = match accepted {
        Accepted::Plain(stream) => (stream, Vec::new(), false),
        Accepted::Tls(stream, tls) => match timeout_at(deadline, tls.accept(stream)).await {
            Ok(Ok((stream, names))) => (Stream::Tls(Box::new(stream)), names, true),
            // The TLS library has sent an alert to the caller.
            Ok(Err(_)) | Err(_) => return,
        },
    };
    let head = match timeout_at(deadline, head::read(&mut stream, limits, is_secret)).await {
        Ok(Ok(Some(head))) => head.freeze(),
        Ok(Ok(None)) => return,
        Ok(Err(error)) => return refuse(stream, &error).await,
        Err(_) => {
            let text = format!("the headers were not complete after {} s", limits.head_time.as_secs());
            let error = ApiError::new(StatusCode::REQUEST_TIMEOUT, "timeout", text);
            return refuse(stream, &error).await;
        }
    };
    if let Err(error) = slots.request(peer.key()) {
        return refuse(stream, &error).await;
    }
    let caller = (peer, names.into());
    if let Some(stream) = answer(Rewound { first: head, stream }, caller, &slots, handler).await {
        linger(stream).await;
    }
    drop(slot);
}

/// Makes hyper read the request and write the response. Returns the connection unless it has failed.
async fn answer(
    stream: Rewound,
    (peer, names): (Peer, Arc<[String]>),
    slots: &Slots,
    handler: Arc<dyn Handler>,
) -> Option<Stream> {
    let is_stream = Arc::new(AtomicBool::new(false));
    let service = service_fn(|request: http::Request<Incoming>| {
        let (head, body) = request.into_parts();
        let request = Request { peer, names: Arc::clone(&names), head, body };
        let (response, is_stream) = (Arc::clone(&handler).handle(request), Arc::clone(&is_stream));
        Box::pin(async move {
            let response = response.await;
            is_stream.store(matches!(response.body(), Body::Stream(_)), Relaxed);
            Ok::<_, Infallible>(response)
        })
    });
    let mut builder = http1::Builder::new();
    builder.keep_alive(false).max_headers(slots.limits().headers);
    let mut connection = builder.serve_connection(TokioIo::new(stream), service);
    loop {
        let end = poll_fn(|cx| connection.poll_without_shutdown(cx));
        match timeout(slots.limits().response_time, end).await {
            Ok(Ok(())) => return Some(connection.into_parts().io.into_inner().stream),
            Ok(Err(_)) => return None,
            Err(_) if is_stream.load(Relaxed) => {}
            Err(_) => return None,
        }
    }
}

/// Sends an error without hyper.
pub(super) async fn refuse(mut stream: Stream, error: &ApiError) {
    let text = refusal(error);
    if let Ok(Ok(())) = timeout(LINGER_TIME, stream.write_all(text.as_bytes())).await {
        linger(stream).await;
    }
}

/// The text of a response with an error.
fn refusal(error: &ApiError) -> String {
    let body = error.to_json();
    let reason = error.code.canonical_reason().unwrap_or_default();
    let mut text = format!("HTTP/1.1 {} {reason}\r\n", error.code.as_u16());
    for (name, value) in &error.headers {
        text += &format!("{name}: {value}\r\n");
    }
    let len = body.len();
    text + &format!(
        "Content-Type: application/json\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n{body}"
    )
}

/// Closes a connection after the caller has had time to read the response.
async fn linger(mut stream: Stream) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut rest = stream.take(LINGER_BYTES);
    let mut buffer = [0; 4096];
    let _ =
        timeout(LINGER_TIME, async { while rest.read(&mut buffer).await.is_ok_and(|count| count > 0) {} })
            .await;
}
