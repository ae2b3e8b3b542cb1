//! Writes events to the journal of systemd, in its native protocol: one datagram per event.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use eunomia::Level;

use crate::log::{LineKind, LineRef};
use crate::task::Task;

/// The path of the socket of the journal.
const SOCKET: &str = "/run/systemd/journal/socket";

/// Sends to the journal. The path of its socket is used for each line, because a journal that is started again has a new socket.
#[derive(Debug)]
pub struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
    has_failed: bool,
}

impl Journal {
    /// Fails if there is no journal.
    pub fn open() -> io::Result<Journal> {
        Journal::at(Path::new(SOCKET))
    }

    fn at(path: &Path) -> io::Result<Journal> {
        let socket = UnixDatagram::unbound()?;
        // An empty datagram is ignored.
        socket.send_to(b"", path)?;
        Ok(Journal { socket, path: path.to_owned(), has_failed: false })
    }

    /// Writes a line of a task. The first failure is reported; such a line is only in the log of the task.
    pub fn write(&mut self, task: &Task, line: &LineRef) {
        let sent = self.socket.send_to(&message(&task.spec.name, task.id, line), &self.path);
        if let Err(error) = &sent
            && !self.has_failed
        {
            let text = format!("events cannot be written to the journal: {error}");
            say!("task {} ({}): {text}", task.id, task.spec.name);
            task.messages.add(Level::Warn, &text);
        }
        self.has_failed = sent.is_err();
    }
}

fn message(name: &str, id: u64, line: &LineRef) -> Vec<u8> {
    let text: &[u8] = match line.kind {
        LineKind::Json | LineKind::Text => line.text,
        LineKind::Lost => &[line.text, b" events were lost in the kernel"].concat(),
        LineKind::Unknown => b"an unknown number of events is missing",
    };
    let priority = if matches!(line.kind, LineKind::Json | LineKind::Text) { 6 } else { 4 };
    let mut out = format!(
        "SYSLOG_IDENTIFIER=eunomia\nPRIORITY={priority}\nEUNOMIA_TASK={name}\nEUNOMIA_ID={id}\nEUNOMIA_POSITION={}\n",
        line.position + 1
    )
    .into_bytes();
    if let Some(map) = line.source {
        field("EUNOMIA_MAP", map.as_bytes(), &mut out);
    }
    field("MESSAGE", text, &mut out);
    out
}

/// A field whose value may have several lines.
fn field(name: &str, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.push(b'\n');
    out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    out.extend_from_slice(value);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_datagram_with_fields() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        assert!(Journal::at(&path).is_err());
        let receiver = UnixDatagram::bind(&path).unwrap();
        let journal = Journal::at(&path).unwrap();
        let line = LineRef {
            position: 4,
            time: 0,
            kind: LineKind::Text,
            source: Some("m"),
            text: b"a\nb",
            record: &[],
            shape: 0,
        };
        journal.socket.send_to(&message("n", 2, &line), &journal.path).unwrap();
        let mut datagram = [0; 1000];
        assert_eq!(receiver.recv(&mut datagram).unwrap(), 0);
        let count = receiver.recv(&mut datagram).unwrap();
        let expected = [
            &b"SYSLOG_IDENTIFIER=eunomia\nPRIORITY=6\nEUNOMIA_TASK=n\nEUNOMIA_ID=2\nEUNOMIA_POSITION=5\n"[..],
            b"EUNOMIA_MAP\n\x01\0\0\0\0\0\0\0m\nMESSAGE\n\x03\0\0\0\0\0\0\0a\nb\n",
        ];
        assert_eq!(datagram[..count], expected.concat());
    }
}
