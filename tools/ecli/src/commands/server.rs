//! `ecli server`: runs packages for others. The crate eunomia-agent does everything; this file reads the options.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use eunomia_agent::loader;
use eunomia_agent::server::{self, Config};
use eunomia_agent::tls::Files;
use rustix::net::sockopt::socket_acceptconn;

use crate::error::{Code, Failure, Result, say};
use crate::options::Server;
use crate::output;

/// The only argument of the process that loads packages. Its standard input is a unix socket that listens for servers.
pub const LOADER: &str = "--load-packages";

/// The only argument of the process that starts that process, and starts it again if it is killed.
pub const KEEPER: &str = "--keep-loader";

/// The port of the server, as in eunomia-bpf.
const PORT: u16 = 8527;

/// The group that may read unless the options name another one.
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
    server::run(&config, own(KEEPER)).map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}

/// The process that loads packages.
pub fn load() -> ExitCode {
    internal(LOADER, loader::serve)
}

/// The process that starts the one that loads packages.
pub fn keep() -> ExitCode {
    internal(KEEPER, |listener| loader::keep(&listener, || own(LOADER)))
}

/// This program with another argument.
fn own(argument: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg(argument);
    command
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
