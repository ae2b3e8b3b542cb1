//! The process with privileges. Its command line is that of `ecli run`, so it loads each version with the same options.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use eunomia::vm::{Exported, Prepared, ReplaceOptions, kernel_memory_limit};
use eunomia::{Kind, Level, Options, Vm};
use eunomia_agent::loader::exchange::{is_closed, receive, reply};
use eunomia_agent::loader::protocol::{Reply, Request};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::to_message;
use crate::commands::run::{is_iterator, vm_options};
use crate::error::{Code, Failure, Result, say};
use crate::options::{Command, LogLevel, Run};

use crate::statistics::Runs;
use crate::{attach, capabilities, command_line, program_args};

/// The first argument of this process. Its standard input is a socket. The command line of `ecli run` follows.
pub const ARGUMENT: &str = "--load-package";

/// Serves the process that has started this one, until that process ends. Everything is detached then.
pub fn serve() -> ExitCode {
    let mut args = std::env::args_os();
    let line = command_line::read(args.next().into_iter().chain(args.skip(1)).collect());
    let Command::Run(options) = line.command else {
        say(format_args!("{ARGUMENT} is for internal use"));
        return ExitCode::FAILURE;
    };
    let log_level = line.log_level;
    match connect().and_then(|socket| Service { socket, options: &options, log_level, vm: None }.run()) {
        Ok(()) => ExitCode::SUCCESS,
        // The other process has ended.
        Err(error) if is_closed(&error) => ExitCode::SUCCESS,
        Err(error) => {
            say(format_args!("{ARGUMENT}: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Takes the socket. Only the end of the other process ends this one, not a signal to all processes of a terminal or a service.
fn connect() -> io::Result<UnixStream> {
    // It fails only if this process leads a session already.
    let _ = rustix::process::setsid();
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::default())?;
    }
    Ok(io::stdin().as_fd().try_clone_to_owned()?.into())
}

struct Service<'a> {
    socket: UnixStream,
    options: &'a Run,
    log_level: Option<LogLevel>,
    /// The package, when it is loaded.
    vm: Option<Vm>,
}

impl Service<'_> {
    fn run(mut self) -> io::Result<()> {
        while let Some((request, _)) = receive(&self.socket)? {
            match request {
                Request::Load { package, .. } => {
                    let loaded = self.load(&package);
                    self.send_exported(loaded)?;
                }
                Request::Replace { package, .. } => self.replace(&package)?,
                Request::Program => {
                    let files = self.open_files();
                    self.send(files.map(|files| (Reply::Done, files)))?;
                }
                Request::Pause { on: false, .. } => {
                    self.send(self.attach().map(|()| (Reply::Done, Vec::new())))?;
                }
                Request::Describe { .. } => {
                    let runs = self.vm().and_then(|vm| Ok(Runs::of(vm)?.to_json()));
                    self.send(runs.map(|runs| (Reply::Text(runs), Vec::new())))?;
                }
                _ => self.send(Err(Failure::new(Code::Failed, "nothing is prepared")))?,
            }
        }
        Ok(())
    }

    fn vm(&self) -> Result<&Vm> {
        self.vm.as_ref().ok_or_else(|| Failure::new(Code::Failed, "no package is loaded"))
    }

    /// Loads the package without attaching it.
    fn load(&mut self, package: &[u8]) -> Result<Exported> {
        let vm = self.open(package, vm_options(self.options, self.log_level))?;
        vm.load().map_err(capabilities::explain)?;
        let exported = vm.export()?.for_reader();
        self.vm = Some(vm);
        Ok(exported)
    }

    /// Opens a package with the options of the command line. Fails if they do not fit it.
    fn open(&self, package: &[u8], settings: Options) -> Result<Vm> {
        let limit = kernel_memory_limit(self.options.limits.max_kernel_memory);
        let vm = Vm::new(settings.max_kernel_memory(limit))?;
        vm.open(package, Kind::Json)?;
        if program_args::set(&vm, package, &self.options.argv())?.is_some() {
            return Err(Failure::new(Code::Usage, "the arguments ask the new version for its help"));
        }
        attach::apply(&vm, &self.options.attach)?;
        check_programs(&vm)?;
        Ok(vm)
    }

    /// Attaches the programs. Then privileges that no other version needs are dropped.
    fn attach(&self) -> Result<()> {
        self.vm()?.attach().map_err(capabilities::explain)?;
        capabilities::keep_for_loading();
        Ok(())
    }

    /// Prepares another version.
    fn prepare(&self, package: &[u8]) -> Result<Prepared<'_>> {
        // Messages about the package come from the vm that runs it.
        self.open(package, vm_options(self.options, None).log_level(Level::Error))?;
        self.vm()?.prepare(package, ReplaceOptions::default()).map_err(capabilities::explain)
    }

    /// Prepares another version, and switches to it if the other process requests that.
    fn replace(&self, package: &[u8]) -> io::Result<()> {
        let mut prepared = match self.prepare(package) {
            Ok(prepared) => prepared,
            Err(failure) => return self.send(Err(failure)),
        };
        if prepared.report().unchanged {
            return self.send(Ok((Reply::Text(prepared.report().to_json()), Vec::new())));
        }
        let exported = prepared.export();
        let is_prepared = exported.is_ok();
        self.send_exported(exported.map(Exported::for_reader).map_err(Failure::from))?;
        if is_prepared { self.decide(prepared) } else { Ok(()) }
    }

    fn decide(&self, prepared: Prepared) -> io::Result<()> {
        match receive(&self.socket)? {
            Some((Request::Flip, _)) => {
                let report = prepared.flip().map_err(capabilities::explain);
                self.send(report.map(|report| (Reply::Text(report.to_json()), Vec::new())))
            }
            Some((Request::Abort, _)) => {
                drop(prepared);
                self.send(Ok((Reply::Done, Vec::new())))
            }
            Some(_) => Err(io::Error::other("neither flip nor abort was sent")),
            None => Ok(()),
        }
    }

    /// Opens the program of the command line, and its signature if one is required and there is one.
    fn open_files(&self) -> Result<Vec<OwnedFd>> {
        let open = |path: &Path| File::open(path).map(OwnedFd::from);
        let failed = |path: &Path, error| Failure::io(Code::Source, path.display(), &error);
        let path = Path::new(self.options.prog().0);
        let mut files = vec![open(path).map_err(|error| failed(path, error))?];
        if self.options.origin.require_signed {
            let path = eunomia_signature::path_of(path);
            match open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                opened => files.push(opened.map_err(|error| failed(&path, error))?),
            }
        }
        Ok(files)
    }

    fn send_exported(&self, exported: Result<Exported>) -> io::Result<()> {
        match exported {
            Ok(exported) => {
                let loaded = Reply::Loaded { description: exported.description() };
                reply(&self.socket, &loaded, &exported.fds())
            }
            Err(failure) => self.send(Err(failure)),
        }
    }

    fn send(&self, result: Result<(Reply, Vec<OwnedFd>)>) -> io::Result<()> {
        let (message, files) =
            result.unwrap_or_else(|failure| (Reply::Failed(to_message(failure)), Vec::new()));
        let files: Vec<BorrowedFd> = files.iter().map(AsFd::as_fd).collect();
        reply(&self.socket, &message, &files)
    }
}

/// Fails if a program cannot run here: the process that shows the events would have to start iterators.
fn check_programs(vm: &Vm) -> Result<()> {
    for index in 0..vm.prog_count()? {
        let program = vm.prog_at(index)?;
        if is_iterator(&program) {
            let (name, section) = (program.name.to_string_lossy(), program.section.to_string_lossy());
            let text = format!(
                "program {name:?} ({section}): an iterator cannot be replaced; run the package without --reload and \
                 --watch-package"
            );
            return Err(Failure::new(Code::Usage, text));
        }
    }
    Ok(())
}
