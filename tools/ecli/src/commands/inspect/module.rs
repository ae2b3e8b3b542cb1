//! Describes a WASM module: its imports and exports, and the packages and BPF objects in its memory.
//!
//! A module can compute what it loads, so the list is never reported as complete. A module that can load programs is
//! reported to be able to load others.

use eunomia::{Options, Vm};
use serde_json::{Value, json};
use wasmparser::{BinaryReaderError, DataKind, ExternalKind, Operator, Parser, Payload};

use super::memory::Memory;
use super::search::Search;
use crate::error::{Failure, Result};
use crate::source::Program;

/// Imports that load programs.
const LOADERS: [&str; 2] = ["create_bpf", "wasm_load_bpf_object"];

/// The report of a module.
pub fn report(program: &Program) -> Result<Value> {
    // The library reports an invalid module.
    let vm = Vm::new(Options::new())?;
    vm.open(&program.bytes, eunomia::Kind::Wasm).map_err(|e| Failure::from(e).at(&program.name))?;
    let mut module = Module::default();
    let is_read = module.read(&program.bytes).is_ok();
    let mut search = Search::new(program.bytes.len());
    for run in module.memory.runs() {
        search.scan(&run);
    }
    for piece in &module.pieces {
        search.scan(piece);
    }
    let mut notes = Vec::new();
    let loaders: Vec<&str> =
        module.imports.iter().map(String::as_str).filter(|name| is_loader(name)).collect();
    if !loaders.is_empty() {
        notes.push(format!("could: load programs not shown here ({})", loaders.join(", ")));
    }
    if !is_read {
        notes.push("could not be read to the end; there may be more than is shown here".into());
    }
    if search.is_cut {
        notes.push(format!("contains more than is shown here: {} packages were read", search.found.len()));
    }
    Ok(json!({
        "name": program.name, "kind": "module", "bytes": program.bytes.len(), "imports": module.imports,
        "exports": module.exports, "unseen": notes, "packages": search.found,
    }))
}

fn is_loader(import: &str) -> bool {
    import.rsplit('.').next().is_some_and(|name| LOADERS.contains(&name))
}

/// The relevant sections of a module.
#[derive(Default)]
struct Module<'a> {
    imports: Vec<String>,
    exports: Vec<String>,
    memory: Memory<'a>,
    /// Data segments whose address is known only at run time.
    pieces: Vec<&'a [u8]>,
}

impl<'a> Module<'a> {
    fn read(&mut self, bytes: &'a [u8]) -> Result<(), BinaryReaderError> {
        for payload in Parser::new(0).parse_all(bytes) {
            match payload? {
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import?;
                        self.imports.push(format!("{}.{}", import.module, import.name));
                    }
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export?;
                        if export.kind == ExternalKind::Func {
                            self.exports.push(export.name.to_owned());
                        }
                    }
                }
                Payload::DataSection(section) => {
                    for data in section {
                        let data = data?;
                        match &data.kind {
                            DataKind::Active { memory_index: 0, offset_expr } => {
                                match constant(offset_expr.get_operators_reader().read()?) {
                                    Some(at) => self.memory.write(at, data.data),
                                    None => self.pieces.push(data.data),
                                }
                            }
                            _ => self.pieces.push(data.data),
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn constant(operator: Operator<'_>) -> Option<u64> {
    match operator {
        Operator::I32Const { value } => Some(u64::from(value as u32)),
        Operator::I64Const { value } => Some(value as u64),
        _ => None,
    }
}
