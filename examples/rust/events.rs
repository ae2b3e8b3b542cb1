//! Runs a package and prints one line of JSON per event, until Ctrl-C.
//!
//! usage: events PACKAGE [ARGUMENT]...   (arguments are those that the package describes, such as --help)

use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use eunomia::{Kind, Level, Options, Result, Vm};
use signal_hook::consts::SIGINT;
use signal_hook::iterator::Signals;

fn run(arguments: &[&str]) -> Result<()> {
    let log = |_: Level, line: &str| eprintln!("{line}");
    let vm = Arc::new(Vm::new(Options::new().log(log))?);
    vm.open_file(arguments[0], Kind::Json)?;
    if vm.args_set(arguments)? {
        print!("{}", vm.args_help()?);
        return Ok(());
    }
    vm.attach()?;
    let stopped = Arc::clone(&vm);
    let mut signals = Signals::new([SIGINT]).expect("signals can be had");
    thread::spawn(move || signals.forever().for_each(|_| stopped.stop()));
    for event in vm.events(eunomia::Format::Json) {
        println!("{}", event?.text());
    }
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if arguments.is_empty() {
        eprintln!("usage: events PACKAGE [ARGUMENT]...");
        return ExitCode::from(2);
    }
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}\n{}", error.detail());
            ExitCode::FAILURE
        }
    }
}
