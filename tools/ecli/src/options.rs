//! The options of every command.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use eunomia::Level;

use crate::kind::Kind;

pub mod agent;
mod remote;
mod values;

pub use agent::{Client, Server};
pub use remote::{Account, Keygen, List, Login, Logout, Origin, Pull, Push, Sign, Verify, transfer};
use values::{count, duration, existing_path, prog_type, size};

const AFTER_HELP: &str = "\
`ecli PROG [ARGS]` is short for `ecli run PROG [ARGS]`.

Exit codes: 0 success, including Ctrl-C; 1 error; 2 usage error; 3 program not found or invalid; 4 missing privilege;
5 program rejected by this kernel; 6 output cannot be written. A WASM module sets the exit code itself.";

const AFTER_RUN_HELP: &str = "\
PROG is a JSON package, a WASM module, a tar archive or a BPF object. Give it as a file, - for standard input, a URL
(append #sha256=DIGEST to pin its content), the name of a program in EUNOMIA_REPOSITORY, or an OCI image such as
ghcr.io/org/tool:tag.

Put the options of ecli before PROG and those of the program after it. `ecli run PROG -h` lists the program's options.

FILTER compares fields with == != < <= > >= or matches them against a regular expression with =~ !~. Combine
comparisons with && || ! and parentheses:
  --filter 'ret == ENOENT && comm =~ \"^ssh\"'     --filter 'sk.dport == 443 && saddr == 10.0.0.0/8'

Ctrl-C ends the run. Ctrl-Z pauses it.";

/// Run eBPF programs from local files, web servers and OCI registries
#[derive(Parser)]
#[command(name = "ecli", version, after_help = AFTER_HELP, arg_required_else_help = true)]
pub struct CommandLine {
    #[command(subcommand)]
    pub command: Command,

    /// Level of log messages on stderr [default: RUST_LOG, or warn]
    #[arg(long, value_name = "LEVEL", global = true)]
    pub log_level: Option<LogLevel>,
}

#[derive(Subcommand)]
pub enum Command {
    /// Run a program and show its events
    #[command(after_help = AFTER_RUN_HELP)]
    Run(Run),

    /// Show what a program contains and what it could do to the system, without running it
    Inspect(Inspect),

    /// Load each program into this kernel's verifier and show what it could do, without attaching it
    Check(Check),

    /// Check the system for BPF support and suggest fixes
    Doctor(Doctor),

    /// Run programs for clients that send requests over HTTP
    Server(Server),

    /// Start, follow, update and stop programs on a server
    Client(Client),

    /// Download a program to a file
    Pull(Pull),

    /// List downloaded programs, or the programs in the repository
    List(List),

    /// Upload a program and its signature to an OCI registry
    Push(Push),

    /// Save credentials for a registry
    Login(Login),

    /// Remove the credentials for a registry
    Logout(Logout),

    /// Generate a key pair for signing
    Keygen(Keygen),

    /// Sign a program: write FILE.minisig
    Sign(Sign),

    /// Verify the signature of a program
    Verify(Verify),

    /// Print the version
    Version,

    /// Write manual pages and shell completions to PREFIX/share
    #[command(hide = true)]
    Manual(Manual),
}

#[derive(Args)]
pub struct Inspect {
    /// File, - for standard input, URL, name or OCI image
    pub prog: String,

    /// Print JSON
    #[arg(short, long)]
    pub json: bool,

    #[command(flatten)]
    pub origin: Origin,

    /// Required type of PROG: json, tar or wasm [default: detected from the content]
    #[arg(short = 'p', long, value_name = "TYPE", value_parser = prog_type)]
    pub prog_type: Option<Kind>,
}

#[derive(Args)]
pub struct Check {
    /// File, - for standard input, URL, name or OCI image
    pub prog: String,

    /// Print JSON, one line per program
    #[arg(short, long)]
    pub json: bool,

    #[command(flatten)]
    pub origin: Origin,

    /// Required type of PROG: json or tar [default: detected from the content]
    #[arg(short = 'p', long, value_name = "TYPE", value_parser = prog_type)]
    pub prog_type: Option<Kind>,

    /// BTF of the kernel: a file, or a directory with the layout of btfhub-archive
    #[arg(long, value_name = "PATH", value_parser = existing_path)]
    pub btf: Option<PathBuf>,

    /// Attach a program to this target instead of the one in the package, as in `ecli run`
    #[arg(long, value_name = "PROG=KEY:VALUE,...")]
    pub attach: Vec<String>,

    #[command(flatten)]
    pub limits: Limits,
}

/// Limits on what a program may use.
#[derive(Args, Clone)]
pub struct Limits {
    /// Limit the kernel memory of the program's maps: bytes, a number with suffix K, M or G, or none [default: a quarter
    /// of the available memory, at most 1G]
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "0", hide_default_value = true)]
    pub max_kernel_memory: u64,
}

