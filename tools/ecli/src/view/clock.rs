//! When events arrived. Those of one batch in a table share a second; no clock is read for each.

use std::time::SystemTime;

use chrono::{DateTime, Local, Utc};

/// The time of the batch at hand.
#[derive(Default)]
pub struct Clock {
    time: String,
}

impl Clock {
    /// Local time, as HH:MM:SS, of the first event since `forget`.
    pub fn time(&mut self) -> &str {
        if self.time.is_empty() {
            self.time = Local::now().format("%H:%M:%S").to_string();
        }
        &self.time
    }

    /// The batch is over.
    pub fn forget(&mut self) {
        self.time.clear();
    }

    /// This moment, to the microsecond: `2026-01-31T12:00:00.000000Z`.
    pub fn exact(&self) -> String {
        let now: DateTime<Utc> = SystemTime::now().into();
        now.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
    }

    /// Appends a JSON value with this moment in it.
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
