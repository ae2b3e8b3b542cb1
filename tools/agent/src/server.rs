//! The server from its start to its end.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::api::Api;
use crate::auth::Auth;
use crate::http::{Handler, Limits, Listener, Slots, local, network, serve};
use crate::loader;
use crate::poller::Poller;
use crate::state::State;
use crate::task::{Status, Task};
use crate::tasks::Tasks;

/// Threads for requests that wait for the loader.
const BLOCKING_THREADS: usize = 16;

/// What a server is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// The unix socket; `None`: none.
    pub socket: Option<PathBuf>,
    /// The group that may connect to it; `None`: that of the process.
    pub group: Option<u32>,
    /// The TCP address; `None`: none.
    pub address: Option<SocketAddr>,
    /// The file with the digests of tokens.
    pub tokens: Option<PathBuf>,
    /// Whether callers over TCP need no token.
    pub is_open: bool,
    /// The directory of the state.
    pub state: PathBuf,
}

/// Runs a server until SIGTERM or SIGINT. `command` starts the loader: a process that calls [`loader::serve`] with its standard
/// input. Call it before other threads run: it drops all privileges of this thread. The error is one line.
pub fn run(config: &Config, command: Command) -> Result<(), String> {
    check(config)?;
    let state = State::open(&config.state)?;
    let auth = Auth::new(config.tokens.clone(), config.is_open)?;
    let (client, mut process) = loader::start(command).map_err(|error| format!("the loader: {error}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
        .map_err(|error| error.to_string())?;
    let listeners = {
        let _context = runtime.enter();
        listen(config)?
    };
    let tokens = config.tokens.as_deref().map(std::fs::canonicalize).transpose();
    let tokens = tokens.map_err(|error| format!("the file of tokens: {error}"))?;
    let tokens = tokens.as_deref().and_then(Path::parent).map(Path::to_owned);
    if let Some(warning) = loader::confine_server(&config.state, tokens)? {
        eprintln!("server: {warning}");
    }
    let poller = Poller::start().map_err(|error| error.to_string())?;
    let tasks = Arc::new(Tasks::new(client, poller, state));
    let (ended, has_ended) = oneshot::channel();
    std::thread::spawn(move || {
        let status = process.wait();
        let _ = ended.send(status.map_or_else(|error| error.to_string(), |status| status.to_string()));
    });
    let result = runtime.block_on(serve_until_end(tasks, auth, listeners, has_ended));
    // Requests in progress are not waited for: what they have begun is in the state.
    runtime.shutdown_background();
    result
}

async fn serve_until_end(
    tasks: Arc<Tasks>,
    auth: Auth,
    listeners: Vec<Listener>,
    loader_ended: oneshot::Receiver<String>,
) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("signals: {error}");
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let restored = Arc::clone(&tasks);
    let problems = tokio::task::spawn_blocking(move || restored.restore()).await.unwrap_or_default();
    problems.iter().for_each(|problem| eprintln!("server: {problem}"));
    let is_attached = |task: &&Arc<Task>| !matches!(task.current().status, Status::Failed(_));
    tasks.list().iter().filter(is_attached).for_each(|task| tasks.note_healthy_later(task));
    let limits = Limits::default();
    let slots = Slots::new(limits.clone());
    let handler: Arc<dyn Handler> = Arc::new(Api { tasks, auth, limits });
    for listener in listeners {
        tokio::spawn(serve(listener, Arc::clone(&slots), Arc::clone(&handler)));
    }
    eprintln!("server: ready");
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        status = loader_ended => Err(format!("the loader has ended: {}", status.unwrap_or_default())),
    }
}

/// Refuses what would be unsafe.
fn check(config: &Config) -> Result<(), String> {
    let Some(address) = config.address else {
        return match config.socket {
            Some(_) => Ok(()),
            None => Err("neither a socket nor an address is given".into()),
        };
    };
    if !address.ip().is_loopback() {
        return Err(format!(
            "{address}: other machines could read the tokens, because the server has no TLS yet; use 127.0.0.1 and forward the port over ssh"
        ));
    }
    match (config.tokens.is_some(), config.is_open) {
        (false, false) => Err(format!(
            "{address}: every user of this machine could run programs in the kernel; require a token with --tokens FILE, or accept that with --insecure-no-auth"
        )),
        (true, true) => Err("--tokens and --insecure-no-auth exclude each other".into()),
        _ => Ok(()),
    }
}

fn listen(config: &Config) -> Result<Vec<Listener>, String> {
    let mut listeners = Vec::new();
    if let Some(path) = &config.socket {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
            // Whoever can replace the socket can pretend to be the server.
            eunomia_owner::check(folder)?;
        }
        listeners.push(local(path, config.group).map_err(|error| format!("{}: {error}", path.display()))?);
        eprintln!("server: unix:{}", path.display());
    }
    if let Some(address) = config.address {
        let listener = network(address).map_err(|error| format!("{address}: {error}"))?;
        // The port, if the kernel has chosen it.
        let address = listener.address().unwrap_or(address);
        listeners.push(listener);
        eprintln!("server: http://{address}");
    }
    Ok(listeners)
}
