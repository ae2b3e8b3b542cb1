//! Runs guests: events and output of a guest go to the host's callback, and the vm waits for its events. Replaces a guest by
//! ending it and running the new one.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use super::callback_sink::CallbackSink;
use super::event::{Event, EventFn, Flow, Format, outcome};
use super::kinds::{Kind, check_kind};
use super::lock::locked;
use super::poll::{Deadline, Ready};
use super::replace::Replaced;
use super::state::{Vm, system_error};
use super::wait_set::{CLAIM, Role, STOP};
use crate::bpf::map::Map;
use crate::bpf::replace::maps::is_kept;
use crate::bpf::session::Session;
use crate::bpf::source::{Shape, Sink, Sources};
use crate::error::{Error, Result, Status};
use crate::os::{self, Epoll};
use crate::wasm::{self, Module, Outlet, Wake};

impl Vm {
    /// Runs the guest of a WASM package and returns its exit code. It may be run again.
    ///
    /// After [`Vm::replace`] in another thread it runs the new guest, with the same arguments.
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
        let mut kept = Vec::new();
        loop {
            let (result, is_replaced) = self.run_guest(argv, format, &mut callback, &mut kept)?;
            if !is_replaced {
                return result;
            }
            // Waits until the other thread has stored the new module and released the locks.
            self.shared.stop.give_way();
        }
    }

    /// Runs the guest until it ends. Its packages reuse the maps in `kept`. The second result is whether the guest
    /// ended in order to be replaced; then `kept` has its maps for the next guest.
    fn run_guest(
        &self,
        argv: &[&str],
        format: Format,
        callback: &mut impl EventFn,
        kept: &mut Vec<Arc<Map>>,
    ) -> Result<(Result<i32>, bool)> {
        let (inner, mut delivery) = self.exclusive()?;
        let _polling = self.shared.stop.polling();
        let none = || Error::new(Status::State, "no WASM module is open");
        let module = Arc::clone(inner.module.as_ref().ok_or_else(none)?);
        // A guest is replaced as a whole, not its packages.
        let mut config = inner.config.clone();
        config.replaceable = false;
        config.kept_maps = Arc::new(mem::take(kept));
        drop(inner);
        let mut scratch = delivery.scratch.take().unwrap_or_default();
        let deliver = CallbackSink::new(format, &mut scratch, Some(&self.shared.stop), callback);
        let mut host = Host { vm: self, deliver, format, kept, has_taken_stop: false };
        let ends = self.ends().map_err(|e| system_error("guest", e))?;
        let vm = wasm::Vm { stop_fd: ends.fd(), log: &self.shared.log, session: &config };
        let result = wasm::run(&module, &self.shared.wasm, &vm, argv, &mut host);
        host.settle();
        let (ended, mut is_stop) = (host.deliver.ended, host.has_taken_stop);
        delivery.scratch = Some(scratch);
        self.shared.counters.settle();
        outcome(ended, 0)?;
        let was_stopped = result.as_ref().is_err_and(|error| error.status() == Status::Stopped);
        is_stop |= was_stopped && self.shared.stop.take_signalled();
        Ok((result, was_stopped && !is_stop && self.shared.stop.is_claimed()))
    }

    /// Returns a set that is readable when a guest must end: after `stop`, and while another thread replaces it.
    fn ends(&self) -> os::Result<Epoll> {
        let (ends, stop) = (Epoll::new()?, &self.shared.stop);
        ends.add(stop.fd(), STOP)?;
        ends.add(stop.claim_fd(&self.shared.epoll)?, CLAIM)?;
        Ok(ends)
    }

    /// Replaces the module. The guest that runs is ended, and the `wasm_run` that ran it runs the new one.
    #[inline(never)]
    pub(super) fn replace_guest(&self, data: &[u8]) -> Result<Replaced> {
        self.check_thread()?;
        check_kind(data, Kind::Wasm.into())?;
        let begin = os::monotonic_ns();
        let module = Arc::new(Module::open(data)?);
        let opened = os::monotonic_ns();
        self.claim()?.inner.module = Some(module);
        self.shared.counters.replaces.fetch_add(1, Relaxed);
        let (load_ns, flip_ns) = (opened - begin, os::monotonic_ns() - opened);
        Ok(Replaced { load_ns, flip_ns, ..Replaced::default() })
    }
}

/// The vm as an outlet of its guest.
struct Host<'a, F: ?Sized> {
    vm: &'a Vm,
    deliver: CallbackSink<'a, F>,
    format: Format,
    /// The maps for the next guest.
    kept: &'a mut Vec<Arc<Map>>,
    /// Whether a request to stop has been taken.
    has_taken_stop: bool,
}

impl<F: EventFn + ?Sized> Host<'_, F> {
    /// Adds what has been delivered to the counters.
    fn settle(&mut self) {
        let CallbackSink { events, bytes, lost, .. } = &mut self.deliver;
        let [events, bytes, lost] = [events, bytes, lost].map(mem::take);
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
            Ready::Stop => {
                self.has_taken_stop = true;
                Wake::Stop
            }
            _ if self.vm.shared.stop.is_claimed() => Wake::Stop,
            Ready::Events => Wake::Events,
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

    fn offer_maps(&mut self, maps: &[Arc<Map>]) {
        if self.vm.shared.stop.is_claimed() {
            self.kept.extend(maps.iter().filter(|map| is_kept(map) && map.fd().is_ok()).cloned());
        }
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
