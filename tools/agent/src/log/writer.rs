//! Writes lines of events into one buffer, without an allocation per line.

use std::io::Write;

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
    epoch: u32,
    out: Vec<u8>,
}

impl LineWriter {
    /// A writer of lines of this log.
    pub fn new(form: Form, log: &Log) -> LineWriter {
        LineWriter { form, epoch: log.epoch(), out: Vec::new() }
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
        let out = &mut self.out;
        if let Some(source) = line.source {
            out.extend_from_slice(b"\"map\":");
            text(source.as_bytes(), out);
            out.push(b',');
        }
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

    fn begin(&mut self, next: u64) {
        let epoch = self.epoch;
        let _ = match self.form {
            Form::Lines => write!(self.out, "{{\"cursor\":\"{epoch:08x}.{next}\","),
            Form::Sse => {
                write!(self.out, "id: {epoch:08x}.{next}\ndata: {{\"cursor\":\"{epoch:08x}.{next}\",")
            }
        };
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
