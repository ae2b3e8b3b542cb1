//! Downloads programs by URL, or by name from the repository.

use eunomia_signature::SUFFIX;
use serde_json::Value;

use crate::cache::{Cache, Entry};
use crate::download::{Download, MAX_BYTES, MAX_SIGNATURE, Options, Signature};
use crate::error::{Code, Failure, Result, say};
use crate::http::{Content, Error, Http, Problem};
use crate::location::{Pin, with_suffix, without_password};

/// The default of `EUNOMIA_REPOSITORY`.
const REPOSITORY: &str = "https://eunomia-bpf.github.io/eunomia-bpf/";

/// The base URL of the repository. It ends with a slash.
pub fn repository() -> String {
    let set = std::env::var("EUNOMIA_REPOSITORY").ok().filter(|url| !url.is_empty());
    let mut url = set.unwrap_or_else(|| REPOSITORY.to_owned());
    if !url.ends_with('/') {
        url.push('/');
    }
    url
}

/// Downloads a program of the repository: its WASM module or else its package.
pub fn from_repository(repository: &str, name: &str, options: Options) -> Result<Download> {
    let http = Http::new(options.timeout, false)?;
    for file in ["app.wasm", "package.json"] {
        let url = format!("{repository}{name}/{file}");
        match get(&http, &url, options) {
            Err(Error { problem: Problem::Missing, .. }) => {}
            found => {
                let bytes = found.map_err(|error| {
                    Failure::from(error).at(format_args!("{name}: cannot download from the repository"))
                })?;
                warn_if_insecure(&http, &url, options);
                return with_signature(&http, &url, bytes, options);
            }
        }
    }
    let repository = without_password(repository);
    let text =
        format!("{name}: no such program in {repository}; set EUNOMIA_REPOSITORY to use another repository");
    Err(Failure::new(Code::Source, text))
}

/// Downloads the program at a URL and compares it with the digest in `pin`.
pub fn from_url(url: &str, pin: Option<&Pin>, options: Options) -> Result<Download> {
    let http = Http::new(options.timeout, false)?;
    let bytes = get(&http, url, options)?;
    match pin {
        Some(pin) => pin
            .check(&bytes)
            .map_err(|why| Failure::new(Code::Source, format_args!("{}: {why}", without_password(url))))?,
        None => warn_if_insecure(&http, url, options),
    }
    with_signature(&http, url, bytes, options)
}

/// Warns of bytes whose origin is not authenticated.
fn warn_if_insecure(http: &Http, url: &str, options: Options) {
    if http.is_insecure() && options.signature != Signature::Verified {
        say(format_args!(
            "warning: {}: plain http is not authenticated, so the content may have been modified; use https, #sha256=DIGEST or --require-signed",
            without_password(url)
        ));
    }
}

fn with_signature(http: &Http, url: &str, bytes: Vec<u8>, options: Options) -> Result<Download> {
    let needs_signature = options.signature != Signature::Ignored;
    let signature = if needs_signature { signature(http, url)? } else { None };
    Ok(Download { bytes, signature })
}

/// Downloads the signature of a program. It is never cached, because it is small and may be replaced. If the server cannot be
/// reached, a warning is printed and the program is treated as unsigned.
fn signature(http: &Http, url: &str) -> Result<Option<String>> {
    let url = with_suffix(url, SUFFIX);
    match http.get(&url, None, MAX_SIGNATURE) {
        Ok(Content::New { bytes, .. }) => Ok(String::from_utf8(bytes).ok()),
        Ok(Content::Unchanged) => Ok(None),
        Err(Error { problem: Problem::Missing, .. }) => Ok(None),
        Err(Error { problem: Problem::Unreachable, text }) => {
            say(format_args!("{text}; cannot download the signature"));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Returns the content of a URL, from the cache if it has not changed on the server.
fn get(http: &Http, url: &str, options: Options) -> std::result::Result<Vec<u8>, Error> {
    let cache = if options.no_cache { None } else { Cache::open() };
    let kept = cache.as_ref().and_then(|cache| cache.find(url));
    let reply = http.get(url, kept.as_ref().map(|kept| &kept.validators), MAX_BYTES);
    match (reply, kept) {
        (Ok(Content::New { bytes, validators }), _) => {
            if let (Some(cache), Some(validators)) = (&cache, &validators) {
                cache.keep(url, &bytes, validators);
            }
            Ok(bytes)
        }
        (Ok(Content::Unchanged), Some(kept)) => Ok(kept.bytes),
        (Ok(Content::Unchanged), None) => Err(Error {
            problem: Problem::Other,
            text: format!("{}: unexpected response 304 Not Modified", without_password(url)),
        }),
        (Err(error), Some(kept)) if error.problem == Problem::Unreachable => {
            say(format_args!("{}; using the cached copy", error.text));
            Ok(kept.bytes)
        }
        (Err(error), _) => Err(error),
    }
}

/// The cached downloads, by URL.
pub fn kept() -> Vec<Entry> {
    Cache::open().map(|cache| cache.list()).unwrap_or_default()
}

/// The names and descriptions of programs in the `index.json` of the repository.
pub fn listed(options: Options) -> Result<Vec<(String, String)>> {
    let url = format!("{}index.json", repository());
    let wrong = |why: &str| Failure::new(Code::Source, format_args!("{}: {why}", without_password(&url)));
    let bytes = match get(&Http::new(options.timeout, false)?, &url, options) {
        Err(Error { problem: Problem::Missing, .. }) => {
            return Err(wrong("this repository has no list of programs; programs can still be run by name"));
        }
        found => found?,
    };
    let programs: Vec<Value> = serde_json::from_slice(&bytes).map_err(|_| wrong("not a JSON array"))?;
    let text = |program: &Value, key: &str| program[key].as_str().map(str::to_owned);
    let program = |program: &Value| {
        let name = text(program, "name").ok_or_else(|| wrong("an entry has no name"))?;
        Ok((name, text(program, "description").unwrap_or_default()))
    };
    programs.iter().map(program).collect()
}
