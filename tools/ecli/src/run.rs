//! `ecli run`: one program from its source to its last event.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eunomia::render::hex_json;
use eunomia::vm::LostKnown;
use eunomia::{Event, Flow, Level, Options, Status, Vm};
use serde_json::Value;

use crate::archive::Unpacked;
use crate::error::{Code, Failure, Result, say};
use crate::options::{Format, LogLevel, Run};
use crate::output::{self, Output};
use crate::source::{self, Kind, Request};
use crate::view::View;
use crate::{Ended, arguments, attach, capabilities, cgroup, guest, signals};

/// `BPF_PROG_TYPE_TRACING`, which iterators belong to.
const TRACING: u32 = 26;

/// Bytes of the events that wait while the names of functions are found.
const QUEUE: usize = 16 << 20;

/// Polls of what is left in the kernel's buffers, of 65536 events each.
const LAST_POLLS: usize = 64;

/// Runs the program.
pub fn run(options: &Run, log_level: Option<LogLevel>) -> Ended {
    let (prog, args) = options.prog();
    let request = Request { prog, kind: options.prog_type, origin: &options.origin };
    let program = source::open(&request)?;
    let argv: Vec<&str> = std::iter::once(prog).chain(args.iter().map(String::as_str)).collect();
    let mut settings = vm_options(options, log_level);
    settings.max_kernel_memory = cgroup::enter(options.limits.max_kernel_memory);
    match program.kind {
        Kind::Wasm => guest::run(&program, settings, options, &argv),
        Kind::Json => {
            let vm = Vm::new(settings)?;
            vm.open(&program.bytes, eunomia::Kind::Json as u32).map_err(|e| not_opened(&program.name, e))?;
            package(vm, &program.bytes, options, &argv)
        }
        Kind::Object => {
            let vm = Vm::new(settings)?;
            vm.open_object(&program.bytes, None).map_err(|e| not_opened(&program.name, e))?;
            package(vm, &program.bytes, options, &argv)
        }
        Kind::Tar => {
            let unpacked = Unpacked::new(&program.bytes, &program.name)?;
            settings.btf_path = settings.btf_path.or_else(|| unpacked.btf());
            let vm = Vm::new(settings)?;
            let json = unpacked.package()?;
            vm.open(&json, eunomia::Kind::Json as u32).map_err(|e| not_opened(&program.name, e))?;
            package(vm, &json, options, &argv)
        }
    }
}

fn vm_options(options: &Run, log_level: Option<LogLevel>) -> Options {
    let wanted = LogLevel::wanted(log_level);
    Options {
        log: Some(Box::new(move |level, line| log(level, line, wanted.is_some()))),
        log_level: Some(wanted.unwrap_or(Level::Warn)),
        btf_path: options.btf.clone(),
        skip_missing_hooks: !options.strict,
        ..Options::default()
    }
}

/// What libbpf warns of leads to an error, which says it better; whoever asks for warnings gets them all the same.
fn log(level: Level, line: &str, asked: bool) {
    let level = match level {
        Level::Error => "error",
        Level::Warn if line.starts_with("libbpf: ") && !asked => return,
        Level::Warn => "warning",
        Level::Info => "info",
        Level::Debug => "debug",
    };
    say(format_args!("{level}: {line}"));
}

fn not_opened(name: &str, error: eunomia::Error) -> Failure {
    let is_package = matches!(error.status, Status::Package | Status::Type | Status::Inval);
    let failure = Failure::from(error).at(name);
    if is_package { failure.with_code(Code::Source) } else { failure }
}

