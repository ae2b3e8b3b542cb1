//! Writes lines of events into one buffer, without an allocation per line.

use bytes::Bytes;
use serde_json::Value;

use super::{LineKind, LineRef, Log};

/// The form of the response.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One JSON object per line.
    Lines,
    /// Server-sent events.
    Sse,
}

/// Writes lines with their cursors.
pub struct LineWriter {
    form: Form,
    /// The epoch in each cursor, with a dot.
    epoch: String,
    /// The last name of a map, and its member of the object.
    source: (String, Vec<u8>),
    out: Vec<u8>,
}

impl LineWriter {
    /// A writer of lines of this log.
    pub fn new(form: Form, log: &Log) -> LineWriter {
        LineWriter {
            form,
            epoch: format!("{:08x}.", log.epoch()),
            source: Default::default(),
            out: Vec::new(),
        }
    }

    /// The number of bytes that were written but not taken yet.
    pub fn size(&self) -> usize {
        self.out.len()
    }

    /// Returns what was written, and empties the buffer.
    pub fn take(&mut self) -> Bytes {
        let capacity = self.out.len();
        Bytes::from(std::mem::replace(&mut self.out, Vec::with_capacity(capacity)))
    }

    /// Writes a line of the log.
    pub fn line(&mut self, line: &LineRef) {
        self.begin(line.position + 1);
        if let Some(source) = line.source {
            self.map(source);
        }
        let out = &mut self.out;
        match line.kind {
            LineKind::Json => {
                out.extend_from_slice(b"\"event\":");
                out.extend_from_slice(line.text);
            }
            LineKind::Text => {
                out.extend_from_slice(b"\"text\":");
                text(line.text, out);
            }
            LineKind::Lost => {
                out.extend_from_slice(b"\"lost\":");
                out.extend_from_slice(line.text);
                out.extend_from_slice(b",\"by\":\"kernel\"");
            }
            LineKind::Unknown => {
                out.extend_from_slice(b"\"lost\":null,\"by\":");
                text(line.text, out);
            }
        }
        self.end();
    }

    /// Writes a line that is not in the log: an object, which gets the cursor `next`.
    pub fn other(&mut self, next: u64, object: &Value) {
        self.begin(next);
        self.out.extend_from_slice(&object.to_string().as_bytes()[1..]);
        // The object already ends with a brace.
        self.out.pop();
        self.end();
    }

    /// Writes the name of the map. Most lines have that of the line before.
    fn map(&mut self, source: &str) {
        let (last, member) = &mut self.source;
        if last != source {
            source.clone_into(last);
            member.clear();
            member.extend_from_slice(b"\"map\":");
            text(source.as_bytes(), member);
            member.push(b',');
        }
        self.out.extend_from_slice(member);
    }

    fn begin(&mut self, next: u64) {
        let mut buffer = itoa::Buffer::new();
        let cursor = [self.epoch.as_bytes(), buffer.format(next).as_bytes()];
        if self.form == Form::Sse {
            self.out.extend_from_slice(b"id: ");
            cursor.iter().for_each(|part| self.out.extend_from_slice(part));
            self.out.extend_from_slice(b"\ndata: ");
        }
        self.out.extend_from_slice(b"{\"cursor\":\"");
        cursor.iter().for_each(|part| self.out.extend_from_slice(part));
        self.out.extend_from_slice(b"\",");
    }

    fn end(&mut self) {
        self.out.extend_from_slice(if self.form == Form::Sse { b"}\n\n" } else { b"}\n" });
    }
}

/// Appends a text as a JSON string.
fn text(text: &[u8], out: &mut Vec<u8>) {
    // Writing to a buffer does not fail.
    let _ = serde_json::to_writer(out, &String::from_utf8_lossy(text));
}
