//! eunomia-exporter runs packages and exposes what they count to Prometheus.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use eunomia_exporter::commands::{self, Command};
use eunomia_exporter::server::{self, Options};

/// Run eBPF packages and expose what they count to Prometheus
#[derive(Parser)]
#[command(name = "eunomia-exporter", version, max_term_width = 100, args_conflicts_with_subcommands = true)]
struct Line {
    #[command(subcommand)]
    command: Option<Command>,

    /// Configuration: what to run and what to count, see docs/exporter.md
    #[arg(short, long, value_name = "FILE", default_value = "config.yaml")]
    config: PathBuf,

    /// Address for scrapes
    #[arg(short, long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8526")]
    listen: SocketAddr,

    /// File with the SHA-256 digests of tokens for callers who start and stop programs, as for ecli server
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,

    /// Let every user of this machine start and stop programs, without a token
    #[arg(long)]
    insecure_no_auth: bool,

    /// Web configuration file for TLS and users with passwords, in the format of Prometheus
    #[arg(long, value_name = "FILE")]
    web_config: Option<PathBuf>,

    /// Require a token of --tokens for the metrics too
    #[arg(long, requires = "tokens")]
    protect_metrics: bool,

    /// Apply the configuration again when it or a package changes; SIGHUP does the same once
    #[arg(short, long)]
    watch: bool,

    /// Check the configuration: load its packages, attach nothing, and exit
    #[arg(long)]
    check: bool,

    /// Unix socket of the loader, the process that loads the packages; the exporter starts it [default: a
    /// socket in /run/eunomia-exporter with the port in its name]
    #[arg(long, value_name = "PATH")]
    loader: Option<PathBuf>,
}

fn main() -> ExitCode {
    if let Some(code) = eunomia_agent::processes::run() {
        return code;
    }
    eunomia_fetch::set_program(eunomia_fetch::Program { name: "eunomia-exporter", timeout: None });
    let line = Line::parse();
    if let Some(command) = line.command {
        return end(commands::run(command, Line::command()));
    }
    let default = || format!("/run/eunomia-exporter/loader-{}.sock", line.listen.port()).into();
    let options = Options {
        config: line.config,
        address: line.listen,
        loader: line.loader.unwrap_or_else(default),
        tokens: line.tokens,
        is_open: line.insecure_no_auth,
        is_closed: line.protect_metrics,
        web: line.web_config,
        is_watching: line.watch,
    };
    end(if line.check { server::check(&options.config) } else { server::run(&options) })
}

fn end(done: Result<(), String>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eunomia_exporter::say(format_args!("eunomia-exporter: {why}"));
            ExitCode::FAILURE
        }
    }
}
