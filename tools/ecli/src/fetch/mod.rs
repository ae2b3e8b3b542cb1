//! Downloads programs from URLs, the repository and OCI registries.
//!
//! [`open`] is the entry point. It returns the bytes of a program, not verified yet, and its signature on request.

mod cache;
mod challenge;
pub mod credentials;
mod download;
mod http;
pub mod image;
pub mod location;
mod progress;
pub mod reference;
mod registry;
mod web;

use crate::error::Result;
use location::Location;

pub use download::{Download, Options, Signature, sha256};
pub use web::{kept, listed};

/// Downloads a program. Returns `None` for a file or standard input.
pub fn open(location: &Location, options: Options) -> Result<Option<Download>> {
    match location {
        Location::Url(url, pin) => web::from_url(url, pin.as_ref(), options),
        Location::Name { name, latest } => {
            let no_cache = options.no_cache || *latest;
            web::from_repository(&web::repository(), name, Options { no_cache, ..options })
        }
        Location::Image(image) => image::pull(image, options),
        Location::File | Location::Stdin => return Ok(None),
    }
    .map(Some)
}
