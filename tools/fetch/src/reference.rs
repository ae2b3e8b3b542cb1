//! The names of images: `REGISTRY/REPOSITORY[:TAG][@DIGEST]`, by the grammar of the OCI distribution specification.

use std::fmt;

use sha2::{Digest as _, Sha512};

use crate::download::sha256;

/// A reference to an image in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Host and optional port, as the user wrote them.
    registry: String,
    /// The name of the image in the registry.
    pub repository: String,
    /// The name of a version.
    tag: Option<String>,
    /// The digest of a version.
    pub digest: Option<Digest>,
}

/// The digest of content in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    text: String,
}

/// Length limit of a repository name in registries.
const MAX_REPOSITORY: usize = 255;
const MAX_TAG: usize = 128;

impl Reference {
    /// Parses a reference without a scheme. It must begin with a registry.
    pub fn parse(text: &str) -> Result<Reference, String> {
        let (name, digest) = match text.split_once('@') {
            None => (text, None),
            Some((name, digest)) => (name, Some(Digest::parse(digest)?)),
        };
        if !has_registry(name) {
            return Err("expected a registry first, as in ghcr.io/org/tool:tag".into());
        }
        let (registry, path) = name.split_once('/').unwrap_or_default();
        let (repository, tag) = match path.split_once(':') {
            None => (path, None),
            Some((repository, tag)) => (repository, Some(tag.to_owned())),
        };
        if !is_registry(registry) {
            return Err(format!("{registry:?} is not HOST or HOST:PORT"));
        }
        if repository.len() > MAX_REPOSITORY || !repository.split('/').all(is_component) {
            return Err(format!(
                "invalid repository {repository:?}: use lower case letters, digits, . _ - and /"
            ));
        }
        if let Some(tag) = tag.as_deref().filter(|tag| !is_tag(tag)) {
            return Err(format!("invalid tag {tag:?}: use at most {MAX_TAG} letters, digits, . _ and -"));
        }
        // The repositories of Docker's own images begin with library/, which users omit.
        let is_short = is_docker_hub(registry) && !repository.contains('/');
        let repository = if is_short { format!("library/{repository}") } else { repository.to_owned() };
        Ok(Reference { registry: registry.to_owned(), repository, tag, digest })
    }

    /// The host and optional port that serve the registry.
    pub fn host(&self) -> &str {
        host(&self.registry)
    }

    /// The registry as the user wrote it. Credentials are saved under this name.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The digest of the manifest, or else its tag.
    pub fn version(&self) -> &str {
        let tag = self.tag.as_deref().unwrap_or("latest");
        self.digest.as_ref().map_or(tag, |digest| &digest.text)
    }

    /// Whether it has a tag or a digest.
    pub fn is_exact(&self) -> bool {
        self.tag.is_some() || self.digest.is_some()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        match (&self.tag, &self.digest) {
            (Some(tag), Some(digest)) => write!(f, ":{tag}@{}", digest.text),
            (Some(tag), None) => write!(f, ":{tag}"),
            (None, Some(digest)) => write!(f, "@{}", digest.text),
            (None, None) => write!(f, ":latest"),
        }
    }
}

impl Digest {
    /// Parses `sha256:` or `sha512:` and the digits.
    pub fn parse(text: &str) -> Result<Digest, String> {
        let (kind, digits) = text.split_once(':').unwrap_or((text, ""));
        let len = match kind {
            "sha256" => 64,
            "sha512" => 128,
            _ => return Err(format!("digest {text:?}: expected sha256: or sha512:")),
        };
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if digits.len() != len || !digits.bytes().all(is_digit) {
            return Err(format!("digest {text:?}: expected {len} hexadecimal digits"));
        }
        Ok(Digest { text: text.to_owned() })
    }

