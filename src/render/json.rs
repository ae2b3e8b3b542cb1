//! Records as JSON.

use super::clock::Clock;
use super::out::{MAX_NUMBER, Out};
use super::plan::Plan;

impl Plan {
    /// Appends the record as one JSON value. Keys are in order of declaration. `char` arrays are strings up to the first
    /// NUL, with invalid UTF-8 replaced. Enums are names, or numbers without a name. Integers of 128 bits are decimal
    /// strings. NaN and infinities are null. A flexible array at the end has as many elements as the record contains.
    pub fn json(&self, record: &[u8], clock: &Clock, out: &mut Vec<u8>) {
        let end = self.json_at(out.len(), record, clock, out);
        out.truncate(end);
    }

    /// Writes the record at `start`, over the content of `buf`, and returns the end. At least one scratch byte follows. Used
    /// for many records in turn: the buffer is grown and cleared only once.
    #[cfg_attr(small, optimize(speed))]
    pub fn json_at(&self, start: usize, record: &[u8], clock: &Clock, buf: &mut Vec<u8>) -> usize {
        let mut out = Out::start_at(start, buf, self.code.typical_len);
        self.code.run_once(&self.code.steps[self.json.clone()], record, 0, clock, &mut out);
        out.finish(buf)
    }
}

/// Appends a record of unknown type: `{"data":"<hexadecimal>"}`.
pub fn hex_json(record: &[u8], buf: &mut Vec<u8>) {
    let mut out = Out::append(buf, 2 * record.len() + MAX_NUMBER);
    out.bytes(b"{\"data\":\"");
    out.reserve(2 * record.len());
    record.iter().for_each(|byte| out.hex(*byte));
    out.bytes(b"\"}");
    let end = out.finish(buf);
    buf.truncate(end);
}
