//! All programs: starts and stops them through the loader, reads their events, and lets scrapes read their metrics.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use eunomia::{Level, Options, Vm};
use eunomia_agent::limits::Limits;
use eunomia_agent::loader::protocol::{Alone, Request};
use eunomia_agent::loader::{Client, Settings};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use serde_saphyr::Spanned;

use crate::change;
use crate::config::{self, Problem};
use crate::package;
use crate::program::Program;
use crate::push::Pusher;
use crate::source;

/// Starts, reads and stops programs.
pub struct Engine {
    pub(crate) client: Client,
    /// One change at a time.
    pub(crate) change: Mutex<()>,
    slots: Mutex<Slots>,
    /// Wakes the thread that reads events.
    wake: OwnedFd,
    begun: Instant,
    /// Pushes metrics.
    pub pusher: Pusher,
    /// Whether the end of the loader is expected.
    is_ending: AtomicBool,
}

#[derive(Default)]
struct Slots {
    list: Vec<Arc<Slot>>,
    next: u64,
}

/// A program that runs.
pub struct Slot {
    /// Its number, from 0 on.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Whether the configuration has it; a request has started the other ones.
    pub is_configured: bool,
    program: Mutex<Program>,
    /// Number of callers that wait for the lock. The thread that reads events takes the lock only while this is 0. Otherwise it would
    /// hold the lock nearly all the time.
    waiting: AtomicUsize,
    /// The reason why its events are no longer read.
    failed: Mutex<Option<String>>,
}

impl Engine {
    /// Connects to the loader that listens on `path`; `command` starts one if there is none. `confine` drops what this process does
    /// not need after that. Programs that an exporter has left are stopped.
    pub fn start(
        path: &Path,
        command: Command,
        confine: impl FnOnce() -> Result<(), String>,
    ) -> Result<Arc<Engine>, String> {
        let client = Client::connect(path, Settings::default(), command)?;
        confine()?;
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let wake = eventfd(0, flags).map_err(|error| error.to_string())?;
        for left in client.list().map_err(|error| error.message)? {
            client.run(&Request::Unload { task: left.task }).map_err(|error| error.message)?;
        }
        let (slots, change, is_ending) = (Mutex::default(), Mutex::default(), AtomicBool::new(false));
        let engine = Arc::new(Engine {
            client,
            change,
            slots,
            wake,
            begun: Instant::now(),
            pusher: Pusher::default(),
            is_ending,
        });
        let own = Arc::clone(&engine);
        let thread = std::thread::Builder::new().name("events".into());
        thread.spawn(move || own.follow()).map_err(|error| error.to_string())?;
        let own = Arc::clone(&engine);
        let thread = std::thread::Builder::new().name("loader".into());
        thread.spawn(move || own.follow_loader()).map_err(|error| error.to_string())?;
        Ok(engine)
    }

    /// Seconds since the start.
    pub fn now(&self) -> u32 {
        self.begun.elapsed().as_secs() as u32
    }

    /// Starts a program that a request asks for, and returns its number.
    pub fn add(&self, mut config: Spanned<config::Program>) -> Result<u64, Problem> {
        source::find(&mut config)?;
        let _turn = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let problem = |why: &dyn std::fmt::Display| Problem::at(config.referenced, why);
        for slot in self.list() {
            if slot.name == config.value.name {
                return Err(problem(&format_args!("program {:?} runs already", slot.name)));
            }
            let program = slot.program();
            let mut wanted = config.value.metrics().map(|(_, metric)| metric);
            let taken =
                wanted.find(|metric| program.metrics.iter().any(|known| known.name == metric.value.name));
            if let Some(metric) = taken {
                let text =
                    format!("program {:?} has a metric called {:?} already", slot.name, metric.value.name);
                return Err(Problem::at(metric.referenced, text));
            }
        }
        let data = config.value.package();
        let data = data.map_err(|why| problem(&format_args!("program {:?}: {why}", config.value.name)))?;
        let slot = self.begin(config, data, false)?;
        let id = slot.id;
        self.slots().list.push(Arc::new(slot));
        self.wake();
        Ok(id)
    }

    /// Loads and attaches a program. It is unloaded again if a metric does not fit its package.
    pub(crate) fn begin(
        &self,
        config: Spanned<config::Program>,
        data: Arc<[u8]>,
        is_configured: bool,
    ) -> Result<Slot, Problem> {
        let id = {
            let mut slots = self.slots();
            slots.next += 1;
            slots.next - 1
        };
        let name = config.value.name.clone();
        let program = self.load(id, config, data).inspect_err(|_| {
            let _ = self.client.run(&Request::Unload { task: id + 1 });
        })?;
        Ok(Slot {
            id,
            name,
            is_configured,
            program: Mutex::new(program),
            waiting: AtomicUsize::new(0),
            failed: Mutex::default(),
        })
    }

