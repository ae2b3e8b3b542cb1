//! `ecli run`: runs one program and prints its events.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use caps::Capability;
use eunomia::internal::constants::prog_type;
use eunomia::render::hex_json;
use eunomia::vm::ProgInfo;
use eunomia::{Event, Flow, Level, Options, Status, Vm};
use serde_json::Value;

use super::wasm;
use crate::error::{Code, Failure, Result, say};
use crate::kind::Kind;
use crate::loader::Loader;
use crate::options::{Format, LogLevel, Run};
use crate::output::{self, Output};
use crate::source::{self, Request};
use crate::statistics::{Runs, stats, summary};
use crate::view::View;
use crate::{attach, capabilities, cgroup, program_args, reload, signals, symbols};

/// Bytes of queued events while function names are looked up.
const QUEUE_SIZE: usize = 16 << 20;

/// Polls at the end for the events that remain in the kernel's buffers; each reads up to 65536.
const LAST_POLLS: usize = 64;

/// Runs the program.
pub fn run(options: &Run, log_level: Option<LogLevel>) -> Result<ExitCode> {
    let (prog, _) = options.prog();
    let request = Request { prog, kind: options.prog_type, origin: &options.origin };
    let program = source::open(&request).map_err(|failure| match options.prog.is_empty() {
        true => failure.at_end("; no program given, so this is the default"),
        false => failure,
    })?;
    reload::check(options, program.kind)?;
    let limit = cgroup::enter(options.limits.max_kernel_memory);
    let mut settings = vm_options(options, log_level).max_kernel_memory(limit);
    if options.reloads() && program.kind != Kind::Wasm {
        // The loader opens the package again, and logs what is found.
        settings = settings.log_level(Level::Error);
    }
    match program.kind {
        Kind::Wasm => wasm::run(&program, settings, options, &options.argv()),
        Kind::Json => open_and_run(&program.name, &program.bytes, settings, options),
        Kind::Tar => open_and_run(&program.name, &program.packed()?, settings, options),
        Kind::Object => {
            let vm = Vm::new(settings)?;
            vm.open_object(&program.bytes, None).map_err(|e| not_opened(&program.name, e))?;
            run_package(vm, &program.bytes, options)
        }
    }
}

fn open_and_run(name: &str, json: &[u8], settings: Options, options: &Run) -> Result<ExitCode> {
    let vm = Vm::new(settings)?;
    vm.open(json, eunomia::Kind::Json).map_err(|e| not_opened(name, e))?;
    run_package(vm, json, options)
}

/// The settings of the vm that loads the program.
pub fn vm_options(options: &Run, log_level: Option<LogLevel>) -> Options {
    let requested = LogLevel::requested(log_level);
    let settings = Options::new()
        .log(move |level, line| log(level, line, requested.is_some()))
        .log_level(requested.unwrap_or(Level::Warn))
        .skip_missing_hooks(!options.strict)
        .replaceable(options.reloads());
    match &options.btf {
        Some(btf) => settings.btf_path(btf),
        None => settings,
    }
}

/// Prints a log line. A warning of libbpf precedes an error with a better message, so it is printed only on request.
fn log(level: Level, line: &str, is_requested: bool) {
    let level = match level {
        Level::Error => "error",
        Level::Warn if line.starts_with("libbpf: ") && !is_requested => return,
        Level::Warn => "warning",
        Level::Info => "info",
        _ => "debug",
    };
    say(format_args!("{level}: {line}"));
}

fn not_opened(name: &str, error: eunomia::Error) -> Failure {
    let is_package = matches!(error.status(), Status::Package | Status::Type | Status::Inval);
    let failure = Failure::from(error).at(name);
    if is_package { failure.with_code(Code::Source) } else { failure }
}

