//! What a name means that is no file.

use oci_client::Reference;

use super::sha256;
use crate::error::{Code, Failure, Result};

/// Where a program is to be had.
#[derive(Debug)]
pub enum Place {
    /// A file of a web server, and what it has to be.
    Url(String, Option<Pin>),
    /// A program of the repository.
    Name {
        /// Without its tag.
        name: String,
        /// Whether a copy from before will not do.
        latest: bool,
    },
    /// A program in an OCI registry.
    Image(Reference),
}

/// The content that a download has to have.
#[derive(Debug, PartialEq, Eq)]
pub struct Pin {
    sha256: String,
}

impl Pin {
    fn parse(text: &str) -> Option<Pin> {
        let digits = text.strip_prefix("sha256=").or_else(|| text.strip_prefix("sha256:"))?;
        let is_digest = digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_digest.then(|| Pin { sha256: digits.to_ascii_lowercase() })
    }

    /// Whether these are the bytes; if not, what they are.
    pub fn check(&self, bytes: &[u8]) -> std::result::Result<(), String> {
        let is = sha256(bytes);
        if is == self.sha256 {
            return Ok(());
        }
        Err(format!("not the content that is asked for: its SHA-256 is {is}, not {}", self.sha256))
    }
}

impl Place {
    /// Reads what the user wrote.
    pub fn parse(text: &str) -> Result<Place> {
        let wrong = |why: &str| Failure::new(Code::Source, format_args!("{text}: {why}"));
        match text.split_once("://") {
            Some(("http" | "https", _)) => {
                let (url, pin) = match text.split_once('#') {
                    None => (text, None),
                    Some((url, pin)) => (url, Some(pin)),
                };
                let pin = pin.map(|pin| {
                    Pin::parse(pin)
                        .ok_or_else(|| wrong("what follows # has to be sha256= and 64 hexadecimal digits"))
                });
                Ok(Place::Url(url.to_owned(), pin.transpose()?))
            }
            Some(("oci", _)) => image(text).map(Place::Image),
            Some(("file", path)) => Err(wrong(&format!("name the file itself: {path}"))),
            Some((scheme, _)) => {
                Err(wrong(&format!("unknown scheme {scheme:?}; there are http, https and oci")))
            }
            None => match name(text) {
                Some((name, tag)) => Ok(Place::Name { name: name.to_owned(), latest: tag == Some("latest") }),
                None if has_registry(text) => image(text).map(Place::Image),
                None => Err(wrong(
                    "no such file; an OCI reference begins with its registry, as in ghcr.io/org/tool:tag",
                )),
            },
        }
    }
}

/// The reference of an image, which may have a scheme in front.
pub fn image(text: &str) -> Result<Reference> {
    let rest = ["oci://", "https://", "http://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    let wrong = |why: &dyn std::fmt::Display| {
        Failure::new(Code::Source, format_args!("{text}: not an OCI reference: {why}"))
    };
    let text = rest.unwrap_or(text);
    if !has_registry(text) {
        return Err(wrong(&"it begins with its registry, as in ghcr.io/org/tool:tag"));
    }
    text.parse().map_err(|why| wrong(&why))
}

/// A name of the repository and its tag.
fn name(text: &str) -> Option<(&str, Option<&str>)> {
    let (name, tag) = match text.split_once(':') {
        None => (text, None),
        Some((name, tag)) => (name, Some(tag)),
    };
    let is_word = |word: &str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
    };
    (is_word(name) && tag.is_none_or(|tag| is_word(tag) && !tag.bytes().all(|byte| byte.is_ascii_digit())))
        .then_some((name, tag))
}

/// Whether the first part is a machine, by the rule of other tools for images: it has a dot or a port, or is localhost.
fn has_registry(text: &str) -> bool {
    text.split_once('/').is_some_and(|(first, rest)| {
        !rest.is_empty() && (first == "localhost" || first.contains(['.', ':'])) && !first.starts_with('.')
    })
}

/// The URL of the file whose name goes on with `suffix`: what asks for it comes behind.
pub fn with_suffix(url: &str, suffix: &str) -> String {
    match url.split_once('?') {
        Some((path, query)) => format!("{path}{suffix}?{query}"),
        None => format!("{url}{suffix}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_pin_is_64_hexadecimal_digits() {
        let pinned = format!("https://example.org/p.json#sha256={DIGEST}");
        let Place::Url(url, Some(pin)) = Place::parse(&pinned).unwrap() else { panic!("no pin") };
        assert_eq!(url, "https://example.org/p.json");
        assert!(pin.check(b"").is_ok());
        assert!(pin.check(b"x").unwrap_err().contains(DIGEST));
        for wrong in ["#", "#sha256=", "#sha256=12", "#md5=12", &format!("#sha256={DIGEST}0")] {
            assert!(Place::parse(&format!("https://example.org/p.json{wrong}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_images_and_mistakes_are_told_apart() {
        let is_name = |text: &str| matches!(Place::parse(text), Ok(Place::Name { .. }));
        let is_image = |text: &str| matches!(Place::parse(text), Ok(Place::Image(_)));
        assert!(is_name("opensnoop") && is_name("fentry-link") && is_name("opensnoop:latest"));
        assert!(
            is_image("ghcr.io/org/tool:latest")
                && is_image("localhost:5000/tool")
                && is_image("oci://ghcr.io/o/t")
        );
        assert!(is_image("localhost/tool") && is_image(&format!("ghcr.io/org/tool@sha256:{DIGEST}")));
        for wrong in
            ["", "org/tool", "dir/package", "ftp://x/y", "file:///x", "localhost:5000", "a b", "ghcr.io/"]
        {
            assert!(Place::parse(wrong).is_err(), "{wrong}");
        }
        let Err(failure) = Place::parse("oci://") else { panic!("an image without a name") };
        assert!(failure.text().starts_with("oci://: not an OCI reference"), "{}", failure.text());
    }

    #[test]
    fn a_suffix_goes_in_front_of_the_query() {
        assert_eq!(with_suffix("http://a/p?v=1", ".minisig"), "http://a/p.minisig?v=1");
        assert_eq!(with_suffix("http://a/p", ".minisig"), "http://a/p.minisig");
    }
}
