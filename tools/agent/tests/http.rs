//! The HTTP layer over real sockets: requests of malicious callers, and the response to each.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use eunomia_agent::http::{
    Body, Handler, Limits, Request, Response, Slots, error, json, local, network, read_body, serve,
};
use serde_json::{Value, json as value};

/// Responds with the body of the request.
struct Echo(Limits);

impl Handler for Echo {
    fn handle(self: Arc<Self>, request: Request) -> Pin<Box<dyn Future<Output = Response> + Send>> {
        Box::pin(async move {
            if request.head.uri.path() == "/stream" {
                let (pieces, receiver) = tokio::sync::mpsc::channel(1);
                tokio::spawn(async move {
                    for number in 0..3 {
                        let _ = pieces.send(format!("{number}\n").into()).await;
                        // Longer than the limit of a response that is not a stream.
                        tokio::time::sleep(2 * self.0.response_time / 3).await;
                    }
                });
                return http::Response::new(Body::Stream(receiver));
            }
            if request.head.uri.path() == "/never" {
                std::future::pending::<()>().await;
            }
            match read_body(request.body, &self.0).await {
                Ok(body) => {
                    let path = request.head.uri.path();
                    json(http::StatusCode::OK, value!({"path": path, "body": body.len()}).to_string())
                }
                Err(refused) => error(&refused),
            }
        })
    }
}

/// A server in a thread of its own.
struct Server {
    folder: tempfile::TempDir,
    address: SocketAddr,
}

/// Short times, so that the tests need not wait for long ones.
fn limits() -> Limits {
    let (head_time, body_time) = (Duration::from_millis(300), Duration::from_millis(300));
    let response_time = Duration::from_millis(300);
    Limits { head_time, body_time, response_time, burst: 100_000, ..Limits::default() }
}

impl Server {
    fn start(limits: Limits) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let tcp = network("127.0.0.1:0".parse().unwrap(), None).unwrap();
                let address = tcp.address().unwrap();
                let slots = Slots::new(limits.clone());
                let handler: Arc<dyn Handler> = Arc::new(Echo(limits));
                let unix = local(&path, None).unwrap();
                tokio::spawn(serve(unix, Arc::clone(&slots), Arc::clone(&handler)));
                sender.send(address).unwrap();
                serve(tcp, slots, handler).await;
            });
        });
        Server { folder, address: receiver.recv().unwrap() }
    }

    fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.address).unwrap()
    }

    fn unix(&self) -> UnixStream {
        UnixStream::connect(self.folder.path().join("socket")).unwrap()
    }

    /// Sends a text and returns the status and the body of the response.
    fn send(&self, text: impl AsRef<[u8]>) -> (u16, Value) {
        let mut stream = self.tcp();
        stream.write_all(text.as_ref()).unwrap();
        response(stream)
    }

    /// The same, for an error: the status and the message.
    fn refused(&self, text: impl AsRef<[u8]>) -> (u16, String) {
        let (code, body) = self.send(text);
        for member in ["status", "message", "detail", "hint"] {
            assert!(body[member].is_string(), "{member} in {body}");
        }
        (code, body["message"].as_str().unwrap().to_owned())
    }
}

/// Reads a response until the connection is closed.
fn response(mut stream: impl Read) -> (u16, Value) {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no response: {text:?}"));
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    (code, serde_json::from_str(body).unwrap_or(Value::from(body)))
}

#[test]
fn a_request_is_answered_over_both_sockets() {
    let server = Server::start(limits());
    let text = "POST /a?b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc";
    let expected = (200, value!({"path": "/a", "body": 3}));
    assert_eq!(server.send(text), expected);
    let mut unix = server.unix();
    // The request is sent in single bytes.
    for byte in text.bytes() {
        unix.write_all(&[byte]).unwrap();
    }
    assert_eq!(response(unix), expected);
    let chunked = "POST /a HTTP/1.1\r\nHost: [::1]:1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
    assert_eq!(server.send(chunked), expected);
    let same_origin = "GET /a HTTP/1.1\r\nHost: LOCALHOST:80\r\nOrigin: http://localhost:80\r\n\r\n";
    assert_eq!(server.send(same_origin).0, 200);
}

