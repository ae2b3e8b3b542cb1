//! Starts and ends the exporter.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use eunomia_agent::auth::Auth;
use eunomia_agent::http::{Handler, Limits, Listener, Slots, given, network, serve};
use eunomia_agent::loader::{Settings, privileges};
use eunomia_agent::manager::{Manager, given_listener};
use eunomia_agent::processes;
use eunomia_agent::tls::Tls;
use eunomia_watch::Watched;
use tokio::signal::unix::{SignalKind, signal};

use crate::access::Access;
use crate::api::Api;
use crate::change::{self, Changes};
use crate::config::{File, Problem};
use crate::engine::Engine;
use crate::lookup;
use crate::scraper::Scraper;
use crate::web::Web;

/// Threads for scrapes and changes.
const BLOCKING_THREADS: usize = 8;

/// The options of an exporter.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration file.
    pub config: PathBuf,
    /// The address on which it listens.
    pub address: SocketAddr,
    /// The unix socket of its loader.
    pub loader: PathBuf,
    /// The digests of tokens of callers that may change something.
    pub tokens: Option<PathBuf>,
    /// Whether they need no token.
    pub is_open: bool,
    /// Whether scrapes need a token or a password.
    pub is_closed: bool,
    /// The web configuration file: TLS and users.
    pub web: Option<PathBuf>,
    /// Whether the configuration is applied again when it or a package changes.
    pub is_watching: bool,
}

/// Runs the exporter until SIGTERM or SIGINT. The error is one line.
pub fn run(options: &Options) -> Result<(), String> {
    let file = File::read(&options.config)?;
    lookup::open_symbols();
    let auth = Auth::new(options.tokens.clone(), options.is_open)?;
    let web = options.web.as_deref().map(|path| read_web(path, options)).transpose()?;
    let (tls, users, web_paths) = match web {
        Some(Web { tls, users, paths }) => (tls.map(Arc::new), Some(users), paths),
        None => (None, None, Vec::new()),
    };
    let access = Arc::new(Access::new(auth, options.is_closed));
    access.set(users);
    let manager =
        Manager::connect().map_err(|error| format!("cannot connect to the service manager: {error}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
        .map_err(|error| error.to_string())?;
    let listener = {
        let _context = runtime.enter();
        listen(options, tls.as_ref())?
    };
    make_folder_of(&options.loader)?;
    let engine = Engine::start(&options.loader, processes::keeper(&Settings::default()), || {
        // Only the loader needs privileges; this process reads events through descriptors.
        privileges::keep(&HashSet::new())
    })?;
    let paths = paths(&options.config, &file);
    if let Err(why) = start(&engine, file) {
        engine.end(&options.loader);
        return Err(format!("{}: {why}", options.config.display()));
    }
    let reloader = Arc::new(Reloader {
        engine: Arc::clone(&engine),
        options: options.clone(),
        access: Arc::clone(&access),
        tls: tls.clone(),
    });
    if options.is_watching {
        let reloader = Arc::clone(&reloader);
        watch(reloader, [paths, web_paths].concat())
            .map_err(|error| format!("the files cannot be watched for changes: {error}"))?;
    }
    let any_host = listener.address().is_none_or(|address| !address.ip().is_loopback());
    let limits = Limits { any_host, ..Limits::default() };
    let scraper = Arc::new(Scraper::new(Arc::clone(&engine)));
    let api: Arc<dyn Handler> =
        Arc::new(Api { engine: Arc::clone(&engine), scraper, access, limits: limits.clone() });
    match listener.address() {
        Some(address) if tls.is_some() => crate::say(format_args!("Listening on https://{address}")),
        Some(address) => crate::say(format_args!("Listening on http://{address}")),
        None => crate::say("Listening on the socket of the service manager"),
    }
    let result = runtime.block_on(async {
        let failed = |error: std::io::Error| format!("signals: {error}");
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
        let pushing = Arc::clone(&engine);
        tokio::spawn(async move { pushing.pusher.run(&pushing).await });
        tokio::spawn(serve(listener, Slots::new(limits), api));
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                let reloader = Arc::clone(&reloader);
                let _ = tokio::task::spawn_blocking(move || reloader.reload()).await;
            }
        });
        manager.report("READY=1");
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        manager.report("STOPPING=1");
        Ok(())
    });
    runtime.shutdown_background();
    engine.end(&options.loader);
    result
}

