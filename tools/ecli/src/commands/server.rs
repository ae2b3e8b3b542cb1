//! `ecli server`: runs packages for clients. This file converts the options; the crate eunomia-agent does the work.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use eunomia_agent::loader::Settings;
use eunomia_agent::server::{self, Config};
use eunomia_agent::tls::Files;
use eunomia_agent::{fetcher, processes};
use eunomia_fetch as fetch;

use crate::error::{Code, Failure, Result};
use crate::options::Server;
use crate::output;
use crate::source::locate;

/// The idle timeout of a download. A whole download may take 20 times as long, which is less than the time limit of a response of
/// the server.
const DOWNLOAD: Duration = Duration::from_secs(5);

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
        has_first: options.compat_e1,
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
    let (keeper, fetcher) = (processes::keeper(&config.settings), processes::fetcher(&config.settings));
    server::run(&config, keeper, fetcher).map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}

/// Downloads a package and its signature for the server, without a cache and credentials.
pub fn download(source: &str) -> std::result::Result<fetcher::Download, String> {
    let location = locate(source).map_err(|failure| failure.text().to_owned())?;
    let options = fetch::Options { no_cache: true, timeout: DOWNLOAD, signature: fetch::Signature::Saved };
    match fetch::open(&location, options) {
        Ok(Some(download)) => Ok((download.bytes, download.signature)),
        Ok(None) => Err(format!("{source}: expected a URL or an image")),
        Err(failure) => Err(failure.text().to_owned()),
    }
}

fn absolute(path: &Option<PathBuf>) -> Result<Option<PathBuf>> {
    let path = path.as_ref().map(std::path::absolute).transpose();
    path.map_err(|error| Failure::new(Code::Usage, error))
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
