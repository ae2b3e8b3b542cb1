//! From what the user names to a program's bytes, its name, and what kind of program they are.
//!
//! What is on this machine is read here; everything else is asked of [`crate::fetch`].

use std::io;
use std::path::Path;

use crate::error::{Code, Failure, Result};
use crate::fetch::location::{Location, without_password};
use crate::fetch::{self, Download, Signature};
use crate::files::{read_all, read_file};
use crate::kind::{Kind, kind_of};
use crate::options::Origin;
use crate::signature::{Trust, signature_beside};

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
    let download = read(prog, fetch::Options::for_run(origin))?;
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
    let place = Location::parse(prog)?;
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
        (None, Location::Stdin) => {
            let bytes = read_all(io::stdin().lock());
            let bytes = bytes.map_err(|e| Failure::io(Code::Source, "standard input", &e))?;
            Ok(Download { bytes, signature: None })
        }
        (None, _) => {
            let bytes = read_file(prog).map_err(|failure| match may_mean_image(prog) {
                true => failure.at_end("; an image begins with its registry, as in ghcr.io/org/tool:tag"),
                false => failure,
            })?;
            let is_wanted = options.signature != Signature::Ignored;
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
