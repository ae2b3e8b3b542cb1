//! WASM packages: a module brings its eBPF programs and the code that sets them up and digests their events.
//!
//! A guest can reach what `imports.rs` lists and nothing else. What it hands over (pointers, lengths, handles, texts) is
//! believed only after it has been checked. Whatever it does, it ends: by itself, by a trap, when it takes too long
//! over an event, or when the vm is told to stop. Nothing here knows of the host's callbacks; that is the [`Outlet`]'s
//! business.

mod binary;
mod ewasm;
mod imports;
mod libc;
mod run;
mod sys;
mod wasi;
mod wasm_bpf;
mod watch;

use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use run::run;
pub use sys::version;

use crate::bpf::session::Session;
use crate::bpf::source::{Shape, Sink, Sources};
use crate::error::{Error, Hint, Result, Status};
use sys::instance::{Limits, PAGE, takes};

/// A module that has been checked, not running.
pub struct Module {
    module: Arc<sys::module::Module>,
    entry: Entry,
    has_handler: bool,
    /// Whether it brings a `malloc` of its own.
    has_malloc: bool,
    pages: u32,
}

/// What a module begins with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Entry {
    /// `bpf_main`, which gets the arguments as JSON.
    Main,
    /// `_start`, which asks WASI for them.
    Start,
}

/// Exports that get one event.
const CALLBACKS: [&str; 2] = ["process_event", "go-callback"];

/// What such a function is, for messages.
const CALLABLE: &str =
    "but a callback takes context, address and length, each i32 or i64, and returns one number or nothing";

/// Other exports with a meaning, and the types that they must have.
const EXPORTS: [(&str, &str); 6] = [
    ("bpf_main", "(ii)i"),
    ("process_events", "(iii)i"),
    ("eunomia_event_format", "()i"),
    ("_start", "()"),
    ("malloc", "(i)i"),
    (binary::START, "()"),
];

/// Exports that WAMR may take for those of an allocator.
const ALLOCATORS: [&str; 7] = ["malloc", "free", "__new", "__retain", "__pin", "__release", "__unpin"];

impl Module {
    /// Loads a module and checks all that can be checked before it runs.
    pub fn open(bytes: &[u8]) -> Result<Module> {
        let binary::Prepared { bytes, pages } = binary::prepare(bytes)?;
        let module = sys::module::Module::load(bytes, imports::names())?;
        check_imports(&module)?;
        let functions = module.functions();
        for sys::module::Exported { name, signature } in &functions {
            let wanted = EXPORTS.iter().find(|(export, _)| export == name).map(|(_, wanted)| *wanted);
            let why = match wanted {
                Some(wanted) if wanted != signature => format!(", not {wanted}"),
                None if CALLBACKS.contains(&&**name) && !takes(signature, 3..=3) => format!(", {CALLABLE}"),
                _ => continue,
            };
            let text = format!("module: its export {name:?} has type {signature}{why}");
            return Err(Error::new(Status::Package, text));
        }
        let has = |name: &str| functions.iter().any(|function| function.name == name);
        let entry = match (has("bpf_main"), has("_start")) {
            (true, _) => Entry::Main,
            (false, true) => Entry::Start,
            (false, false) => {
                let hint = "eunomia-include/entry.h has a bpf_main that calls main";
                let error = Error::new(Status::Package, "module: it exports neither bpf_main nor _start");
                return Err(error.hint(Hint::Text(hint.into())));
            }
        };
        let has_handler = has("process_event") || has("process_events");
        let has_malloc = ALLOCATORS.iter().any(|name| has(name));
        Ok(Module { module: Arc::new(module), entry, has_handler, has_malloc, pages })
    }
}

