//! Starts the server and ends it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use tokio::net::UnixStream;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::api::Api;
use crate::auth::Auth;
use crate::fetcher::Fetcher;
use crate::http::{Handler, Limits, Listener, Slots, given, local, network, serve};
use crate::loader::{self, Client, Settings};
use crate::manager::{Manager, given_socket};
use crate::policy::Policy;
use crate::poller::Poller;
use crate::state::State;
use crate::task::{Status, Task};
use crate::tasks::Tasks;
use crate::tls::{self, Tls};

/// Threads for requests that wait for the loader.
const BLOCKING_THREADS: usize = 16;

/// The options of a server.
#[derive(Clone, Debug)]
pub struct Config {
    /// The unix socket, if the server listens on one.
    pub socket: Option<PathBuf>,
    /// The group that may connect to the unix socket. `None`: the group of the process.
    pub group: Option<u32>,
    /// The TCP address, if the server listens on one.
    pub address: Option<SocketAddr>,
    /// The certificate of the server. `None`: TCP without TLS.
    pub tls: Option<tls::Files>,
    /// The authorities of the certificates of clients.
    pub clients: Option<PathBuf>,
    /// The file with the digests of tokens and the names of clients.
    pub tokens: Option<PathBuf>,
    /// Whether the routes of the first server of eunomia-bpf are served.
    pub has_first: bool,
    /// Whether callers over TCP need no token.
    pub is_open: bool,
    /// The directory of the state.
    pub state: PathBuf,
    /// The unix socket of the loader.
    pub loader: PathBuf,
    /// The files that the loader reads itself.
    pub settings: Settings,
    /// The number of seconds without a server after which programs that must not run without one are detached.
    pub detach_after: u64,
}

/// Runs a server until SIGTERM, which leaves the programs attached, or SIGINT, which detaches them. `command` starts the loader if
/// none runs: a process that calls [`loader::keep`] with its standard input. Call it before other threads run: it drops all
/// privileges of this thread. The error is one line.
pub fn run(config: &Config, command: Command, fetch: Command) -> Result<(), String> {
    check(config)?;
    let state = State::open(&config.state)?;
    let auth = Auth::new(config.tokens.clone(), config.is_open)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
        .map_err(|error| error.to_string())?;
    let tls = config
        .tls
        .clone()
        .map(|files| Tls::open(files, config.clients.clone(), false))
        .transpose()?
        .map(Arc::new);
    let listeners = {
        let _context = runtime.enter();
        listen(config, tls.as_ref())?
    };
    let manager =
        Manager::connect().map_err(|error| format!("cannot connect to the service manager: {error}"))?;
    make_folder_of(&config.loader)?;
    // The loader reads the policy itself. Reading it here finds mistakes before the loader is started.
    let policy = Policy::load(config.settings.policy.as_deref())?;
    let fetcher = Fetcher::start(&policy, fetch)
        .map_err(|error| format!("cannot start the process for downloads: {error}"))?;
    let client = Client::connect(&config.loader, config.settings.clone(), command)?;
    client.reload()?;
    let tokens = config.tokens.as_deref().map(std::fs::canonicalize).transpose();
    let tokens = tokens.map_err(|error| format!("the file of tokens: {error}"))?;
    let mut readable: Vec<PathBuf> = tls.iter().flat_map(|tls| tls.folders()).collect();
    readable.extend(tokens.as_deref().and_then(Path::parent).map(Path::to_owned));
    if let Some(warning) = loader::confine_server(&config.state, readable)? {
        say!("server: {warning}");
    }
    let poller = Poller::start().map_err(|error| error.to_string())?;
    let tasks = Arc::new(Tasks::new((client, fetcher), poller, state, config.detach_after));
    let limits = Limits::default();
    let api = Api { tasks, auth: Arc::new(auth), limits, has_first: config.has_first };
    let result = runtime.block_on(serve_until_end(api, tls, listeners, &manager));
    // The server does not wait for requests in progress, because the state already contains the changes that they have
    // begun.
    runtime.shutdown_background();
    result
}

/// Detaches everything that a server has left attached, and ends its loader. Returns whether there was one. The tasks stay in the
/// state.
pub fn uninstall(config: &Config) -> Result<bool, String> {
    let _state = State::open(&config.state)?;
    loader::end(&config.loader).map_err(|error| format!("the loader, {}: {error}", config.loader.display()))
}

async fn serve_until_end(
    api: Api,
    tls: Option<Arc<Tls>>,
    listeners: Vec<Listener>,
    manager: &Manager,
) -> Result<(), String> {
    let (tasks, auth) = (Arc::clone(&api.tasks), Arc::clone(&api.auth));
    let failed = |error: std::io::Error| format!("signals: {error}");
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
    let (settings, reloaded) = (Arc::clone(&auth), Arc::clone(&tasks));
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            let (auth, tls, tasks) = (Arc::clone(&settings), tls.clone(), Arc::clone(&reloaded));
            let done = tokio::task::spawn_blocking(move || {
                reload(&auth, tls.as_deref(), tasks.loader()).map(|()| tasks.note_budgets())
            })
            .await;
            match done.unwrap_or_else(|error| Err(error.to_string())) {
                Ok(()) => say!("server: the settings were read again"),
                Err(why) => say!("server: the settings stay as they were: {why}"),
            }
        }
    });
    let (ready, is_ready) = oneshot::channel();
    let (lost, mut is_lost) = oneshot::channel();
    let (followed, runtime) = (Arc::clone(&tasks), Handle::current());
    std::thread::spawn(move || {
        let _context = runtime.enter();
        let _ = lost.send(follow(&followed, ready));
    });
    tokio::select! {
        Ok(()) = is_ready => {}
        why = &mut is_lost => return Err(why.unwrap_or_default()),
    }
    tokio::spawn(retry(Arc::clone(&tasks)));
    tokio::spawn(meter(Arc::clone(&tasks)));
    let slots = Slots::new(api.limits.clone());
    let handler: Arc<dyn Handler> = Arc::new(api);
    for listener in listeners {
        tokio::spawn(serve(listener, Arc::clone(&slots), Arc::clone(&handler)));
    }
    say!("server: ready");
    manager.report("READY=1");
    let result = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => {
            let ended = tokio::task::spawn_blocking(move || tasks.end()).await;
            ended.map_err(|error| error.to_string())
        }
        why = is_lost => Err(why.unwrap_or_default()),
    };
    manager.report("STOPPING=1");
    result
}

