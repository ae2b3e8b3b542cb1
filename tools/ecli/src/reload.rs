//! `--reload` and `--watch-package`: replaces the running package or WASM module with a new version of its file.
//!
//! A thread of its own does this while the main thread shows events. A package is loaded by another process, the
//! [`loader`](crate::loader). A WASM module loads its packages itself, so its threads keep privileges. A version that fails
//! leaves the running one as it is.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use eunomia::package::Package;
use eunomia::vm::{Exported, ReplaceOptions};
use eunomia::{Options, Vm};
use eunomia_fetch::location::{Location, without_password};
use eunomia_watch::Watched;
use serde_json::Value;

use crate::commands::run::check_maps;
use crate::commands::wasm;
use crate::error::{Code, Failure, Result, say};
use crate::kind::Kind;
use crate::loader::Loader;
use crate::options::{Format, Run};
use crate::output::Output;
use crate::source::{self, Program, Request, locate};
use crate::view::View;
use crate::{capabilities, signals};

/// The report about a program that runs already.
const UNCHANGED: &str = r#"{"unchanged":true}"#;

/// The time for which a file may be incomplete after it has changed.
const INCOMPLETE: Duration = Duration::from_secs(2);
/// The time between two attempts to read an incomplete file.
const AGAIN: Duration = Duration::from_millis(50);

/// The reason why a new version is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    Signal,
    Change,
}

/// Requests to replace the running package.
#[derive(Clone)]
pub struct Requests {
    sender: Sender<Cause>,
    state: Arc<State>,
}

/// The state that the threads of a run share.
#[derive(Default)]
struct State {
    /// The number of replaces.
    replaced: AtomicU64,
    /// Whether the run is ending, so that a failure of a replace is not reported.
    is_over: AtomicBool,
}

impl Requests {
    /// Requests a reload after a signal.
    pub fn signal(&self) {
        // After the end of the run, no thread receives the request.
        let _ = self.sender.send(Cause::Signal);
    }

    /// The number of replaces so far.
    pub fn replaced(&self) -> u64 {
        self.state.replaced.load(SeqCst)
    }

    /// Ends the messages about replaces.
    pub fn end(&self) {
        self.state.is_over.store(true, SeqCst);
    }
}

/// Fails if this program cannot be reloaded. Does nothing without the options.
pub fn check(options: &Run, kind: Kind) -> Result<()> {
    let (prog, _) = options.prog();
    let option = match options.watch_package {
        true => "--watch-package",
        false if options.reload => "--reload",
        false => return Ok(()),
    };
    let refuse = |why: &str| Err(Failure::new(Code::Usage, format_args!("{option}: {why}")));
    match (locate(prog)?, kind) {
        (Location::Stdin, _) => refuse("standard input cannot be read again; give the program as a file"),
        (_, Kind::Object) => {
            refuse("a BPF object cannot be replaced while it runs; use the package.json that ecc writes")
        }
        (Location::File, _) => Ok(()),
        _ if options.watch_package => {
            refuse("the program is not a file; use --reload, and send SIGHUP to download it again")
        }
        _ => Ok(()),
    }
}

/// Starts the threads that wait for requests and replace `running`, the program of `vm`, if the options ask for it. Call this
/// before the privileges are dropped.
pub fn start(vm: &Arc<Vm>, options: &Run, running: Running) -> Result<Option<Requests>> {
    if !options.reloads() {
        return Ok(None);
    }
    let (sender, receiver) = channel();
    let state = Arc::new(State::default());
    let requests = Requests { sender: sender.clone(), state: Arc::clone(&state) };
    if let Running::Package(loader) = &running {
        stop_without(loader, vm)?;
    }
    let mut reload = Reload { vm: Arc::clone(vm), options: options.clone(), running, state };
    signals::start("reload", move || {
        match reload.running {
            Running::Package(_) => capabilities::drop_all(),
            Running::Guest(..) => capabilities::keep_for_loading(),
        }
        reload.serve(&receiver);
    })?;
    if options.watch_package {
        watch(options.prog().0.into(), sender)?;
    }
    Ok(Some(requests))
}

