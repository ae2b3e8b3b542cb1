//! A process that downloads packages for the server, from the places that the policy allows. The server itself opens no connection.
//!
//! The process has no privileges, writes no file, and reads the policy itself, so that whoever controls the server cannot make it
//! connect to other places. It is started only if the policy names a place.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use eunomia::Status;
use http::StatusCode;

use crate::error::{ApiError, Result};
use crate::loader::channel;
use crate::loader::protocol::{Failure, Reply};
use crate::loader::wire::{Reader, Writer};
use crate::policy::Policy;

/// Maximum size of a package, in bytes.
const MAX_PACKAGE: usize = 16 << 20;

/// A downloaded package and its signature.
pub type Download = (Vec<u8>, Option<String>);

/// The server's end.
pub struct Fetcher(Option<Mutex<UnixStream>>);

impl Fetcher {
    /// Starts the process if the policy names a place. `command` starts a process that calls [`serve`].
    pub fn start(policy: &Policy, mut command: Command) -> io::Result<Fetcher> {
        if !policy.has_sources() {
            return Ok(Fetcher(None));
        }
        let (own, other) = UnixStream::pair()?;
        command.env_clear().stdin(OwnedFd::from(other)).stdout(Stdio::null()).spawn()?;
        Ok(Fetcher(Some(Mutex::new(own))))
    }

    /// Downloads a package: a URL or an image.
    pub fn fetch(&self, source: &str) -> Result<Download> {
        let Some(socket) = &self.0 else {
            let hint = "send the package itself, or add the place to sources of the policy and start the server again";
            return Err(Failure::refused("sources", "the server downloads nothing", hint).into());
        };
        let Ok(socket) = socket.try_lock() else {
            let text = "another download is in progress";
            let error = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", text);
            return Err(error.header("Retry-After", 1));
        };
        let reply = channel::send(&socket, source.as_bytes(), &[]).and_then(|()| channel::receive(&socket));
        let reply = reply.ok().flatten().and_then(|(reply, _)| decode(&reply));
        reply.ok_or_else(|| {
            let text = "the process for downloads has ended; start the server again";
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", text)
        })?
    }
}

fn encode(result: std::result::Result<Download, Failure>) -> Vec<u8> {
    match result {
        Err(failure) => Reply::Failed(failure).encode(),
        Ok((package, signature)) => {
            let mut out = Writer::default();
            out.number(u64::MAX).bytes(&package).list(signature.as_slice(), |out, signature| {
                out.text(signature);
            });
            out.0
        }
    }
}

/// Reads what [`encode`] has written; `None` if it is something else.
fn decode(reply: &[u8]) -> Option<Result<Download>> {
    if let Some(Reply::Failed(failure)) = Reply::decode(reply) {
        return Some(Err(failure.into()));
    }
    let mut input = Reader(reply);
    let (u64::MAX, package, mut signature) = (input.number()?, input.bytes()?, input.list(Reader::text)?)
    else {
        return None;
    };
    input.0.is_empty().then(|| Ok((package.to_vec(), signature.pop())))
}

/// The main function of the process: downloads what the messages on its socket name, one after the other. It ends when the server
/// closes the socket. `policy` is the file of the policy, which is read again for each download.
pub fn serve(
    socket: OwnedFd,
    policy: Option<&Path>,
    download: impl Fn(&str) -> std::result::Result<Download, String>,
) -> io::Result<()> {
    let socket = UnixStream::from(socket);
    while let Some((source, _)) = channel::receive(&socket)? {
        let source = String::from_utf8_lossy(&source);
        let policy = Policy::load(policy).map_err(|why| Failure::new(Status::Inval, why));
        let result = policy.and_then(|policy| policy.check_location(&source)).and_then(|()| {
            let (package, signature) =
                download(&source).map_err(|why| Failure::new(Status::NotFound, why))?;
            match package.len() <= MAX_PACKAGE {
                true => Ok((package, signature)),
                false => Err(Failure::new(
                    Status::Package,
                    format_args!("{source}: larger than {MAX_PACKAGE} bytes"),
                )),
            }
        });
        channel::send(&socket, &encode(result), &[])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_download_is_read_as_it_was_sent() {
        for signature in [None, Some("s".to_owned())] {
            let sent = (b"p".to_vec(), signature);
            let bytes = encode(Ok(sent.clone()));
            assert_eq!(decode(&bytes).unwrap().unwrap(), sent);
            assert!(decode(&[&bytes[..], &[0]].concat()).is_none());
        }
        let failed = decode(&encode(Err(Failure::new(Status::NotFound, "x")))).unwrap().unwrap_err();
        assert_eq!(failed.message, "x");
        for bytes in [&b""[..], &[0xff; 8], &[0; 30]] {
            assert!(decode(bytes).is_none());
        }
    }
}
