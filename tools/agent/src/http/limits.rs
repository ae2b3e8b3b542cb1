//! Limits on the resources that callers can use.

use std::time::Duration;

/// Limits of the HTTP layer.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Size of the request line and the headers, in bytes.
    pub head_bytes: usize,
    /// Number of headers.
    pub headers: usize,
    /// Length of the path with its query, in bytes.
    pub target_bytes: usize,
    /// Time from accepting the connection to the end of the headers.
    pub head_time: Duration,
    /// Size of a request's body, in bytes.
    pub body_bytes: usize,
    /// Time from the end of the headers to the end of the body.
    pub body_time: Duration,
    /// Time from the end of the headers to the end of a response that is not a stream.
    pub response_time: Duration,
    /// Number of connections of all callers.
    pub connections: usize,
    /// Number of connections of one caller: a user of the unix socket, or an address.
    pub connections_per_caller: usize,
    /// Number of requests per second of one caller, on average.
    pub requests_per_second: u32,
    /// Number of requests that a caller can send at once after a pause.
    pub burst: u32,
    /// Whether the `Host` header may be any name. Otherwise it must name this machine, unless the connection has TLS.
    pub any_host: bool,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            head_bytes: 16 << 10,
            headers: 64,
            target_bytes: 2 << 10,
            head_time: Duration::from_secs(5),
            body_bytes: 8 << 20,
            body_time: Duration::from_secs(10),
            response_time: Duration::from_secs(120),
            connections: 256,
            connections_per_caller: 64,
            requests_per_second: 50,
            burst: 200,
            any_host: false,
        }
    }
}
