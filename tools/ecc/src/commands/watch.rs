//! `--watch`: watches the source and the headers that it includes, and recompiles on change.

use std::io::{self, Write};
use std::path::PathBuf;

use eunomia_watch::Watched;

use crate::error::{Error, Result};

/// Runs `build` now and after each change of the files that `files` lists, until a signal ends the process.
pub fn watch(files: impl Fn() -> Vec<PathBuf>, build: impl Fn() -> Result<()>) -> Result<()> {
    let failed = |error: io::Error| Error::io("--watch", &error);
    let mut watched = Watched::new().map_err(failed)?;
    loop {
        // Start watching before the build, so that changes during the build are noticed.
        let files = files();
        watched.set(&files).map_err(failed)?;
        let outcome = match build() {
            Ok(()) => "compiled".to_string(),
            Err(Error::Text(line)) => line,
            Err(Error::Diagnosed) => "compilation failed".to_string(),
        };
        // If stderr is closed, there is nobody to report to.
        let waiting = format!("watching {} files for changes", files.len());
        let _ = writeln!(io::stderr(), "ecc: {outcome}\necc: {waiting}");
        watched.wait().map_err(failed)?;
    }
}
