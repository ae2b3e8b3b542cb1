//! From what the user names to a program's bytes, its name, and what kind of program they are.
//!
//! What is on this machine is read here; everything else is asked of [`crate::fetch`]. What the bytes are is told by
//! the bytes: a suffix may be missing or wrong.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::error::{Code, Failure, Result};
use crate::fetch::place::{Place, without_password};
use crate::fetch::{self, Download, SIGNATURE_SUFFIX, Signature};
use crate::options::Origin;
use crate::sign::Trust;

/// Bytes of the largest program; what the library takes, and a folder of BTF files beside it.
pub const MAX_BYTES: usize = 512 << 20;

/// What a program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A JSON package.
    Json,
    /// A tar archive with a package and BTF files for kernels that have none.
    Tar,
    /// A WASM module.
    Wasm,
    /// A BPF object as clang wrote it.
    #[value(skip)]
    Object,
}

impl Kind {
    fn describe(self) -> &'static str {
        match self {
            Kind::Json => "a JSON package",
            Kind::Tar => "a tar archive",
            Kind::Wasm => "a WASM module",
            Kind::Object => "an ELF file",
        }
    }
}

/// What the user asks for.
pub struct Request<'a> {
    /// A file, `-`, a URL, a name or an OCI reference.
    pub prog: &'a str,
    /// The kind it has to be; `None`: any.
    pub kind: Option<Kind>,
    /// How it may come here, and who has to have signed it.
    pub origin: &'a Origin,
}

/// A program, not opened yet.
pub struct Program {
    /// Its bytes, whatever they are worth.
    pub bytes: Vec<u8>,
    /// What messages and help texts call it.
    pub name: String,
    /// What the bytes look like.
    pub kind: Kind,
}

/// Reads the program that is asked for. Where a signature is required, it is checked before anything looks at the bytes.
pub fn open(request: &Request) -> Result<Program> {
    let (prog, origin) = (request.prog, request.origin);
    let download = read(prog, origin.fetch_options())?;
    let name = if prog == "-" { "standard input" } else { &*without_password(prog) };
    if origin.require_signed {
        let trust = Trust::open(origin.trust.as_deref())?;
        trust.check(name, &download.bytes, download.signature.as_deref())?;
    }
    let bytes = download.bytes;
    let kind = kind_of(&bytes).map_err(|why| Failure::new(Code::Source, format_args!("{name}: {why}")))?;
    if let Some(wanted) = request.kind.filter(|wanted| *wanted != kind) {
        let text = format!("{name}: {}, not {} as -p says", kind.describe(), wanted.describe());
        return Err(Failure::new(Code::Source, text));
    }
    Ok(Program { bytes, name: name.to_owned(), kind })
}

/// The bytes of what the user names, and their signature if it is wanted and there is one.
pub fn read(prog: &str, options: fetch::Options) -> Result<Download> {
    let place = Place::parse(prog)?;
    let elsewhere = fetch::open(&place, options).map_err(|failure| {
        let may_mean_file = !prog.contains("://") && Path::new(prog).is_file();
        if may_mean_file {
            failure.at_end(format_args!("; the file of this name is ./{prog}"))
        } else {
            failure
        }
    });
    match (elsewhere?, place) {
        (Some(download), _) => Ok(download),
        (None, Place::Stdin) => {
            let bytes = read_all(io::stdin().lock());
            let bytes = bytes.map_err(|e| Failure::io(Code::Source, "standard input", &e))?;
            Ok(Download { bytes, signature: None })
        }
        (None, _) => {
            let bytes = read_file(prog).map_err(|failure| match may_mean_image(prog) {
                true => failure.at_end("; an image begins with its registry, as in ghcr.io/org/tool:tag"),
                false => failure,
            })?;
            let is_wanted = options.signature != Signature::Unwanted;
            let signature = if is_wanted { signature_beside(Path::new(prog))? } else { None };
            Ok(Download { bytes, signature })
        }
    }
}

