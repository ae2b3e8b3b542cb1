//! The output files of a compiled program.

pub mod event_header;
mod standalone;
mod tar;
pub mod wasm_header;
mod yaml;

use std::path::PathBuf;

use serde_json::Value;

use crate::compile::{Compiled, PACKAGE};
use crate::error::Result;
use crate::files::{self, Output};
use crate::options::Compile;

/// Writes the requested files, all of them or none.
pub fn write(compiled: &Compiled, options: &Compile) -> Result<()> {
    let source = options.source.as_deref().unwrap_or("".as_ref());
    let dir = options.output_path.as_deref().unwrap_or(files::directory_of(source));
    let path = |suffix: &str| {
        let mut file = compiled.name.clone();
        file.push(suffix);
        dir.join(file)
    };
    let json = compiled.package.to_json();
    let mut outputs = Vec::new();
    if !options.no_generate_package_json {
        outputs.push(json_or_yaml(dir.join(PACKAGE), json.clone(), options.yaml)?);
    }
    outputs.push(Output::new(path(".bpf.o"), compiled.package.object.clone()));
    let meta = format!("{:#}\n", compiled.meta);
    outputs.push(json_or_yaml(path(".skel.json"), meta.into(), options.yaml)?);
    if options.standalone {
        let program = standalone::link(&compiled.package, &json, options)?;
        outputs.push(Output::program(path(""), program));
    }
    if options.wasm_header {
        let text = wasm_header::text(&event_header::name(&compiled.package), &json);
        outputs.push(Output::new(dir.join(wasm_header::NAME), text));
    }
    if options.event_header {
        let header = event_header::create(&compiled.package, event_header::FOR_HOSTS)?;
        let (name, text) = header.ok_or("--event-header: the package has no event types")?;
        outputs.push(Output::new(dir.join(name), text));
    }
    if !compiled.kernels.is_empty() {
        outputs.push(Output::new(path(".tar"), tar::archive(compiled, &json)?));
    }
    files::write_all(dir, &outputs, options.flags.verbose)
}

/// A file in JSON or YAML.
fn json_or_yaml(path: PathBuf, json: Vec<u8>, yaml: bool) -> Result<Output> {
    if !yaml {
        return Ok(Output::new(path, json));
    }
    let value: Value = serde_json::from_slice(&json).map_err(|error| error.to_string())?;
    Ok(Output::new(path.with_extension("yaml"), yaml::text(&value)?))
}
