//! A module that has been loaded and checked, but does not run.

use std::sync::Arc;

use super::sys::module::{Exported, Imported};
use super::sys::signature::{CALLBACK_TYPE, is_callable};
use super::{imports, rewrite, sys};
use crate::error::{Error, Hint, Result, Status};

/// A checked module. Each run makes an instance of it.
pub struct Module {
    pub(super) module: Arc<sys::module::Module>,
    pub(super) entry: Entry,
    /// Whether it has a function that gets events.
    pub(super) has_handler: bool,
    /// Whether it exports a `malloc` of its own.
    pub(super) has_malloc: bool,
    /// Initial size of its memory in pages.
    pub(super) pages: u32,
}

/// The main function of a module.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// `bpf_main`, which gets the arguments as JSON.
    BpfMain,
    /// `_start`, which gets the arguments through WASI.
    Start,
}

/// Exports that get one event.
const CALLBACKS: [&str; 2] = ["process_event", "go-callback"];

/// Other exports with a meaning, and the types that they must have.
const EXPORTS: [(&str, &str); 6] = [
    ("bpf_main", "(ii)i"),
    ("process_events", "(iii)i"),
    ("eunomia_event_format", "()i"),
    ("_start", "()"),
    ("malloc", "(i)i"),
    (rewrite::START, "()"),
];

/// Exports that WAMR may use as the guest's allocator.
const ALLOCATORS: [&str; 7] = ["malloc", "free", "__new", "__retain", "__pin", "__release", "__unpin"];

impl Module {
    /// Loads a module and checks everything that can be checked before it runs.
    pub fn open(bytes: &[u8]) -> Result<Module> {
        let rewrite::Prepared { bytes, pages } = rewrite::prepare(bytes)?;
        let module = sys::module::Module::load(bytes, imports::names())?;
        check_imports(&module)?;
        let functions = module.functions();
        functions.iter().try_for_each(check_export)?;
        let has = |name: &str| functions.iter().any(|function| function.name == name);
        let entry = match (has("bpf_main"), has("_start")) {
            (true, _) => Entry::BpfMain,
            (false, true) => Entry::Start,
            (false, false) => {
                let hint = "eunomia-include/entry.h has a bpf_main that calls main";
                let error = Error::new(Status::Package, "module: exports neither bpf_main nor _start");
                return Err(error.with_hint(Hint::Text(hint.into())));
            }
        };
        let has_handler = has("process_event") || has("process_events");
        let has_malloc = ALLOCATORS.iter().any(|name| has(name));
        Ok(Module { module: Arc::new(module), entry, has_handler, has_malloc, pages })
    }
}

fn check_imports(module: &sys::module::Module) -> Result<()> {
    let Some(unknown) = module.imports().into_iter().find(|import| !import.is_known) else { return Ok(()) };
    let Imported { module, name, is_function, .. } = unknown;
    let same_name = imports::names().iter().find(|import| {
        import.module.to_bytes() == module.as_bytes() && import.name.as_bytes() == name.as_bytes()
    });
    let why = match same_name {
        _ if !is_function => "only functions can be imported".to_owned(),
        Some(import) => format!("expected type {}", import.signature.to_string_lossy()),
        None => "no such function".to_owned(),
    };
    Err(Error::new(Status::Package, format_args!("module: import {module}.{name}: {why}")))
}

fn check_export(export: &Exported) -> Result<()> {
    let Exported { name, signature } = export;
    let expected = EXPORTS.iter().find(|(export, _)| export == name).map(|(_, expected)| *expected);
    let why = match expected {
        Some(expected) if expected != signature => format!("expected {expected}"),
        None if CALLBACKS.contains(&&**name) && !is_callable(signature, 3..=3) => CALLBACK_TYPE.to_owned(),
        _ => return Ok(()),
    };
    Err(Error::new(Status::Package, format!("module: export {name:?} has type {signature}, {why}")))
}