/// Whether a path that leads nowhere looks like an image without its registry: `org/tool`.
fn may_mean_image(path: &str) -> bool {
    path.split_once('/').is_some_and(|(first, rest)| {
        !first.is_empty() && !first.starts_with(['.', '~']) && !rest.contains('.')
    }) && !Path::new(path).exists()
}

/// The signature of a file, if there is one.
pub fn signature_beside(file: &Path) -> Result<Option<String>> {
    let path = with_signature_suffix(file);
    if let Ok(false) = path.try_exists() { Ok(None) } else { read_text(&path).map(Some) }
}

/// The content of a key or a signature: a few lines.
pub fn read_text(path: &Path) -> Result<String> {
    const MOST: u64 = 64 << 10;
    let read = || {
        let mut text = String::new();
        File::open(path)?.take(MOST + 1).read_to_string(&mut text)?;
        let is_too_large = text.len() as u64 > MOST;
        if is_too_large { Err(io::Error::other(format!("more than {MOST} bytes"))) } else { Ok(text) }
    };
    read().map_err(|error| Failure::io(Code::Source, path.display(), &error))
}

/// Where the signature of a file is.
pub fn with_signature_suffix(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(SIGNATURE_SUFFIX);
    name.into()
}

/// The content of a file.
pub fn read_file(path: &str) -> Result<Vec<u8>> {
    let failed = |e: io::Error| Failure::io(Code::Source, path, &e);
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(Failure::new(
            Code::Source,
            format_args!("{path}: a folder; name a file in it{}", hint(path)),
        ));
    }
    if is_too_large(&metadata) {
        return Err(failed(too_large()));
    }
    read_all(file).map_err(failed)
}

/// A package that lies in a folder.
fn hint(folder: &str) -> String {
    let found = ["package.json", "app.wasm"].iter().map(|name| Path::new(folder).join(name));
    let found = found.filter(|path| path.exists()).map(|path| format!(", for example {}", path.display()));
    found.into_iter().next().unwrap_or_default()
}

fn is_too_large(metadata: &Metadata) -> bool {
    metadata.is_file() && metadata.len() > MAX_BYTES as u64
}

fn too_large() -> io::Error {
    io::Error::other(format!("too large for a program (at most {MAX_BYTES} bytes)"))
}

fn read_all(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_BYTES { Err(too_large()) } else { Ok(bytes) }
}

/// Whether it is the source of a program, which people name where its package is wanted.
fn looks_like_c(bytes: &[u8]) -> bool {
    let start = bytes.trim_ascii_start();
    [&b"#include"[..], b"#define", b"//", b"/*"].iter().any(|first| start.starts_with(first))
}

/// What the bytes are, or why they are nothing that runs.
pub fn kind_of(bytes: &[u8]) -> Result<Kind, String> {
    const USTAR: std::ops::Range<usize> = 257..262;
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    let looks_compressed = [&b"\x1f\x8b"[..], b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ", b"PK\x03\x04"];
    match bytes {
        _ if first.is_none() => Err("empty; a package, a WASM module or a tar archive is wanted".into()),
        _ if bytes.starts_with(b"\0asm") => Ok(Kind::Wasm),
        _ if bytes.starts_with(b"\x7fELF") => Ok(Kind::Object),
        _ if bytes.get(USTAR) == Some(b"ustar") => Ok(Kind::Tar),
        _ if first == Some(&b'{') => Ok(Kind::Json),
        _ if looks_compressed.iter().any(|magic| bytes.starts_with(magic)) => {
            Err("compressed; unpack it first".into())
        }
        _ if looks_like_c(bytes) => Err("C source; ecc compiles it to a package".into()),
        _ => {
            let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
            let start = &line[..line.len().min(32)];
            Err(format!(
                "neither a package nor a WASM module nor a tar archive; it begins with \"{}\"",
                start.escape_ascii()
            ))
        }
    }
}
