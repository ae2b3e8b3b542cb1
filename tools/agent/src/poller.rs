//! The thread that reads the events of all tasks.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use eunomia::vm::Group;
use eunomia::{Event, EventKind, Flow, Format, Vm};
use eunomia_records::record_clock;
use rustix::event::{PollFd, PollFlags, poll};
use tokio::sync::Notify;

use crate::log::{Content, LineKind, Log};
use crate::shape::{Shape, Shapes};
use crate::task::Task;

/// Reads events of vms and adds them to logs.
pub struct Poller {
    /// The tasks whose events this file formats as JSON. The vms deliver them as raw records, because filters need those.
    raw: Group,
    text: Group,
    sinks: Mutex<BTreeMap<usize, Sink>>,
    /// Number of callers that wait for the lock. The thread takes the lock only while this is 0. Otherwise it would hold
    /// the lock nearly all the time.
    waiting: AtomicUsize,
    /// Notified when the events of a vm cannot be read any more.
    failures: Arc<Notify>,
}

/// The destination of the events of a vm.
struct Sink {
    log: Arc<Log>,
    shapes: Arc<Shapes>,
    vm: Weak<Vm>,
    /// The shape of the last event.
    last: Option<Arc<Shape>>,
    /// The JSON of an event.
    json: Vec<u8>,
    /// The reason why events are no longer read.
    failed: Option<String>,
}

impl Poller {
    /// Starts the thread.
    pub fn start() -> io::Result<Arc<Poller>> {
        let group = || Group::new().map_err(io::Error::other);
        let (raw, text) = (group()?, group()?);
        let poller = Arc::new(Poller {
            raw,
            text,
            sinks: Mutex::default(),
            waiting: AtomicUsize::new(0),
            failures: Arc::default(),
        });
        let own = Arc::clone(&poller);
        let thread = std::thread::Builder::new().name("events".into());
        thread.spawn(move || own.run())?;
        Ok(poller)
    }

    /// Adds a vm: its events go to the log of the task.
    pub fn add(&self, vm: &Arc<Vm>, key: usize, task: &Task) -> eunomia::Result<()> {
        let format = task.spec.format;
        let sink = Sink {
            log: Arc::clone(&task.log),
            shapes: Arc::clone(&task.shapes),
            vm: Arc::downgrade(vm),
            last: None,
            json: Vec::new(),
            failed: None,
        };
        self.sinks().insert(key, sink);
        self.group(format).add(vm, key).inspect_err(|_| {
            self.sinks().remove(&key);
        })
    }

    /// Removes a vm, after the events that wait in its buffers were read. Returns why reading has failed, if it has.
    pub fn remove(&self, vm: &Vm, key: usize, format: Format) -> Option<String> {
        // After a failure the vm is no longer in the group.
        let _ = self.group(format).remove(vm);
        let mut sink = self.sinks().remove(&key)?;
        // The number of polls is limited, because attached programs may send without end. Another process then reads the rest.
        for _ in 0..LAST_POLLS {
            let polled = vm.poll(Some(Duration::ZERO), polled_as(format), |event| sink.push(event));
            sink.log.flush();
            if polled.is_ok_and(|count| count > 0) {
                continue;
            }
            break;
        }
        sink.failed
    }

    /// Reads the events of earlier versions. Returns whether all of them have been read.
    pub fn drain(&self, vm: &Vm, key: usize, format: Format) -> bool {
        let mut sinks = self.sinks();
        let Some(sink) = sinks.get_mut(&key) else { return false };
        let is_over = || vm.drained().unwrap_or(false);
        for _ in 0..LAST_POLLS {
            if is_over()
                || vm.poll(Some(Duration::ZERO), polled_as(format), |event| sink.push(event)).is_err()
            {
                break;
            }
        }
        sink.log.flush();
        is_over()
    }

    /// The reason why no more events of a vm are read.
    pub fn failure(&self, key: usize) -> Option<String> {
        self.sinks().get(&key)?.failed.clone()
    }

    /// Notified when the events of a vm cannot be read any more.
    pub fn failures(&self) -> Arc<Notify> {
        Arc::clone(&self.failures)
    }

