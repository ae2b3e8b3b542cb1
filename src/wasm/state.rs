//! The state of one run of a guest.
//!
//! A guest that is called back calls the host again. The state is therefore changed through shared references, and no
//! borrow of a cell lasts over a call into the guest.

use std::cell::{Cell, RefCell};
use std::fmt;

use super::config::Config;
use super::ewasm::programs::Programs;
use super::libc::heap::Heap;
use super::line::LineBuffer;
use super::outlet::{Outlet, Vm};
use super::sys::guest::{Function, Guest, Trap};
use super::wasi::files::Files;
use super::wasm_bpf::objects::Objects;
use super::watchdog::Watch;
use crate::error::{Error, Result, Status};
use crate::log::Level;
use crate::os;

/// Minimum size of the buffer for events. A guest may write a longer text over an event, up to this size.
const MIN_EVENT_BUFFER: usize = 4096;

/// The state of a guest while it runs.
pub struct State<'a> {
    pub vm: &'a Vm<'a>,
    pub config: &'a Config,
    pub outlet: RefCell<&'a mut dyn Outlet>,
    pub watch: Watch,
    /// The command line; each argument is NUL-terminated.
    pub args: Vec<Vec<u8>>,
    /// The objects that the guest has open, by interface.
    pub programs: RefCell<Programs>,
    pub objects: RefCell<Objects>,
    pub files: RefCell<Files>,
    /// How the guest gets events.
    pub event_form: Cell<EventForm>,
    /// Whether events are being passed to the guest. It cannot poll for more then.
    is_polling: Cell<bool>,
    /// The memory behind the guest's `malloc`, if it has no `malloc` of its own.
    heap: RefCell<Option<Heap>>,
    /// Address and size of the guest's memory for events.
    event_buffer: Cell<(u32, u32)>,
    /// Name of the exported function that was called last.
    function: Cell<&'static str>,
    /// Whether the guest has written to stdout since `take_printed`.
    has_printed: Cell<bool>,
    /// The output of the guest since the last line feed, to stdout and to stderr.
    lines: [LineBuffer; 2],
    /// The first reason to end the guest.
    end: RefCell<Option<End>>,
    /// The first trap.
    trap: RefCell<Option<Trap>>,
}

/// The reason why the host ends a guest.
pub enum End {
    /// The guest exited with this code.
    Exit(i32),
    /// `stop` was called.
    Stopped,
    /// The host's callback ended the run. The outlet has the details.
    Callback,
    /// An error that the guest cannot handle.
    Failed(Error),
}

/// An output stream of a guest.
#[derive(Clone, Copy)]
pub enum Stream {
    Stdout = 0,
    Stderr = 1,
}

/// How a guest gets events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventForm {
    /// The guest gets no events: it has no function for them, and they go straight to the host.
    Bypass,
    /// `process_event` with JSON.
    Json,
    /// `process_event` with bytes.
    Raw,
    /// `process_events` with the bytes of many events.
    Batch,
}

impl<'a> State<'a> {
    /// Returns the state of a guest that has not run yet. Opens the directories that it can read.
    pub fn new(
        vm: &'a Vm<'a>,
        config: &'a Config,
        watch: Watch,
        argv: &[&str],
        outlet: &'a mut dyn Outlet,
    ) -> Result<State<'a>> {
        Ok(State {
            vm,
            config,
            outlet: RefCell::new(outlet),
            watch,
            args: argv.iter().map(|arg| [arg.as_bytes(), &[0]].concat()).collect(),
            programs: RefCell::default(),
            objects: RefCell::default(),
            files: RefCell::new(Files::new(&config.dirs)?),
            event_form: Cell::new(EventForm::Bypass),
            is_polling: Cell::new(false),
            heap: RefCell::new(None),
            event_buffer: Cell::new((0, 0)),
            function: Cell::new(""),
            has_printed: Cell::new(false),
            lines: Default::default(),
            end: RefCell::new(None),
            trap: RefCell::new(None),
        })
    }

    /// Detaches and unloads everything that the guest has left loaded.
    pub fn finish(self) -> Result<()> {
        let State { outlet, programs, objects, .. } = self;
        let outlet = outlet.into_inner();
        let unwatched = outlet.watch(&[]);
        outlet.before_unload_all();
        let (programs, objects) = (programs.into_inner(), objects.into_inner());
        programs.sessions().chain(objects.sessions()).for_each(|session| outlet.offer_maps(session.maps()));
        drop((programs, objects));
        unwatched
    }
}

