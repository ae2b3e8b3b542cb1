//! Runs guests: events and output of a guest go to the host's callback, and the vm waits for its events.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use super::callback_sink::CallbackSink;
use super::event::{Event, EventFn, Flow, Format, outcome};
use super::lock::locked;
use super::poll::{Deadline, Ready};
use super::state::{Vm, system_error};
use super::wait_set::Role;
use crate::bpf::session::Session;
use crate::bpf::source::{Shape, Sink, Sources};
use crate::error::{Error, Result, Status};
use crate::wasm::{self, Outlet, Wake};

impl Vm {
    /// Runs the guest of a WASM package and returns its exit code. It may be run again.
    ///
    /// * `argv`: the command line of the guest. `argv[0]` is its name.
    /// * `format`: the form of the events.
    /// * `callback`: receives the events that the guest passes on, and each line that it prints as an event of the kind
    ///   [`EventKind::Output`](crate::EventKind::Output).
    ///
    /// # Errors
    ///
    /// [`Status::Wasm`] if the guest traps, takes too long or exceeds a limit. [`Status::Stopped`] after [`Vm::stop`].
    ///
    /// ```no_run
    /// use eunomia::{EventKind, Flow, Format, Kind, Options, Vm};
    ///
    /// # fn main() -> eunomia::Result<()> {
    /// let vm = Vm::new(Options::new())?;
    /// vm.open_file("app.wasm", Kind::Wasm)?;
    /// let code = vm.wasm_run(&["app", "--help"], Format::Json, |event| {
    ///     let text = String::from_utf8_lossy(event.data);
    ///     if event.kind == EventKind::Output { println!("{text}") } else { eprintln!("{text}") }
    ///     Flow::Continue
    /// })?;
    /// println!("exit code {code}");
    /// # Ok(())
    /// # }
    /// ```
    pub fn wasm_run(
        &self,
        argv: &[&str],
        format: Format,
        mut callback: impl FnMut(&Event<'_>) -> Flow,
    ) -> Result<i32> {
        let (inner, mut delivery) = self.exclusive()?;
        let none = || Error::new(Status::State, "no WASM module is open");
        let module = Arc::clone(inner.module.as_ref().ok_or_else(none)?);
        // A guest is replaced as a whole, not its packages.
        let mut config = inner.config.clone();
        config.replaceable = false;
        drop(inner);
        let mut scratch = delivery.scratch.take().unwrap_or_default();
        let deliver = CallbackSink::new(format, &mut scratch, Some(&self.shared.stop), &mut callback);
        let mut host = Host { vm: self, deliver, format };
        let vm = wasm::Vm { stop_fd: self.shared.stop.fd(), log: &self.shared.log, session: &config };
        let result = wasm::run(&module, &self.shared.wasm, &vm, argv, &mut host);
        host.settle();
        let ended = host.deliver.ended;
        delivery.scratch = Some(scratch);
        self.shared.counters.settle();
        outcome(ended, 0)?;
        if result.as_ref().is_err_and(|error| error.status() == Status::Stopped) {
            self.shared.stop.take_signalled();
        }
        result
    }
}

/// The vm as an outlet of its guest.
struct Host<'a, F: ?Sized> {
    vm: &'a Vm,
    deliver: CallbackSink<'a, F>,
    format: Format,
}

impl<F: EventFn + ?Sized> Host<'_, F> {
    /// Adds what has been delivered to the counters.
    fn settle(&mut self) {
        let CallbackSink { events, bytes, lost, .. } = &mut self.deliver;
        let [events, bytes, lost] = [events, bytes, lost].map(std::mem::take);
        self.vm.count(events, bytes, lost);
    }
}

impl<F: EventFn + ?Sized> Outlet for Host<'_, F> {
    fn format_other_than_json(&self) -> Option<&'static str> {
        match self.format {
            Format::Raw => Some("RAW"),
            Format::Json => None,
            Format::Text => Some("TEXT"),
        }
    }

    fn watch(&mut self, sources: &[&Sources]) -> Result<()> {
        let shared = &self.vm.shared;
        sources.iter().for_each(|sources| shared.counters.watch_sources(&sources.shapes()));
        let watched = shared.wait_set().watch_sources(Role::Source, &shared.epoll, sources);
        watched.map_err(|e| system_error("epoll", e))
    }

    fn wait(&mut self, deadline: Option<Instant>) -> Result<Wake> {
        self.settle();
        Ok(match self.vm.wait(&mut Deadline::until(deadline))? {
            Ready::Events => Wake::Events,
            Ready::Stop => Wake::Stop,
            Ready::Timeout => Wake::Timeout,
        })
    }

    fn output(&mut self, line: &[u8]) -> bool {
        self.deliver.output(line)
    }

    fn json(&mut self, source: &Shape, cpu: i32, key: Option<&[u8]>, json: &[u8], len: usize) -> bool {
        self.deliver.json(source, cpu, key, json, len)
    }

    fn set_printed(&mut self, printed: bool) {
        self.deliver.printed = printed;
    }

    fn count_consumed(&mut self, events: u64, bytes: u64) {
        self.vm.count(events, bytes, 0);
    }

    fn count_dropped(&mut self, events: u64) {
        self.vm.shared.counters.guest_dropped.fetch_add(events, Relaxed);
    }

    fn load(&mut self, session: &mut Session) -> Result<Sources> {
        // Raw events refer to their types, which live as long as the vm. Runs share them, so that repeated runs use no more memory.
        let mut inner = locked(&self.vm.shared.inner);
        let kept = Some(&mut inner.types).filter(|_| self.format == Format::Raw);
        let sources = session.load_sharing(kept)?;
        self.vm.shared.counters.watch_sources(&sources.shapes());
        Ok(sources)
    }

    fn after_load(&mut self, session: &Session) {
        self.vm.shared.counters.watch_also(session.lost_map(), session.prog_fds());
    }

    fn before_unload(&mut self, session: &Session) {
        self.vm.shared.counters.forget(session.lost_map(), &session.prog_fds());
    }

    fn before_unload_all(&mut self) {
        self.vm.shared.counters.forget_progs();
    }
}

impl<F: EventFn + ?Sized> Sink for Host<'_, F> {
    fn read_at(&mut self, time_ns: u64) {
        self.deliver.read_at(time_ns);
    }

    fn record(&mut self, source: &Shape, cpu: i32, data: &[u8]) -> bool {
        self.deliver.record(source, cpu, data)
    }

    fn lost(&mut self, source: &Shape, cpu: i32, count: u64) -> bool {
        self.deliver.lost(source, cpu, count)
    }

    fn entry(&mut self, source: &Shape, key: &[u8], value: &[u8]) -> bool {
        self.deliver.entry(source, key, value)
    }

    fn round(&mut self, source: &Shape) -> bool {
        self.deliver.round(source)
    }

    fn interrupted(&self) -> bool {
        self.deliver.interrupted()
    }
}
