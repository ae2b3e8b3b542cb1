//! Starts and ends the exporter.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use eunomia_agent::auth::Auth;
use eunomia_agent::http::{Handler, Limits, Slots, network, serve};
use eunomia_agent::loader::{Settings, privileges};
use eunomia_agent::manager::Manager;
use eunomia_agent::processes;
use tokio::signal::unix::{SignalKind, signal};

use crate::api::Api;
use crate::config::File;
use crate::engine::Engine;
use crate::scraper::Scraper;

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
}

/// Runs the exporter until SIGTERM or SIGINT. The error is one line.
pub fn run(options: &Options) -> Result<(), String> {
    let file = File::read(&options.config)?;
    let auth = Auth::new(options.tokens.clone(), options.is_open)?;
    let manager = Manager::connect().map_err(|error| format!("the service manager: {error}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
        .map_err(|error| error.to_string())?;
    let listener = {
        let _context = runtime.enter();
        network(options.address, None).map_err(|error| format!("{}: {error}", options.address))?
    };
    let address = listener.address().unwrap_or(options.address);
    make_folder_of(&options.loader)?;
    let engine = Engine::start(&options.loader, processes::keeper(&Settings::default()), || {
        // Only the loader needs privileges; this process reads events through descriptors.
        privileges::keep(&HashSet::new())
    })?;
    let started = start(&engine, file).map_err(|why| format!("{}: {why}", options.config.display()));
    if let Err(why) = started {
        engine.end(&options.loader);
        return Err(why);
    }
    let limits = Limits { any_host: !address.ip().is_loopback(), ..Limits::default() };
    let scraper = Arc::new(Scraper::new(Arc::clone(&engine)));
    let api: Arc<dyn Handler> =
        Arc::new(Api { engine: Arc::clone(&engine), scraper, auth, limits: limits.clone() });
    crate::say(format_args!("Listening on http://{address}"));
    let result = runtime.block_on(async {
        let failed = |error: std::io::Error| format!("signals: {error}");
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        tokio::spawn(serve(listener, Slots::new(limits), api));
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

fn start(engine: &Engine, file: File) -> Result<(), crate::config::Problem> {
    for program in file.programs {
        let (name, begun) = (program.value.name.clone(), Instant::now());
        engine.add(program)?;
        let took = begun.elapsed().as_millis();
        crate::say(format_args!("Running ebpf program {name} takes {took} ms"));
    }
    Ok(())
}

/// Creates the directory of a socket. A process that can replace the socket can pretend to be the one that listens there.
fn make_folder_of(path: &std::path::Path) -> Result<(), String> {
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else { return Ok(()) };
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    eunomia_owner::check(folder)
}
