//! `ecli run` of a WASM module.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use eunomia::{Event, EventKind, Flow, Options, Status, Vm};
use wasmparser::{Parser, Payload};

use crate::error::{Code, Failure, Result};
use crate::options::{Format, Run};
use crate::output::Output;
use crate::run::{stats, summary};
use crate::source::Program;
use crate::view::View;
use crate::{Ended, signals};

/// What a module exports that decides how it is run.
#[derive(Default)]
struct Exports {
    bpf_main: bool,
    start: bool,
    process_event: bool,
    event_format: bool,
}

impl Exports {
    /// Of a module; of what is none, nothing. The library says what is wrong with it.
    fn of(module: &[u8]) -> Exports {
        let mut exports = Exports::default();
        for payload in Parser::new(0).parse_all(module) {
            let Ok(payload) = payload else { break };
            let Payload::ExportSection(section) = payload else { continue };
            for export in section.into_iter().flatten() {
                match export.name {
                    "bpf_main" => exports.bpf_main = true,
                    "_start" => exports.start = true,
                    "process_event" => exports.process_event = true,
                    "eunomia_event_format" => exports.event_format = true,
                    _ => {}
                }
            }
        }
        exports
    }

    /// A plain WASI program: its events never come here, so it may as well have the terminal.
    fn is_wasi(&self) -> bool {
        self.start && !self.bpf_main
    }

    /// Whether it gets each event as JSON, and the host then too.
    fn wants_json(&self) -> bool {
        self.process_event && !self.event_format
    }
}

/// Runs the module and ends with its exit code.
pub fn run(program: &Program, mut settings: Options, options: &Run, argv: &[&str]) -> Ended {
    check(options)?;
    let exports = Exports::of(&program.bytes);
    settings.wasm.stdio = exports.is_wasi() && options.output.is_none();
    let vm = Arc::new(Vm::new(settings)?);
    vm.open(&program.bytes, eunomia::Kind::Wasm as u32).map_err(|e| Failure::from(e).at(&program.name))?;
    let output = Output::open(options.output.as_deref())?;
    let start = Instant::now();
    signals::watch(&vm)?;
    if let Some(time) = options.duration {
        signals::stop_after(&vm, time)?;
    }
    let format = match options.format() {
        Format::Text if exports.wants_json() => eunomia::Format::Json,
        Format::Text => eunomia::Format::Text,
        Format::Raw => eunomia::Format::Raw,
        Format::Json | Format::Csv => eunomia::Format::Json,
    };
    let mut guest = Guest { view: View::plain(options, output), events: 0, printed: false, speaks: false };
    let ended = vm.wasm_run(argv, format, &mut |event: &Event| guest.event(event));
    let view = guest.view;
    let was_stopped = ended.as_ref().is_err_and(|error| error.status == Status::Stopped);
    let code = match ended {
        Ok(code) => ExitCode::from(code as u8),
        Err(_) if was_stopped || view.is_done() || view.output.is_closed() => ExitCode::SUCCESS,
        Err(error) => return Err(Failure::from(error).at(&program.name)),
    };
    if was_stopped && !options.quiet {
        summary(&vm, view.shown, start.elapsed());
    }
    if options.stats {
        stats(&vm)?;
    }
    view.output.finish()?;
    Ok(code)
}

/// What only a package has.
fn check(options: &Run) -> Result<()> {
    let options = [
        ("--filter", options.filter.is_some()),
        ("--columns", !options.columns.is_empty()),
        ("--attach", !options.attach.is_empty()),
        ("--map", !options.map.is_empty()),
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

/// What a guest prints, and the events that it lets through. Modules of eunomia-bpf 0.2 and 0.3 print each event
/// themselves and let it through as well; theirs are not shown a second time.
struct Guest {
    view: View,
    events: u64,
    /// Since the last event.
    printed: bool,
    speaks: bool,
}

impl Guest {
    fn event(&mut self, event: &Event) -> Flow {
        match event.kind {
            EventKind::Output => self.printed = true,
            EventKind::Sample | EventKind::MapEntry => {
                // Before the first event a guest may have printed a greeting.
                self.speaks |= self.printed && self.events > 0;
                self.events += 1;
                self.printed = false;
                if self.speaks {
                    return Flow::Continue;
                }
            }
            _ => {}
        }
        let flow = self.view.event(event);
        // Nothing tells when a guest begins to wait.
        if self.view.end_batch() { flow } else { Flow::End }
    }
}
