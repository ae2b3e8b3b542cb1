//! Downloads programs from URLs, the repository and OCI registries, for every tool that runs programs.
//!
//! [`open`] is the entry point. It returns the bytes of a program, not verified yet, and its signature on request.

mod cache;
mod challenge;
pub mod credentials;
mod download;
mod error;
mod http;
pub mod image;
pub mod location;
mod progress;
pub mod reference;
mod registry;
mod web;

use location::Location;

pub use download::{Download, Options, Signature, sha256};
pub use error::{Code, Failure, Program, Result, set_program};
pub use web::{kept, listed};

/// Downloads a program. Returns `None` for a file or standard input.
pub fn open(location: &Location, options: Options) -> Result<Option<Download>> {
    match location {
        Location::Url(url, pin) => web::from_url(url, pin.as_ref(), options),
        Location::Name { name, tag } => {
            let no_cache = options.no_cache || tag.as_deref() == Some("latest");
            web::from_repository(&web::repository(), name, Options { no_cache, ..options })
        }
        Location::Image(image) => image::pull(image, options),
        Location::File | Location::Stdin => return Ok(None),
    }
    .map(Some)
}
