//! Finds the package of a program: in the configuration, in a file, on a web server or in a registry.
//!
//! Size and time are limited. The digest and the signature are checked over the bytes that were found, before anything else reads
//! them.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use eunomia::package::Package;
use eunomia_agent::archive;
use eunomia_fetch::location::{Location, without_password};
use eunomia_fetch::{Download, Options, Signature, sha256};
use eunomia_signature::Trust;
use serde_saphyr::Spanned;

use crate::config::{Problem, Program};
use crate::lookup;

/// Maximum size of a package, in bytes.
const MAX_PACKAGE: usize = 16 << 20;
/// The idle timeout of a download. A whole download may take 20 times as long.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The trusted keys, unless the configuration names another directory.
const TRUSTED: &str = "/etc/libeunomia/trusted";

/// A package that was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The package.
    pub package: Arc<[u8]>,
    /// Its signature, if it has one and the package is the signed file itself.
    pub signature: Option<String>,
}

/// Finds the package of a program, and the addresses of its symbols.
pub fn find(program: &mut Spanned<Program>) -> Result<(), Problem> {
    let position = program.value.package.as_ref().map_or(program.referenced, |package| package.referenced);
    let wanted = &mut program.value;
    let failed =
        |name: &str, why: String| Problem::at(position, format_args!("program {name:?}: package: {why}"));
    wanted.found = Some(read(wanted).map_err(|why| failed(&wanted.name, why))?);
    for symbol in wanted.kaddrs.clone() {
        let address = lookup::address(&symbol).ok_or_else(|| {
            let text = format!("program {:?}: kaddrs: /proc/kallsyms has no {symbol:?}", wanted.name);
            Problem::at(program.referenced, text)
        })?;
        wanted.variables.insert(format!("kaddr_{symbol}"), address.into());
    }
    Ok(())
}

/// Reads and checks a package. The error is one line.
fn read(wanted: &Program) -> Result<Found, String> {
    let Download { bytes, signature } = match (&wanted.package, &*wanted.compiled_ebpf_filename) {
        (Some(package), _) => open(&package.value, wanted.require_signed)?,
        (None, "") => {
            Download { bytes: wanted.ebpf_data.as_bytes().to_vec(), signature: wanted.signature.clone() }
        }
        (None, path) => open_file(path, wanted.require_signed)?,
    };
    if bytes.len() > MAX_PACKAGE {
        return Err(too_large());
    }
    let digest = sha256(&bytes);
    if let Some(expected) = wanted.digest().filter(|expected| !expected.eq_ignore_ascii_case(&digest)) {
        return Err(format!("digest mismatch: expected SHA-256 {expected}, found {digest}"));
    }
    if wanted.require_signed {
        let folder = wanted.trust.as_deref().unwrap_or(TRUSTED);
        Trust::open(vec![folder.into()])?.check(&bytes, signature.as_deref())?;
    }
    package_of(bytes, signature)
}

/// Opens what `package` names.
fn open(text: &str, is_signed: bool) -> Result<Download, String> {
    let location = Location::parse(text).map_err(|failure| failure.text().to_owned())?;
    let signature = if is_signed { Signature::Verified } else { Signature::Ignored };
    match eunomia_fetch::open(&location, Options { no_cache: false, timeout: TIMEOUT, signature }) {
        Ok(Some(download)) => Ok(download),
        Ok(None) if matches!(location, Location::Stdin) => Err("standard input is not supported".into()),
        Ok(None) => open_file(text, is_signed),
        Err(failure) => Err(failure.text().to_owned()),
    }
}

fn open_file(path: &str, is_signed: bool) -> Result<Download, String> {
    let path = Path::new(path);
    let signature = if is_signed { eunomia_signature::beside(path)? } else { None };
    Ok(Download { bytes: read_file(path)?, signature })
}

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| eunomia_owner::failure(path, &error);
    // A pipe would keep the exporter waiting.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(format!("{}: not a regular file", path.display()));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_PACKAGE as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    match bytes.len() > MAX_PACKAGE {
        true => Err(format!("{}: {}", path.display(), too_large())),
        false => Ok(bytes),
    }
}

fn too_large() -> String {
    format!("larger than {MAX_PACKAGE} bytes")
}

/// The package in these bytes: a package, an archive with one, or an object without metadata.
fn package_of(bytes: Vec<u8>, signature: Option<String>) -> Result<Found, String> {
    let package = if archive::is_archive(&bytes) {
        archive::package(&bytes)?
    } else if bytes.starts_with(b"\x7fELF") {
        let package = Package::from_object(&bytes, None);
        package.map_err(|error| error.message().to_owned())?.to_json()
    } else if bytes.starts_with(b"\0asm") {
        return Err("a WASM module; the exporter runs packages".into());
    } else {
        return Ok(Found { package: bytes.into(), signature });
    };
    Ok(Found { package: package.into(), signature: None })
}

/// Reads a package or an object. The error is one line.
pub fn read_package(path: &Path) -> Result<Arc<[u8]>, String> {
    let found = package_of(read_file(path)?, None);
    found.map(|found| found.package).map_err(|why| format!("{}: {why}", path.display()))
}

/// Whether a name in the configuration is that of a file, so that it is relative to the directory of the configuration.
pub fn is_file(text: &str) -> bool {
    matches!(Location::parse(text), Ok(Location::File))
}

/// The name of a package for messages, without a password.
pub fn shown(text: &str) -> String {
    without_password(text).into_owned()
}
