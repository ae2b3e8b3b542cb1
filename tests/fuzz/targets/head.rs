//! Heads of HTTP requests as they arrive: in two pieces, after a byte with the length of the first one.
#![no_main]

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use eunomia_agent::http::{Limits, read_head};
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Reads a head from bytes, which never have to be waited for.
fn read(mut stream: impl AsyncRead + Unpin, is_secret: bool) -> Option<Vec<u8>> {
    let limits = Limits::default();
    let mut head = pin!(read_head(&mut stream, &limits, is_secret));
    match head.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(head) => head.ok().flatten().map(|head| head.to_vec()),
        Poll::Pending => panic!("it waits for bytes that are there"),
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&first, data)) = data.split_first() else { return };
    let (begin, rest) = data.split_at(data.len().min(first.into()));
    for is_secret in [false, true] {
        let (whole, pieces) = (read(data, is_secret), read(begin.chain(rest), is_secret));
        assert_eq!(whole.is_some(), pieces.is_some(), "pieces do not matter");
        let Some(head) = whole.filter(|_| !is_secret) else { continue };
        let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let head = text.split("\r\n\r\n").next().unwrap_or_default();
        let count = |name: &str| head.split("\r\n").filter(|line| line.starts_with(name)).count();
        // Two servers could understand a head that violates one of these rules in different ways.
        assert_eq!(count("host:"), 1);
        assert!(count("content-length:") + count("transfer-encoding:") <= 1);
        assert!(!head.split("\r\n").any(|line| line.starts_with([' ', '\t']) || line.contains('\n')));
    }
});