/// Runs a package that has been opened. `bytes` is its file.
fn run_package(vm: Vm, bytes: &[u8], options: &Run) -> Result<ExitCode> {
    if let Some(text) = program_args::set(&vm, bytes, &options.argv())? {
        return output::print(format_args!("{}\n", text.trim_end()));
    }
    attach::apply(&vm, &options.attach)?;
    check_conflicts(options)?;
    let output = Output::open(options.output.as_deref())?;
    let (vm, loader) = load(vm, bytes, options)?;
    check_maps(&vm, &options.map)?;
    let mut view = View::of_package(options, &vm, output)?;
    match &loader {
        Some(loader) => loader.attach()?,
        None => vm.attach().map_err(capabilities::explain)?,
    }
    view.output.begin()?;
    let start = Instant::now();
    let reload = drop_privileges(&vm, options, &view, loader.clone())?;
    let is_queued = view.has_stacks();
    if is_queued {
        // Looking up names takes longer than the kernel's buffers can hold events.
        vm.queue_start(QUEUE_SIZE)?;
    }
    signals::watch(&vm, view.output.sink(), reload.clone())?;
    signals::stop_without_reader(&vm, &view.output.sink())?;
    if let Some(time) = options.duration {
        signals::stop_after(&vm, time)?;
    }
    view.follow(&vm, reload);
    let result = Session { vm, loader: loader.clone(), options, view, start, is_queued }.run();
    // The cgroup of this run can be removed when its other process has ended.
    let ended = loader.map_or(Ok(()), |loader| loader.end());
    result.and_then(|code| ended.map(|()| code))
}

/// Loads the package. If it may be replaced, another process does so, and the result reads its events.
fn load(vm: Vm, bytes: &[u8], options: &Run) -> Result<(Arc<Vm>, Option<Arc<Loader>>)> {
    if !options.reloads() {
        vm.load().map_err(capabilities::explain)?;
        return Ok((Arc::new(vm), None));
    }
    // The loader opens the package itself.
    drop(vm);
    let loader = Loader::start()?;
    let exported = loader.load(bytes)?;
    let settings = Options::new().log(|level, line| log(level, line, false)).log_level(Level::Error);
    Ok((Arc::new(Vm::import(bytes, exported, settings)?), Some(Arc::new(loader))))
}

/// Drops the privileges that are not needed after attaching, and starts the threads for replaces.
fn drop_privileges(
    vm: &Arc<Vm>,
    options: &Run,
    view: &View,
    loader: Option<Arc<Loader>>,
) -> Result<Option<reload::Requests>> {
    let for_symbols: &[Capability] = if view.has_stacks() { &symbols::PRIVILEGES } else { &[] };
    let Some(loader) = loader else {
        capabilities::drop_unneeded(vm, for_symbols);
        return Ok(None);
    };
    let reload = reload::start(vm, options, reload::Running::Package(loader))?;
    capabilities::drop_for_reading(for_symbols);
    Ok(reload)
}

/// Refuses options that conflict.
fn check_conflicts(options: &Run) -> Result<()> {
    let refuse = |text: String| Err(Failure::new(Code::Usage, text));
    let is_exact = matches!(options.format(), Format::Csv | Format::Raw);
    if options.symbols && is_exact {
        return refuse("--symbols requires --format json; tables always show function names".into());
    }
    if !options.map.is_empty() && is_exact {
        return refuse("--map cannot be combined with --format csv or raw".into());
    }
    let columns = &options.columns;
    match columns.iter().enumerate().find(|(index, name)| columns[..*index].contains(name)) {
        Some((_, name)) => refuse(format!("--columns: {name:?} is listed twice")),
        None => Ok(()),
    }
}

/// Refuses maps that do not exist or have no entries to print, such as a ring buffer, before anything runs.
pub fn check_maps(vm: &Vm, names: &[String]) -> Result<()> {
    for name in names {
        let first = &mut |_: &Event| Flow::End;
        vm.map_each(name, eunomia::Format::Raw, first)
            .map_err(|e| Failure::from(e).with_code(Code::Usage).at("--map"))?;
    }
    Ok(())
}

/// An attached package.
struct Session<'a> {
    vm: Arc<Vm>,
    /// The process that has loaded the package, if it is another one.
    loader: Option<Arc<Loader>>,
    options: &'a Run,
    view: View<'a>,
    start: Instant,
    is_queued: bool,
}

