//! Writes records as rows of a table.
//!
//! The columns are the local time and the members, with their names in capitals as header, at least six characters wide. A
//! value that is too long shifts the next ones to the right. A record is one line, because control characters in strings
//! are escaped as in JSON.

use super::clock::Clock;
use super::compile::column_header;
use super::out::{MAX_NUMBER, Out};
use super::plan::Plan;
use super::steps::{Column, TIME_HEADER};

impl Plan {
    /// Appends the header of the table, without a newline: `TIME     PID    COMM   `.
    pub fn text_header(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.header);
    }

    /// Appends a row, without a newline: `time` (`HH:MM:SS`) and the record. Strings have no quotes, numbers are as in JSON (a
    /// `float` is converted to `double`), structs and other arrays are compact JSON.
    pub fn text_row(&self, time: &[u8], record: &[u8], clock: &Clock, out: &mut Vec<u8>) {
        let end = self.text_row_at(out.len(), time, record, clock, out);
        out.truncate(end);
    }

    /// Writes a row at `start`, as [`Plan::json_at`] does.
    #[cfg_attr(small, optimize(speed))]
    pub fn text_row_at(
        &self,
        start: usize,
        time: &[u8],
        record: &[u8],
        clock: &Clock,
        buf: &mut Vec<u8>,
    ) -> usize {
        let mut out = Out::start_at(start, buf, self.header.len() + self.code.typical_len);
        out.bytes(time);
        for column in &self.columns {
            out.pad(start + column.start);
            self.code.run_once(&self.code.steps[column.steps.clone()], record, 0, clock, &mut out);
        }
        out.finish(buf)
    }

    /// Appends a line `member = value` for each member except `except`.
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
        let mut out = Out::append(buf, MAX_NUMBER);
        self.code.run(&self.code.steps[column.steps.clone()], record, 0, clock, &mut out);
        let end = out.finish(buf);
        buf.truncate(end);
    }
}

/// Appends the header of the table for records of unknown type.
pub fn hex_header(out: &mut Vec<u8>) {
    out.extend_from_slice(TIME_HEADER);
    column_header("data", out);
}

/// Appends a row for a record of unknown type, in hexadecimal.
pub fn hex_text(time: &[u8], record: &[u8], buf: &mut Vec<u8>) {
    let start = buf.len();
    let mut out = Out::append(buf, TIME_HEADER.len() + 2 * record.len());
    out.bytes(time);
    out.pad(start + TIME_HEADER.len());
    out.reserve(2 * record.len());
    record.iter().for_each(|byte| out.hex(*byte));
    let end = out.finish(buf);
    buf.truncate(end);
}
