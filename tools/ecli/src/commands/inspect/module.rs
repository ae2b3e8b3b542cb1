//! What a WASM module imports and exports, and the packages and objects that lie in its memory.
//!
//! A module computes what it loads, so what is found here is never said to be all: whoever can load programs is said to be
//! able to load others.

use eunomia::{Options, Vm};
use serde_json::{Value, json};
use wasmparser::{BinaryReaderError, DataKind, ExternalKind, Operator, Parser, Payload};

use super::memory::Memory;
use super::search::Search;
use crate::error::{Failure, Result};
use crate::source::Program;

/// Functions by which a guest loads programs.
const LOADERS: [&str; 2] = ["create_bpf", "wasm_load_bpf_object"];

/// What is reported of a module: its borders, and what lies in its memory.
pub fn report(program: &Program) -> Result<Value> {
    // The library says what is wrong with it, if anything is.
    let vm = Vm::new(Options::default())?;
    vm.open(&program.bytes, eunomia::Kind::Wasm as u32).map_err(|e| Failure::from(e).at(&program.name))?;
    let mut module = Module::default();
    let is_read = module.read(&program.bytes).is_ok();
    let mut search = Search::new(program.bytes.len());
    for run in module.memory.runs() {
        search.scan(&run);
    }
    for piece in &module.pieces {
        search.scan(piece);
    }
    let mut unseen = Vec::new();
    let loaders: Vec<&str> =
        module.imports.iter().map(String::as_str).filter(|name| is_loader(name)).collect();
    if !loaders.is_empty() {
        unseen.push(format!("could: load programs that are not shown here ({})", loaders.join(", ")));
    }
    if !is_read {
        unseen.push("could not be read to its end; there may be more than is shown here".into());
    }
    if search.is_cut {
        unseen.push(format!("holds more than is shown here: {} packages were read", search.found.len()));
    }
    Ok(json!({
        "name": program.name, "kind": "module", "bytes": program.bytes.len(), "imports": module.imports,
        "exports": module.exports, "unseen": unseen, "packages": search.found,
    }))
}

fn is_loader(import: &str) -> bool {
    import.rsplit('.').next().is_some_and(|name| LOADERS.contains(&name))
}

/// What has been read of a module.
#[derive(Default)]
struct Module<'a> {
    imports: Vec<String>,
    exports: Vec<String>,
    memory: Memory<'a>,
    /// Data whose place is known only when it runs.
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
