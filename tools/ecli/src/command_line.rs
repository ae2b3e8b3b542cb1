//! Reads the command line, and reports mistakes in it on one line.

use std::ffi::OsString;

use clap::error::{ContextKind, ErrorKind};
use clap::{CommandFactory, Parser};

use crate::error::{Code, say};
use crate::options::{Command, CommandLine};

/// Reads a command line. Exits after a usage error, `--help` and `--version`.
pub fn read(args: Vec<OsString>) -> CommandLine {
    let args = with_command(args);
    let mut line = CommandLine::try_parse_from(&args).unwrap_or_else(|error| exit(&error, &args));
    // A trailing `--` is standard input, as in eunomia-bpf 0.3.
    match &mut line.command {
        Command::Run(run) if run.prog.is_empty() && args.last().is_some_and(|last| last == "--") => {
            run.prog.push("-".into());
        }
        _ => {}
    }
    line
}

/// Prints the error and exits. An option that ecli does not have is probably one of the program's.
fn exit(error: &clap::Error, args: &[OsString]) -> ! {
    if error.kind() == ErrorKind::UnknownArgument && args.get(1).is_some_and(|first| first == "run") {
        let option = error.get(ContextKind::InvalidArg).map(ToString::to_string).unwrap_or_default();
        say(format_args!(
            "unknown option {option}; to pass it to the program, write it after PROG: ecli run PROG {option}"
        ));
        std::process::exit(Code::Usage as i32);
    }
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        error.exit()
    }
    say(one_line(&error.to_string()));
    std::process::exit(Code::Usage as i32);
}

/// Joins an error of clap into one line, without its prefix, the usage and the reference to `--help`.
fn one_line(error: &str) -> String {
    let mut paragraphs = error.split("\n\n").map(|paragraph| {
        paragraph.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
    });
    let message = paragraphs.next().unwrap_or_default();
    let message = message.strip_prefix("error: ").unwrap_or(&message).to_owned();
    let tips = paragraphs.filter_map(|text| text.strip_prefix("tip: ").map(str::to_owned));
    std::iter::once(message).chain(tips).collect::<Vec<_>>().join("; ")
}

/// The names of ecli's commands.
fn commands() -> Vec<String> {
    let mut command = CommandLine::command();
    // Adds `help`.
    command.build();
    command.get_subcommands().map(|command| command.get_name().to_owned()).collect()
}

/// Returns the command that a word is or resembles: one typing error in a short name, two in a longer one; two swapped
/// letters are one error. Such a word is not fetched and run as a program.
pub fn similar_command(word: &str) -> Option<String> {
    let word = word.to_ascii_lowercase();
    let errors = |command: &String| strsim::osa_distance(command, &word);
    let nearest = commands().into_iter().min_by_key(errors)?;
    let most = if nearest.len() <= 4 { 1 } else { 2 };
    (errors(&nearest) <= most).then_some(nearest)
}

/// Inserts `run` where the command line begins with a program or an option of `run`: `ecli PROG`, `ecli -j PROG`.
/// The name `ecli-server` is short for `ecli server`, as in eunomia-bpf.
fn with_command(mut args: Vec<OsString>) -> Vec<OsString> {
    let name = args.first().and_then(|name| std::path::Path::new(name).file_name());
    if name.is_some_and(|name| name == "ecli-server") {
        args.insert(1, "server".into());
        return args;
    }
    if args.len() < 2 {
        return args;
    }
    let commands = commands();
    let is_command = |name: &str| commands.iter().any(|command| command == name);
    let first = args[1].to_string_lossy();
    let has_command = match &*first {
        "-h" | "--help" | "-V" | "--version" => true,
        first if first.starts_with("--log-level") => {
            args.iter().any(|arg| is_command(&arg.to_string_lossy()))
        }
        first => is_command(first),
    };
    if !has_command {
        args.insert(1, "run".into());
    }
    args
}
