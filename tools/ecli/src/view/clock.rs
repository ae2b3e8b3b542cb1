//! Arrival times of events. In a table, the events of a batch share one time, so that the clock is read once per batch.

use std::time::SystemTime;

use chrono::{DateTime, Local, Utc};

/// The time of the current batch.
#[derive(Default)]
pub struct Clock {
    time: String,
}

impl Clock {
    /// The local time of the first event of the batch, as HH:MM:SS.
    pub fn time(&mut self) -> &str {
        if self.time.is_empty() {
            self.time = Local::now().format("%H:%M:%S").to_string();
        }
        &self.time
    }

    /// Ends the batch.
    pub fn forget(&mut self) {
        self.time.clear();
    }

    /// The current time in microseconds: `2026-01-31T12:00:00.000000Z`.
    pub fn exact(&self) -> String {
        let now: DateTime<Utc> = SystemTime::now().into();
        now.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
    }

    /// Appends a JSON value, with the current time added to it.
    pub fn json(&self, json: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"time\":\"");
        out.extend_from_slice(self.exact().as_bytes());
        match json {
            [b'{', b'}'] => out.extend_from_slice(b"\"}"),
            [b'{', members @ ..] => {
                out.extend_from_slice(b"\",");
                out.extend_from_slice(members);
            }
            other => {
                out.extend_from_slice(b"\",\"value\":");
                out.extend_from_slice(other);
                out.push(b'}');
            }
        }
    }
}
