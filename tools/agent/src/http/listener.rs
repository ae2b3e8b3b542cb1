//! Listening sockets, and the loop that accepts connections.

use std::fs::{self, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

use super::connection::{self, Accepted, Handler, refuse};
use super::slots::Slots;
use super::stream::{Peer, Stream};
use crate::tls::Tls;

/// The pause after a failed accept, for example if no descriptor is free.
const PAUSE: Duration = Duration::from_millis(100);

/// Maximum number of connections beyond the limits that get an error response at the same time. Further ones are closed
/// without a response.
const REFUSALS: usize = 64;

/// Maximum number of connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// The mode of the unix socket: its owner and its group may connect.
const SOCKET_MODE: u32 = 0o660;

/// A listening socket.
pub enum Listener {
    /// A unix socket.
    Local(UnixListener),
    /// A TCP socket, perhaps with TLS.
    Network(TcpListener, Option<Arc<Tls>>),
}

impl Listener {
    /// The address of a TCP socket.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Listener::Local(_) => None,
            Listener::Network(listener, _) => listener.local_addr().ok(),
        }
    }
}

/// Creates a unix socket that only its owner and `group` can connect to. Replaces the file that an ended server has left, but
/// not the socket of a running server.
pub fn local(path: &Path, group: Option<u32>) -> io::Result<Listener> {
    remove_left(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // The file is created with the mode of the socket, restricted by the umask. So other users cannot connect, not even for a moment.
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(SOCKET_MODE))?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    if group.is_some() {
        std::os::unix::fs::chown(path, None, group)?;
    }
    fs::set_permissions(path, Permissions::from_mode(SOCKET_MODE))?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(Listener::Local(UnixListener::from_std(socket.into())?))
}

/// Uses a socket that already listens: a unix socket, or a TCP socket, perhaps with TLS.
pub fn given(socket: OwnedFd, tls: Option<Arc<Tls>>) -> io::Result<Listener> {
    if rustix::net::sockopt::socket_domain(&socket)? != AddressFamily::UNIX {
        return of_network(socket.into(), tls);
    }
    let listener = std::os::unix::net::UnixListener::from(socket);
    listener.set_nonblocking(true)?;
    Ok(Listener::Local(UnixListener::from_std(listener)?))
}

/// Removes the file of a socket on which no server listens.
fn remove_left(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(about) if !about.file_type().is_socket() => {
            return Err(io::Error::other("the file exists and is not a socket"));
        }
        Ok(_) => {}
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(io::Error::other("another server listens there")),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
    }
}

/// Creates a TCP socket.
pub fn network(address: SocketAddr, tls: Option<Arc<Tls>>) -> io::Result<Listener> {
    of_network(std::net::TcpListener::bind(address)?, tls)
}

fn of_network(listener: std::net::TcpListener, tls: Option<Arc<Tls>>) -> io::Result<Listener> {
    listener.set_nonblocking(true)?;
    Ok(Listener::Network(TcpListener::from_std(listener)?, tls))
}

/// Accepts connections until the future is dropped.
pub async fn serve(listener: Listener, slots: Arc<Slots>, handler: Arc<dyn Handler>) {
    let refusals = Arc::new(Semaphore::new(REFUSALS));
    loop {
        let Ok((accepted, peer)) = accept(&listener).await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        match slots.connect(peer.key()) {
            Ok(slot) => {
                let (slots, handler) = (Arc::clone(&slots), Arc::clone(&handler));
                tokio::spawn(connection::run(accepted, peer, slot, slots, handler));
            }
            Err(error) => {
                // With TLS, sending an error would cost more than the connection did.
                if let Accepted::Plain(stream) = accepted
                    && let Ok(permit) = Arc::clone(&refusals).try_acquire_owned()
                {
                    tokio::spawn(async move {
                        refuse(stream, &error).await;
                        drop(permit);
                    });
                }
            }
        }
    }
}

async fn accept(listener: &Listener) -> io::Result<(Accepted, Peer)> {
    match listener {
        Listener::Local(listener) => {
            let (stream, _) = listener.accept().await?;
            let uid = stream.peer_cred()?.uid();
            Ok((Accepted::Plain(Stream::Local(stream)), Peer::Local { uid }))
        }
        Listener::Network(listener, tls) => {
            let (stream, address) = listener.accept().await?;
            // Without this, the kernel would delay small pieces.
            let _ = stream.set_nodelay(true);
            let accepted = match tls {
                Some(tls) => Accepted::Tls(stream, Arc::clone(tls)),
                None => Accepted::Plain(Stream::Network(stream)),
            };
            Ok((accepted, Peer::Network(address)))
        }
    }
}
