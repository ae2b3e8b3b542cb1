//! Records as lines of a table.
//!
//! The table: a local time, then one column per member, headed by its name in capitals and at least six wide. A value
//! that is too long pushes the next ones to the right. A line stays a line: control characters in strings are escaped
//! as in JSON.

use super::clock::Clock;
use super::code::{Column, TIME_HEADER};
use super::compile::heading;
use super::out::{MAX_NUMBER, Out};
use super::plan::Plan;

impl Plan {
    /// Appends the head of the table, without a line end: `TIME     PID    COMM   `.
    pub fn text_header(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.header);
    }

    /// Appends a record as a row, without a line end, behind its time (`HH:MM:SS`). Strings are bare, numbers as in
    /// JSON (a `float` widened to `double`), structs and other arrays compact JSON.
    pub fn text_row(&self, time: &[u8], record: &[u8], clock: &Clock, out: &mut Vec<u8>) {
        let end = self.text_row_at(out.len(), time, record, clock, out);
        out.truncate(end);
    }

    /// The same at `start`, as `json_at`.
    #[cfg_attr(small, optimize(speed))]
    pub fn text_row_at(
        &self,
        start: usize,
        time: &[u8],
        record: &[u8],
        clock: &Clock,
        buf: &mut Vec<u8>,
    ) -> usize {
        let mut out = Out::at(start, buf, self.header.len() + self.code.usual);
        out.bytes(time);
        for column in &self.columns {
            out.pad(start + column.start);
            self.code.run_once(&self.code.steps[column.steps.clone()], record, 0, clock, &mut out);
        }
        out.finish(buf)
    }

    /// Appends the whole value as it stands in a column of its own: a string or number bare, else compact JSON.
    pub fn text_value(&self, record: &[u8], clock: &Clock, out: &mut Vec<u8>) {
        match self.ty().is_composite() {
            true => self.json(record, clock, out),
            false => self.columns.iter().for_each(|column| self.column(column, record, clock, out)),
        }
    }

    /// Appends a line `member = value` for each member but `except`.
    pub fn text_members(&self, record: &[u8], except: &str, clock: &Clock, out: &mut Vec<u8>) {
        for column in self.columns.iter().filter(|column| column.name != except) {
            out.extend_from_slice(column.name.as_bytes());
            out.extend_from_slice(b" = ");
            self.column(column, record, clock, out);
            out.push(b'\n');
        }
    }

    #[cfg_attr(small, optimize(speed))]
    fn column(&self, column: &Column, record: &[u8], clock: &Clock, buf: &mut Vec<u8>) {
        let mut out = Out::behind(buf, MAX_NUMBER);
        self.code.run(&self.code.steps[column.steps.clone()], record, 0, clock, &mut out);
        let end = out.finish(buf);
        buf.truncate(end);
    }
}

/// Appends the head of the table for records whose type is unknown.
pub fn hex_header(out: &mut Vec<u8>) {
    out.extend_from_slice(TIME_HEADER);
    heading("data", out);
}

/// Appends a row for a record whose type is unknown, in hexadecimal.
pub fn hex_text(time: &[u8], record: &[u8], buf: &mut Vec<u8>) {
    let start = buf.len();
    let mut out = Out::behind(buf, TIME_HEADER.len() + 2 * record.len());
    out.bytes(time);
    out.pad(start + TIME_HEADER.len());
    out.room(2 * record.len());
    record.iter().for_each(|byte| out.hex(*byte));
    let end = out.finish(buf);
    buf.truncate(end);
}
