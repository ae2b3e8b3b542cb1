//! The thread that reads the events of all tasks.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use eunomia::vm::Group;
use eunomia::{Event, EventKind, Flow, Format, Vm};
use rustix::event::{PollFd, PollFlags, poll};

use crate::log::{Chunk, LineKind, Log};

/// Reads events of vms and adds them to logs.
pub struct Poller {
    json: Group,
    text: Group,
    sinks: Mutex<BTreeMap<usize, Sink>>,
    /// Callers that wait for the lock. The thread takes it only if there are none, because it would have it nearly always.
    waiting: AtomicUsize,
}

/// Where the events of a vm go.
struct Sink {
    log: Arc<Log>,
    chunk: Chunk,
    /// The names of the maps that events have come from.
    sources: Vec<Arc<str>>,
    /// Why no more events are read.
    failed: Option<String>,
}

impl Poller {
    /// Starts the thread.
    pub fn start() -> io::Result<Arc<Poller>> {
        let group = || Group::new().map_err(io::Error::other);
        let (json, text) = (group()?, group()?);
        let poller = Arc::new(Poller { json, text, sinks: Mutex::default(), waiting: AtomicUsize::new(0) });
        let own = Arc::clone(&poller);
        let thread = std::thread::Builder::new().name("events".into());
        thread.spawn(move || own.run())?;
        Ok(poller)
    }

    /// Adds a vm: its events go to `log`.
    pub fn add(&self, vm: &Arc<Vm>, key: usize, format: Format, log: &Arc<Log>) -> eunomia::Result<()> {
        let sink = Sink { log: Arc::clone(log), chunk: Chunk::default(), sources: Vec::new(), failed: None };
        self.sinks().insert(key, sink);
        self.group(format).add(vm, key).inspect_err(|_| {
            self.sinks().remove(&key);
        })
    }

    /// Removes a vm, after the events that wait in its buffers were read. Returns why reading has failed, if it has.
    pub fn remove(&self, vm: &Vm, key: usize, format: Format) -> Option<String> {
        // It is not in the group after a failure.
        let _ = self.group(format).remove(vm);
        let mut sink = self.sinks().remove(&key)?;
        // The programs are detached, or others read the buffers after this: so this ends.
        for _ in 0..LAST_POLLS {
            let polled = vm.poll(Some(Duration::ZERO), format, |event| sink.push(event));
            sink.flush();
            if polled.is_ok_and(|count| count > 0) {
                continue;
            }
            break;
        }
        sink.failed
    }

    /// Why no more events of a vm are read.
    pub fn failure(&self, key: usize) -> Option<String> {
        self.sinks().get(&key)?.failed.clone()
    }

    /// Does something with vms while this thread does not use them.
    pub fn between_turns<T>(&self, work: impl FnOnce() -> T) -> T {
        let _sinks = self.sinks();
        work()
    }

    fn run(&self) {
        let groups = [(&self.json, Format::Json), (&self.text, Format::Text)];
        loop {
            let mut ready = groups.map(|(group, _)| PollFd::from_borrowed_fd(group.as_fd(), PollFlags::IN));
            match poll(&mut ready, None) {
                Ok(_) => {}
                Err(error) if io::Error::from(error).kind() == io::ErrorKind::Interrupted => continue,
                // Only with invalid descriptors.
                Err(error) => return eprintln!("server: events are not read any more: {error}"),
            }
            for (_, (group, format)) in ready.iter().zip(groups).filter(|(fd, _)| !fd.revents().is_empty()) {
                self.turn(group, format);
            }
        }
    }

    /// Reads what waits. Locks the sinks meanwhile: a turn is short.
    fn turn(&self, group: &Group, format: Format) {
        while self.waiting.load(Relaxed) > 0 {
            std::thread::yield_now();
        }
        let mut sinks = self.locked();
        let polled = group.poll(Some(Duration::ZERO), format, |key, event| match sinks.get_mut(&key) {
            Some(sink) => sink.push(event),
            None => Flow::Continue,
        });
        if let (Err(error), Some(key)) = (&polled, group.failed())
            && let Some(sink) = sinks.get_mut(&key)
        {
            sink.failed = Some(error.message().to_owned());
        }
        sinks.values_mut().for_each(Sink::flush);
    }

    fn group(&self, format: Format) -> &Group {
        if format == Format::Json { &self.json } else { &self.text }
    }

    fn sinks(&self) -> MutexGuard<'_, BTreeMap<usize, Sink>> {
        self.waiting.fetch_add(1, Relaxed);
        let sinks = self.locked();
        self.waiting.fetch_sub(1, Relaxed);
        sinks
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<usize, Sink>> {
        self.sinks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Polls of a vm that is removed; each reads up to 65536 events.
const LAST_POLLS: usize = 64;

impl Sink {
    fn push(&mut self, event: &Event) -> Flow {
        if event.kind == EventKind::Round {
            return Flow::Continue;
        }
        let kind = match (event.kind, event.format) {
            (EventKind::Lost, _) => LineKind::Lost,
            (_, Format::Json) => LineKind::Json,
            _ => LineKind::Text,
        };
        let source = self.source(event.source.to_bytes());
        match kind {
            LineKind::Lost => self.chunk.push(kind, source, event.lost.to_string().as_bytes()),
            _ => self.chunk.push(kind, source, event.data.strip_suffix(b"\n").unwrap_or(event.data)),
        }
        Flow::Continue
    }

    /// The name of a map, shared by all its lines.
    fn source(&mut self, name: &[u8]) -> Option<Arc<str>> {
        if name.is_empty() {
            return None;
        }
        if let Some(known) = self.sources.iter().find(|known| known.as_bytes() == name) {
            return Some(Arc::clone(known));
        }
        let name: Arc<str> = String::from_utf8_lossy(name).into();
        self.sources.push(Arc::clone(&name));
        Some(name)
    }

    fn flush(&mut self) {
        if !self.chunk.is_empty() {
            self.log.add(std::mem::take(&mut self.chunk));
        }
    }
}