/// Starts the thread that stops the vm when the loader has ended.
fn stop_without(loader: &Arc<Loader>, vm: &Arc<Vm>) -> Result<()> {
    let (loader, vm) = (Arc::clone(loader), Arc::clone(vm));
    signals::start("loader", move || {
        capabilities::drop_all();
        if loader.wait_for_end() {
            vm.stop();
        }
    })
}

/// Starts the thread that reports changes of the file.
fn watch(file: PathBuf, sender: Sender<Cause>) -> Result<()> {
    let failed = |e: std::io::Error| Failure::io(Code::Failed, "--watch-package", &e);
    let mut watched = Watched::new().map_err(failed)?;
    let files = [file];
    watched.set(&files).map_err(failed)?;
    signals::start("watch", move || {
        capabilities::drop_all();
        loop {
            // A symbolic link may have another target now. Without privileges, the directory of another user may be closed to this
            // thread; the last directories are watched then.
            let set = |watched: &mut Watched| match watched.set(&files) {
                Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
                result => result,
            };
            let changed = watched.wait().and_then(|()| set(&mut watched));
            if let Err(e) = changed {
                return say(failed(e).at_end("; changes of the file are no longer noticed").text());
            }
            if sender.send(Cause::Change).is_err() {
                return;
            }
        }
    })
}

/// The running program, for comparison with the next version.
pub enum Running {
    /// A package, and the process that has loaded it.
    Package(Arc<Loader>),
    /// A WASM module: its bytes, and the format of its events.
    Guest(Vec<u8>, eunomia::Format),
}

/// The thread that replaces the package or module.
struct Reload {
    vm: Arc<Vm>,
    options: Run,
    running: Running,
    state: Arc<State>,
}

impl Reload {
    fn serve(&mut self, receiver: &Receiver<Cause>) {
        while let Ok(mut cause) = receiver.recv() {
            // One replace serves all requests that are waiting, because they ask for the same.
            for other in receiver.try_iter() {
                cause = if other == Cause::Change { other } else { cause };
            }
            let replaced = self.replace(cause);
            if self.state.is_over.load(SeqCst) || self.has_no_loader() {
                return;
            }
            match replaced {
                Ok(line) if self.options.quiet => drop(line),
                Ok(line) => say(line),
                Err(failure) => {
                    let failure = failure.at("not replaced").at_end("; the running version stays");
                    if self.options.verbose { failure.report() } else { say(failure.text()) }
                }
            }
        }
    }

    /// Whether the loader has ended. The main thread reports it.
    fn has_no_loader(&self) -> bool {
        matches!(&self.running, Running::Package(loader) if loader.is_lost())
    }

    /// Reads the new version and replaces the running one with it. Returns a line about what has changed.
    fn replace(&mut self, cause: Cause) -> Result<String> {
        let new = self.read(cause)?;
        let name = without_password(self.options.prog().0).into_owned();
        let start = Instant::now();
        let json = match &self.running {
            Running::Guest(old, _) if *old == new => UNCHANGED.to_owned(),
            Running::Guest(_, format) => {
                if wasm::format(&new, &self.options) != *format {
                    let why = "the new module expects its events in another format";
                    return Err(Failure::new(Code::Usage, why));
                }
                self.vm.replace(&new, ReplaceOptions::default())?.to_json()
            }
            Running::Package(loader) => {
                // A table and a CSV file have one header for all records that follow it.
                let is_ordered = matches!(self.options.format(), Format::Text | Format::Csv);
                loader.replace(&self.vm, &new, is_ordered, |exported| self.check_view(&new, exported))?
            }
        };
        let report: Value = serde_json::from_str(&json).unwrap_or_default();
        if report["unchanged"] == true {
            return Ok(format!("{name} has not changed"));
        }
        self.state.replaced.fetch_add(1, SeqCst);
        let time = start.elapsed().as_secs_f64() * 1000.0;
        let changes = match &mut self.running {
            Running::Package(_) => describe(&report),
            Running::Guest(old, _) => {
                *old = new;
                "the module runs anew".into()
            }
        };
        let line = format!("replaced by {name} in {time:.1} ms: {changes}");
        Ok(if self.options.verbose { format!("{line}\n{json}") } else { line })
    }