    /// Runs work on vms while this thread does not use them.
    pub fn between_turns<T>(&self, work: impl FnOnce() -> T) -> T {
        let _sinks = self.sinks();
        work()
    }

    fn run(&self) {
        let groups = [(&self.raw, Format::Raw), (&self.text, Format::Text)];
        loop {
            let mut ready = groups.map(|(group, _)| PollFd::from_borrowed_fd(group.as_fd(), PollFlags::IN));
            match poll(&mut ready, None) {
                Ok(_) => {}
                Err(error) if io::Error::from(error).kind() == io::ErrorKind::Interrupted => continue,
                // Only with invalid descriptors.
                Err(error) => return say!("server: events are no longer read: {error}"),
            }
            for (_, (group, format)) in ready.iter().zip(groups).filter(|(fd, _)| !fd.revents().is_empty()) {
                self.turn(group, format);
            }
            self.wait_for_readers();
        }
    }

    /// Waits for readers that are about to miss lines, while the buffers of the kernel have space for what is sent in that time.
    fn wait_for_readers(&self) {
        let begun = Instant::now();
        while begun.elapsed() < LONGEST_WAIT {
            let sinks = self.locked();
            let is_ahead = sinks.values().any(|sink| sink.log.is_ahead());
            if !is_ahead || !sinks.values().all(Sink::has_space) {
                return;
            }
            drop(sinks);
            std::thread::sleep(SHORT_WAIT);
        }
    }

    /// Reads the waiting events. The sinks stay locked throughout, because a turn is short.
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
            self.failures.notify_one();
        }
        sinks.values().for_each(|sink| sink.log.flush());
    }

    fn group(&self, format: Format) -> &Group {
        if format == Format::Json { &self.raw } else { &self.text }
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

/// The format in which the events of a task are read.
fn polled_as(format: Format) -> Format {
    if format == Format::Json { Format::Raw } else { Format::Text }
}

/// The time after which the events of all tasks are read, even if a reader is about to miss some, and the time between two checks.
const LONGEST_WAIT: Duration = Duration::from_millis(10);
const SHORT_WAIT: Duration = Duration::from_millis(1);
/// Maximum number of polls of a vm that is removed; each reads up to 65536 events.
const LAST_POLLS: usize = 64;

impl Sink {
    /// Whether its ring buffers are at most half full. How full a perf buffer is, is not known.
    fn has_space(&self) -> bool {
        let Some(vm) = self.vm.upgrade() else { return true };
        let sources = (0..vm.source_count().unwrap_or(0)).filter_map(|index| vm.source_at(index).ok());
        sources.filter_map(|source| Some((source.positions?, source.name))).all(|(positions, name)| {
            let size = vm.map_find(&name.to_string_lossy()).map_or(0, |map| u64::from(map.max_entries));
            positions.produced.saturating_sub(positions.consumed) <= size / 2
        })
    }

    /// Adds an event to the log. The kernel keeps the record until this returns. So if this process is killed, the event is still in
    /// the buffer or already in the log.
    fn push(&mut self, event: &Event) -> Flow {
        if event.kind == EventKind::Round {
            return Flow::Continue;
        }
        let source = event.source.to_str().unwrap_or_default();
        match (event.kind, event.format) {
            (EventKind::Lost, _) => {
                self.log.push(LineKind::Lost, source, Content::text(event.lost.to_string().as_bytes()));
            }
            (_, Format::Raw) => self.push_record(event, source),
            _ => {
                let text = event.data.strip_suffix(b"\n").unwrap_or(event.data);
                self.log.push(LineKind::Text, source, Content::text(text));
            }
        }
        Flow::Continue
    }

    fn push_record(&mut self, event: &Event, source: &str) {
        let shape = match self.last.take().filter(|last| last.is_of(event)) {
            Some(last) => last,
            None => {
                let vm = self.vm.upgrade();
                self.shapes.of(event, |name| vm?.map_find(name).ok())
            }
        };
        self.json.clear();
        shape.json(event.key, event.data, &record_clock::now(), &mut self.json);
        let record = if event.key.is_empty() { event.data } else { &[event.key, event.data].concat() };
        self.log.push(LineKind::Json, source, Content { text: &self.json, record, shape: shape.number() });
        self.last = Some(shape);
    }
}