fn check_imports(module: &sys::module::Module) -> Result<()> {
    let Some(unknown) = module.imports().into_iter().find(|import| !import.is_known) else { return Ok(()) };
    let sys::module::Imported { module, name, is_function, .. } = unknown;
    let there = imports::names().iter().find(|import| {
        import.module.to_bytes() == module.as_bytes() && import.name.as_bytes() == name.as_bytes()
    });
    let why = match there {
        _ if !is_function => "only functions can be imported".to_owned(),
        Some(import) => format!("it has another type, {}", import.signature.to_string_lossy()),
        None => "there is no such function".to_owned(),
    };
    Err(Error::new(Status::Package, format_args!("module: import {module}.{name}: {why}")))
}

/// What guests of a vm may take and see.
#[derive(Clone, Default)]
pub struct Config {
    /// Bytes of the stack of calls; 0: 128 KiB.
    pub stack: u32,
    /// Bytes of the heap that the host manages; 0: 2 MiB.
    pub heap: u32,
    /// Bytes of linear memory; 0: 16 MiB.
    pub memory: u32,
    /// Milliseconds that one event may take; 0: 1000.
    pub budget_ms: u32,
    /// Whether guests get the bytes of events although they do not ask for them.
    pub raw_events: bool,
    /// Whether guests have the host's stdin, stdout and stderr.
    pub stdio: bool,
    /// Folders that guests may read.
    pub dirs: Vec<PathBuf>,
}

impl Config {
    fn limits(&self) -> Limits {
        let or = |given: u32, usual: u32| if given == 0 { usual } else { given };
        Limits {
            stack: or(self.stack, 128 << 10),
            // WAMR makes no smaller one, and beside a larger one there is hardly room for the guest's own memory.
            heap: or(self.heap, 2 << 20).clamp(4096, 1 << 30),
            memory: or(self.memory, 16 << 20).max(PAGE),
        }
    }

    fn budget(&self) -> Duration {
        Duration::from_millis(if self.budget_ms == 0 { 1000 } else { self.budget_ms }.into())
    }
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// There may be records.
    Events,
    /// `stop` was called; that has been taken note of.
    Stop,
    /// The time is over.
    Nothing,
}

/// The vm as a guest sees it: takes what the guest lets through, and waits. A `false` ends the guest.
pub trait Outlet: Sink {
    /// Whether events must be JSON where the guest gets JSON: `None`, or the format that the host wants instead.
    fn other_than_json(&self) -> Option<&'static str>;
    /// Has `wait` wait for these sources, and for no others.
    fn watch(&mut self, sources: &[&Sources]) -> Result<()>;
    /// Waits for a source, for `stop`, or until `deadline`.
    fn wait(&mut self, deadline: Option<Instant>) -> Result<Wake>;
    /// A line that the guest printed.
    fn output(&mut self, line: &[u8]) -> bool;
    /// A record, or an entry if there is a key, as JSON that the guest has seen and perhaps changed. `len`: bytes it had.
    fn json(&mut self, source: &Shape, cpu: i32, key: Option<&[u8]>, json: &[u8], len: usize) -> bool;
    /// Whether the guest printed while it handled the event that comes next.
    fn printed(&mut self, printed: bool);
    /// The guest took so many events for itself.
    fn taken(&mut self, events: u64, bytes: u64);
    /// The guest dropped so many events.
    fn dropped(&mut self, events: u64);
    /// Loads a package of the guest whose events may come to this outlet.
    fn load(&mut self, session: &mut Session) -> Result<Sources>;
    /// The guest loaded a package.
    fn loaded(&mut self, session: &Session);
    /// The guest is about to unload a package.
    fn unloading(&mut self, session: &Session);
    /// The guest has ended; what it has left loaded is about to be unloaded.
    fn unloading_all(&mut self);
}

/// The stop descriptor and the log of the vm.
pub struct Vm<'a> {
    /// Readable while a request to stop stands.
    pub stop_fd: RawFd,
    /// The vm's log.
    pub log: &'a Arc<crate::log::Log>,
    /// How packages of the guest are opened.
    pub session: &'a dyn Fn() -> crate::bpf::session::Config,
}
