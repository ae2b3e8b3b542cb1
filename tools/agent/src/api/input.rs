//! Reads the bodies and queries of requests.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::{StatusCode, header};
use serde_json::{Map, Value};

use crate::error::{ApiError, Result};
use crate::http::{Limits, Request, read_body};
use crate::spec::expected;
use crate::tasks::Given;

/// Maximum length of a signature, in bytes.
const MAX_SIGNATURE: usize = 16 << 10;

/// Maximum length of the URL of a package, in bytes.
const MAX_SOURCE: usize = 2048;

/// The base64 decoder; padding is optional.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Reads a body that is a JSON object.
pub async fn object(request: Request, limits: &Limits) -> Result<Map<String, Value>> {
    check_type(&request)?;
    untyped_object(request, limits).await
}

/// Reads a body that is a JSON object, of any type. It is for clients that send no type; a web page is refused because of its Origin.
pub async fn untyped_object(request: Request, limits: &Limits) -> Result<Map<String, Value>> {
    let body = read_body(request.body, limits).await?;
    let value = serde_json::from_slice(&body);
    match value.map_err(|error| ApiError::invalid(format_args!("the body is invalid JSON: {error}")))? {
        Value::Object(object) => Ok(object),
        other => Err(expected("the body", "an object", &other)),
    }
}

/// A web page cannot send this type to another origin without a CORS preflight request.
fn check_type(request: &Request) -> Result<()> {
    let value = request.head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = value.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let text = format!("Content-Type is {kind:?}; expected application/json");
    Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported", text))
}

/// Refuses unknown members, because they are probably misspelt.
pub fn only(object: &Map<String, Value>, known: &[&str]) -> Result<()> {
    match object.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => {
            let text = format!("unknown member {name:?}; known are {}", known.join(", "));
            Err(ApiError::invalid(text))
        }
        None => Ok(()),
    }
}

/// The signature of the package in a body.
fn signature(object: &Map<String, Value>) -> Result<Option<String>> {
    match object.get("signature") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.len() <= MAX_SIGNATURE => Ok(Some(text.clone())),
        Some(Value::String(_)) => {
            Err(ApiError::invalid(format_args!("signature: longer than {MAX_SIGNATURE} bytes")))
        }
        Some(other) => Err(expected("signature", "a string", other)),
    }
}

/// The members of a body that specify a package.
pub const PACKAGE: [&str; 4] = ["package", "package_base64", "digest", "source"];

/// Reads the package in a body: `package` (JSON), `package_base64` (the bytes of its file), `digest` (the digest of a task's
/// package), or `source` (a URL or an image).
pub fn package(object: &Map<String, Value>) -> Result<Given> {
    let given = |name: &&str| object.get(*name).filter(|value| !value.is_null());
    let names: Vec<&str> = PACKAGE.into_iter().filter(|name| given(name).is_some()).collect();
    let (name, value) = match names.as_slice() {
        [name] => (*name, given(name).unwrap_or(&Value::Null)),
        [] => return Err(ApiError::invalid(format_args!("one of {} is missing", PACKAGE.join(", ")))),
        [one, other, ..] => {
            return Err(ApiError::invalid(format_args!("{one} and {other} are mutually exclusive")));
        }
    };
    let signature = signature(object)?;
    match (name, value) {
        ("package", Value::Object(_)) => Ok(Given::Bytes(value.to_string().into_bytes(), signature)),
        ("package", other) => Err(expected(name, "an object", other)),
        ("source", Value::String(source)) if source.len() <= MAX_SOURCE => Ok(Given::Source(source.clone())),
        ("source", other) => Err(expected(name, &format!("a string of at most {MAX_SOURCE} bytes"), other)),
        ("digest", value) => value
            .as_str()
            .and_then(digest)
            .map(Given::Digest)
            .ok_or_else(|| expected(name, "\"sha256:\" and 64 hexadecimal digits", value)),
        _ => Ok(Given::Bytes(decode(name, value)?, signature)),
    }
}

/// The digits of `sha256:` and 64 hexadecimal digits.
fn digest(text: &str) -> Option<String> {
    let digits = text.strip_prefix("sha256:")?;
    let is_digest = digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_digest.then(|| digits.to_ascii_lowercase())
}

/// Decodes a string in base64.
pub fn decode(name: &str, value: &Value) -> Result<Vec<u8>> {
    let text = value.as_str().ok_or_else(|| expected(name, "a string", value))?;
    let invalid = |error| ApiError::invalid(format_args!("{name}: invalid base64: {error}"));
    BASE64.decode(text).map_err(invalid)
}

/// The digest in the header If-Match, in hexadecimal digits.
pub fn if_match(request: &Request) -> Result<Option<String>> {
    let Some(value) = request.head.headers.get(header::IF_MATCH) else { return Ok(None) };
    match value.to_str().ok().and_then(|value| digest(value.trim().trim_matches('"'))) {
        Some(digits) => Ok(Some(digits)),
        None => Err(ApiError::invalid("If-Match: expected \"sha256:\" and 64 hexadecimal digits")),
    }
}

/// The parameters of a query, of which only some are known.
pub fn query<'a>(request: &'a Request, known: &[&str]) -> Result<Vec<(&'a str, &'a str)>> {
    let query = request.head.uri.query().unwrap_or_default();
    let parts = query.split('&').filter(|part| !part.is_empty());
    let pairs: Vec<_> = parts.map(|part| part.split_once('=').unwrap_or((part, ""))).collect();
    for (index, (name, _)) in pairs.iter().enumerate() {
        if !known.contains(name) {
            let text = format!("unknown parameter {name:?}; known are {}", known.join(", "));
            return Err(ApiError::invalid(text));
        }
        if pairs[..index].iter().any(|(earlier, _)| earlier == name) {
            return Err(ApiError::invalid(format_args!("the parameter {name} occurs twice")));
        }
    }
    Ok(pairs)
}

/// The value of a parameter, with `%XX` and `+` decoded.
pub fn decoded(name: &str, value: &str) -> Result<String> {
    let invalid = || ApiError::invalid(format_args!("{name}: {value:?} is not percent-encoded UTF-8"));
    let (mut bytes, mut rest) = (Vec::new(), value.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        bytes.push(match first {
            b'+' => b' ',
            b'%' => {
                let digits = after.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
                let digits =
                    digits.and_then(|digits| std::str::from_utf8(digits).ok()).ok_or_else(invalid)?;
                rest = &after[2..];
                u8::from_str_radix(digits, 16).map_err(|_| invalid())?
            }
            other => *other,
        });
    }
    String::from_utf8(bytes).map_err(|_| invalid())
}