    /// The SHA-256 digest of some content.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest { text: format!("sha256:{}", sha256(bytes)) }
    }

    /// Fails unless the bytes have this digest.
    pub fn check(&self, bytes: &[u8]) -> Result<(), String> {
        let actual = if self.text.starts_with("sha512:") {
            let digits = Sha512::digest(bytes);
            format!("sha512:{}", digits.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
        } else {
            Digest::of(bytes).text
        };
        if actual == self.text {
            return Ok(());
        }
        Err(format!("digest mismatch: expected {}, found {actual}", self.text))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether the first component is a registry, by the rule of other tools for images: it contains a dot or a colon, or is
/// localhost.
pub fn has_registry(text: &str) -> bool {
    text.split_once('/').is_some_and(|(first, rest)| {
        !rest.is_empty() && (first == "localhost" || first.contains(['.', ':'])) && !first.starts_with('.')
    })
}

/// Whether a text is a host with an optional port.
pub fn is_registry(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_host = match address {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.split('.').all(|label| {
            let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            !label.is_empty() && label.bytes().all(is_letter) && !label.starts_with('-')
        }),
    };
    is_host && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// The host that serves a registry.
pub fn host(registry: &str) -> &str {
    if is_docker_hub(registry) { "registry-1.docker.io" } else { registry }
}

fn is_docker_hub(registry: &str) -> bool {
    matches!(registry, "docker.io" | "index.docker.io" | "registry-1.docker.io")
}

/// Whether a text is a component of a repository: lower case words, joined by a dot, one or two underscores, or hyphens.
fn is_component(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let separators =
        text.split(|c: char| c.is_ascii() && is_word(c as u8)).filter(|separator| !separator.is_empty());
    let mut separators = separators
        .map(|separator| matches!(separator, "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-'));
    let ends = [text.bytes().next(), text.bytes().last()];
    ends.iter().all(|end| end.is_some_and(is_word)) && separators.all(|is_separator| is_separator)
}

fn is_tag(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let may_follow = |byte: u8| is_letter(byte) || byte == b'.' || byte == b'-';
    text.bytes().next().is_some_and(is_letter) && text.len() <= MAX_TAG && text.bytes().all(may_follow)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_reference_has_a_registry_a_repository_and_a_version() {
        for (text, host, repository, version) in [
            ("ghcr.io/org/tool", "ghcr.io", "org/tool", "latest"),
            ("ghcr.io/org/a.b_c__d--e:V1.0-x", "ghcr.io", "org/a.b_c__d--e", "V1.0-x"),
            ("localhost/t", "localhost", "t", "latest"),
            ("localhost:5000/t:1", "localhost:5000", "t", "1"),
            ("[::1]:5000/t:1", "[::1]:5000", "t", "1"),
            ("127.0.0.1:80/a/b/c", "127.0.0.1:80", "a/b/c", "latest"),
            ("docker.io/alpine:3", "registry-1.docker.io", "library/alpine", "3"),
            (&format!("r.example/t:1@{DIGEST}"), "r.example", "t", DIGEST),
        ] {
            let image = Reference::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!((image.host(), &*image.repository, image.version()), (host, repository, version));
        }
    }

    #[test]
    fn invalid_references_are_refused() {
        let long = format!("ghcr.io/{}", "a".repeat(MAX_REPOSITORY + 1));
        for text in [
            "",
            "tool",
            "org/tool",
            "ghcr.io/",
            "ghcr.io/Org/tool",
            "ghcr.io/org//tool",
            "ghcr.io/../tool",
            "ghcr.io/a..b",
            "ghcr.io/-a",
            "ghcr.io/a/",
            "ghcr.io/a?b",
            "ghcr.io/a%2e",
            "ghcr.io/a:",
            "ghcr.io/a:b:c",
            "ghcr.io/a:-b",
            "ghcr.io:/a",
            "ghcr.io:0/a",
            "ghcr.io:99999/a",
            "u@ghcr.io/a",
            "ghcr..io/a",
            "[::1/a",
            "[x]:1/a",
            "ghcr.io/a@",
            "ghcr.io/a@md5:0",
            "ghcr.io/a@sha256:12",
            "ghcr.io/a#b",
            "ghcr.io\\x.y/a",
            "ghcr.io/\u{e9}",
            &long,
        ] {
            assert!(Reference::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_digest_is_compared_with_the_bytes() {
        assert!(Digest::parse(DIGEST).unwrap().check(b"").is_ok());
        assert!(Digest::parse(DIGEST).unwrap().check(b"x").unwrap_err().contains(DIGEST));
        let long: String = Sha512::digest(b"x").iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(Digest::parse(&format!("sha512:{long}")).unwrap().check(b"x").is_ok());
    }
}
