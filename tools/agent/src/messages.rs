//! The last warnings and errors about a task, for its users.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use eunomia::Level;
use serde_json::{Value, json};

/// Maximum number of lines that are kept, and maximum length of a line in bytes.
const MAX_LINES: usize = 256;
const MAX_TEXT: usize = 4096;

/// The last lines about a task.
#[derive(Debug, Default)]
pub struct Messages(Mutex<Lines>);

#[derive(Debug, Default)]
struct Lines {
    lines: VecDeque<Line>,
    /// The number of lines that are no longer kept.
    dropped: u64,
}

#[derive(Debug)]
struct Line {
    time: u64,
    level: &'static str,
    text: String,
}

impl Messages {
    /// Adds a line.
    pub fn add(&self, level: Level, text: &str) {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let mut text = text.trim_end().to_owned();
        if text.len() > MAX_TEXT {
            text.truncate((0..=MAX_TEXT).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0));
        }
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.lines.len() >= MAX_LINES {
            all.lines.pop_front();
            all.dropped += 1;
        }
        all.lines.push_back(Line { time, level: word(level), text });
    }

    /// All lines that are kept, and the number of those that are not.
    pub fn to_json(&self) -> Value {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let one = |line: &Line| json!({"time": line.time, "level": line.level, "text": line.text});
        let lines: Vec<Value> = all.lines.iter().map(one).collect();
        json!({"lines": lines, "dropped": all.dropped})
    }
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        _ => "debug",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_and_the_others_counted() {
        let messages = Messages::default();
        (0..MAX_LINES + 5).for_each(|number| messages.add(Level::Info, &format!("{number}\n")));
        messages.add(Level::Warn, &"\u{e4}".repeat(MAX_TEXT));
        let found = messages.to_json();
        assert_eq!((&found["dropped"], &found["lines"][0]["text"]), (&json!(6), &json!("6")));
        let last = &found["lines"][MAX_LINES - 1];
        assert_eq!((&last["level"], last["text"].as_str().unwrap().len()), (&json!("warn"), MAX_TEXT));
    }
}
