//! ecli runs packages and WASM modules and prints their events.
//!
//! The library does everything that concerns BPF, and ecli uses its public items only. ecli itself finds and downloads
//! programs, reads the command line and formats events.

mod attach;
mod capabilities;
mod cgroup;
mod command_line;
mod commands;
mod error;
mod files;
mod kind;
mod loader;
mod options;
mod output;
mod program_args;
mod prompt;
mod reload;
mod signals;
mod signature;
mod source;
mod statistics;
mod symbols;
mod terminal;
mod view;

use std::process::ExitCode;

use commands::{check, client, doctor, inspect, manual, registry, run, server, signing};
use options::Command;

fn main() -> ExitCode {
    eunomia_fetch::set_program(eunomia_fetch::Program { name: "ecli", timeout: Some("--timeout") });
    match std::env::args_os().nth(1) {
        Some(first) if first == symbols::ARGUMENT => return symbols::serve(),
        Some(first) if first == loader::ARGUMENT => return loader::serve(),
        _ => {}
    }
    if let Some(code) = eunomia_agent::processes::run() {
        return code;
    }
    if let Some(code) = eunomia_agent::processes::fetch(server::download) {
        return code;
    }
    let line = command_line::read(std::env::args_os().collect());
    let result = match line.command {
        Command::Run(run) => run::run(&run, line.log_level),
        Command::Inspect(options) => inspect::run(&options),
        Command::Check(options) => check::run(&options),
        Command::Doctor(options) => doctor::run(&options),
        Command::Version => output::print(concat!("ecli ", env!("CARGO_PKG_VERSION"), "\n")),
        Command::Manual(options) => manual::write(&options.prefix),
        Command::Server(options) => server::run(&options),
        Command::Client(options) => client::run(&options),
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
