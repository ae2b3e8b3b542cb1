//! One run of a guest, from its first instruction to the cleaning up.

use std::cell::{Cell, RefCell};
use std::ffi::CString;
use std::fmt;
use std::sync::Arc;

use super::ewasm::Programs;
use super::ewasm::feed::How;
use super::libc::heap::Heap;
use super::sys::instance::{Function, Guest, Host, Instance, Stopper, Trap};
use super::wasi::Wasi;
use super::wasm_bpf::Objects;
use super::watch::{Watch, cause};
use super::{Config, Entry, Module, Outlet, Vm, binary, imports};
use crate::error::{Error, Result, Status};
use crate::log::Level;
use crate::os::{self, Errno};
use crate::package::compact;

/// A line that is longer comes in pieces.
const LINE: usize = 64 << 10;

/// What a guest has while it runs. A guest that is called back calls out again, so everything is changed through
/// shared references, and nothing stays borrowed over a call into the guest.
pub(super) struct Run<'a> {
    pub vm: &'a Vm<'a>,
    pub config: &'a Config,
    pub outlet: RefCell<&'a mut dyn Outlet>,
    pub watch: Watch,
    pub programs: RefCell<Programs>,
    pub objects: RefCell<Objects>,
    pub wasi: RefCell<Wasi>,
    /// Whether events are being handed to the guest; it cannot ask for more then.
    pub polling: Cell<bool>,
    /// How it gets them.
    pub how: Cell<How>,
    /// The memory behind the guest's `malloc`, if it has none of its own.
    heap: RefCell<Option<Heap>>,
    /// Memory of the guest for events: where, and how much.
    pub buffer: Cell<(u32, u32)>,
    /// The exported function that was called last.
    pub place: Cell<&'static str>,
    /// Whether the guest has written to stdout since that was last asked.
    pub spoke: Cell<bool>,
    /// What the guest printed since the last line feed, to stdout and to stderr.
    printed: [RefCell<Vec<u8>>; 2],
    end: RefCell<Option<End>>,
    /// The first trap.
    trap: RefCell<Option<Trap>>,
}

/// Why the host ended a guest.
pub(super) enum End {
    /// It asked for that, with a code.
    Exit(i32),
    /// `stop` was called.
    Stopped,
    /// The host's callback wants no more; the outlet knows more.
    Callback,
    /// Something failed that the guest can do nothing about.
    Failed(Error),
}

/// Where the guest prints to.
#[derive(Clone, Copy)]
pub(super) enum Stream {
    Out = 0,
    Err = 1,
}

/// Runs a guest to its end and returns its exit code; `argv[0]` included.
pub fn run(
    module: &Module,
    config: &Config,
    vm: &Vm<'_>,
    argv: &[&str],
    outlet: &mut dyn Outlet,
) -> Result<i32> {
    let limits = config.limits();
    let (has, may) = (u64::from(module.pages) * u64::from(super::PAGE), u64::from(limits.memory));
    if has > may {
        let text = format!("the guest begins with {has} bytes of memory, and options.wasm_memory is {may}");
        return Err(Error::new(Status::Wasm, text));
    }
    let system = |e: Errno| Error::sys(Status::System, e.0, format_args!("guest: {e}"));
    let stopper = Arc::new(Stopper::default());
    let watch = Watch::new(Arc::clone(&stopper), vm.stop_fd, config.budget()).map_err(system)?;
    let run = Run {
        vm,
        config,
        outlet: RefCell::new(outlet),
        watch,
        programs: RefCell::default(),
        objects: RefCell::default(),
        wasi: RefCell::new(Wasi::new(config, argv)?),
        polling: Cell::new(false),
        how: Cell::new(How::Pass),
        heap: RefCell::new(None),
        buffer: Cell::new((0, 0)),
        place: Cell::new(""),
        spoke: Cell::new(false),
        printed: Default::default(),
        end: RefCell::new(None),
        trap: RefCell::new(None),
    };
    let instance = Instance::new(Arc::clone(&module.module), limits, &run, Arc::clone(&stopper))?;
    if !module.has_malloc {
        run.heap.replace(instance.guest().heap(limits.heap).map(|(at, len)| Heap::new(at, len)));
    }
    let ended = run.all(module, instance.guest(), argv);
    let result = run.outcome(ended, &stopper, instance.is_starved());
    drop(instance);
    run.finish()?;
    result
}

impl Host for Run<'_> {
    fn call(&self, import: usize, guest: Guest<'_>, args: &imports::Args) -> Option<u64> {
        imports::call(import, self, guest, args)
    }
}

