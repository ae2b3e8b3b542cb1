//! `ecli server`: runs packages for others. The crate eunomia-agent does everything; this file reads the options.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::process::{Command, ExitCode};

use eunomia_agent::loader;
use eunomia_agent::server::{self, Config};
use rustix::net::sockopt::socket_type;

use crate::error::{Code, Failure, Result, say};
use crate::options::Server;

/// The only argument of the process that loads packages.
pub const LOADER: &str = "--load-packages";

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
        tokens: options.tokens.clone(),
        is_open: options.insecure_no_auth,
        state: options.state.clone(),
    };
    let mut command = Command::new("/proc/self/exe");
    command.arg(LOADER);
    server::run(&config, command).map_err(|why| Failure::new(Code::Failed, why))?;
    Ok(ExitCode::SUCCESS)
}

/// The process that loads packages: serves requests on standard input.
pub fn load() -> ExitCode {
    let input = std::io::stdin();
    if socket_type(input.as_fd()).is_err() {
        say(format_args!("{LOADER} is for internal use"));
        return ExitCode::FAILURE;
    }
    let served = input.as_fd().try_clone_to_owned().and_then(loader::serve);
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(format_args!("loader: {error}"));
            ExitCode::FAILURE
        }
    }
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
