//! Decides whether a name is a file, standard input, a URL, a program of the repository or an image.
//!
//! Every command uses this. Only the name decides, never the files in the current directory: another user may write to it
//! and must not be able to replace a download.

use std::borrow::Cow;

use crate::download::sha256;
use crate::error::{Code, Failure, Result};
use crate::reference::{Reference, has_registry};

/// The location of a program.
#[derive(Debug)]
pub enum Location {
    /// Standard input.
    Stdin,
    /// A file on this machine.
    File,
    /// A file on a web server, and the digest that it must have.
    Url(String, Option<Pin>),
    /// A program of the repository.
    Name {
        /// The name without its tag.
        name: String,
        /// The tag. If it is `latest`, a cached copy is not used.
        tag: Option<String>,
    },
    /// An image in an OCI registry.
    Image(Reference),
}

/// The required digest of a download.
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

    /// Fails unless the bytes have this digest.
    pub fn check(&self, bytes: &[u8]) -> std::result::Result<(), String> {
        let actual = sha256(bytes);
        if actual == self.sha256 {
            return Ok(());
        }
        Err(format!("digest mismatch: expected SHA-256 {}, found {actual}", self.sha256))
    }
}

/// Suffixes of program files. A reference without a tag that ends with one is ambiguous.
const SUFFIXES: [&str; 4] = [".json", ".wasm", ".tar", ".o"];

impl Location {
    /// Parses a name that a user has written.
    pub fn parse(text: &str) -> Result<Location> {
        let error = |why: &str| Failure::new(Code::Source, format_args!("{}: {why}", without_password(text)));
        if text.is_empty() {
            return Err(Failure::new(Code::Usage, "the name of the program is empty"));
        }
        if text == "-" {
            return Ok(Location::Stdin);
        }
        if ["/", "./", "../", "~"].iter().any(|start| text.starts_with(start)) {
            return Ok(Location::File);
        }
        if let Some((scheme, rest)) = scheme(text) {
            return by_scheme(text, &scheme, rest);
        }
        if let Some((name, tag)) = name(text) {
            return Ok(Location::Name { name: name.to_owned(), tag: tag.map(str::to_owned) });
        }
        if has_registry(text) {
            let image = image(text)?;
            if !image.is_exact() && SUFFIXES.iter().any(|suffix| text.ends_with(suffix)) {
                return Err(error(&format!(
                    "ambiguous; write ./{text} for a file or oci://{text} for an image"
                )));
            }
            return Ok(Location::Image(image));
        }
        if text.contains([':', '#', '@']) {
            return Err(error(&format!(
                "not a URL, a name or an image such as ghcr.io/org/tool:tag; for a file, write ./{text}"
            )));
        }
        Ok(Location::File)
    }
}

/// The scheme in lower case, and the text after its colon. A slash must follow an unknown scheme, because a name may
/// have a tag and a host a port.
fn scheme(text: &str) -> Option<(String, &str)> {
    const KNOWN: [&str; 5] = ["http", "https", "oci", "file", "ftp"];
    let (scheme, rest) = text.split_once(':')?;
    let scheme = scheme.to_ascii_lowercase();
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.bytes().all(is_word);
    (is_scheme && (rest.starts_with('/') || KNOWN.contains(&&*scheme))).then_some((scheme, rest))
}

fn by_scheme(text: &str, scheme: &str, rest: &str) -> Result<Location> {
    let error = |why: &str| Failure::new(Code::Source, format_args!("{}: {why}", without_password(text)));
    let Some(rest) = rest.strip_prefix("//") else {
        return Err(error(&format!("expected // after {scheme}:; for a file, write ./{text}")));
    };
    match scheme {
        "http" | "https" => {
            let (rest, pin) = match rest.split_once('#') {
                None => (rest, None),
                Some((rest, pin)) => (rest, Some(pin)),
            };
            let bad_pin = || error("expected sha256= and 64 hexadecimal digits after #");
            let pin = pin.map(|pin| Pin::parse(pin).ok_or_else(bad_pin)).transpose()?;
            Ok(Location::Url(format!("{scheme}://{rest}"), pin))
        }
        "oci" => image(rest).map(Location::Image),
        "file" => Err(error(&format!("file URLs are not supported; use the path {rest}"))),
        _ => Err(error(&format!("unknown scheme {scheme:?}; expected http, https or oci"))),
    }
}

/// Parses a reference to an image, with or without a scheme.
pub fn image(text: &str) -> Result<Reference> {
    let rest = ["oci://", "https://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    Reference::parse(rest.unwrap_or(text)).map_err(|why| {
        let hint = if rest.is_none() && has_registry(text) {
            format!("; for a file, write ./{text}")
        } else {
            String::new()
        };
        Failure::new(Code::Source, format_args!("{text}: invalid OCI reference: {why}{hint}"))
    })
}