/// Calls into the guest, and the reason why it ends.
impl State<'_> {
    /// Calls an exported function. `name` is its name in error messages.
    pub fn call(
        &self,
        guest: Guest<'_>,
        name: &'static str,
        function: Function<'_>,
        args: &[u32],
    ) -> Result<u32, Trap> {
        let outer = self.function.replace(name);
        match guest.call(function, args) {
            Ok(value) => {
                self.function.set(outer);
                Ok(value)
            }
            Err(trap) => {
                // The trap of the innermost call has the most details.
                self.trap.borrow_mut().get_or_insert(trap);
                Err(Trap::default())
            }
        }
    }

    /// Runs `work`, which calls into the guest, under the time limit for one call.
    pub fn timed<T>(&self, work: impl FnOnce() -> T) -> T {
        self.watch.armed(|| self.watch.call(work))
    }

    /// Runs `work`, which passes events to the guest.
    pub fn polling<T>(&self, work: impl FnOnce() -> T) -> T {
        self.is_polling.set(true);
        let result = work();
        self.is_polling.set(false);
        result
    }

    /// Whether events are being passed to the guest.
    pub fn is_polling(&self) -> bool {
        self.is_polling.get()
    }

    /// Stores the reason why the guest ends. Only the first reason is kept.
    pub fn end<T>(&self, end: End) -> Option<T> {
        self.end.borrow_mut().get_or_insert(end);
        None
    }

    /// Whether the guest must end.
    pub fn is_ending(&self) -> bool {
        self.end.borrow().is_some()
    }

    /// Returns the reason that `end` has stored, and the first trap.
    pub fn take_end(&self) -> (Option<End>, Option<Trap>) {
        (self.end.take(), self.trap.take())
    }

    /// Returns the name of the exported function that was called last.
    pub fn function(&self) -> &'static str {
        self.function.get()
    }

    /// Logs an error and returns it as the guest gets it: a negative errno.
    pub fn reject(&self, error: &Error) -> u64 {
        self.vm.log.write(Level::Error, &format!("guest: {error}"));
        self.vm.log.write(Level::Debug, error.detail());
        let errno = error.errno().unwrap_or(1);
        -i64::from(errno) as u64
    }
}

