//! Opens a program: finds its bytes, its name and its kind.
//!
//! Files and standard input are read here. The crate eunomia-fetch downloads everything else.

use std::io;
use std::path::Path;

use eunomia_agent::archive;
use eunomia_fetch as fetch;
use eunomia_fetch::location::{Location, without_password};
use eunomia_fetch::{Download, Signature};

use crate::command_line::similar_command;
use crate::error::{Code, Failure, Result};
use crate::files::{read_all, read_file};
use crate::kind::{Kind, kind_of};
use crate::options::{Origin, transfer};
use crate::signature::{Trust, signature_beside};

/// A request for a program.
pub struct Request<'a> {
    /// A file, `-`, a URL, a name or an OCI reference.
    pub prog: &'a str,
    /// The required kind; `None`: any.
    pub kind: Option<Kind>,
    /// The options for downloading it and for its signature.
    pub origin: &'a Origin,
}

/// The file of a program.
pub struct Program {
    /// Its bytes, not validated yet.
    pub bytes: Vec<u8>,
    /// Its name in messages and help.
    pub name: String,
    /// Its kind, by the content.
    pub kind: Kind,
    /// Its signature, if it was asked for and there is one.
    pub signature: Option<String>,
}

impl Program {
    /// The package in an archive.
    pub fn packed(&self) -> Result<Vec<u8>> {
        let package = archive::package(&self.bytes);
        package.map_err(|why| Failure::new(Code::Source, format_args!("{}: {why}", self.name)))
    }
}

/// Reads a program. A required signature is verified before anything else reads the bytes.
pub fn open(request: &Request) -> Result<Program> {
    open_with(request, for_run(request.origin))
}

/// The options for a program that is run, checked or inspected.
fn for_run(origin: &Origin) -> fetch::Options {
    transfer(&origin.transfer, if origin.require_signed { Signature::Verified } else { Signature::Ignored })
}

/// Reads a program and its signature, for somebody else who verifies it.
pub fn open_to_send(request: &Request) -> Result<Program> {
    let options = for_run(request.origin);
    let signature = if request.origin.require_signed { options.signature } else { Signature::Saved };
    open_with(request, fetch::Options { signature, ..options })
}

fn open_with(request: &Request, options: fetch::Options) -> Result<Program> {
    check(request, read(request.prog, options)?)
}

/// Checks a program that has been read.
pub fn check(request: &Request, download: Download) -> Result<Program> {
    let (prog, origin) = (request.prog, request.origin);
    let name = if prog == "-" { "standard input" } else { &*without_password(prog) };
    if origin.require_signed {
        let trust = Trust::open(origin.trust.as_deref())?;
        trust.check(name, &download.bytes, download.signature.as_deref())?;
    }
    let bytes = download.bytes;
    let kind = kind_of(&bytes).map_err(|why| Failure::new(Code::Source, format_args!("{name}: {why}")))?;
    if let Some(required) = request.kind.filter(|required| *required != kind) {
        let text = format!("{name}: {}, not {} as -p requires", kind.describe(), required.describe());
        return Err(Failure::new(Code::Source, text));
    }
    Ok(Program { bytes, name: name.to_owned(), kind, signature: download.signature })
}

/// Finds out what kind of place a name of the command line is. The name of a command, or one that resembles it, is an error.
pub fn locate(prog: &str) -> Result<Location> {
    let location = Location::parse(prog)?;
    let Location::Name { name, tag: None } = &location else { return Ok(location) };
    match similar_command(name) {
        None => Ok(location),
        Some(command) => Err(Failure::new(
            Code::Usage,
            format_args!(
                "{prog}: did you mean `ecli {command}`? To run a program of this name, write {name}:latest; to run a file, ./{name}"
            ),
        )),
    }
}

/// Fails unless the name is that of a file.
pub fn check_is_file(text: &str) -> Result<()> {
    match locate(text)? {
        Location::File => Ok(()),
        Location::Stdin => Err(Failure::new(Code::Usage, "-: expected a file")),
        _ => Err(Failure::new(
            Code::Usage,
            format_args!(
                "{}: expected a file; for a file of this name, write ./{text}",
                without_password(text)
            ),
        )),
    }
}

/// Reads a program and its signature, unless the options ignore signatures.
pub fn read(prog: &str, options: fetch::Options) -> Result<Download> {
    let location = locate(prog)?;
    let download = fetch::open(&location, options).map_err(|failure| {
        let failure = Failure::from(failure);
        let may_mean_file = !prog.contains("://") && Path::new(prog).is_file();
        if may_mean_file {
            failure.at_end(format_args!("; to use the file of this name, write ./{prog}"))
        } else {
            failure
        }
    });
    match (download?, location) {
        (Some(download), _) => Ok(download),
        (None, Location::Stdin) => {
            let bytes = read_all(io::stdin().lock());
            let bytes = bytes.map_err(|e| Failure::io(Code::Source, "standard input", &e))?;
            Ok(Download { bytes, signature: None })
        }
        (None, _) => {
            let bytes = read_file(prog).map_err(|failure| match may_mean_image(prog) {
                true => {
                    failure.at_end("; for an image, write its registry first, as in ghcr.io/org/tool:tag")
                }
                false => failure,
            })?;
            let needs_signature = options.signature != Signature::Ignored;
            let signature = if needs_signature { signature_beside(Path::new(prog))? } else { None };
            Ok(Download { bytes, signature })
        }
    }
}

/// Whether the path of a missing file looks like an image without its registry: `org/tool`.
fn may_mean_image(path: &str) -> bool {
    path.split_once('/').is_some_and(|(first, rest)| {
        !first.is_empty() && !first.starts_with(['.', '~']) && !rest.contains('.')
    }) && !Path::new(path).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_command_is_not_the_name_of_a_program() {
        for name in ["rum", "inspct", "help", "version", "list", "chekc", "sing", "verfy"] {
            assert!(locate(name).is_err(), "{name}");
        }
        for name in ["opensnoop", "rum:latest", "./rum"] {
            assert!(locate(name).is_ok(), "{name}");
        }
    }
}