/// Runs a package that has been opened; `bytes` is its file.
fn package(vm: Vm, bytes: &[u8], options: &Run, argv: &[&str]) -> Ended {
    if let Some(text) = arguments::set(&vm, bytes, argv)? {
        return output::print(format_args!("{}\n", text.trim_end()));
    }
    attach::apply(&vm, &options.attach)?;
    check(options)?;
    let output = Output::open(options.output.as_deref())?;
    let vm = Arc::new(vm);
    vm.load().map_err(capabilities::explain)?;
    check_maps(&vm, &options.map)?;
    let mut view = View::of_package(options, &vm, bytes, output)?;
    vm.attach().map_err(capabilities::explain)?;
    view.output.begin()?;
    let start = Instant::now();
    capabilities::give_up(&vm, view.has_stacks());
    if view.has_stacks() {
        // Finding names takes longer than the kernel's buffers last.
        vm.queue_start(QUEUE)?;
    }
    signals::watch(&vm, view.output.sink())?;
    signals::stop_without_reader(&vm, &view.output.sink())?;
    if let Some(time) = options.duration {
        signals::stop_after(&vm, time)?;
    }
    Session { vm, options, view, start }.run()
}

/// What does not go together.
fn check(options: &Run) -> Result<()> {
    let wrong = |text: String| Err(Failure::new(Code::Usage, text));
    let is_strict = matches!(options.format(), Format::Csv | Format::Raw);
    if options.symbols && is_strict {
        return wrong("--symbols is for --format json; a table has them anyway".into());
    }
    if !options.map.is_empty() && is_strict {
        return wrong("--map prints text or JSON, which has no place among csv or raw".into());
    }
    let columns = &options.columns;
    match columns.iter().enumerate().find(|(index, name)| columns[..*index].contains(name)) {
        Some((_, name)) => wrong(format!("--columns: {name:?} stands there twice")),
        None => Ok(()),
    }
}

/// Maps that are not there, or of a kind without entries to show, as a ring buffer, are found out before anything runs.
fn check_maps(vm: &Vm, names: &[String]) -> Result<()> {
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
    options: &'a Run,
    view: View,
    start: Instant,
}

