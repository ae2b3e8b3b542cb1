//! Writes manual pages and shell completions, for `make install`.

use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;

use crate::error::{Code, Failure, Result};
use crate::options::CommandLine;

/// Writes them to `prefix/share`.
pub fn write(prefix: &Path) -> Result<ExitCode> {
    let written = eunomia_manual::write(CommandLine::command(), prefix);
    written.map_err(|error| Failure::io(Code::Output, prefix.display(), &error))?;
    Ok(ExitCode::SUCCESS)
}
