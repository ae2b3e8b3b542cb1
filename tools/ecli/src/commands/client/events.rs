//! `ecli client log` and `events`: the events of a task.

use std::process::ExitCode;

use serde_json::Value;

use super::{Server, failed};
use crate::error::{Code, Failure, Result, say};
use crate::options::agent::{Events, Log};
use crate::output::Output;

impl Server {
    pub(super) fn log(&self, options: &Log) -> Result<ExitCode> {
        let path = self.task(&options.task)?;
        let mut query = format!("?follow={}", options.follow);
        query += &parameters(options.cursor.as_deref(), options.filter.as_deref())?;
        self.follow(&(path + "/events" + &query), |line, output| match event_of(line) {
            Some(event) => output.line(event),
            None => self.note(line, output),
        })
    }

    pub(super) fn events(&self, options: &Events) -> Result<ExitCode> {
        let path = self.task(&options.task)?;
        let query =
            "?follow=true".to_owned() + &parameters(options.since.as_deref(), options.filter.as_deref())?;
        self.follow(&(path + "/events" + &query), |line, output| output.line(line))
    }

    /// Prints each line when it arrives.
    fn follow(&self, path: &str, mut write: impl FnMut(&[u8], &mut Output)) -> Result<ExitCode> {
        let mut output = Output::open(None)?;
        let read = self.client.lines(path, |lines| {
            for line in lines.split_inclusive(|byte| *byte == b'\n') {
                let (start, label) = (output.buffer.len(), self.label.as_bytes());
                output.buffer.extend_from_slice(label);
                write(&line[..line.len() - 1], &mut output);
                if output.buffer.len() == start + label.len() {
                    output.buffer.truncate(start);
                }
            }
            output.flush()
        });
        output.finish()?;
        read.map_err(failed)?;
        Ok(ExitCode::SUCCESS)
    }

    /// Prints a line that has no event in JSON: a text, or a message about lost events.
    fn note(&self, line: &[u8], output: &mut Output) {
        let Ok(line) = serde_json::from_slice::<Value>(line) else { return };
        if let Some(text) = line["text"].as_str() {
            return output.line(text.as_bytes());
        }
        let say = |text: std::fmt::Arguments| say(format_args!("{}{text}", self.label));
        match (&line["lost"], line["by"].as_str(), line["error"].as_str()) {
            (_, _, Some(why)) => say(format_args!("{why}")),
            (Value::Number(count), Some("kernel"), _) => {
                say(format_args!("{count} events were lost in the kernel"))
            }
            (Value::Number(count), ..) => {
                say(format_args!("{count} events were dropped before they were read"))
            }
            (Value::Null, Some("server"), _) => {
                say(format_args!("the server was restarted; earlier events may be missing"));
            }
            _ => {}
        }
    }
}

/// The cursor and the filter as parameters of a query.
fn parameters(cursor: Option<&str>, filter: Option<&str>) -> Result<String> {
    if let Some(cursor) =
        cursor.filter(|cursor| !cursor.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.'))
    {
        return Err(Failure::new(Code::Usage, format_args!("{cursor:?} is not a cursor")));
    }
    let cursor = cursor.map(|cursor| format!("&since={cursor}")).unwrap_or_default();
    Ok(cursor + &filter.map(|filter| format!("&filter={}", encoded(filter))).unwrap_or_default())
}

/// A value as a part of a path or a query.
pub fn encoded(value: &str) -> String {
    let one = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    value.bytes().map(one).collect()
}

/// The event in a line, as the server has written it: its members stay in their order.
fn event_of(line: &[u8]) -> Option<&[u8]> {
    const NAME: &[u8] = b",\"event\":";
    let start = line.windows(NAME.len()).position(|window| window == NAME)? + NAME.len();
    line.get(start..line.len() - 1)
}