impl Session<'_> {
    fn run(mut self) -> Ended {
        let iterators = self.iterators()?;
        if iterators == self.vm.prog_count()? && iterators > 0 {
            self.view.print_maps(&self.vm)?;
            self.view.output.finish()?;
            return Ok(ExitCode::SUCCESS);
        }
        if self.vm.source_count()? == 0 && !self.options.quiet && self.options.map.is_empty() {
            say("the program delivers no events and runs until Ctrl-C; what bpf_printk prints is in \
                 /sys/kernel/tracing/trace_pipe");
        }
        let was_stopped = self.events()?;
        if self.view.has_stacks() {
            self.vm.queue_stop()?;
        }
        self.vm.detach()?;
        // Events that came until then are still there, and a last round of each sampled map.
        for _ in 0..LAST_POLLS {
            if !was_stopped || self.view.is_done() || self.last_poll()? == 0 {
                break;
            }
        }
        self.view.print_maps(&self.vm)?;
        // What could not be written is told below, and was nothing to sum up.
        if !self.view.output.has_failed() && !self.options.quiet {
            summary(&self.vm, self.view.shown, self.start.elapsed());
        }
        if self.options.stats {
            stats(&self.vm)?;
        }
        self.view.output.finish()?;
        Ok(ExitCode::SUCCESS)
    }

    /// Runs the iterators, which print what there is at this moment, and says how many there are.
    fn iterators(&mut self) -> Result<usize> {
        let mut count = 0;
        for index in 0..self.vm.prog_count()? {
            let info = self.vm.prog_at(index)?;
            let is_iterator = info.kind == TRACING && info.section.to_bytes().starts_with(b"iter");
            if !is_iterator || !info.attached {
                continue;
            }
            count += 1;
            let is_json = self.options.format() == Format::Json;
            let output = &mut self.view.output;
            self.vm.iter_each(&info.name.to_string_lossy(), &mut |event: &Event| {
                if is_json {
                    iterated_json(event, &mut output.buffer);
                } else if event.format == eunomia::Format::Text {
                    output.line(event.data);
                } else {
                    output.buffer.extend_from_slice(event.data);
                }
                if output.go_on() { Flow::Continue } else { Flow::End }
            })?;
        }
        Ok(count)
    }

    /// Shows events until there are enough or somebody stops it; whether that was it.
    fn events(&mut self) -> Result<bool> {
        let mut next_maps = self.options.interval.map(|interval| Instant::now() + interval);
        loop {
            let timeout = next_maps.map_or(-1, |next| {
                let left = next.saturating_duration_since(Instant::now());
                left.as_micros().div_ceil(1000).min(i32::MAX as u128) as i32
            });
            match self.poll(timeout) {
                Ok(_) => {}
                Err(error) if error.status == Status::Stopped => return Ok(true),
                Err(error) => return Err(error.into()),
            }
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

    /// A poll after the run was stopped, which a reader that goes now does once more.
    fn last_poll(&mut self) -> eunomia::Result<usize> {
        // What stopped the poll is over; the events are still there.
        self.poll(0).or_else(|error| if error.status == Status::Stopped { self.poll(0) } else { Err(error) })
    }

    fn poll(&mut self, timeout_ms: i32) -> eunomia::Result<usize> {
        let view = &mut self.view;
        view.begin_batch();
        self.vm.poll(timeout_ms, view.delivery(), &mut |event: &Event| view.event(event))
    }
}

/// Appends what an iterator wrote as a line of JSON: a line of text as a string, other bytes as a record without a type.
fn iterated_json(event: &Event, out: &mut Vec<u8>) {
    match event.format {
        eunomia::Format::Text => {
            let text = Value::from(String::from_utf8_lossy(event.data));
            out.extend_from_slice(text.to_string().as_bytes());
        }
        _ => hex_json(event.data, out),
    }
    out.push(b'\n');
}

/// One line on what became of all events.
pub fn summary(vm: &Vm, shown: u64, time: Duration) {
    let stats = vm.stats();
    let lost = [
        (stats.lost_kernel, "in the kernel"),
        (stats.lost_queue, "in the queue"),
        (stats.malformed, "for being malformed"),
    ];
    let lost: Vec<String> = lost
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, cause)| format!("{count} {cause}"))
        .collect();
    let lost = match (lost.is_empty(), stats.lost_known) {
        (true, LostKnown::All) => "none lost".into(),
        (true, _) => "none known to be lost".into(),
        (false, _) => format!("lost {}", lost.join(", ")),
    };
    let unknown = match stats.lost_known {
        LostKnown::All => "",
        LostKnown::Reported => "; not known since the last record of each CPU",
        LostKnown::NotCounted => "; losses in ring buffers are not counted",
    };
    let of = if shown < stats.events { format!(" of {}", stats.events) } else { String::new() };
    let dropped = match stats.guest_dropped {
        0 => String::new(),
        count => format!(", {count} dropped by the module"),
    };
    say(format_args!("{shown}{of} events in {:.1} s, {lost}{dropped}{unknown}", time.as_secs_f64()));
}

/// The whole ledger, and what each source and program did.
pub fn stats(vm: &Vm) -> Result<()> {
    let stats = vm.stats();
    say(format_args!(
        "{} events, {} bytes, {} polls; lost {} in the kernel, {} in the queue; malformed {}",
        stats.events, stats.bytes, stats.polls, stats.lost_kernel, stats.lost_queue, stats.malformed
    ));
    for index in 0..vm.source_count().unwrap_or(0) {
        let source = vm.source_at(index)?;
        let (name, lost) = (source.name.to_string_lossy(), source.lost);
        let lost = match source.lost_known {
            LostKnown::All => format!("{lost} lost"),
            LostKnown::Reported => format!("{lost} lost up to the last record of each CPU, not known since"),
            LostKnown::NotCounted => "losses are not counted per buffer".into(),
        };
        say(format_args!("source {name}: {} events, {lost}", source.events));
    }
    for index in 0..vm.prog_count().unwrap_or(0) {
        let prog = vm.prog_at(index)?;
        let per_run = prog.run_ns.checked_div(prog.run_count).unwrap_or(0);
        let name = prog.name.to_string_lossy();
        say(format_args!("program {name}: {} runs, {per_run} ns each", prog.run_count));
    }
    if stats.run_count == 0 {
        say("runs are counted with sysctl kernel.bpf_stats_enabled=1 only");
    }
    Ok(())
}
