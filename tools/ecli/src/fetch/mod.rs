//! Programs from elsewhere: URLs, names in a repository, OCI references.
//!
//! The one way in is [`open`]. So far it says what it was given and why that cannot be had.

use crate::error::{Code, Failure, Result};

/// The bytes of the program called `name`, which is no file of this machine. `_no_cache`: whether a copy from an earlier
/// call may not be used.
pub fn open(name: &str, _no_cache: bool) -> Result<Vec<u8>> {
    let text = match name.split_once("://") {
        Some(("file", path)) => format!("{name}: name the file itself: {path}"),
        Some(("http" | "https" | "oci", _)) => {
            format!(
                "{name}: this ecli cannot download; fetch it with curl and run the file, or pipe it: curl -sSf URL | ecli run -"
            )
        }
        Some((scheme, _)) => format!("{name}: unknown scheme {scheme:?}; there are http, https, oci"),
        None => format!("{name}: no such file"),
    };
    Err(Failure::new(Code::Source, text))
}
