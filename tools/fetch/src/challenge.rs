//! Authentication challenges: the `WWW-Authenticate` header of a response.

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// The authentication that a registry requires.
#[derive(Debug, PartialEq, Eq)]
pub enum Challenge {
    /// User name and password.
    Basic,
    /// A token from an authentication service.
    Bearer {
        /// The address of that service.
        realm: String,
        /// The name of the registry at that service.
        service: Option<String>,
    },
}

impl Challenge {
    /// The first supported challenge.
    pub fn of(headers: &HeaderMap) -> Option<Challenge> {
        let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        values.filter_map(Challenge::parse).next()
    }

    fn parse(text: &str) -> Option<Challenge> {
        let (scheme, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Challenge::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let parameters = parameters(rest);
        let find =
            |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        Some(Challenge::Bearer { realm: find("realm")?, service: find("service") })
    }
}

/// Parses `key=value` and `key="value"`, separated by commas.
fn parameters(mut text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    while let Some((key, rest)) = text.split_once('=') {
        let key = key.trim_matches([',', ' ', '\t']).to_ascii_lowercase();
        let value;
        (value, text) = match rest.strip_prefix('"') {
            Some(rest) => quoted(rest),
            None => {
                let end = rest.find([',', ' ']).unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        found.push((key, value));
    }
    found
}

/// Returns a string up to its closing quote, and the rest.
fn quoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(letters.next().map(|(_, letter)| letter)),
            letter => value.push(letter),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_of_servers_are_parsed() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer { realm: realm.into(), service: service.map(Into::into) })
        };
        for (text, expected) in [
            ("Basic realm=\"x\"", Some(Challenge::Basic)),
            ("basic", Some(Challenge::Basic)),
            (
                "Bearer realm=\"https://a/token\",service=\"s\",scope=\"repository:x:pull,push\"",
                bearer("https://a/token", Some("s")),
            ),
            ("BEARER scope=\"a=b\", Realm=https://a/t", bearer("https://a/t", None)),
            ("Bearer realm=\"a\\\"b", bearer("a\"b", None)),
            ("Bearer service=\"s\"", None),
            ("Bearer", None),
            ("Negotiate", None),
            ("", None),
        ] {
            assert_eq!(Challenge::parse(text), expected, "{text}");
        }
    }
}
