//! Writes the events of a task to its sink: a file or the journal. Each sink has a thread, which sleeps while there are no events.
//!
//! The lines of a file are those of `/v1/tasks/ID/events`. The last one has the cursor at which the next server continues.

use std::fs::File;
use std::io::{self, Read as _, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use std::time::Duration;

use eunomia::Level;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use crate::journal::Journal;
use crate::log::{Form, LineWriter, Lines, Log, Read};
use crate::sink::FileSink;
use crate::task::Task;

/// Number of bytes that are collected for one write.
const PIECE: usize = 256 << 10;
/// The delay before a write is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// Number of bytes at the end of a file in which the last cursor is searched. No line is longer.
const TAIL: u64 = 1 << 20;

/// Opens a new file instead of a full one.
pub type Rotate = Box<dyn Fn() -> Result<OwnedFd, String> + Send>;

/// The destination of lines.
pub enum Target {
    /// A file.
    File(Box<Output>),
    /// The journal.
    Journal(Journal),
}

/// A file that lines are written to.
pub struct Output {
    file: File,
    size: u64,
    most: u64,
    rotate: Rotate,
}

impl Output {
    /// Continues a file.
    pub fn new(file: OwnedFd, sink: &FileSink, rotate: Rotate) -> Output {
        Output { file: file.into(), size: 0, most: sink.max_mib << 20, rotate }
    }

    /// Removes an incomplete line at the end, and returns the cursor of the last line.
    fn resume(&mut self) -> io::Result<Option<String>> {
        let size = self.file.seek(SeekFrom::End(0))?;
        let start = size.saturating_sub(TAIL);
        let mut tail = Vec::new();
        self.file.seek(SeekFrom::Start(start))?;
        (&self.file).take(TAIL).read_to_end(&mut tail)?;
        let end = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        self.size = start + end as u64;
        if end < tail.len() {
            self.file.set_len(self.size)?;
        }
        let lines = tail[..end].strip_suffix(b"\n").unwrap_or_default();
        let last = lines.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        let line: Value = serde_json::from_slice(last).unwrap_or_default();
        Ok(line["cursor"].as_str().map(str::to_owned))
    }

    /// Writes lines. After a failure the file has none of them.
    fn write(&mut self, lines: &[u8]) -> Result<(), String> {
        if self.size >= self.most {
            (self.file, self.size) = ((self.rotate)()?.into(), 0);
        }
        match self.file.write_all(lines) {
            Ok(()) => {
                self.size += lines.len() as u64;
                Ok(())
            }
            Err(error) => {
                let _ = self.file.set_len(self.size);
                Err(error.to_string())
            }
        }
    }
}

/// Starts the thread. The thread ends when the task ends or is no longer used.
pub fn start(task: &Arc<Task>, target: Target) -> io::Result<()> {
    let (weak, log) = (Arc::downgrade(task), Arc::clone(&task.log));
    let runtime = Handle::current();
    let name = format!("sink {}", task.id);
    std::thread::Builder::new().name(name).spawn(move || run(&weak, &log, target, &runtime)).map(drop)
}

fn run(task: &Weak<Task>, log: &Log, mut target: Target, runtime: &Handle) {
    let (mut changes, mut writer) = (log.changes(), LineWriter::new(Form::Lines, log));
    let mut position = begin(task, log, &mut target, &mut writer);
    loop {
        changes.mark_unchanged();
        match log.read(&mut position) {
            Read::Lines(lines) => {
                if !pass(task, &mut target, &mut writer, &lines) {
                    return;
                }
            }
            Read::Lost(count) => {
                note(task, &format!("{count} lines were dropped before they were written"));
                writer.other(position, &json!({"lost": count, "by": "reader"}));
            }
            Read::Nothing if runtime.block_on(changes.changed()).is_err() => return,
            Read::Nothing => {}
            Read::End => return,
        }
        if task.strong_count() == 0 {
            return;
        }
    }
}

/// Returns the position at which writing begins: after the last line of the file. For the journal, whose last line is unknown, it is
/// the next event, unless the log still has all events from the first one on.
fn begin(task: &Weak<Task>, log: &Log, target: &mut Target, writer: &mut LineWriter) -> u64 {
    let Target::File(output) = target else { return if log.oldest() == 0 { 0 } else { log.next() } };
    let cursor = output.resume().unwrap_or_else(|error| {
        note(task, &format!("the last line of the file cannot be read: {error}"));
        None
    });
    match cursor.map(|cursor| log.parse(&cursor)) {
        Some(Ok(Some(position))) => position,
        Some(_) => {
            writer.other(log.oldest(), &json!({"lost": null, "by": "server"}));
            log.oldest()
        }
        None => log.oldest(),
    }
}

/// Writes lines, and repeats this until it succeeds. Returns `false` if the task was removed.
fn pass(task: &Weak<Task>, target: &mut Target, writer: &mut LineWriter, lines: &Lines) -> bool {
    let output = match target {
        Target::Journal(journal) => {
            // Discards what was written about the file. The journal does not need it.
            writer.take();
            if let Some(task) = task.upgrade() {
                lines.iter().for_each(|line| journal.write(&task, &line));
            }
            return true;
        }
        Target::File(output) => output,
    };
    let mut lines = lines.iter().peekable();
    while lines.peek().is_some() {
        while writer.size() < PIECE
            && let Some(line) = lines.next()
        {
            writer.line(&line);
        }
        let piece = writer.take();
        let mut has_failed = false;
        while let Err(why) = output.write(&piece) {
            if !has_failed {
                note(
                    task,
                    &format!("events wait in the log, because they cannot be written to the file: {why}"),
                );
            }
            has_failed = true;
            std::thread::sleep(AGAIN);
            if task.strong_count() == 0 {
                return false;
            }
        }
    }
    true
}

fn note(task: &Weak<Task>, text: &str) {
    if let Some(task) = task.upgrade() {
        say!("task {} ({}): {text}", task.id, task.spec.name);
        task.messages.add(Level::Warn, text);
    }
}