/// Checks a configuration against its packages and this kernel. Nothing is attached. The error is one line.
pub fn check(config: &Path) -> Result<(), String> {
    let failed = |why: &dyn std::fmt::Display| format!("{}: {why}", config.display());
    let mut file = File::read(config)?;
    file.find_packages().map_err(|problem| failed(&problem))?;
    file.programs.into_iter().try_for_each(change::check).map_err(|problem| failed(&problem))
}

/// Starts the programs of the configuration.
fn start(engine: &Arc<Engine>, file: File) -> Result<(), Problem> {
    let names: Vec<String> = file.programs.iter().map(|program| program.value.name.clone()).collect();
    let begun = Instant::now();
    engine.apply(file)?;
    let took = begun.elapsed().as_millis();
    for name in names {
        crate::say(format_args!("Running ebpf program {name} takes {took} ms"));
    }
    Ok(())
}

/// Reads the web configuration file. The error is one line.
fn read_web(path: &Path, options: &Options) -> Result<Web, String> {
    let web = Web::read(path)?;
    match options.is_open && !web.users.is_empty() {
        true => {
            Err(format!("{}: basic_auth_users and --insecure-no-auth are mutually exclusive", path.display()))
        }
        false => Ok(web),
    }
}

/// The socket of the service manager, or a new one.
fn listen(options: &Options, tls: Option<&Arc<Tls>>) -> Result<Listener, String> {
    match given_listener() {
        Some(socket) => given(socket, tls.cloned())
            .map_err(|error| format!("cannot use the socket of the service manager: {error}")),
        None => {
            network(options.address, tls.cloned()).map_err(|error| format!("{}: {error}", options.address))
        }
    }
}

/// Applies the configuration again.
struct Reloader {
    engine: Arc<Engine>,
    options: Options,
    access: Arc<Access>,
    tls: Option<Arc<Tls>>,
}

impl Reloader {
    /// Reads the files again. If anything is wrong, nothing changes. Returns the files to watch.
    fn reload(&self) -> Option<Vec<PathBuf>> {
        match self.apply() {
            Ok((paths, changes)) => {
                let Changes { started, stopped, replaced, kept } = changes;
                crate::say(format_args!(
                    "the configuration was applied: {started} programs started, {stopped} stopped, {replaced} replaced, {kept} kept"
                ));
                Some(paths)
            }
            Err(why) => {
                crate::say(format_args!("the configuration cannot be applied: {why}"));
                None
            }
        }
    }

    fn apply(&self) -> Result<(Vec<PathBuf>, Changes), String> {
        let config = &self.options.config;
        let web = self.options.web.as_deref().map(|path| read_web(path, &self.options)).transpose()?;
        let certificates = match (&self.tls, web.as_ref().and_then(|web| web.tls.as_ref())) {
            (Some(_), Some(tls)) => Some(tls.read()?),
            (None, None) => None,
            _ => return Err("the web configuration: a change from or to TLS needs a restart".into()),
        };
        let file = File::read(config)?;
        let mut paths = paths(config, &file);
        let changes = self.engine.apply(file).map_err(|why| format!("{}: {why}", config.display()))?;
        // Nothing fails from here on.
        if let (Some(tls), Some(certificates)) = (&self.tls, certificates) {
            tls.set(certificates);
        }
        if let Some(web) = web {
            self.access.set(Some(web.users));
            paths.extend(web.paths);
        }
        Ok((paths, changes))
    }
}

/// The files that a configuration depends on.
fn paths(config: &Path, file: &File) -> Vec<PathBuf> {
    let packages = file.programs.iter().filter_map(|program| program.value.file());
    [config.to_owned()].into_iter().chain(packages).collect()
}

/// Applies the configuration again whenever a file changes.
fn watch(reloader: Arc<Reloader>, mut paths: Vec<PathBuf>) -> std::io::Result<()> {
    let mut watched = Watched::new()?;
    watched.set(&paths)?;
    std::thread::Builder::new().name("watch".into()).spawn(move || {
        loop {
            let changed = watched.wait().and_then(|()| {
                if let Some(found) = reloader.reload() {
                    paths = found;
                }
                watched.set(&paths)
            });
            if let Err(error) = changed {
                return crate::say(format_args!("the files are no longer watched for changes: {error}"));
            }
        }
    })?;
    Ok(())
}

/// Creates the directory of a socket. A process that can replace the socket can pretend to be the one that listens there.
fn make_folder_of(path: &Path) -> Result<(), String> {
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else { return Ok(()) };
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    eunomia_owner::check(folder)
}
