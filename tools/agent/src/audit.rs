//! The audit log: one JSON object per line.
//!
//! Only the loader writes to the file: lines of its own about what happens in the kernel, and lines that the server sends
//! about each request. So whoever controls the server can add lines with `"from":"server"`, but can neither change existing lines
//! nor prevent those of the loader. A line is written before the caller receives the result.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

/// Maximum length of a line that the server adds.
const MAX_LINE: u64 = 16 << 10;

/// The log, or nothing.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    file: Option<Arc<File>>,
}

impl Audit {
    /// Opens a file, or creates it for its owner only. The error is one line.
    pub fn open(path: Option<&Path>) -> Result<Audit, String> {
        let Some(path) = path else { return Ok(Audit::default()) };
        eunomia_owner::check(path.parent().unwrap_or(path))?;
        eunomia_owner::check(path)?;
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
        let file = file.map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Audit { file: Some(Arc::new(file)) })
    }

    /// Appends a line with the time, its origin `from`, and these members. If `is_safe`, it is on the disk when this returns.
    pub fn write(&self, from: &str, members: Map<String, Value>, is_safe: bool) -> io::Result<()> {
        let Some(mut file) = self.file.as_deref() else { return Ok(()) };
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time = json!(time.as_millis() as f64 / 1000.0);
        let mut object = Map::from_iter([("time".to_owned(), time), ("from".to_owned(), json!(from))]);
        for (name, value) in members {
            object.entry(name).or_insert(value);
        }
        // A single write, so that lines of several writers do not mix.
        file.write_all(format!("{}\n", Value::Object(object)).as_bytes())?;
        if is_safe { file.sync_data() } else { Ok(()) }
    }

    /// Returns a socket for the server. A thread appends each line that the server writes to the socket, and ends with the
    /// connection. Returns `None` if there is no log.
    pub fn receive(&self) -> io::Result<Option<OwnedFd>> {
        if self.file.is_none() {
            return Ok(None);
        }
        let (own, other) = UnixStream::pair()?;
        let audit = self.clone();
        std::thread::Builder::new().spawn(move || audit.copy(own))?;
        Ok(Some(other.into()))
    }

    fn copy(&self, from: UnixStream) {
        let (mut from, mut line) = (BufReader::new(from), String::new());
        loop {
            line.clear();
            match (&mut from).take(MAX_LINE).read_line(&mut line) {
                Ok(count) if count > 0 => {}
                _ => return,
            }
            let members = match serde_json::from_str(&line) {
                Ok(Value::Object(members)) => members,
                _ => Map::from_iter([("malformed".to_owned(), json!(line))]),
            };
            // Closing the connection reports the failure to the server.
            if self.write("server", members, false).is_err() {
                return;
            }
            // This reports to the server that the line was written.
            if from.get_mut().write_all(b"\n").is_err() {
                return;
            }
        }
    }
}

/// The server's end of the socket: adds a line and waits until it is written.
pub fn add(socket: &UnixStream, line: &Value) -> io::Result<()> {
    let (mut socket, mut reply) = (socket, [0]);
    socket.write_all(format!("{line}\n").as_bytes())?;
    socket.read_exact(&mut reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn the_server_adds_lines_that_say_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit");
        std::fs::write(&path, "old\n").unwrap();
        let audit = Audit::open(Some(&path)).unwrap();
        let socket = UnixStream::from(audit.receive().unwrap().unwrap());
        audit.write("loader", members(json!({"text": "a\nb"})), true).unwrap();
        add(&socket, &json!({"from": "loader", "time": 0, "number": 1})).unwrap();
        add(&socket, &json!([])).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<Value> =
            text.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(text.starts_with("old\n") && lines.len() == 3, "{text}");
        assert_eq!((&lines[0]["from"], &lines[0]["text"]), (&json!("loader"), &json!("a\nb")));
        assert_eq!((&lines[1]["from"], &lines[1]["number"]), (&json!("server"), &json!(1)));
        assert!(lines[1]["time"].as_f64().unwrap() > 1e9, "{text}");
        assert_eq!((&lines[2]["from"], &lines[2]["malformed"]), (&json!("server"), &json!("[]\n")));
        assert!(Audit::default().receive().unwrap().is_none());
    }

    #[test]
    fn a_place_that_others_can_change_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let why = Audit::open(Some(&folder.path().join("audit"))).unwrap_err();
        assert!(why.contains("is writable by others"), "{why}");
    }
}
