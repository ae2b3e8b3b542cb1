//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::{ContextKind, ErrorKind};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use eunomia::Level;

use crate::error::{Code, say};
use crate::source::Kind;

mod remote;

pub use remote::{Account, Keygen, List, Login, Logout, Origin, Pull, Push, Sign, Verify};

const AFTER_HELP: &str = "\
`ecli PROG [ARGS]` is short for `ecli run PROG [ARGS]`.

Exit codes: 0 done, also after Ctrl-C; 1 failed; 2 wrong command line; 3 no such program, or none that runs;
4 a privilege is missing; 5 this kernel does not take the program; 6 the output cannot be written.
A WASM module ends with its own exit code.";

const AFTER_RUN_HELP: &str = "\
PROG is a JSON package, a WASM module, a tar archive or a BPF object: a file, - for standard input, a URL (which
#sha256=DIGEST may pin), a name that EUNOMIA_REPOSITORY has, or an image as in ghcr.io/org/tool:tag. Options in front of
PROG are ecli's, those behind it the program's: `ecli run PROG -h` lists them.

FILTER compares fields with == != < <= > >= and =~ !~ (regular expression), joined by && || ! and parentheses:
  --filter 'ret == ENOENT && comm =~ \"^ssh\"'     --filter 'sk.dport == 443 && saddr == 10.0.0.0/8'

Ctrl-C ends the run, Ctrl-Z pauses it.";

/// Run eBPF programs: packages and WASM modules, from anywhere
#[derive(Parser)]
#[command(name = "ecli", version, after_help = AFTER_HELP, arg_required_else_help = true)]
pub struct CommandLine {
    #[command(subcommand)]
    pub command: Command,

    /// What is logged to stderr [default: RUST_LOG, else warn]
    #[arg(long, value_name = "LEVEL", global = true)]
    pub log_level: Option<LogLevel>,
}

impl CommandLine {
    /// Reads the command line.
    pub fn read() -> CommandLine {
        let args = with_command(std::env::args_os().collect());
        let mut line = CommandLine::try_parse_from(&args).unwrap_or_else(|error| explain(&error, &args));
        // A last `--` is standard input, as in eunomia-bpf 0.3.
        match &mut line.command {
            Command::Run(run) if run.prog.is_empty() && args.last().is_some_and(|last| last == "--") => {
                run.prog.push("-".into());
            }
            _ => {}
        }
        line
    }
}

#[derive(Subcommand)]
pub enum Command {
    /// Run a program and show its events
    #[command(after_help = AFTER_RUN_HELP)]
    Run(Run),

    /// Show what a program contains and what it could do to the system, without running it
    Inspect(Inspect),

    /// Have this kernel verify each program and show what it could do, without attaching any
    Check(Check),

    /// Show what this machine has for BPF, what it lacks, and what helps
    Doctor(Doctor),

    /// Download a program to a file
    Pull(Pull),

    /// List the programs that were downloaded, or those of the repository
    List(List),

    /// Upload a program to an OCI registry, with its signature if there is one
    Push(Push),

    /// Keep the credentials for a registry
    Login(Login),

    /// Forget the credentials for a registry
    Logout(Logout),

    /// Make a pair of keys to sign with
    Keygen(Keygen),

    /// Sign a program: write FILE.minisig
    Sign(Sign),

    /// Check the signature of a program
    Verify(Verify),

    /// Print the version
    Version,

    /// Write manual pages and shell completions below PREFIX/share
    #[command(hide = true)]
    Manual(Manual),
}

#[derive(Args)]
pub struct Inspect {
    /// The program: a file, - for standard input, a URL, a name or an OCI reference
    pub prog: String,

    /// As JSON
    #[arg(short, long)]
    pub json: bool,

    #[command(flatten)]
    pub origin: Origin,

    /// What PROG has to be: json, tar or wasm [default: what its content says]
    #[arg(short = 'p', long, value_name = "TYPE", value_parser = prog_type)]
    pub prog_type: Option<Kind>,
}

#[derive(Args)]
pub struct Check {
    /// The program: a file, - for standard input, a URL, a name or an OCI reference
    pub prog: String,

    /// As JSON, one line for each program
    #[arg(short, long)]
    pub json: bool,

    #[command(flatten)]
    pub origin: Origin,

    /// What PROG has to be: json or tar [default: what its content says]
    #[arg(short = 'p', long, value_name = "TYPE", value_parser = prog_type)]
    pub prog_type: Option<Kind>,

