//! ecli runs packages and WASM modules: from a program's name to its events on the terminal.
//!
//! Everything that has to do with BPF is the library's; ecli uses its public items only. What is here: where a program
//! comes from, the command line, and how events look.

mod archive;
mod arguments;
mod attach;
mod capabilities;
mod cgroup;
mod check;
mod doctor;
mod error;
mod fetch;
mod field;
mod filter;
mod guest;
mod inspect;
mod manual;
mod options;
mod output;
mod registry;
mod run;
mod sign;
mod signals;
mod signing;
mod source;
mod symbols;
mod terminal;
mod view;

use std::process::ExitCode;

use error::{Code, Result};
use options::{Command, CommandLine};

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|first| first == symbols::ARGUMENT) {
        return symbols::serve();
    }
    let line = CommandLine::read();
    let result = match line.command {
        Command::Run(run) => run::run(&run, line.log_level),
        Command::Inspect(options) => inspect::run(&options),
        Command::Check(options) => check::run(&options),
        Command::Doctor(options) => doctor::run(&options),
        Command::Version => output::print(concat!("ecli ", env!("CARGO_PKG_VERSION"), "\n")),
        Command::Manual(options) => manual::write(&options.prefix),
        Command::Pull(pull) => registry::pull(&pull),
        Command::List(list) => registry::list(&list),
        Command::Push(push) => registry::push(&push),
        Command::Login(login) => registry::login(&login),
        Command::Logout(logout) => registry::logout(&logout),
        Command::Keygen(keygen) => signing::keygen(&keygen),
        Command::Sign(sign) => signing::sign(&sign),
        Command::Verify(verify) => signing::verify(&verify),
    };
    cgroup::leave();
    match result {
        Ok(code) => code,
        Err(failure) => {
            failure.report();
            failure.code.into()
        }
    }
}

/// How a command ended that did what it was asked for.
type Ended = Result<ExitCode>;

impl From<Code> for ExitCode {
    fn from(code: Code) -> ExitCode {
        ExitCode::from(code as u8)
    }
}
