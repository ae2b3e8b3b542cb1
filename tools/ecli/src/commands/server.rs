//! `ecli server`: runs packages for clients. This file converts the options; the crate eunomia-agent does the work.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use eunomia_agent::loader::{self, Settings};
use eunomia_agent::parser;
use eunomia_agent::server::{self, Config};
use eunomia_agent::tls::Files;
use rustix::net::sockopt::socket_acceptconn;

use crate::error::{Code, Failure, Result, say};
use crate::options::Server;
use crate::output;

/// The first argument of the loader, the process that loads packages. Its standard input is a listening unix socket, to which the
/// server connects. `--policy` and `--audit` with absolute paths may follow.
pub const LOADER: &str = "--load-packages";

/// The first argument of the keeper, the process that starts the loader, and starts it again if it is killed. The same options may
/// follow.
pub const KEEPER: &str = "--keep-loader";

/// The only argument of the process that reads the package on its standard input.
pub const PARSER: &str = "--parse-package";

/// The port of the server, as in eunomia-bpf.
const PORT: u16 = 8527;

/// The group of the socket unless the options name another one.
const GROUP: &str = "eunomia";

/// Runs the server.
pub fn run(options: &Server) -> Result<ExitCode> {
    let address = (options.address.is_some() || options.port.is_some()).then(|| {
        let address = options.address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        SocketAddr::new(address, options.port.unwrap_or(PORT))
    });
    let config = Config {
        socket: Some(options.socket.clone()),
        group: group(options.group.as_deref())?,
        address,
        tls: files(&options.tls_cert, &options.tls_key),
        clients: options.tls_client_ca.clone(),
        tokens: options.tokens.clone(),
        is_open: options.insecure_no_auth,
        state: options.state.clone(),
        loader: options.loader.clone().unwrap_or_else(|| options.socket.with_file_name("loader.sock")),
        detach_after: options.detach_after,
        settings: Settings { policy: absolute(&options.policy)?, audit: absolute(&options.audit)? },
    };
    let failed = |why| Failure::new(Code::Failed, why);
    if options.uninstall {
        let text = if server::uninstall(&config).map_err(failed)? {
            "everything is detached"
        } else {
            "nothing is attached"
        };
        return output::print(format_args!("{text}\n"));
    }
    server::run(&config, own(KEEPER, &config.settings)).map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}

/// Runs the loader.
pub fn load() -> ExitCode {
    let Settings { policy, audit } = settings();
    let parser = || own(PARSER, &Settings::default());
    internal(LOADER, |listener| loader::serve(listener, loader::Config { policy, audit, parser }))
}

/// Runs the keeper.
pub fn keep() -> ExitCode {
    let settings = settings();
    internal(KEEPER, |listener| loader::keep(&listener, || own(LOADER, &settings)))
}

/// Runs the parser, the process that reads a package before it is loaded.
pub fn parse() -> ExitCode {
    match parser::serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            say(format_args!("{PARSER}: {why}"));
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

fn absolute(path: &Option<PathBuf>) -> Result<Option<PathBuf>> {
    let path = path.as_ref().map(std::path::absolute).transpose();
    path.map_err(|error| Failure::new(Code::Usage, error))
}

fn internal(name: &str, serve: impl FnOnce(OwnedFd) -> std::io::Result<()>) -> ExitCode {
    let input = std::io::stdin();
    if !socket_acceptconn(input.as_fd()).unwrap_or(false) {
        say(format_args!("{name} is for internal use"));
        return ExitCode::FAILURE;
    }
    match input.as_fd().try_clone_to_owned().and_then(serve) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(format_args!("loader: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// The files of a certificate, if there is one.
pub fn files(certificate: &Option<PathBuf>, key: &Option<PathBuf>) -> Option<Files> {
    Some(Files { certificate: certificate.clone()?, key: key.clone()? })
}

/// The number of a group.
fn group(name: Option<&str>) -> Result<Option<u32>> {
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let find = |name: &str| {
        let mut lines = groups.lines().map(|line| line.split(':'));
        let line = lines.find_map(|mut words| (words.next() == Some(name)).then_some(words));
        line.and_then(|mut words| words.nth(1)?.parse().ok())
    };
    let Some(name) = name else { return Ok(find(GROUP)) };
    match name.parse().ok().or_else(|| find(name)) {
        Some(number) => Ok(Some(number)),
        None => Err(Failure::new(Code::Usage, format_args!("--group: /etc/group has no group {name:?}"))),
    }
}