    /// Reads a package as at the start of the run, with the same checks. A file that has changed may still be written.
    fn read(&self, cause: Cause) -> Result<Vec<u8>> {
        let start = Instant::now();
        loop {
            match self.read_once() {
                Err(_) if cause == Cause::Change && start.elapsed() < INCOMPLETE => thread::sleep(AGAIN),
                done => return done,
            }
        }
    }

    fn read_once(&self) -> Result<Vec<u8>> {
        let options = &self.options;
        let prog = options.prog().0;
        let program = self.open(&Request { prog, kind: options.prog_type, origin: &options.origin })?;
        check(options, program.kind)?;
        let is_module = program.kind == Kind::Wasm;
        if is_module != matches!(self.running, Running::Guest(..)) {
            let text = format!("{}: {}, unlike the running program", program.name, program.kind.describe());
            return Err(Failure::new(Code::Source, text));
        }
        let package = match program.kind {
            Kind::Wasm => return Ok(program.bytes),
            Kind::Tar => program.packed()?,
            _ => program.bytes,
        };
        Package::parse(&package).map_err(|e| Failure::from(e).at(&program.name))?;
        Ok(package)
    }

    /// Opens the program. The loader opens a file, because this process may have no right to.
    fn open(&self, request: &Request) -> Result<Program> {
        match &self.running {
            Running::Package(loader) if matches!(locate(request.prog)?, Location::File) => {
                source::check(request, loader.read_program(request.prog)?)
            }
            _ => source::open(request),
        }
    }

    /// Fails if the options of this run do not fit the records and maps of a version that is loaded, so that it could run but not
    /// be shown.
    fn check_view(&self, package: &[u8], exported: &Exported) -> Result<()> {
        let options = &self.options;
        let selects = options.filter.is_some() || !options.columns.is_empty() || !options.map.is_empty();
        if !selects && options.format() != Format::Csv {
            return Ok(());
        }
        let fds = exported.fds().into_iter().map(|fd| fd.try_clone_to_owned());
        let fds = fds.collect::<std::io::Result<_>>();
        let fds =
            fds.map_err(|error| Failure::io(Code::Failed, "the descriptors of the new version", &error))?;
        let copy = Exported::from_parts(&exported.description(), fds)?;
        let vm = Arc::new(Vm::import(package, copy, Options::new())?);
        check_maps(&vm, &options.map)?;
        View::of_package(options, &vm, Output::open(None)?).map(drop)
    }
}

/// The programs and maps of a report in words: `2 programs swapped, 1 added; maps: 1 carried, 2 fresh`.
fn describe(report: &Value) -> String {
    let count = |list: &str, change: &str| {
        let list = report[list].as_array().map_or(&[][..], Vec::as_slice);
        list.iter().filter(|entry| entry["change"] == change).count()
    };
    let all = |list: &str, kinds: &[&str]| {
        let counts = kinds.iter().map(|kind| (count(list, kind), kind)).filter(|(count, _)| *count > 0);
        let counts: Vec<String> = counts.map(|(count, kind)| format!("{count} {kind}")).collect();
        if counts.is_empty() { "none".into() } else { counts.join(", ") }
    };
    let (programs, maps) =
        (all("programs", &["swapped", "added", "moved", "dropped"]), all("maps", &["carried", "fresh"]));
    format!("programs: {programs}; maps: {maps}")
}
