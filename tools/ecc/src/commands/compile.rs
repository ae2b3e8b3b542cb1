//! `ecc SOURCE`: compiles a program, once or after each change of its files.

use std::path::{Path, PathBuf};

use crate::commands::watch;
use crate::error::Result;
use crate::options::Compile;
use crate::{compile, output};

/// Compiles the sources and writes the outputs.
pub fn run(options: &Compile) -> Result<()> {
    if options.header_only {
        return Err("--header-only was removed: pass the header after the source, and use --event-header to write its \
                    structs for hosts"
            .into());
    }
    let (sources, header) = (options.sources(), options.header()?);
    let build = || {
        let compiled = compile::compile_all(&sources, header, &options.flags)?;
        output::write(&compiled, options)
    };
    if !options.watch {
        return build();
    }
    let files = || {
        // The build reports why a source has no dependencies.
        let dependencies = |source: &&Path| compile::dependencies(source, &options.flags).unwrap_or_default();
        let mut files: Vec<PathBuf> = sources.iter().flat_map(dependencies).collect();
        files.extend(sources.iter().copied().chain(header).map(PathBuf::from));
        files.sort();
        files.dedup();
        files
    };
    watch::watch(files, build)
}
