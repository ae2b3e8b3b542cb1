//! The sink of a task: the destination of its events in addition to its log.

use std::path::{Component, Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::error::{ApiError, Result};
use crate::spec::expected;

/// The size at which a file is renamed, and the number of renamed files, unless the request sets them.
const MAX_MIB: u64 = 10;
const KEEP: u64 = 3;
/// The maximum of both values.
const MOST_MIB: u64 = 1 << 20;
const MOST_KEPT: u64 = 100;

/// The sink of a task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Sink {
    /// No sink: events are only in the log.
    #[default]
    None,
    /// The journal of systemd.
    Journal,
    /// A file.
    File(FileSink),
}

/// A file, and when it is renamed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSink {
    /// Its absolute path, without `..`.
    pub path: PathBuf,
    /// The size, in MiB, from which on a new file is begun.
    pub max_mib: u64,
    /// The number of earlier files that are kept. `PATH.1` is the newest of them.
    pub keep: u64,
}

impl Sink {
    /// Reads `null`, `"none"`, `"journald"` or an object with the member `file`.
    pub fn from_json(value: &Value) -> Result<Sink> {
        match value {
            Value::Null => Ok(Sink::None),
            Value::String(word) if word == "none" => Ok(Sink::None),
            Value::String(word) if word == "journald" => Ok(Sink::Journal),
            Value::Object(object) => file(object).map(Sink::File),
            other => Err(expected("sink", "\"none\", \"journald\" or an object with file", other)),
        }
    }

    /// Returns the value that [`from_json`](Sink::from_json) reads.
    pub fn to_json(&self) -> Value {
        match self {
            Sink::None => json!("none"),
            Sink::Journal => json!("journald"),
            Sink::File(FileSink { path, max_mib, keep }) => {
                json!({"file": path, "max_mib": max_mib, "keep": keep})
            }
        }
    }
}

fn file(object: &Map<String, Value>) -> Result<FileSink> {
    const NAMES: [&str; 3] = ["file", "max_mib", "keep"];
    if let Some(name) = object.keys().find(|name| !NAMES.contains(&name.as_str())) {
        let text = format!("sink: unknown member {name:?}; known are {}", NAMES.join(", "));
        return Err(ApiError::invalid(text));
    }
    let number = |name: &str, default: u64, range: std::ops::RangeInclusive<u64>| match object.get(name) {
        None | Some(Value::Null) => Ok(default),
        Some(value) => value.as_u64().filter(|number| range.contains(number)).ok_or_else(|| {
            expected(&format!("sink.{name}"), &format!("{} to {}", range.start(), range.end()), value)
        }),
    };
    let given = object.get("file").unwrap_or(&Value::Null);
    let path = given.as_str().map(Path::new).filter(|path| is_plain(path));
    let path = path.ok_or_else(|| expected("sink.file", "an absolute path of a file without ..", given))?;
    Ok(FileSink {
        path: path.to_owned(),
        max_mib: number("max_mib", MAX_MIB, 1..=MOST_MIB)?,
        keep: number("keep", KEEP, 0..=MOST_KEPT)?,
    })
}

/// Whether a path is absolute, names a file, and has no `..` in it.
pub fn is_plain(path: &Path) -> bool {
    let text = path.to_string_lossy();
    let is_down = |part: Component| matches!(part, Component::RootDir | Component::Normal(_));
    path.is_absolute()
        && text.len() < 4096
        && !text.ends_with('/')
        && !text.contains(['\0', '\n'])
        && path.components().all(is_down)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sinks_are_read_as_they_are_written_and_mistakes_are_explained() {
        let file = json!({"file": "/var/log/a.jsonl", "max_mib": 10, "keep": 3});
        for value in [json!("none"), json!("journald"), file.clone()] {
            assert_eq!(Sink::from_json(&value).unwrap().to_json(), value);
        }
        assert_eq!(Sink::from_json(&json!({"file": "/var/log/a.jsonl"})).unwrap().to_json(), file);
        let why = |value: Value| Sink::from_json(&value).unwrap_err().message;
        assert!(why(json!("syslog")).starts_with("sink: expected \"none\", \"journald\""));
        for path in ["a", "/a/../b", "/a/", "", "/a\0b"] {
            assert!(
                why(json!({"file": path})).starts_with("sink.file: expected an absolute path"),
                "{path:?}"
            );
        }
        assert_eq!(why(json!({"file": "/a", "keep": 101})), "sink.keep: expected 0 to 100, found 101");
        assert_eq!(why(json!({"file": "/a", "max_mib": 0})), "sink.max_mib: expected 1 to 1048576, found 0");
        assert!(why(json!({"file": "/a", "size": 1})).starts_with("sink: unknown member \"size\""));
    }
}