/// Memory of the guest.
impl State<'_> {
    /// Sets the heap behind `malloc`.
    pub fn set_heap(&self, heap: Option<Heap>) {
        self.heap.replace(heap);
    }

    /// Allocates memory of the guest; `None` if there is not enough. May run code of the guest.
    pub fn allocate(&self, guest: Guest<'_>, len: u32) -> Result<Option<u32>, Trap> {
        if self.heap.borrow().is_some() {
            return Ok(self.heap_allocate(len));
        }
        let Some(malloc) = guest.function(c"malloc", 1) else { return Ok(None) };
        let at = self.call(guest, "malloc", malloc, &[len])?;
        Ok(Some(at).filter(|&at| at != 0 && guest.has(at, len)))
    }

    /// Returns the error for an allocation that failed.
    pub fn no_memory(&self, what: fmt::Arguments) -> Error {
        let heap = self.heap.borrow().is_some();
        let why = if heap { "raise options.wasm_heap" } else { "its malloc failed" };
        Error::new(Status::Wasm, format_args!("the guest has no memory for {what}; {why}"))
    }

    /// Frees memory of the guest. May run code of the guest.
    fn free(&self, guest: Guest<'_>, at: u32) -> Result<(), Trap> {
        self.heap_free(at);
        match guest.function(c"free", 1) {
            Some(free) if self.heap.borrow().is_none() => self.call(guest, "free", free, &[at]).map(drop),
            _ => Ok(()),
        }
    }

    /// Allocates memory from the heap, if there is one.
    pub fn heap_allocate(&self, len: u32) -> Option<u32> {
        self.heap.borrow_mut().as_mut()?.allocate(len)
    }

    /// Returns the size of a block of the heap.
    pub fn heap_len(&self, at: u32) -> Option<u32> {
        self.heap.borrow().as_ref()?.len(at)
    }

    /// Frees a block of the heap.
    pub fn heap_free(&self, at: u32) {
        if let Some(heap) = &mut *self.heap.borrow_mut() {
            heap.free(at);
        }
    }

    /// Returns address and size of the buffer for events, after enlarging it so that an event of `len` bytes and a NUL fit.
    /// May run code of the guest. `None` ends the guest.
    pub fn event_buffer(&self, guest: Guest<'_>, len: usize) -> Option<(u32, u32)> {
        let (old, old_size) = self.event_buffer.get();
        let min_size = (len + 1).max(MIN_EVENT_BUFFER);
        if old_size as usize >= min_size {
            return Some((old, old_size));
        }
        let size = u32::try_from(min_size.next_power_of_two()).ok()?;
        let allocated = self.watch.call(|| {
            if old_size > 0 {
                self.free(guest, old)?;
            }
            self.allocate(guest, size)
        });
        let Some(at) = allocated.ok()? else {
            return self.end(End::Failed(self.no_memory(format_args!("an event of {len} bytes"))));
        };
        self.event_buffer.set((at, size));
        Some((at, size))
    }
}

/// Output to the host.
impl State<'_> {
    /// Delivers something to the host. The time that this takes is not the guest's.
    pub fn deliver(&self, work: impl FnOnce(&mut dyn Outlet) -> bool) -> Option<()> {
        let goes_on = self.watch.pause(|| work(*self.outlet.borrow_mut()));
        if goes_on { Some(()) } else { self.end(End::Callback) }
    }

    /// Returns whether the guest has written to stdout since the last call.
    pub fn take_printed(&self) -> bool {
        self.has_printed.take()
    }

    /// Passes on what the guest prints, line by line.
    pub fn print(&self, stream: Stream, mut bytes: &[u8]) -> Option<()> {
        if let (Stream::Stdout, false) = (stream, bytes.is_empty()) {
            self.has_printed.set(true);
        }
        if self.config.stdio {
            // The host's stdout may be closed. The guest cannot do anything about that.
            let fd = if let Stream::Stdout = stream { 1 } else { 2 };
            let _ = self.watch.pause(|| os::write(fd, bytes, self.vm.stop_fd));
            return Some(());
        }
        while !bytes.is_empty() {
            if self.watch.is_over() {
                return None;
            }
            if let Some(line) = self.lines[stream as usize].push(&mut bytes) {
                self.print_line(stream, &line)?;
            }
        }
        Some(())
    }

    fn print_line(&self, stream: Stream, line: &[u8]) -> Option<()> {
        let text = String::from_utf8_lossy(line);
        match stream {
            Stream::Stdout => self.deliver(|outlet| outlet.output(text.as_bytes())),
            Stream::Stderr => {
                self.vm.log.write(Level::Warn, &format!("guest: {text}"));
                Some(())
            }
        }
    }

    /// Passes on what was printed without a line feed at the end.
    pub fn flush(&self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let rest = self.lines[stream as usize].take();
            if !rest.is_empty() {
                self.print_line(stream, &rest);
            }
        }
    }
}
