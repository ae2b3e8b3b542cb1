//! The files that a compiled program becomes.

pub mod event_header;
pub mod standalone;
pub mod tar;
pub mod wasm_header;
pub mod yaml;

use std::path::PathBuf;

use serde_json::Value;

use crate::compile::{Compiled, PACKAGE, source_folder};
use crate::error::Result;
use crate::files::{self, Output};
use crate::options::Compile;

/// Writes what is asked for, all of it or nothing.
pub fn write(compiled: &Compiled, options: &Compile) -> Result<()> {
    let source = options.source.as_deref().unwrap_or("".as_ref());
    let folder = options.output_path.clone().unwrap_or_else(|| source_folder(source));
    let path = |suffix: &str| {
        let mut file = compiled.name.clone();
        file.push(suffix);
        folder.join(file)
    };
    let json = compiled.package.to_json();
    let mut outputs = Vec::new();
    if !options.no_generate_package_json {
        outputs.push(described(folder.join(PACKAGE), json.clone(), options.yaml)?);
    }
    outputs.push(Output::new(path(".bpf.o"), compiled.package.object.clone()));
    let meta = format!("{:#}\n", compiled.meta);
    outputs.push(described(path(".skel.json"), meta.into(), options.yaml)?);
    if options.standalone {
        let program = standalone::link(&compiled.package, &json, options)?;
        outputs.push(Output::program(path(""), program));
    }
    if options.wasm_header {
        let text = wasm_header::text(&event_header::name(&compiled.package), &json);
        outputs.push(Output::new(folder.join(wasm_header::NAME), text));
    }
    if options.event_header {
        let header = event_header::make(&compiled.package, event_header::FOR_HOSTS)?;
        let (name, text) = header.ok_or("--event-header: the package names no event types")?;
        outputs.push(Output::new(folder.join(name), text));
    }
    if !compiled.kernels.is_empty() {
        outputs.push(Output::new(path(".tar"), tar::archive(compiled, &json)?));
    }
    files::write_all(&folder, &outputs, options.flags.verbose)
}

/// A file in JSON, or the same in YAML.
fn described(path: PathBuf, json: Vec<u8>, yaml: bool) -> Result<Output> {
    if !yaml {
        return Ok(Output::new(path, json));
    }
    let value: Value = serde_json::from_slice(&json).map_err(|error| error.to_string())?;
    Ok(Output::new(path.with_extension("yaml"), yaml::text(&value)?))
}