#[derive(Args)]
pub struct Doctor {
    /// Print JSON, one line per check
    #[arg(short, long)]
    pub json: bool,
}

#[derive(Args)]
pub struct Manual {
    /// Directory to write to; created if it does not exist
    pub prefix: PathBuf,
}

#[derive(Args, Clone)]
pub struct Run {
    /// Program, followed by the program's own arguments [default: package.json]
    #[arg(value_name = "PROG [ARGS]", trailing_var_arg = true)]
    pub prog: Vec<String>,

    /// Print events as JSON, one per line (same as --format json)
    #[arg(short, long, conflicts_with = "format")]
    pub json: bool,

    /// Output format of events
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: Format,

    #[command(flatten)]
    pub origin: Origin,

    /// Required type of PROG: json, tar or wasm [default: detected from the content]
    #[arg(short = 'p', long, value_name = "TYPE", value_parser = prog_type)]
    pub prog_type: Option<Kind>,

    /// Stop after this time: 10s, 1m30s, or a number of seconds
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,

    /// Stop after N events
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = count)]
    pub count: Option<u64>,

    /// Show only events that match FILTER, see below
    #[arg(long, value_name = "FILTER")]
    pub filter: Option<String>,

    /// Show only these fields, in this order; write nested fields as outer.inner
    #[arg(long, value_name = "FIELD,...", value_delimiter = ',')]
    pub columns: Vec<String>,

    /// Append events to FILE; SIGHUP reopens it
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Add an arrival timestamp to each event
    #[arg(long)]
    pub timestamps: bool,

    /// In JSON, print the functions on stacks by name instead of by address
    #[arg(long)]
    pub symbols: bool,

    /// BTF of the kernel: a file, or a directory with the layout of btfhub-archive
    #[arg(long, value_name = "PATH", value_parser = existing_path)]
    pub btf: Option<PathBuf>,

    /// Attach a program to this target instead of the one in the package: PROG=KEY:VALUE,... or PROG={...}. Keys are attach,
    /// interface, path, func, pid, cgroup and others of docs/package.md. May be repeated
    #[arg(long, value_name = "PROG=TARGET")]
    pub attach: Vec<String>,

    #[command(flatten)]
    pub limits: Limits,

    /// Fail if this kernel lacks the function or tracepoint of any program [default: skip such programs]
    #[arg(long)]
    pub strict: bool,

    /// Print the entries of this map at the end; may be repeated
    #[arg(long, value_name = "NAME")]
    pub map: Vec<String>,

    /// Also print the maps of --map at this interval
    #[arg(long, value_name = "TIME", value_parser = duration, requires = "map")]
    pub interval: Option<Duration>,

    /// When the file PROG changes, replace the running package with it while events flow; includes --reload
    #[arg(long)]
    pub watch_package: bool,

    /// On SIGHUP, read or download PROG again and replace the running package with it while events flow
    #[arg(long)]
    pub reload: bool,

    /// With --reload or --watch-package: print the report of each replace as JSON, and the verifier's log of a version that
    /// fails
    #[arg(short, long)]
    pub verbose: bool,

    /// Print event and drop counters and program run times at the end
    #[arg(long)]
    pub stats: bool,

    /// Do not print the summary at the end
    #[arg(short, long)]
    pub quiet: bool,
}

impl Run {
    /// The program and its arguments.
    pub fn prog(&self) -> (&str, &[String]) {
        self.prog.split_first().map_or(("package.json", &[]), |(prog, args)| (prog, args))
    }

    /// The command line of the program: its name, then its arguments.
    pub fn argv(&self) -> Vec<&str> {
        let (prog, args) = self.prog();
        std::iter::once(prog).chain(args.iter().map(String::as_str)).collect()
    }

    /// Whether the running package can be replaced.
    pub fn reloads(&self) -> bool {
        self.reload || self.watch_package
    }

    /// The output format of events.
    pub fn format(&self) -> Format {
        if self.json { Format::Json } else { self.format }
    }
}

/// The output format of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Tables and histograms
    Text,
    /// One JSON value per line
    Json,
    /// Comma-separated values (RFC 4180), one line per event
    Csv,
    /// The bytes that the kernel wrote, without separators
    Raw,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    #[value(hide = true)]
    Trace,
}

impl LogLevel {
    /// The level that the option specifies, or else RUST_LOG, which older versions read.
    pub fn requested(option: Option<LogLevel>) -> Option<Level> {
        let environment = || LogLevel::from_str(&std::env::var("RUST_LOG").ok()?, true).ok();
        Some(match option.or_else(environment)? {
            LogLevel::Error => Level::Error,
            LogLevel::Warn => Level::Warn,
            LogLevel::Info => Level::Info,
            LogLevel::Debug | LogLevel::Trace => Level::Debug,
        })
    }
}
