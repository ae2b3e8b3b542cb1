//! Records as JSON.

use super::clock::Clock;
use super::out::{MAX_NUMBER, Out};
use super::plan::Plan;

impl Plan {
    /// Appends the record as one JSON value. Keys are in order of declaration; `char` arrays are strings up to their
    /// NUL, what is not UTF-8 in them replaced; enums are names, or numbers where no name fits; integers of 128 bits
    /// are decimal strings; NaN and infinities are null. A flexible array at the very end has what the record has.
    pub fn json(&self, record: &[u8], clock: &Clock, out: &mut Vec<u8>) {
        let end = self.json_at(out.len(), record, clock, out);
        out.truncate(end);
    }

    /// The same at `start`, over whatever `buf` holds there; says where it ends. Behind the end follow scratch bytes, at
    /// least one. For many records one after the other: room for them is made and cleared only once.
    #[cfg_attr(small, optimize(speed))]
    pub fn json_at(&self, start: usize, record: &[u8], clock: &Clock, buf: &mut Vec<u8>) -> usize {
        let mut out = Out::at(start, buf, self.code.usual);
        self.code.run_once(&self.code.steps[self.json.clone()], record, 0, clock, &mut out);
        out.finish(buf)
    }
}

/// Appends a record whose type is unknown: `{"data":"<hexadecimal>"}`.
pub fn hex_json(record: &[u8], buf: &mut Vec<u8>) {
    let mut out = Out::behind(buf, 2 * record.len() + MAX_NUMBER);
    out.bytes(b"{\"data\":\"");
    out.room(2 * record.len());
    record.iter().for_each(|byte| out.hex(*byte));
    out.bytes(b"\"}");
    let end = out.finish(buf);
    buf.truncate(end);
}