/// A name in the repository, and its tag.
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

/// Removes the user name and password from a URL.
pub fn without_password(url: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = url.split_once("://") else { return url.into() };
    // In web addresses, a backslash is the same as a slash.
    let authority = &rest[..rest.find(['/', '\\', '?', '#']).unwrap_or(rest.len())];
    match authority.rfind('@') {
        Some(end) if !scheme.contains('/') => format!("{scheme}://{}", &rest[end + 1..]).into(),
        _ => url.into(),
    }
}

/// Appends `suffix` to the path of a URL, before its query.
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
        let Location::Url(url, Some(pin)) = Location::parse(&pinned).unwrap() else { panic!("no pin") };
        assert_eq!(url, "https://example.org/p.json");
        assert!(pin.check(b"").is_ok());
        assert!(pin.check(b"x").unwrap_err().contains(DIGEST));
        for wrong in ["#", "#sha256=", "#sha256=12", "#md5=12", &format!("#sha256={DIGEST}0")] {
            assert!(Location::parse(&format!("https://example.org/p.json{wrong}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_name_is_a_file_an_image_a_url_or_an_error() {
        let kind = |text: &str| match Location::parse(text) {
            Ok(Location::Stdin) => "stdin",
            Ok(Location::File) => "file",
            Ok(Location::Url(..)) => "url",
            Ok(Location::Name { .. }) => "name",
            Ok(Location::Image(_)) => "image",
            Err(_) => "wrong",
        };
        let pinned = format!("ghcr.io/org/tool@sha256:{DIGEST}");
        let texts: [(&str, &[&str]); 6] = [
            ("stdin", &["-"]),
            ("name", &["opensnoop", "fentry-link", "opensnoop:latest", "rum:latest", "XDP_1"]),
            (
                "image",
                &[
                    "ghcr.io/org/tool:latest",
                    "ghcr.io/tool",
                    "localhost:5000/tool",
                    "oci://ghcr.io/o/t",
                    "OCI://ghcr.io/o/t",
                    "localhost/tool",
                    "[::1]:5000/tool:1",
                    "127.0.0.1/t",
                    "oci://ghcr.io/o/t.json",
                    &pinned,
                ],
            ),
            (
                "url",
                &[
                    "https://example.org/x",
                    "HTTPS://example.org/x",
                    "hTTp://example.org/x",
                    "http://u:p@[::1]:80/x#sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                ],
            ),
            (
                "file",
                &[
                    "package.json",
                    "app.wasm",
                    "x.bpf.o",
                    "dir/package.json",
                    "org/tool",
                    "./opensnoop",
                    "../opensnoop",
                    "/opensnoop",
                    "./https://example.org/x",
                    "./ghcr.io/org/tool:latest",
                    "./a@b#c:d",
                    ".hidden/x",
                    "~/x",
                    "a b",
                    "\u{43e}pensnoop",
                    "a..b",
                    "dir/file.d/x",
                ],
            ),
            (
                "wrong",
                &[
                    "",
                    "ftp://x/y",
                    "FILE:///x",
                    "localhost:5000",
                    "https:/example.org/x",
                    "https:example.org",
                    "HTTP:x",
                    "oci:/ghcr.io/o/t",
                    "x:/y",
                    "file.json@sha256:12",
                    "file.json#sha256=12",
                    "opensnoop#sha256=12",
                    "opensnoop@1",
                    "dir/a:b",
                    "dir/a@b",
                    "a:b:c",
                    "a#b",
                    " https://example.org/x",
                    "https://example.org/x#",
                    "build.d/package.json",
                    "v1.2/x.o",
                    "ghcr.io/Org/tool",
                    "ghcr.io/org/tool@sha256:12",
                    "u@ghcr.io/org/tool",
                    "oci://tool",
                    "http:\\\\example.org\\x",
                ],
            ),
        ];
        for (expected, texts) in texts {
            for text in texts {
                assert_eq!(kind(text), expected, "{text:?}");
            }
        }
        let Err(failure) = Location::parse("oci://") else { panic!("accepted an image without a name") };
        assert!(failure.text().contains("invalid OCI reference"), "{}", failure.text());
    }

    #[test]
    fn a_password_in_a_url_is_not_shown() {
        for (url, shown) in [
            ("https://u:p@h/x", "https://h/x"),
            ("https://u:p@w@h?a@b", "https://h?a@b"),
            ("https://h/a@b", "https://h/a@b"),
            ("https://h\\@other/x", "https://h\\@other/x"),
            ("opensnoop", "opensnoop"),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }

    #[test]
    fn a_suffix_is_inserted_before_the_query() {
        assert_eq!(with_suffix("http://a/p?v=1", ".minisig"), "http://a/p.minisig?v=1");
        assert_eq!(with_suffix("http://a/p", ".minisig"), "http://a/p.minisig");
    }
}
