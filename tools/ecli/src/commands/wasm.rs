//! `ecli run` for WASM modules.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use eunomia::vm::WasmOptions;
use eunomia::{Event, Flow, Options, Status, Vm};
use wasmparser::{Parser, Payload};

use crate::error::{Code, Failure, Result, say};
use crate::options::{Format, Run};
use crate::output::Output;

use crate::source::Program;
use crate::statistics::{Runs, stats, summary};
use crate::view::View;
use crate::{program_args, reload, signals};

/// The exports of a module that decide how its events are delivered.
#[derive(Default)]
struct Exports {
    process_event: bool,
    event_format: bool,
}

impl Exports {
    /// Reads the exports. An invalid module has none; the library reports why it is invalid.
    fn of(module: &[u8]) -> Exports {
        let mut exports = Exports::default();
        for payload in Parser::new(0).parse_all(module) {
            match payload {
                Ok(Payload::ExportSection(section)) => {
                    for export in section.into_iter().flatten() {
                        exports.process_event |= export.name == "process_event";
                        exports.event_format |= export.name == "eunomia_event_format";
                    }
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
        exports
    }

    /// Whether the module expects events as JSON. The host then gets JSON too.
    fn expects_json(&self) -> bool {
        self.process_event && !self.event_format
    }
}

/// The format in which the host gets the events of a module.
pub fn format(module: &[u8], options: &Run) -> eunomia::Format {
    match options.format() {
        Format::Text if Exports::of(module).expects_json() => eunomia::Format::Json,
        Format::Text => eunomia::Format::Text,
        Format::Raw => eunomia::Format::Raw,
        Format::Json | Format::Csv => eunomia::Format::Json,
    }
}

/// Runs the module and returns its exit code.
pub fn run(program: &Program, settings: Options, options: &Run, argv: &[&str]) -> Result<ExitCode> {
    check_options(options)?;
    let format = format(&program.bytes, options);
    // The module reads and writes the standard streams itself, byte by byte.
    let wasm = WasmOptions::new().stdio(options.output.is_none());
    let vm = Arc::new(Vm::new(settings.wasm(wasm))?);
    vm.open(&program.bytes, eunomia::Kind::Wasm).map_err(|e| Failure::from(e).at(&program.name))?;
    let mut output = Output::open(options.output.as_deref())?;
    output.begin()?;
    let start = Instant::now();
    let running = reload::Running::Guest(program.bytes.clone(), format);
    let reload = reload::start(&vm, options, running)?;
    signals::watch(&vm, output.sink(), reload.clone())?;
    signals::stop_without_reader(&vm, &output.sink())?;
    if let Some(time) = options.duration {
        signals::stop_after(&vm, time)?;
    }
    let mut view = View::plain(options, output);
    let ended = vm.wasm_run(argv, format, |event: &Event| {
        // Modules for eunomia-bpf print each event and pass it on as well. It is shown once.
        let flow = if event.printed { view.count() } else { view.event(event) };
        // Nothing reports when the guest begins to wait, so each event is written at once.
        if view.end_batch() { flow } else { Flow::End }
    });
    reload.iter().for_each(reload::Requests::end);
    let was_stopped = ended.as_ref().is_err_and(|error| error.status() == Status::Stopped);
    let code = match ended {
        Ok(code) => ExitCode::from(code as u8),
        Err(_) if was_stopped || view.is_done() || view.output.is_closed() => ExitCode::SUCCESS,
        Err(error) => return Err(Failure::from(error).at(&program.name)),
    };
    if was_stopped && !options.quiet && !view.output.has_failed() {
        summary(&vm, view.shown, start.elapsed());
    }
    if options.stats {
        stats(&vm, &Runs::of(&vm)?)?;
    }
    view.output.finish()?;
    if code == ExitCode::from(Code::Usage as u8)
        && let Some(hint) = program_args::misplaced(&[], argv)
    {
        say(hint.trim_start_matches("; "));
    }
    Ok(code)
}

/// Refuses options that apply to packages only.
fn check_options(options: &Run) -> Result<()> {
    let options = [
        ("--filter", options.filter.is_some()),
        ("--columns", !options.columns.is_empty()),
        ("--attach", !options.attach.is_empty()),
        ("--map", !options.map.is_empty()),
        ("--symbols", options.symbols),
        ("--format csv", options.format() == Format::Csv),
    ];
    match options.iter().find(|(_, is_given)| *is_given) {
        Some((name, _)) => {
            Err(Failure::new(Code::Usage, format_args!("{name} cannot be used with a WASM module")))
        }
        None => Ok(()),
    }
}