impl Session<'_> {
    fn run(mut self) -> Result<ExitCode> {
        let iterators = if self.loader.is_none() { self.iterators()? } else { 0 };
        if iterators == self.vm.prog_count()? && iterators > 0 {
            self.view.print_maps(&self.vm)?;
            self.view.output.finish()?;
            return Ok(ExitCode::SUCCESS);
        }
        if self.vm.source_count()? == 0 && !self.options.quiet && self.options.map.is_empty() {
            say(
                "the program has no events and runs until Ctrl-C; /sys/kernel/tracing/trace_pipe shows the output of \
                 bpf_printk",
            );
        }
        let was_stopped = self.events()?;
        self.view.end_following();
        if self.is_queued {
            self.vm.queue_stop()?;
        }
        let runs = self.detach()?;
        // The remaining events, and a last round of each sampled map.
        for _ in 0..LAST_POLLS {
            if !was_stopped || self.view.is_done() || self.last_poll()? == 0 {
                break;
            }
        }
        self.view.print_maps(&self.vm)?;
        // A failed output is reported below.
        if !self.view.output.has_failed() && !self.options.quiet {
            summary(&self.vm, self.view.shown, self.start.elapsed());
        }
        if let Some(runs) = runs {
            stats(&self.vm, &runs)?;
        }
        self.view.output.finish()?;
        Ok(ExitCode::SUCCESS)
    }

    /// Detaches the programs. Returns their runs, for `--stats`.
    fn detach(&self) -> Result<Option<Runs>> {
        let Some(loader) = &self.loader else {
            self.vm.detach()?;
            return self.options.stats.then(|| Runs::of(&self.vm)).transpose();
        };
        // If the loader has ended, its counts are lost, and its end is reported after the events.
        let runs = if self.options.stats { loader.runs().ok() } else { None };
        let _ = loader.end();
        Ok(runs)
    }

    /// Runs the iterators once and returns how many there are.
    fn iterators(&mut self) -> Result<usize> {
        let mut count = 0;
        for index in 0..self.vm.prog_count()? {
            let info = self.vm.prog_at(index)?;
            if !is_iterator(&info) || !info.attached {
                continue;
            }
            count += 1;
            let is_json = self.options.format() == Format::Json;
            let output = &mut self.view.output;
            self.vm.iter_each(&info.name.to_string_lossy(), |event: &Event| {
                if is_json {
                    iterator_json(event, &mut output.buffer);
                } else if event.format == eunomia::Format::Text {
                    output.line(event.data);
                } else {
                    output.buffer.extend_from_slice(event.data);
                }
                if output.flush_if_full() { Flow::Continue } else { Flow::End }
            })?;
        }
        Ok(count)
    }

    /// Shows events until the limit is reached or the run is stopped. Returns whether it was stopped.
    fn events(&mut self) -> Result<bool> {
        let mut next_maps = self.options.interval.map(|interval| Instant::now() + interval);
        loop {
            let timeout = next_maps.map(|next| next.saturating_duration_since(Instant::now()));
            match self.poll(timeout) {
                Ok(_) => {}
                Err(error) if error.status() == Status::Stopped => return Ok(true),
                Err(error) => return Err(error.into()),
            }
            self.view.check()?;
            if self.view.is_done() || !self.view.end_batch() {
                return Ok(false);
            }
            if let (Some(next), Some(interval)) = (&mut next_maps, self.options.interval)
                && *next <= Instant::now()
            {
                *next = Instant::now() + interval;
                self.view.print_maps(&self.vm)?;
            }
        }
    }

    /// Polls after the run was stopped. A reader that closes the pipe now stops the vm again.
    fn last_poll(&mut self) -> eunomia::Result<usize> {
        match self.poll(Some(Duration::ZERO)) {
            Err(error) if error.status() == Status::Stopped => self.poll(Some(Duration::ZERO)),
            polled => polled,
        }
    }

    fn poll(&mut self, timeout: Option<Duration>) -> eunomia::Result<usize> {
        let view = &mut self.view;
        view.begin_batch();
        self.vm.poll(timeout, view.delivery(), |event| view.event(event))
    }
}

/// Whether a program is an iterator.
pub fn is_iterator(program: &ProgInfo) -> bool {
    program.kind == prog_type::TRACING && program.section.to_bytes().starts_with(b"iter")
}

/// Appends output of an iterator as a line of JSON: a line of text as a string, other bytes as an untyped record.
fn iterator_json(event: &Event, out: &mut Vec<u8>) {
    match event.format {
        eunomia::Format::Text => {
            let text = Value::from(String::from_utf8_lossy(event.data));
            out.extend_from_slice(text.to_string().as_bytes());
        }
        _ => hex_json(event.data, out),
    }
    out.push(b'\n');
}
