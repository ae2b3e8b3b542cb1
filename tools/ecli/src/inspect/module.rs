//! What a WASM module imports and exports, and the packages and objects that lie in its memory.
//!
//! A module computes what it loads, so what is found here is never said to be all: whoever can load programs is said to be
//! able to load others.

use std::collections::BTreeMap;

use eunomia::package::Package;
use eunomia::{Options, Vm};
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use wasmparser::{BinaryReaderError, DataKind, ExternalKind, Operator, Parser, Payload};

use super::object;
use crate::error::{Failure, Result};
use crate::source::Program;

/// Functions by which a guest loads programs.
const LOADERS: [&str; 2] = ["create_bpf", "wasm_load_bpf_object"];
/// Packages and objects that are shown.
const MAX_PACKAGES: usize = 256;
/// Bytes that are read in search of packages: so many times those of the module, and at least.
const MAX_READS: usize = 16;
const LEAST_READS: usize = 16 << 20;
/// Zeros between two pieces of memory that tools leave out of a module.
const MAX_GAP: u64 = 1 << 16;

/// What is reported of a module: its borders, and what lies in its memory.
pub fn report(program: &Program) -> Result<Value> {
    // The library says what is wrong with it, if anything is.
    let vm = Vm::new(Options::default())?;
    vm.open(&program.bytes, eunomia::Kind::Wasm as u32).map_err(|e| Failure::from(e).at(&program.name))?;
    let mut module = Module::default();
    let is_read = module.read(&program.bytes).is_ok();
    let mut search = Search { left: (MAX_READS * program.bytes.len()).max(LEAST_READS), ..Search::default() };
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

/// Memory as the module's data makes it.
#[derive(Default)]
struct Memory<'a> {
    pieces: BTreeMap<u64, &'a [u8]>,
}

impl<'a> Memory<'a> {
    /// Writes over what was there.
    fn write(&mut self, at: u64, data: &'a [u8]) {
        let end = at.saturating_add(data.len() as u64);
        let before = self.pieces.range(..at).next_back().map(|(start, piece)| (*start, *piece));
        if let Some((start, piece)) = before {
            let (kept, rest) = piece.split_at(piece.len().min((at - start) as usize));
            self.pieces.insert(start, kept);
            if start + piece.len() as u64 > end {
                self.pieces.insert(end, &rest[data.len()..]);
            }
        }
        while let Some((start, piece)) =
            self.pieces.range(at..end).next().map(|(start, piece)| (*start, *piece))
        {
            self.pieces.remove(&start);
            if start + piece.len() as u64 > end {
                self.pieces.insert(end, &piece[(end - start) as usize..]);
            }
        }
        if !data.is_empty() {
            self.pieces.insert(at, data);
        }
    }

    /// What lies together, short gaps filled with zeros.
    fn runs(&self) -> Vec<Vec<u8>> {
        let (mut runs, mut end, mut left) = (Vec::<Vec<u8>>::new(), 0, LEAST_READS as u64);
        for (at, piece) in &self.pieces {
            let gap = at - end;
            match runs.last_mut() {
                Some(run) if gap <= MAX_GAP.min(left) => {
                    left -= gap;
                    run.resize(run.len() + gap as usize, 0);
                    run.extend_from_slice(piece);
                }
                _ => runs.push(piece.to_vec()),
            }
            end = at + piece.len() as u64;
        }
        runs
    }
}

/// The search for packages and objects.
#[derive(Default)]
struct Search {
    found: Vec<Value>,
    /// Bytes that may still be read.
    left: usize,
    is_cut: bool,
}

impl Search {
    /// Looks at each place at which a package or an object can begin.
    fn scan(&mut self, memory: &[u8]) {
        for (place, byte) in memory.iter().enumerate() {
            let rest = &memory[place..];
            match byte {
                b'{' if begins_object(rest) => self.text(rest),
                0x7f if rest.starts_with(b"\x7fELF") => self.object(rest),
                _ => {}
            }
        }
    }

    /// A JSON text, with whatever follows it.
    fn text(&mut self, rest: &[u8]) {
        if self.is_over() {
            return;
        }
        let mut texts = serde_json::Deserializer::from_slice(rest).into_iter::<IgnoredAny>();
        let (read, is_whole) = match texts.next() {
            Some(Ok(_)) => (texts.byte_offset(), true),
            Some(Err(e)) => (place_of(&e, rest), false),
            None => (0, false),
        };
        self.spend(read);
        if is_whole && let Ok(package) = Package::parse(&rest[..read]) {
            self.add(&package);
        }
    }

    /// An object without a package around it.
    fn object(&mut self, rest: &[u8]) {
        let Some(len) = eunomia_effects::object_len(rest).filter(|_| !self.is_over()) else { return };
        self.spend(len);
        if let Ok(package) = Package::from_object(&rest[..len], None) {
            self.add(&package);
        }
    }

    fn add(&mut self, package: &Package) {
        let failed = |failure: Failure| json!({ "bytes": package.object.len(), "error": failure.text() });
        self.found.push(object(package).unwrap_or_else(failed));
    }

    fn is_over(&mut self) -> bool {
        self.is_cut |= self.left == 0 || self.found.len() >= MAX_PACKAGES;
        self.is_cut
    }

    fn spend(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
    }
}

/// Whether this can be the beginning of a JSON object with a member.
fn begins_object(rest: &[u8]) -> bool {
    rest[1..].iter().find(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r')) == Some(&b'"')
}

/// How far a JSON text was read before it turned out to be none.
fn place_of(error: &serde_json::Error, text: &[u8]) -> usize {
    let mut lines = text.split_inclusive(|byte| *byte == b'\n');
    let before: usize = lines.by_ref().take(error.line().saturating_sub(1)).map(<[u8]>::len).sum();
    before + error.column()
}
