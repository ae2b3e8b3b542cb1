//! Reads the bodies of requests within limits, and represents those of responses.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::StatusCode;
use http_body::Frame;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::limits::Limits;
use crate::error::{ApiError, Result};

/// The body of a response.
pub enum Body {
    /// The whole body; `None` after it was sent.
    Whole(Option<Bytes>),
    /// Pieces, each of which is sent when it arrives.
    Stream(mpsc::Receiver<Bytes>),
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match self.get_mut() {
            Body::Whole(bytes) => Poll::Ready(bytes.take()),
            Body::Stream(pieces) => pieces.poll_recv(cx),
        };
        next.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Body::Whole(None))
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match self {
            Body::Whole(bytes) => {
                http_body::SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Body::Stream(_) => http_body::SizeHint::default(),
        }
    }
}

/// Reads the body of a request.
pub async fn read_body(body: Incoming, limits: &Limits) -> Result<Bytes> {
    let collected = timeout(limits.body_time, Limited::new(body, limits.body_bytes).collect()).await;
    let Ok(collected) = collected else {
        let text = format!("the body was not complete after {} s", limits.body_time.as_secs());
        return Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "timeout", text));
    };
    match collected {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large(limits)),
        Err(error) => Err(ApiError::invalid(format_args!("the body cannot be read: {error}"))),
    }
}

/// The body is too large.
pub(super) fn too_large(limits: &Limits) -> ApiError {
    let text = format!("the body is larger than {} bytes", limits.body_bytes);
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", text)
}
