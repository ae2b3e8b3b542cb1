//! Options of the server and its client.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use eunomia_agent::client::Endpoint;

use super::Origin;

/// The default socket of the server.
pub const SOCKET: &str = "/run/eunomia/agent.sock";

#[derive(Args)]
pub struct Server {
    /// Unix socket for local clients: root may do everything, the group of the socket may list tasks and read events
    #[arg(long, value_name = "PATH", default_value = SOCKET)]
    pub socket: PathBuf,

    /// Group of the unix socket, a name or a number [default: eunomia if it exists, or else the group of the server]
    #[arg(long, value_name = "GROUP")]
    pub group: Option<String>,

    /// Also listen on this address; one that is not a loopback address needs --tls-cert [default with --port: 127.0.0.1]
    #[arg(short, long, value_name = "ADDRESS")]
    pub address: Option<IpAddr>,

    /// Port of the address [default with --address: 8527]
    #[arg(short, long, value_name = "PORT")]
    pub port: Option<u16>,

    /// File with the SHA-256 digests of tokens and the names of certificates of clients over TCP, see docs/agent.md; changes apply
    /// at once
    #[arg(long, value_name = "FILE")]
    pub tokens: Option<PathBuf>,

    /// Certificate for TLS on the address, in PEM, followed by its intermediate certificates
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// Key of the certificate
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// Authorities of client certificates, in PEM; the file of --tokens gives the names in them a role
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_client_ca: Option<PathBuf>,

    /// Let every user of this machine start programs over TCP, without a token
    #[arg(long)]
    pub insecure_no_auth: bool,

    /// Also serve the routes for ecli 0.2 (/start and /list), and reply to /stop as it expects: with a JSON array
    #[arg(long)]
    pub compat_e1: bool,

    /// Rules for what may be started, which no request can change, see docs/agent.md [default: /etc/eunomia/policy.toml if it
    /// exists]
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,

    /// Append a line for each loaded or refused package, and for each request that is not a GET, to this file
    #[arg(long, value_name = "FILE")]
    pub audit: Option<PathBuf>,

    /// Directory in which tasks are stored, so that the server starts them again after a restart
    #[arg(long, value_name = "DIR", default_value = "/var/lib/eunomia")]
    pub state: PathBuf,

    /// Unix socket of the loader, the process that keeps programs attached while no server runs. The loader is started if none
    /// listens there [default: loader.sock in the directory of the other socket]
    #[arg(long, value_name = "PATH")]
    pub loader: Option<PathBuf>,

    /// Time without a server after which programs that can drop, deny or rewrite something are detached
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub detach_after: u64,

    /// Detach everything that a server has left attached, and exit; its tasks run again with the next server
    #[arg(long)]
    pub uninstall: bool,
}

#[derive(Args)]
pub struct Client {
    #[command(flatten)]
    pub connection: Connection,

    #[command(subcommand)]
    pub command: ClientCommand,
}

#[derive(Args)]
pub struct Connection {
    /// Server: unix:PATH, http://HOST:PORT or https://HOST:PORT. May be repeated, to send a request to several servers
    /// [default: unix:/run/eunomia/agent.sock]
    #[arg(short, long, value_name = "ENDPOINT", global = true, value_parser = Endpoint::parse)]
    pub endpoint: Vec<Endpoint>,

    /// File with the token for the server [default: the token in EUNOMIA_TOKEN, or none]
    #[arg(long, value_name = "FILE", global = true)]
    pub token_file: Option<PathBuf>,

    /// Authorities of the server's certificate, in PEM, for https [default: those of the system]
    #[arg(long, value_name = "FILE", global = true)]
    pub ca: Option<PathBuf>,

    /// Certificate that is sent to the server, for https
    #[arg(long, value_name = "FILE", global = true, requires = "key")]
    pub cert: Option<PathBuf>,

    /// Key of the certificate
    #[arg(long, value_name = "FILE", global = true, requires = "cert")]
    pub key: Option<PathBuf>,
}

#[derive(Subcommand)]
pub enum ClientCommand {
    /// Start a program and print the number of its task
    // -n is the name, as in eunomia-bpf.
    #[command(mut_arg("no_cache", |arg| arg.short(None)))]
    Start(Start),

    /// Stop a task and remove it
    Stop(Task),

    /// Print the number, name and state of each task
    List(Print),

    /// Detach the programs of a task; its maps stay
    Pause(Task),

    /// Attach the programs of a paused task again, or start a failed one again
    Resume(Task),

    /// Print the events of a task
    Log(Log),

    /// Replace the program of a running task with a new version
    Update(Update),

    /// Print what a start would do: the kernel verifies the programs, and nothing is attached
    #[command(mut_arg("no_cache", |arg| arg.short(None)))]
    Plan(Plan),

    /// Print the counters of a task
    Stats(Get),

    /// Print the programs and maps of a task
    Inspect(Get),