#[test]
fn each_malformed_request_has_its_own_message() {
    let server = Server::start(limits());
    let get = |headers: &str| server.refused(format!("GET / HTTP/1.1\r\n{headers}\r\n"));
    let host = "Host: localhost\r\n";
    let with = |headers: &str| get(&format!("{host}{headers}"));
    let found = [
        server.refused("\r\nGET / HTTP/1.1\r\n\r\n"),
        server.refused(b"\x16\x03\x01\x00\x05hello"),
        server.refused("GET / HTTP/1.1\nHost: localhost\n\n"),
        server.refused("GET / HTTP/1.0\r\nHost: localhost\r\n\r\n"),
        server.refused("GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        server.refused(format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(3000))),
        server.refused("G\u{1}T / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        get(""),
        get("Host: localhost\r\nHost: localhost\r\n"),
        get("Host: attacker.example\r\n"),
        get("Host: localhost.attacker.example\r\n"),
        get("Host: localhost:80:90\r\n"),
        with("Origin: http://attacker.example\r\n"),
        with("Origin: null\r\n"),
        with("Origin: http://localhost:81\r\n"),
        with("Folded: a\r\n b\r\n"),
        with("Name : value\r\n"),
        with("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"),
        with("Content-Length: 3\r\nContent-Length: 3\r\n"),
        with("Content-Length: 3, 3\r\n"),
        with("Content-Length: +3\r\n"),
        with("Content-Length: 99999999999999999999999999\r\n"),
        with("Transfer-Encoding: gzip, chunked\r\n"),
        with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        with("Content-Encoding: gzip\r\n"),
        with(&"A: b\r\n".repeat(64)),
        with(&format!("A: {}\r\n", "b".repeat(17_000))),
    ];
    let expected = [
        (400, "the request begins with an empty line"),
        (400, "this is the beginning of TLS; the server speaks HTTP here"),
        (400, "a line of the headers ends with LF instead of CR LF"),
        (505, "the server speaks HTTP/1.1 only"),
        (400, "the request target must be a path that begins with /"),
        (414, "the path is longer than 2048 bytes"),
        (400, "invalid HTTP: invalid token"),
        (400, "the Host header is missing"),
        (400, "more than one Host header"),
        (421, "the Host header is \"attacker.example\", which is not a name of this machine"),
        (421, "the Host header is \"localhost.attacker.example\", which is not a name of this machine"),
        (421, "the Host header is \"localhost:80:90\", which is not a name of this machine"),
        (403, "the Origin header is \"http://attacker.example\": requests of web pages are refused"),
        (403, "the Origin header is \"null\": requests of web pages are refused"),
        (403, "the Origin header is \"http://localhost:81\": requests of web pages are refused"),
        (400, "invalid HTTP: invalid header name"),
        (400, "invalid HTTP: invalid header name"),
        (400, "both Content-Length and Transfer-Encoding are present"),
        (400, "more than one Content-Length header"),
        (400, "Content-Length is \"3, 3\", not a number"),
        (400, "Content-Length is \"+3\", not a number"),
        (413, "the body is larger than 8388608 bytes"),
        (501, "Transfer-Encoding is \"gzip, chunked\"; only chunked is supported"),
        (400, "more than one Transfer-Encoding header"),
        (415, "Content-Encoding is \"gzip\"; send the body uncompressed"),
        (431, "more than 64 headers"),
        (431, "the request line and the headers exceed 16384 bytes"),
    ];
    assert_eq!(found, expected.map(|(code, message)| (code, message.to_owned())));
}

#[test]
fn a_second_request_in_the_same_connection_is_not_read() {
    let server = Server::start(limits());
    let first = "POST /first HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
    let (code, body) = server.send(format!("{first}GET /second HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    // One JSON object: two responses would not be one.
    assert_eq!((code, &body["path"]), (200, &value!("/first")));
}

#[test]
fn slow_callers_are_ended_and_do_not_keep_others_waiting() {
    let server = Server::start(limits());
    let silent = server.tcp();
    let mut slow = server.tcp();
    slow.write_all(b"GET / HTTP/1.1\r\nHost: loc").unwrap();
    let mut slow_body = server.tcp();
    slow_body.write_all(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nabc").unwrap();
    let mut forever = server.tcp();
    forever.write_all(b"GET /never HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert_eq!(server.send("GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n").0, 200);
    for (name, stream, message) in [
        ("silent", silent, "the headers were not complete after 0 s"),
        ("slow headers", slow, "the headers were not complete after 0 s"),
        ("slow body", slow_body, "the body was not complete after 0 s"),
    ] {
        let (code, body) = response(stream);
        assert_eq!((code, body["message"].as_str()), (408, Some(message)), "{name}");
    }
    assert_eq!(forever.read(&mut [0; 1]).unwrap(), 0, "a response that never comes is given up");
}

#[test]
fn an_endless_body_is_refused_while_it_is_sent() {
    let server =
        Server::start(Limits { body_bytes: 1 << 20, body_time: Duration::from_secs(60), ..limits() });
    let mut stream = server.tcp();
    stream.write_all(b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    let mut reader = stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        let chunk = [b"10000\r\n".as_slice(), &[0; 65536], b"\r\n"].concat();
        let mut sent = 0;
        while stream.write_all(&chunk).is_ok() {
            sent += 1;
            assert!(sent < 10_000, "the server reads without an end");
        }
    });
    // A reset may follow the response.
    let mut text = Vec::new();
    if let Err(e) = reader.read_to_end(&mut text) {
        assert_eq!(e.kind(), ErrorKind::ConnectionReset);
    }
    let text = String::from_utf8(text).unwrap();
    assert!(text.starts_with("HTTP/1.1 413 ") && text.contains("larger than 1048576 bytes"), "{text}");
    sender.join().unwrap();
}

#[test]
fn connections_beyond_the_limit_are_refused_and_the_server_goes_on() {
    let limits = Limits {
        connections: 40,
        connections_per_caller: 30,
        head_time: Duration::from_secs(60),
        ..limits()
    };
    let server = Server::start(limits);
    let local: Vec<UnixStream> = (0..30).map(|_| server.unix()).collect();
    let (code, body) = response(server.unix());
    assert_eq!((code, &body["status"]), (429, &value!("too_many_requests")));
    let remote: Vec<TcpStream> = (0..10).map(|_| server.tcp()).collect();
    let (code, body) = response(server.tcp());
    assert_eq!((code, &body["message"]), (503, &value!("all 40 connections are in use")));
    // Sends many more connections than the server accepts. The server sends an error to some, closes the others, and keeps none.
    let many: Vec<TcpStream> = (0..500).map(|_| server.tcp()).collect();
    drop((many, local, remote));
    let text = "GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for _ in 0..6000 {
        let mut stream = server.tcp();
        // A refusal can come before the request is sent.
        let _ = stream.write_all(text.as_bytes());
        let mut answer = String::new();
        if stream.read_to_string(&mut answer).is_ok() && answer.starts_with("HTTP/1.1 200 ") {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("the server does not recover");
}

#[test]
fn requests_beyond_the_rate_are_refused() {
    let server = Server::start(Limits { requests_per_second: 0, burst: 3, ..limits() });
    let text = "GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!([0; 3].map(|_| server.send(text).0), [200; 3]);
    assert_eq!(server.refused(text), (429, "more than 0 requests per second".to_owned()));
}

#[test]
fn a_stream_lasts_longer_than_other_responses() {
    let server = Server::start(limits());
    let (code, body) = server.send("GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let body = body.as_str().unwrap();
    assert!(code == 200 && body.contains("0\n") && body.contains("2\n"), "{body:?}");
}

#[test]
fn the_socket_is_for_its_owner_and_group_and_replaces_only_a_dead_one() {
    use std::os::unix::fs::PermissionsExt;
    let server = Server::start(limits());
    let path = server.folder.path().join("socket");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    let message = |path| local(path, None).err().unwrap().to_string();
    assert_eq!(message(&path), "another server listens there");
    let file = server.folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert_eq!(message(&file), "the file exists and is not a socket");
    let left = server.folder.path().join("left");
    drop(std::os::unix::net::UnixListener::bind(&left).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _guard = runtime.enter();
    assert!(local(&left, None).is_ok());
}
