//! Programs from elsewhere: URLs, names in a repository, OCI references.
//!
//! The one way in is [`open`]. What comes back are bytes that nobody has looked at yet, and the signature that lies beside
//! them where one is wanted.

mod cache;
mod challenge;
mod http;
pub mod image;
pub mod login;
pub mod place;
mod progress;
pub mod reference;
mod registry;

use std::time::Duration;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::error::{Code, Failure, Result, say};
use cache::{Cache, Entry};
use http::{Content, Error, Http, Problem};
use place::{Pin, Place, without_password};

/// Bytes of the largest program that is downloaded.
pub const MAX_BYTES: usize = 128 << 20;

/// Bytes of the largest signature.
const MAX_SIGNATURE: usize = 16 << 10;

/// Where names without a place are looked for, unless `EUNOMIA_REPOSITORY` says otherwise.
const REPOSITORY: &str = "https://eunomia-bpf.github.io/eunomia-bpf/";

/// What follows the address of a program in that of its signature.
pub const SIGNATURE_SUFFIX: &str = ".minisig";

/// How to download.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether a copy of an earlier download may not be used, nor one be kept.
    pub no_cache: bool,
    /// How long nothing may come before it is given up; all together may take `http::PATIENCE` times as long.
    pub timeout: Duration,
    /// What becomes of the signature.
    pub signature: Signature,
}

/// What becomes of a program's signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signature {
    /// Nobody asks for it.
    Unwanted,
    /// It is downloaded, and nobody checks it here.
    Kept,
    /// It is downloaded and checked.
    Checked,
}

/// What was downloaded.
pub struct Download {
    /// The program.
    pub bytes: Vec<u8>,
    /// The file beside it that signs it; `None` if there is none or none was wanted.
    pub signature: Option<String>,
}

/// Downloads a program; `None` if it is on this machine.
pub fn open(place: &Place, options: Options) -> Result<Option<Download>> {
    match place {
        Place::Url(url, pin) => from_url(url, pin.as_ref(), options),
        Place::Name { name, latest } => {
            let no_cache = options.no_cache || *latest;
            from_repository(&repository(), name, Options { no_cache, ..options })
        }
        Place::Image(image) => image::pull(image, options),
        Place::File | Place::Stdin => return Ok(None),
    }
    .map(Some)
}

/// The folder of programs that names stand for; it ends in a slash.
pub fn repository() -> String {
    let set = std::env::var("EUNOMIA_REPOSITORY").ok().filter(|url| !url.is_empty());
    let mut url = set.unwrap_or_else(|| REPOSITORY.to_owned());
    if !url.ends_with('/') {
        url.push('/');
    }
    url
}

/// A name stands for a WASM module or, where there is none, for a package.
fn from_repository(repository: &str, name: &str, options: Options) -> Result<Download> {
    let http = Http::new(options.timeout, false)?;
    for file in ["app.wasm", "package.json"] {
        let url = format!("{repository}{name}/{file}");
        match get(&http, &url, options) {
            Err(Error { problem: Problem::Missing, .. }) => {}
            found => {
                let bytes = found.map_err(|error| {
                    Failure::from(error).at(format_args!("{name}: cannot be had from the repository"))
                })?;
                warn(&http, &url, options);
                return with_signature(&http, &url, bytes, options);
            }
        }
    }
    let repository = without_password(repository);
    let text = format!("{name}: not a program of {repository} (EUNOMIA_REPOSITORY names another)");
    Err(Failure::new(Code::Source, text))
}

fn from_url(url: &str, pin: Option<&Pin>, options: Options) -> Result<Download> {
    let http = Http::new(options.timeout, false)?;
    let bytes = get(&http, url, options)?;
    match pin {
        Some(pin) => pin
            .check(&bytes)
            .map_err(|why| Failure::new(Code::Source, format_args!("{}: {why}", without_password(url))))?,
        None => warn(&http, url, options),
    }
    with_signature(&http, url, bytes, options)
}

/// Says so where nothing tells whether the bytes are those that the server sent.
fn warn(http: &Http, url: &str, options: Options) {
    if http.is_open_to_all() && options.signature != Signature::Checked {
        say(format_args!(
            "warning: {}: came by plain http, so anybody on the way may have changed it; use https, #sha256=DIGEST or --require-signed",
            without_password(url)
        ));
    }
}

fn with_signature(http: &Http, url: &str, bytes: Vec<u8>, options: Options) -> Result<Download> {
    let is_wanted = options.signature != Signature::Unwanted;
    let signature = if is_wanted { signature(http, url)? } else { None };
    Ok(Download { bytes, signature })
}

/// The signature never comes from the cache: it is small, and a new one may have been made. That it cannot be had is told;
/// a program that came all the same then counts as not signed.
fn signature(http: &Http, url: &str) -> Result<Option<String>> {
    let url = place::with_suffix(url, SIGNATURE_SUFFIX);
    match http.get(&url, None, MAX_SIGNATURE) {
        Ok(Content::New { bytes, .. }) => Ok(String::from_utf8(bytes).ok()),
        Ok(Content::Unchanged) => Ok(None),
        Err(Error { problem: Problem::Missing, .. }) => Ok(None),
        Err(Error { problem: Problem::Unreachable, text }) => {
            say(format_args!("{text}; the signature cannot be had"));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// The content of a URL, by the cache where that has what the server still has.
fn get(http: &Http, url: &str, options: Options) -> std::result::Result<Vec<u8>, Error> {
    let cache = if options.no_cache { None } else { Cache::open() };
    let kept = cache.as_ref().and_then(|cache| cache.find(url));
    let answer = http.get(url, kept.as_ref().map(|kept| &kept.validators), MAX_BYTES);
    match (answer, kept) {
        (Ok(Content::New { bytes, validators }), _) => {
            if let (Some(cache), Some(validators)) = (&cache, &validators) {
                cache.keep(url, &bytes, validators);
            }
            Ok(bytes)
        }
        (Ok(Content::Unchanged), Some(kept)) => Ok(kept.bytes),
        (Ok(Content::Unchanged), None) => Err(Error {
            problem: Problem::Other,
            text: format!("{}: the server says \"not modified\" of nothing", without_password(url)),
        }),
        // What was good enough before is better than nothing where the network is gone.
        (Err(error), Some(kept)) if error.problem == Problem::Unreachable => {
            say(format_args!("{}; using the copy of an earlier download", error.text));
            Ok(kept.bytes)
        }
        (Err(error), _) => Err(error),
    }
}

/// What earlier downloads left, by URL.
pub fn kept() -> Vec<Entry> {
    Cache::open().map(|cache| cache.list()).unwrap_or_default()
}

/// The programs of the repository, as its `index.json` lists them: name and description.
pub fn listed(options: Options) -> Result<Vec<(String, String)>> {
    let url = format!("{}index.json", repository());
    let wrong = |why: &str| Failure::new(Code::Source, format_args!("{}: {why}", without_password(&url)));
    let bytes = match get(&Http::new(options.timeout, false)?, &url, options) {
        Err(Error { problem: Problem::Missing, .. }) => {
            return Err(wrong("this repository does not list its programs; they run by name all the same"));
        }
        found => found?,
    };
    let programs: Vec<Value> = serde_json::from_slice(&bytes).map_err(|_| wrong("not a JSON array"))?;
    let text = |program: &Value, key: &str| program[key].as_str().map(str::to_owned);
    let program = |program: &Value| {
        let name = text(program, "name").ok_or_else(|| wrong("a program without a name"))?;
        Ok((name, text(program, "description").unwrap_or_default()))
    };
    programs.iter().map(program).collect()
}

/// SHA-256 as hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