/// Makes the loader run the tasks, now and whenever there is a new loader. Returns the reason why there is no loader
/// any more.
fn follow(tasks: &Arc<Tasks>, ready: oneshot::Sender<()>) -> String {
    let mut ready = Some(ready);
    match tasks.restore() {
        Ok(problems) => problems.iter().for_each(|problem| say!("server: {problem}")),
        Err(why) => return why,
    }
    let mut reconciled = tasks.reconcile();
    loop {
        if let Ok(problems) = reconciled {
            problems.iter().for_each(|problem| say!("server: {problem}"));
            let is_attached = |task: &&Arc<Task>| !matches!(task.current().status, Status::Failed(_));
            tasks.list().iter().filter(is_attached).for_each(|task| tasks.note_healthy_later(task));
            ready.take().map(|ready| ready.send(()));
            tasks.loader().wait_for_end();
        }
        say!("server: the loader has ended");
        reconciled = match tasks.reconnect() {
            Ok(reconciled) => reconciled,
            Err(why) => return why,
        };
    }
}

/// Starts failed tasks again according to their restart policies. Sleeps until a task is due or fails.
async fn retry(tasks: Arc<Tasks>) {
    loop {
        let worker = Arc::clone(&tasks);
        let next = tokio::task::spawn_blocking(move || worker.retry()).await.unwrap_or_default();
        let due = async {
            match next {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = tasks.wait_for_failure() => {}
            () = due => {}
        }
    }
}

/// Records what tasks use, when the loader reports that one is throttled or stopped. The loader measures it, because that wakes up one
/// process only.
async fn meter(tasks: Arc<Tasks>) {
    loop {
        let worker = Arc::clone(&tasks);
        let metered = tokio::task::spawn_blocking(move || worker.meter().ok().flatten()).await;
        let changes = metered.ok().flatten().map(std::os::unix::net::UnixStream::from);
        let changes = changes.and_then(|changes| UnixStream::from_std(changes).ok());
        let changed = async {
            let Some(changes) = &changes else { return std::future::pending().await };
            let is_readable = changes.readable().await.is_ok();
            // The number of changes does not matter.
            let _ = is_readable.then(|| changes.try_read(&mut [0; 64]));
        };
        tokio::select! {
            () = changed => {}
            () = tasks.wait_for_budgets() => {}
        }
    }
}

/// Reads the files of the options again. If one cannot be used, nothing changes.
fn reload(auth: &Auth, tls: Option<&Tls>, loader: &Client) -> Result<(), String> {
    let certificates = tls.map(Tls::read).transpose()?;
    auth.check()?;
    // After this, nothing can fail.
    loader.reload()?;
    if let (Some(tls), Some(certificates)) = (tls, certificates) {
        tls.set(certificates);
    }
    Ok(())
}

/// Refuses what would be unsafe.
fn check(config: &Config) -> Result<(), String> {
    let Some(address) = config.address else {
        return match config.socket {
            Some(_) => Ok(()),
            None => Err("neither a socket nor an address is given".into()),
        };
    };
    if !address.ip().is_loopback() && config.tls.is_none() {
        return Err(format!(
            "{address}: others could read the tokens in the network; use a certificate (--tls-cert and --tls-key), or listen on 127.0.0.1 and forward the port over ssh"
        ));
    }
    if !address.ip().is_loopback() && config.is_open {
        return Err(format!("{address}: --insecure-no-auth is for loopback addresses only"));
    }
    match (config.tokens.is_some(), config.is_open) {
        (false, false) => Err(format!(
            "{address}: every user of this machine could run programs in the kernel; require a token with --tokens FILE, or accept that with --insecure-no-auth"
        )),
        (true, true) => Err("--tokens and --insecure-no-auth are mutually exclusive".into()),
        _ => Ok(()),
    }
}

fn listen(config: &Config, tls: Option<&Arc<Tls>>) -> Result<Vec<Listener>, String> {
    let mut listeners = Vec::new();
    if let Some(socket) = given_socket() {
        listeners.push(
            given(socket, None)
                .map_err(|error| format!("cannot use the socket of the service manager: {error}"))?,
        );
        say!("server: the socket of the service manager");
    } else if let Some(path) = &config.socket {
        make_folder_of(path)?;
        listeners.push(local(path, config.group).map_err(|error| format!("{}: {error}", path.display()))?);
        say!("server: unix:{}", path.display());
    }
    if let Some(address) = config.address {
        let listener = network(address, tls.cloned()).map_err(|error| format!("{address}: {error}"))?;
        // The port, if the kernel has chosen it.
        let address = listener.address().unwrap_or(address);
        listeners.push(listener);
        say!("server: {}://{address}", if tls.is_some() { "https" } else { "http" });
    }
    Ok(listeners)
}

/// Creates the directory of a socket. A process that can replace the socket can pretend to be the one that listens
/// there.
fn make_folder_of(path: &Path) -> Result<(), String> {
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else { return Ok(()) };
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    eunomia_owner::check(folder)
}
