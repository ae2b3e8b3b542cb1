//! The socket that a service manager such as systemd passes to the server, and the states that the server reports to it.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use rustix::net::AddressFamily;
use rustix::net::sockopt::{socket_acceptconn, socket_domain};

/// The variable with the socket that messages go to.
const SOCKET: &str = "NOTIFY_SOCKET";

/// The service manager, if there is one.
pub struct Manager(Option<UnixDatagram>);

impl Manager {
    /// Connects to the service manager. Call it before access to files and sockets is restricted.
    pub fn connect() -> io::Result<Manager> {
        let Some(name) = std::env::var_os(SOCKET).filter(|name| !name.is_empty()) else {
            return Ok(Manager(None));
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address(&name)?)?;
        Ok(Manager(Some(socket)))
    }

    /// Reports a state such as `READY=1`: one assignment for each line.
    pub fn report(&self, text: &str) {
        if let Some(socket) = &self.0
            && let Err(error) = socket.send(text.as_bytes())
        {
            say!("server: {text} cannot be sent to the service manager: {error}");
        }
    }
}

/// Parses the address: a path, or `@` and an abstract name.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    }
}

/// Returns the standard input if it is a listening unix socket. The service manager has then created it.
pub fn given_socket() -> Option<OwnedFd> {
    let is_local = socket_domain(std::io::stdin().as_fd()) == Ok(AddressFamily::UNIX);
    given_listener().filter(|_| is_local)
}

/// Returns the standard input if it is a listening socket of any kind.
pub fn given_listener() -> Option<OwnedFd> {
    let input = std::io::stdin();
    let is_listening = socket_acceptconn(input.as_fd()).unwrap_or(false);
    is_listening.then(|| input.as_fd().try_clone_to_owned().ok()).flatten()
}
