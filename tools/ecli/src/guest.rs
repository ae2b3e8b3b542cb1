//! `ecli run` of a WASM module.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use eunomia::{Event, Flow, Options, Status, Vm};
use wasmparser::{Parser, Payload};

use crate::error::{Code, Failure, Result, say};
use crate::options::{Format, Run};
use crate::output::Output;
use crate::run::{stats, summary};
use crate::source::Program;
use crate::view::View;
use crate::{Ended, arguments, signals};

/// What a module imports and exports that decides how it is run.
#[derive(Default)]
struct Borders {
    process_event: bool,
    event_format: bool,
}

impl Borders {
    /// Of a module; of what is none, nothing. The library says what is wrong with it.
    fn of(module: &[u8]) -> Borders {
        let mut borders = Borders::default();
        for payload in Parser::new(0).parse_all(module) {
            match payload {
                Ok(Payload::ExportSection(section)) => {
                    for export in section.into_iter().flatten() {
                        borders.process_event |= export.name == "process_event";
                        borders.event_format |= export.name == "eunomia_event_format";
                    }
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
        borders
    }

    /// Whether it gets each event as JSON, and the host then too.
    fn wants_json(&self) -> bool {
        self.process_event && !self.event_format
    }
}

/// Runs the module and ends with its exit code.
pub fn run(program: &Program, mut settings: Options, options: &Run, argv: &[&str]) -> Ended {
    check(options)?;
    let borders = Borders::of(&program.bytes);
    // Its bytes pass through as they are, and it can read what is piped in.
    settings.wasm.stdio = options.output.is_none();
    let vm = Arc::new(Vm::new(settings)?);
    vm.open(&program.bytes, eunomia::Kind::Wasm as u32).map_err(|e| Failure::from(e).at(&program.name))?;
    let mut output = Output::open(options.output.as_deref())?;
    output.begin()?;
    let start = Instant::now();
    signals::watch(&vm, output.sink())?;
    signals::stop_without_reader(&vm, &output.sink())?;
    if let Some(time) = options.duration {
        signals::stop_after(&vm, time)?;
    }
    let format = match options.format() {
        Format::Text if borders.wants_json() => eunomia::Format::Json,
        Format::Text => eunomia::Format::Text,
        Format::Raw => eunomia::Format::Raw,
        Format::Json | Format::Csv => eunomia::Format::Json,
    };
    let mut view = View::plain(options, output);
    let ended = vm.wasm_run(argv, format, &mut |event: &Event| {
        // Modules in the manner of eunomia-bpf print each event and let it through as well; nobody wants it twice.
        let flow = if event.printed { view.count() } else { view.event(event) };
        // Nothing tells when a guest begins to wait.
        if view.end_batch() { flow } else { Flow::End }
    });
    let was_stopped = ended.as_ref().is_err_and(|error| error.status == Status::Stopped);
    let code = match ended {
        Ok(code) => ExitCode::from(code as u8),
        Err(_) if was_stopped || view.is_done() || view.output.is_closed() => ExitCode::SUCCESS,
        Err(error) => return Err(Failure::from(error).at(&program.name)),
    };
    if was_stopped && !options.quiet && !view.output.has_failed() {
        summary(&vm, view.shown, start.elapsed());
    }
    if options.stats {
        stats(&vm)?;
    }
    view.output.finish()?;
    if code == ExitCode::from(Code::Usage as u8)
        && let Some(advice) = arguments::misplaced(&[], argv)
    {
        say(advice.trim_start_matches("; "));
    }
    Ok(code)
}

/// What only a package has.
fn check(options: &Run) -> Result<()> {
    let options = [
        ("--filter", options.filter.is_some()),
        ("--columns", !options.columns.is_empty()),
        ("--attach", !options.attach.is_empty()),
        ("--map", !options.map.is_empty()),
        ("--symbols", options.symbols),
        ("--format csv", options.format() == Format::Csv),
    ];
    match options.iter().find(|(_, is_given)| *is_given) {
        Some((name, _)) => Err(Failure::new(
            Code::Usage,
            format_args!("{name} is for packages; a WASM module does that itself"),
        )),
        None => Ok(()),
    }
}