    fn load(&self, id: u64, config: Spanned<config::Program>, data: Arc<[u8]>) -> Result<Program, Problem> {
        let (wanted, position) = (&config.value, config.referenced);
        let failed = |why: &dyn std::fmt::Display| {
            Problem::at(position, format_args!("program {:?}: {why}", wanted.name))
        };
        let readable = package::without_sampling(&data).map_err(|error| failed(&error.message()))?;
        let request = Request::Load {
            recover: false,
            // The loader counts tasks from 1.
            task: id + 1,
            package: data.to_vec(),
            args: wanted.args.clone(),
            variables: wanted.variables(),
            wanted: String::new(),
            alone: Alone { detach: Some(true), after: 0 },
            limits: Limits::default(),
            origin: wanted.origin(),
        };
        let exported = self.client.load(&request).map_err(|error| {
            let hint = if error.hint.is_empty() { String::new() } else { format!("; {}", error.hint) };
            failed(&format_args!("{}{hint}", error.message))
        })?;
        let named = wanted.name.clone();
        let log = move |level: Level, line: &str| {
            if level <= Level::Warn {
                crate::say(format_args!("program {named:?}: {line}"));
            }
        };
        let vm = Vm::import(&readable, exported, Options::new().log(log));
        let vm = vm.map_err(|error| failed(&error.message()))?;
        Program::new(config.clone(), data, Arc::new(vm), &self.pusher.logs)
    }

    /// Makes these the programs of the configuration. Programs that requests have started stay.
    pub(crate) fn set(&self, mut list: Vec<Arc<Slot>>) {
        let mut slots = self.slots();
        list.extend(slots.list.iter().filter(|slot| !slot.is_configured).cloned());
        list.sort_by_key(|slot| slot.id);
        slots.list = list;
        drop(slots);
        self.wake();
    }

    /// Stops a program. Returns whether there was one with this number.
    pub fn remove(&self, id: u64) -> bool {
        let removed = {
            let mut slots = self.slots();
            let index = slots.list.iter().position(|slot| slot.id == id);
            index.map(|index| slots.list.remove(index))
        };
        self.wake();
        if removed.is_some() {
            let _ = self.client.run(&Request::Unload { task: id + 1 });
        }
        removed.is_some()
    }

    /// All programs.
    pub fn list(&self) -> Vec<Arc<Slot>> {
        self.slots().list.clone()
    }

    /// Checks that the events of all programs are read. The error is one line.
    pub fn check_ready(&self) -> Result<(), String> {
        if self.client.about().is_none() {
            return Err("the loader has ended; the programs are loaded again".into());
        }
        for slot in self.list() {
            if let Some(why) = slot.failure() {
                return Err(format!("program {:?}: {why}", slot.name));
            }
        }
        Ok(())
    }

    /// Ends the loader, and with it all programs.
    pub fn end(&self, path: &Path) {
        self.is_ending.store(true, Relaxed);
        let _ = self.client.run(&Request::End);
        let _ = std::fs::remove_file(path);
    }

    /// Reads events. The thread sleeps while there are none.
    fn follow(&self) {
        loop {
            let slots: Vec<_> = self.list().into_iter().filter(|slot| slot.failure().is_none()).collect();
            let vms: Vec<Arc<Vm>> = slots.iter().map(|slot| Arc::clone(&slot.program().vm)).collect();
            let mut waiting = vec![PollFd::new(&self.wake, PollFlags::IN)];
            waiting.extend(vms.iter().map(|vm| PollFd::from_borrowed_fd(vm.as_fd(), PollFlags::IN)));
            if let Err(why) = self.follow_these(&slots, &mut waiting) {
                return crate::say(format_args!("events are no longer read: {why}"));
            }
        }
    }

    /// Reads events until the programs have changed.
    fn follow_these(&self, slots: &[Arc<Slot>], waiting: &mut [PollFd]) -> io::Result<()> {
        loop {
            match poll(waiting, None) {
                Err(error) if error != rustix::io::Errno::INTR => return Err(error.into()),
                _ => {}
            }
            for (slot, _) in slots.iter().zip(&waiting[1..]).filter(|(_, fd)| !fd.revents().is_empty()) {
                if !slot.turn(self.now()) {
                    return Ok(());
                }
            }
            if !waiting[0].revents().is_empty() {
                let _ = rustix::io::read(&self.wake, &mut [0; 8]);
                return Ok(());
            }
        }
    }

    /// Loads all programs again when the loader has ended. Their counters continue.
    fn follow_loader(&self) {
        loop {
            self.client.wait_for_end();
            if self.is_ending.load(Relaxed) {
                return;
            }
            crate::say("the loader has ended; the programs are loaded again");
            let _turn = self.change.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(why) = self.client.reconnect() {
                return crate::say(why);
            }
            for slot in self.list() {
                let (config, package) = {
                    let program = slot.program();
                    (program.config.clone(), Arc::clone(&program.package))
                };
                match self.load(slot.id, config, package) {
                    Ok(program) => change::exchange(&slot, program),
                    Err(problem) => slot.fail(problem.text),
                }
            }
            self.wake();
        }
    }

    fn wake(&self) {
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// Returns the program. Its events are not read while the result is held.
    pub fn program(&self) -> MutexGuard<'_, Program> {
        self.waiting.fetch_add(1, Relaxed);
        let program = self.locked();
        self.waiting.fetch_sub(1, Relaxed);
        program
    }

    /// The reason why its events are no longer read.
    pub fn failure(&self) -> Option<String> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the waiting events. Returns false if this failed: it is then not tried again.
    fn turn(&self, now: u32) -> bool {
        while self.waiting.load(Relaxed) > 0 {
            std::thread::sleep(Duration::from_micros(50));
        }
        let polled = self.locked().poll(now);
        let Err(why) = polled else { return true };
        self.fail(why);
        false
    }

    /// Records why its events are no longer read.
    fn fail(&self, why: String) {
        crate::say(format_args!("program {:?}: its events are no longer read: {why}", self.name));
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    fn locked(&self) -> MutexGuard<'_, Program> {
        self.program.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
