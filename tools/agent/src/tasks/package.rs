//! Reads packages of requests, without privileges.

use eunomia::package::Package;
use eunomia::{Kind, Options, Vm};
use http::StatusCode;

use super::Tasks;
use crate::archive;
use crate::error::{ApiError, Result};

/// The package of a request.
pub enum Given {
    /// Its bytes and its signature.
    Bytes(Vec<u8>, Option<String>),
    /// The digest of a task's package.
    Digest(String),
    /// One that the server downloads: a URL or an image.
    Source(String),
}

impl Tasks {
    /// Checks the package of a request, without privileges. Returns it, its bytes and its signature.
    pub fn package(&self, given: Given) -> Result<(Package, Vec<u8>, Option<String>)> {
        let (bytes, signature) = match given {
            Given::Bytes(bytes, signature) => (bytes, signature),
            Given::Digest(digest) => self.stored(&digest)?,
            Given::Source(source) => self.fetcher.fetch(&source)?,
        };
        Ok((check_package(&bytes)?, bytes, signature))
    }

    /// Returns the task's package with this digest, and its signature.
    fn stored(&self, digest: &str) -> Result<(Vec<u8>, Option<String>)> {
        let tasks = self.list();
        let task = tasks.iter().find(|task| task.current().digest == digest).ok_or_else(|| {
            let text = format!("no task has a package with the digest sha256:{digest}");
            ApiError::new(StatusCode::NOT_FOUND, "not_found", text).hint("send the package itself")
        })?;
        let signature = task.current().origin.signature.clone();
        let bytes = self.state.package(digest);
        let failed = |why| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "state", why);
        Ok((bytes.map_err(failed)?, signature))
    }
}

/// Checks the package of a request for the first time, without privileges. Returns it.
fn check_package(package: &[u8]) -> Result<Package> {
    let other = match package {
        [0, b'a', b's', b'm', ..] => {
            Some("a WASM module; the server runs JSON packages and tar archives with one")
        }
        [0x7f, b'E', b'L', b'F', ..] => Some("a BPF object; send the package.json that ecc writes"),
        _ => None,
    };
    if let Some(other) = other {
        let text = format!("package: this is {other}");
        return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "unsupported", text));
    }
    Ok(Package::parse(&archive::open(package)?)?)
}

/// Describes a package without loading it.
pub fn describe_package(package: &[u8]) -> Result<String> {
    let vm = Vm::new(Options::new())?;
    vm.open(&archive::open(package)?, Kind::Json)?;
    Ok(vm.describe()?)
}