    /// Types of the kernel: a BTF file, or a folder as btfhub-archive has it
    #[arg(long, value_name = "PATH", value_parser = existing)]
    pub btf: Option<PathBuf>,

    /// Where a program attaches, in place of what the package says: as for run
    #[arg(long, value_name = "PROG=KEY:VALUE,...")]
    pub attach: Vec<String>,

    #[command(flatten)]
    pub limits: Limits,
}

/// What a program may take.
#[derive(Args)]
pub struct Limits {
    /// Kernel memory that the program's maps may take: bytes, or with K, M or G behind the number; none is no limit [default: a
    /// quarter of the memory that is available, at most 1G]
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "0", hide_default_value = true)]
    pub max_kernel_memory: u64,
}

#[derive(Args)]
pub struct Doctor {
    /// As JSON, one line for each finding
    #[arg(short, long)]
    pub json: bool,
}

#[derive(Args)]
pub struct Manual {
    /// Folder with share/man and the folders of completions; what is missing is made
    pub prefix: PathBuf,
}

#[derive(Args)]
pub struct Run {
    /// The program, and behind it the program's own arguments [default: package.json]
    #[arg(value_name = "PROG [ARGS]", trailing_var_arg = true)]
    pub prog: Vec<String>,

    /// Events as JSON, one a line; the same as --format json
    #[arg(short, long, conflicts_with = "format")]
    pub json: bool,

    /// How events are written
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: Format,

    #[command(flatten)]
    pub origin: Origin,

    /// What PROG has to be: json, tar or wasm [default: what its content says]
    #[arg(short = 'p', long, value_name = "TYPE", value_parser = prog_type)]
    pub prog_type: Option<Kind>,

    /// End after this time: 10s, 1m30s, or a number of seconds
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,

    /// End after so many events
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = count)]
    pub count: Option<u64>,

    /// Only events of which this is true, see below
    #[arg(long, value_name = "FILTER")]
    pub filter: Option<String>,

    /// Only these fields, in this order; those inside others as outer.inner
    #[arg(long, value_name = "FIELD,...", value_delimiter = ',')]
    pub columns: Vec<String>,

    /// Append events to this file, which SIGHUP opens anew
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Say for each event when it arrived
    #[arg(long)]
    pub timestamps: bool,

    /// In JSON too, the functions on stacks in place of their addresses
    #[arg(long)]
    pub symbols: bool,

    /// Types of the kernel: a BTF file, or a folder as btfhub-archive has it
    #[arg(long, value_name = "PATH", value_parser = existing)]
    pub btf: Option<PathBuf>,

    /// Where a program attaches: PROG=KEY:VALUE,... or PROG={...}, with the keys of docs/package.md (attach, interface,
    /// path, func, pid, cgroup, ...); may be repeated
    #[arg(long, value_name = "PROG=TARGET")]
    pub attach: Vec<String>,

    #[command(flatten)]
    pub limits: Limits,

    /// A program whose hook (function, tracepoint) is not there is an error; it is skipped otherwise, where others
    /// attach
    #[arg(long)]
    pub strict: bool,

    /// Print the content of this map at the end; may be repeated
    #[arg(long, value_name = "NAME")]
    pub map: Vec<String>,

    /// Print the maps of --map at this interval too
    #[arg(long, value_name = "TIME", value_parser = duration, requires = "map")]
    pub interval: Option<Duration>,

    /// Print what became of all events, and the run time of programs, at the end
    #[arg(long)]
    pub stats: bool,

    /// No summary at the end
    #[arg(short, long)]
    pub quiet: bool,
}

impl Run {
    /// The program and its arguments.
    pub fn prog(&self) -> (&str, &[String]) {
        self.prog.split_first().map_or(("package.json", &[]), |(prog, args)| (prog, args))
    }

    /// How events are written.
    pub fn format(&self) -> Format {
        if self.json { Format::Json } else { self.format }
    }
}

/// How events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table, or histograms
    Text,
    /// One JSON value a line
    Json,
    /// One line of comma-separated values an event, RFC 4180
    Csv,
    /// Bytes as the kernel wrote them, without anything in between
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
    /// The level that was asked for, here or in RUST_LOG, which is what older versions went by.
    pub fn wanted(level: Option<LogLevel>) -> Option<Level> {
        let usual = || LogLevel::from_str(&std::env::var("RUST_LOG").ok()?, true).ok();
        Some(match level.or_else(usual)? {
            LogLevel::Error => Level::Error,
            LogLevel::Warn => Level::Warn,
            LogLevel::Info => Level::Info,
            LogLevel::Debug | LogLevel::Trace => Level::Debug,
        })
    }
}

