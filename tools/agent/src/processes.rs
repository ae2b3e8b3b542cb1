//! The other processes of a server. Each executes the same program with an argument for internal use.
//!
//! `main` calls [`run`] first, before it reads the command line.

use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, ExitCode};

use rustix::net::sockopt::socket_acceptconn;

use crate::loader::{self, Settings};
use crate::{fetcher, parser};

/// The first argument of the loader, the process that loads packages. Its standard input is a listening unix socket, to which the
/// server connects. `--policy` and `--audit` with absolute paths may follow.
const LOADER: &str = "--load-packages";

/// The first argument of the keeper, the process that starts the loader, and starts it again if it is killed. The same options may
/// follow.
const KEEPER: &str = "--keep-loader";

/// The only argument of the process that reads the package on its standard input.
const PARSER: &str = "--parse-package";

/// The first argument of the process that downloads packages for the server. Its standard input is a socket. `--policy` may follow.
const FETCHER: &str = "--fetch-packages";

/// Returns the command that starts the process for downloads. Its `main` calls [`fetch`].
pub fn fetcher(settings: &Settings) -> Command {
    own(FETCHER, &Settings { audit: None, ..settings.clone() })
}

/// Runs the process for downloads if the first argument selects it.
pub fn fetch(download: impl Fn(&str) -> Result<fetcher::Download, String>) -> Option<ExitCode> {
    if std::env::args_os().nth(1)?.to_str()? != FETCHER {
        return None;
    }
    let policy = settings().policy;
    let socket = std::io::stdin().as_fd().try_clone_to_owned().map_err(|error| error.to_string());
    let served = socket.and_then(|socket| {
        loader::confine_fetcher(policy.as_deref())?;
        fetcher::serve(socket, policy.as_deref(), download).map_err(|error| error.to_string())
    });
    if let Err(why) = &served {
        say!("{FETCHER}: {why}");
    }
    Some(if served.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Returns the command that starts the keeper.
pub fn keeper(settings: &Settings) -> Command {
    own(KEEPER, settings)
}

/// Runs the process that the first argument selects. Returns `None` if it selects none.
pub fn run() -> Option<ExitCode> {
    let first = std::env::args_os().nth(1)?;
    match first.to_str()? {
        LOADER => Some(load()),
        KEEPER => Some(keep()),
        PARSER => Some(parse()),
        _ => None,
    }
}

fn load() -> ExitCode {
    let Settings { policy, audit } = settings();
    let parser = || own(PARSER, &Settings::default());
    internal(LOADER, |listener| loader::serve(listener, loader::Config { policy, audit, parser }))
}

fn keep() -> ExitCode {
    let settings = settings();
    internal(KEEPER, |listener| loader::keep(&listener, || own(LOADER, &settings)))
}

fn parse() -> ExitCode {
    match parser::serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            say!("{PARSER}: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Returns a command that runs this program with `argument` and the paths of the settings.
fn own(argument: &str, settings: &Settings) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg(argument);
    for (name, path) in [("--policy", &settings.policy), ("--audit", &settings.audit)] {
        if let Some(path) = path {
            command.arg(name).arg(path);
        }
    }
    command
}

/// Reads the paths in the arguments that [`own`] has written.
fn settings() -> Settings {
    let (mut settings, mut args) = (Settings::default(), std::env::args_os().skip(2));
    while let (Some(name), Some(path)) = (args.next(), args.next()) {
        match name.to_str() {
            Some("--policy") => settings.policy = Some(path.into()),
            Some("--audit") => settings.audit = Some(path.into()),
            _ => {}
        }
    }
    settings
}

fn internal(name: &str, serve: impl FnOnce(OwnedFd) -> std::io::Result<()>) -> ExitCode {
    let input = std::io::stdin();
    if !socket_acceptconn(input.as_fd()).unwrap_or(false) {
        say!("{name} is for internal use");
        return ExitCode::FAILURE;
    }
    match input.as_fd().try_clone_to_owned().and_then(serve) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say!("loader: {error}");
            ExitCode::FAILURE
        }
    }
}