    /// Print the last warnings and errors about a task
    Messages(Get),

    /// Print the maps of a task, or the entries of one map
    Maps(Maps),

    /// Print the events of a task and wait for further ones: one JSON object with a cursor per line
    Events(Events),
}

#[derive(Args)]
pub struct Task {
    /// Number or name of the task
    pub task: String,
}

#[derive(Args)]
pub struct Print {
    /// Print JSON
    #[arg(short, long)]
    pub json: bool,
}

#[derive(Args)]
pub struct Get {
    /// Number or name of the task
    pub task: String,

    #[command(flatten)]
    pub print: Print,
}

#[derive(Args)]
pub struct Maps {
    /// Number or name of the task
    pub task: String,

    /// Print the entries of this map, one JSON object per line
    pub map: Option<String>,

    #[command(flatten)]
    pub print: Print,
}

#[derive(Args)]
pub struct Start {
    #[command(flatten)]
    pub program: Program,

    /// Name of the task [default: the name of the program]
    #[arg(short, long, value_name = "NAME")]
    pub name: Option<String>,

    /// Keep events as JSON instead of text
    #[arg(short, long)]
    pub json: bool,

    /// What happens to the programs while no server runs: keep or detach [default: detach if they can drop, deny or rewrite
    /// something]
    #[arg(long, value_name = "ACTION")]
    pub on_agent_death: Option<String>,

    /// When the server starts a failed task again: never, on-failure, or always, which includes a task that was stopped because it
    /// used too much [default: never]
    #[arg(long, value_name = "WHEN")]
    pub restart: Option<String>,

    /// Limit what the task may use: memory_mib, cpu_percent or events_per_second. May be repeated [default: the limits in the
    /// policy of the server]
    #[arg(long, value_name = "NAME=NUMBER")]
    pub limit: Vec<String>,

    /// Also write the events of the task to journald, or to a file on the server: an absolute path beneath a directory in
    /// sink_folders of the policy, which is /var/log/eunomia by default [default: none]
    #[arg(long, value_name = "SINK")]
    pub sink: Option<String>,

    /// Begin a new file of --sink at this size [default: 10]
    #[arg(long, value_name = "MIB", requires = "sink")]
    pub sink_max_mib: Option<u64>,

    /// Keep this many earlier files of --sink, FILE.1 and so on [default: 3]
    #[arg(long, value_name = "NUMBER", requires = "sink")]
    pub sink_keep: Option<u64>,
}

/// The program to start.
#[derive(Args)]
pub struct Program {
    /// Program, followed by the program's own arguments. The client reads it: a file with a package or BPF object, - for standard
    /// input, a URL or a name
    #[arg(value_name = "PROG [ARGS]", trailing_var_arg = true, required = true)]
    pub prog: Vec<String>,

    /// Set a global variable of the program; VALUE is JSON. May be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub variable: Vec<String>,

    #[command(flatten)]
    pub origin: Origin,

    /// Let the server download PROG, a URL or an image, as sources of its policy allows
    #[arg(long, conflicts_with_all = ["prog_type", "require_signed"])]
    pub remote: bool,

    /// Required type of PROG: json [default: detected from the content]
    #[arg(short = 'p', long, value_name = "TYPE", value_parser = super::prog_type)]
    pub prog_type: Option<crate::kind::Kind>,
}

#[derive(Args)]
pub struct Plan {
    /// Print what an update of this task would do; TASK is a number or a name
    #[arg(long, value_name = "TASK")]
    pub task: Option<String>,

    #[command(flatten)]
    pub program: Program,

    #[command(flatten)]
    pub print: Print,
}

#[derive(Args)]
pub struct Update {
    /// Number or name of the task
    pub task: String,

    /// New version of the program, read by the client
    pub prog: String,

    #[command(flatten)]
    pub origin: Origin,

    /// Update only if the task runs the package with this digest (`ecli client list --json` prints it)
    #[arg(long, value_name = "sha256:DIGEST")]
    pub if_digest: Option<String>,
}

#[derive(Args)]
pub struct Log {
    /// Number or name of the task
    pub task: String,

    /// Wait for further events
    #[arg(short, long)]
    pub follow: bool,

    /// Skip events up to this cursor
    #[arg(short, long, value_name = "CURSOR")]
    pub cursor: Option<String>,

    /// Print only events that match FILTER, as in `ecli run`
    #[arg(long, value_name = "FILTER")]
    pub filter: Option<String>,
}

#[derive(Args)]
pub struct Events {
    /// Number or name of the task
    pub task: String,

    /// Begin after this cursor; `now` begins with the next event [default: the oldest event that the server
    /// has kept]
    #[arg(long, value_name = "CURSOR")]
    pub since: Option<String>,

    /// Print only events that match FILTER, as in `ecli run`
    #[arg(long, value_name = "FILTER")]
    pub filter: Option<String>,
}