fn prog_type(text: &str) -> Result<Kind, String> {
    let advice =
        "json, tar or wasm is wanted; options of the program itself go behind it: ecli run PROG -p ...";
    Kind::from_str(text, false).map_err(|_| advice.into())
}

/// A number of bytes.
fn size(text: &str) -> Result<u64, String> {
    let units = [('K', 10), ('M', 20), ('G', 30)];
    let number = text.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
    let shift = match text[number.len()..].to_ascii_uppercase().trim_end_matches("IB") {
        "" => Some(0),
        unit => units.iter().find(|(name, _)| unit == name.to_string()).map(|(_, shift)| *shift),
    };
    let size =
        number.parse::<u64>().ok().zip(shift).and_then(|(number, shift)| number.checked_mul(1 << shift));
    match size {
        _ if text == "none" => Ok(u64::MAX),
        None => Err("a number of bytes is wanted, as in 512M, or none".into()),
        Some(size) => Ok(size),
    }
}

fn count(text: &str) -> Result<u64, String> {
    text.parse().ok().filter(|count| *count > 0).ok_or_else(|| "a whole number from 1 on is wanted".into())
}

/// A path at which there is something.
fn existing(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    path.metadata().map_err(|e| {
        let reason = e.to_string();
        reason.split(" (os error").next().unwrap_or(&reason).to_owned()
    })?;
    Ok(path)
}

/// Longer times would have no end that a clock can tell.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);

fn duration(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let time = seconds.map_or_else(|| humantime::parse_duration(text).map_err(|e| e.to_string()), Ok)?;
    match time {
        Duration::ZERO => Err("0 is no time".into()),
        _ if time > LONGEST => Err("that is more than ten years".into()),
        _ => Ok(time),
    }
}

/// Ends with what is wrong. An option that ecli does not know is most likely one of the program's.
fn explain(error: &clap::Error, args: &[OsString]) -> ! {
    if error.kind() == ErrorKind::UnknownArgument && args.get(1).is_some_and(|first| first == "run") {
        let option = error.get(ContextKind::InvalidArg).map(ToString::to_string).unwrap_or_default();
        say(format_args!(
            "unknown option {option}; options of the program itself go behind it: ecli run PROG {option}"
        ));
        std::process::exit(Code::Usage as i32);
    }
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        error.exit()
    }
    say(one_line(&error.to_string()));
    std::process::exit(Code::Usage as i32);
}

/// An error as clap words it, on one line like all others: without its heading, the usage, and where the help is.
fn one_line(error: &str) -> String {
    let mut paragraphs = error.split("\n\n").map(|paragraph| {
        paragraph.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
    });
    let what = paragraphs.next().unwrap_or_default();
    let what = what.strip_prefix("error: ").unwrap_or(&what).to_owned();
    let tips = paragraphs.filter_map(|text| text.strip_prefix("tip: ").map(str::to_owned));
    std::iter::once(what).chain(tips).collect::<Vec<_>>().join("; ")
}

/// The names of ecli's commands.
fn commands() -> Vec<String> {
    let mut command = CommandLine::command();
    // `help` is one of them from here on.
    command.build();
    command.get_subcommands().map(|command| command.get_name().to_owned()).collect()
}

/// The command that a word is, or could be when a letter or two are wrong; swapped ones count as one. Such a word is not
/// taken for a program, which would be fetched and run.
pub fn like_a_command(word: &str) -> Option<String> {
    let word = word.to_ascii_lowercase();
    let faults = |command: &String| strsim::osa_distance(command, &word);
    let nearest = commands().into_iter().min_by_key(faults)?;
    let most = if nearest.len() <= 4 { 1 } else { 2 };
    (faults(&nearest) <= most).then_some(nearest)
}

/// The command line with `run` in front where a program stands in place of a command: `ecli PROG`, `ecli -j PROG`.
fn with_command(mut args: Vec<OsString>) -> Vec<OsString> {
    if args.len() < 2 {
        return args;
    }
    let commands = commands();
    let is_command = |name: &str| commands.iter().any(|command| command == name);
    let first = args[1].to_string_lossy();
    let is_own = match &*first {
        "-h" | "--help" | "-V" | "--version" => true,
        first if first.starts_with("--log-level") => {
            args.iter().any(|arg| is_command(&arg.to_string_lossy()))
        }
        first => is_command(first),
    };
    if !is_own {
        args.insert(1, "run".into());
    }
    args
}