impl Run<'_> {
    /// Everything that runs by itself, then main.
    fn all(&self, module: &Module, guest: Guest<'_>, argv: &[&str]) -> Result<i32, Trap> {
        for name in binary::FIRST {
            let hook = CString::new(name).unwrap_or_default();
            if let Some(hook) = guest.function(&hook, 0) {
                let place = if name == binary::START { "the start function" } else { name };
                self.timed(|| self.enter(guest, place, hook, &[]))?;
            }
        }
        if self.choose_events(module, guest)?.is_none() {
            return Ok(0);
        }
        match module.entry {
            Entry::Main => self.main(guest, argv),
            Entry::Start => {
                let Some(start) = guest.function(c"_start", 0) else { return Ok(0) };
                self.enter(guest, "_start", start, &[]).map(|_| 0)
            }
        }
    }

    fn main(&self, guest: Guest<'_>, argv: &[&str]) -> Result<i32, Trap> {
        let Some(main) = guest.function(c"bpf_main", 2) else { return Ok(0) };
        let mut json = compact(&serde_json::Value::from(argv)).into_bytes();
        let len = json.len() as u32;
        json.push(0);
        let place = self.timed(|| self.allocate(guest, len + 1))?;
        let Some(at) = place.filter(|&at| guest.write(at, &json).is_some()) else {
            self.ends::<()>(End::Failed(self.no_room(format_args!("{len} bytes of arguments"))));
            return Ok(0);
        };
        self.enter(guest, "bpf_main", main, &[at, len]).map(|code| code as i32)
    }

    /// How the guest gets events; `None` if the host wants them in another way.
    fn choose_events(&self, module: &Module, guest: Guest<'_>) -> Result<Option<()>, Trap> {
        const RAW: u32 = 0;
        if !module.has_handler {
            return Ok(Some(()));
        }
        let asked = match guest.function(c"eunomia_event_format", 0) {
            Some(format) => Some(self.timed(|| self.enter(guest, "eunomia_event_format", format, &[]))?),
            None => None,
        };
        let raw = asked.map_or(self.config.raw_events, |format| format == RAW);
        let batch = guest.function(c"process_events", 3).is_some();
        self.how.set(match (batch, raw) {
            (true, _) => How::Batch,
            (false, true) => How::Raw,
            (false, false) => How::Json,
        });
        let other = self.outlet.borrow().other_than_json().filter(|_| self.how.get() == How::Json);
        if let Some(other) = other {
            let text =
                format!("format is {other}, but the guest gets JSON, so that events come as JSON only");
            self.ends::<()>(End::Failed(Error::new(Status::Inval, text)));
            return Ok(None);
        }
        Ok(Some(()))
    }

    /// Calls an exported function.
    pub fn enter(
        &self,
        guest: Guest<'_>,
        place: &'static str,
        function: Function<'_>,
        args: &[u32],
    ) -> Result<u32, Trap> {
        let outer = self.place.replace(place);
        let result = guest.call(function, args);
        match result {
            Ok(value) => {
                self.place.set(outer);
                Ok(value)
            }
            Err(trap) => {
                // That of the innermost call knows most.
                self.trap.borrow_mut().get_or_insert(trap);
                Err(Trap::default())
            }
        }
    }

    /// Memory of the guest; `None` if there is none left. May run code of the guest.
    pub fn allocate(&self, guest: Guest<'_>, len: u32) -> Result<Option<u32>, Trap> {
        if self.heap.borrow().is_some() {
            return Ok(self.heap_allocate(len));
        }
        let Some(malloc) = guest.function(c"malloc", 1) else { return Ok(None) };
        let at = self.enter(guest, "malloc", malloc, &[len])?;
        Ok(Some(at).filter(|&at| at != 0 && guest.has(at, len)))
    }

    /// What is wrong where `allocate` gives nothing.
    pub fn no_room(&self, what: fmt::Arguments) -> Error {
        let heap = self.heap.borrow().is_some();
        let why = if heap { "raise options.wasm_heap" } else { "its malloc gives none" };
        Error::new(Status::Wasm, format_args!("the guest has no room for {what}; {why}"))
    }

    /// Gives memory back. May run code of the guest.
    pub fn free(&self, guest: Guest<'_>, at: u32) -> Result<(), Trap> {
        self.heap_free(at);
        match guest.function(c"free", 1) {
            Some(free) if self.heap.borrow().is_none() => self.enter(guest, "free", free, &[at]).map(drop),
            _ => Ok(()),
        }
    }

    /// Memory of our heap, if the guest has it.
    pub fn heap_allocate(&self, len: u32) -> Option<u32> {
        self.heap.borrow_mut().as_mut()?.allocate(len)
    }

    /// Bytes of a block of our heap.
    pub fn heap_len(&self, at: u32) -> Option<u32> {
        self.heap.borrow().as_ref()?.len(at)
    }

    /// Gives a block back to our heap.
    pub fn heap_free(&self, at: u32) {
        if let Some(heap) = &mut *self.heap.borrow_mut() {
            heap.free(at);
        }
    }

    /// Runs `work`, which calls into the guest, under the limit for one call.
    fn timed<T>(&self, work: impl FnOnce() -> T) -> T {
        self.watch.armed(|| self.watch.call(work))
    }

    /// Notes why the guest ends; the first reason counts.
    pub fn ends<T>(&self, end: End) -> Option<T> {
        self.end.borrow_mut().get_or_insert(end);
        None
    }

    /// Whether the guest is to end.
    pub fn is_ending(&self) -> bool {
        self.end.borrow().is_some()
    }

    /// Hands something to the host; its time is not the guest's.
    pub fn deliver(&self, work: impl FnOnce(&mut dyn Outlet) -> bool) -> Option<()> {
        let go_on = self.watch.pause(|| work(*self.outlet.borrow_mut()));
        if go_on { Some(()) } else { self.ends(End::Callback) }
    }

    /// Something that the guest gets as a number; why, the log tells.
    pub fn refuse(&self, error: &Error) -> u64 {
        self.vm.log.write(Level::Error, &format!("guest: {error}"));
        self.vm.log.write(Level::Debug, &error.detail);
        let errno = if error.errno > 0 { error.errno } else { 1 };
        -i64::from(errno) as u64
    }

    /// Takes what the guest prints and passes it on line by line.
    pub fn print(&self, stream: Stream, bytes: &[u8]) -> Option<()> {
        if let (Stream::Out, false) = (stream, bytes.is_empty()) {
            self.spoke.set(true);
        }
        if self.config.stdio {
            // The host's stdout may be closed; that is nothing the guest could do anything about.
            let fd = if let Stream::Out = stream { 1 } else { 2 };
            let _ = self.watch.pause(|| os::write(fd, bytes, self.vm.stop_fd));
            return Some(());
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.watch.is_over() {
                return None;
            }
            let mut line = self.printed[stream as usize].borrow_mut();
            let end = rest.iter().take(LINE - line.len()).position(|&byte| byte == b'\n');
            let taken = end.map_or(rest.len().min(LINE - line.len()), |end| end + 1);
            line.extend_from_slice(&rest[..taken]);
            rest = &rest[taken..];
            if end.is_some() || line.len() == LINE {
                let whole = std::mem::take(&mut *line);
                drop(line);
                self.print_line(stream, whole.strip_suffix(b"\n").unwrap_or(&whole))?;
            }
        }
        Some(())
    }

    fn print_line(&self, stream: Stream, line: &[u8]) -> Option<()> {
        let text = String::from_utf8_lossy(line);
        match stream {
            Stream::Out => self.deliver(|outlet| outlet.output(text.as_bytes())),
            Stream::Err => {
                self.vm.log.write(Level::Warn, &format!("guest: {text}"));
                Some(())
            }
        }
    }

    /// What became of the guest.
    fn outcome(&self, ended: Result<i32, Trap>, stopper: &Stopper, is_starved: bool) -> Result<i32> {
        self.flush();
        match (self.end.take(), ended, stopper.cause()) {
            (Some(End::Exit(code)), ..) => Ok(code),
            (Some(End::Stopped), ..) | (None, _, cause::STOP) => {
                Err(Error::new(Status::Stopped, "stop was called"))
            }
            (Some(End::Callback), ..) => Ok(0),
            (Some(End::Failed(error)), ..) => Err(error),
            (None, Ok(code), 0) => Ok(code),
            (None, Ok(_), _) => Err(self.overdue()),
            (None, Err(_), cause::BUDGET) => Err(self.overdue()),
            (None, Err(trap), _) => Err(self.trapped(self.trap.take().unwrap_or(trap), is_starved)),
        }
    }

    /// What was printed without a line feed at the end.
    fn flush(&self) {
        for stream in [Stream::Out, Stream::Err] {
            let rest = self.printed[stream as usize].take();
            if !rest.is_empty() {
                self.print_line(stream, &rest);
            }
        }
    }

    fn overdue(&self) -> Error {
        let (place, budget) = (self.place.get(), self.config.budget().as_millis());
        let text = format!("the guest took longer than {budget} ms (options.wasm_budget_ms) in {place}");
        Error::new(Status::Wasm, text).with_detail(&format!("in {place}"))
    }

    fn trapped(&self, trap: Trap, is_starved: bool) -> Error {
        let place = self.place.get();
        let Trap { message, trace } = trap;
        let text = if message.ends_with("stack overflow") {
            format!("the guest ran out of stack in {place} ({message}; options.wasm_stack)")
        } else if is_starved {
            let limit = self.config.limits().memory;
            format!("the guest ran out of memory in {place} ({limit} bytes, options.wasm_memory; {message})")
        } else {
            format!("the guest trapped in {place}: {message}")
        };
        let detail = if trace.is_empty() { format!("in {place}") } else { trace };
        Error::new(Status::Wasm, text).with_detail(&detail)
    }

    /// Detaches and unloads what the guest has left.
    fn finish(self) -> Result<()> {
        let Run { outlet, programs, objects, .. } = self;
        let outlet = outlet.into_inner();
        let stopped_waiting = outlet.watch(&[]);
        outlet.unloading_all();
        drop((programs, objects));
        stopped_waiting
    }
}
