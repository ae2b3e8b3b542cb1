//! Records as lines of a table, and histograms.
//!
//! The table: a local time, then one column per member, headed by its name in capitals and at least six wide. A value
//! that is too long pushes the next ones to the right. A line stays a line: control characters in strings are escaped
//! as in JSON. Histograms have the shape of bcc's tools.

use std::io::Write;

use super::json::load_bits;
use super::layout::{Field, Kind};
use super::out::{MAX_NUMBER, Out};
use super::plan::{Column, Plan};

const HEADER: &[u8] = b"TIME     ";
const NARROWEST: usize = 6;

impl Plan {
    /// Appends the head of the table, without a line end: `TIME     PID    COMM   `.
    pub fn text_header(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.header);
    }

    /// Appends a record as a row, without a line end, behind its time (`HH:MM:SS`). Strings are bare, numbers as in
    /// JSON (a `float` widened to `double`), structs and other arrays compact JSON.
    pub fn text_row(&self, time: &[u8], record: &[u8], out: &mut Vec<u8>) {
        let end = self.text_row_at(out.len(), time, record, out);
        out.truncate(end);
    }

    /// The same at `start`, as `json_at`.
    #[cfg_attr(small, optimize(speed))]
    pub fn text_row_at(&self, start: usize, time: &[u8], record: &[u8], buf: &mut Vec<u8>) -> usize {
        let mut out = Out::at(start, buf, self.header.len() + self.code.usual);
        out.bytes(time);
        for column in &self.columns {
            out.pad(start + column.start);
            self.code.run_once(&self.code.steps[column.steps.clone()], record, 0, &mut out);
        }
        out.finish(buf)
    }

    /// Appends the whole value as it stands in a column of its own: a string or number bare, else compact JSON.
    pub fn text_value(&self, record: &[u8], out: &mut Vec<u8>) {
        match self.ty().is_composite() {
            true => self.json(record, out),
            false => self.columns.iter().for_each(|column| self.column(column, record, out)),
        }
    }

    /// Appends a line `member = value` for each member but `except`.
    pub fn text_members(&self, record: &[u8], except: &str, out: &mut Vec<u8>) {
        for column in self.columns.iter().filter(|column| column.name != except) {
            out.extend_from_slice(column.name.as_bytes());
            out.extend_from_slice(b" = ");
            self.column(column, record, out);
            out.push(b'\n');
        }
    }

    #[cfg_attr(small, optimize(speed))]
    fn column(&self, column: &Column, record: &[u8], buf: &mut Vec<u8>) {
        let mut out = Out::behind(buf, MAX_NUMBER);
        self.code.run(&self.code.steps[column.steps.clone()], record, 0, &mut out);
        let end = out.finish(buf);
        buf.truncate(end);
    }

    /// The slots of a histogram: the array of integers named `slots`, or the value itself if it is such an array.
    pub fn slots(&self, record: &[u8]) -> Option<Vec<u64>> {
        let slots = match self.ty().kind {
            Kind::Array => Field::member("slots", self.ty().clone(), 0),
            _ => self.ty().member("slots")?,
        };
        let elem = slots.ty.elem.as_ref()?;
        if !matches!(elem.kind, Kind::Int | Kind::Uint) || elem.size > 8 {
            return None;
        }
        let start = slots.bit_offset as usize / 8;
        let bits = 8 * elem.size as u32;
        let slot = |index: usize| load_bits(record, start + index * elem.size, 0, bits) as u64;
        Some((0..slots.ty.count as usize).map(slot).collect())
    }
}

/// Appends the head of the table for records whose type is unknown.
pub fn hex_header(out: &mut Vec<u8>) {
    out.extend_from_slice(HEADER);
    heading("data", out);
}

/// Appends a row for a record whose type is unknown, in hexadecimal.
pub fn hex_text(time: &[u8], record: &[u8], buf: &mut Vec<u8>) {
    let start = buf.len();
    let mut out = Out::behind(buf, HEADER.len() + 2 * record.len());
    out.bytes(time);
    out.pad(start + HEADER.len());
    out.room(2 * record.len());
    record.iter().for_each(|byte| out.hex(*byte));
    let end = out.finish(buf);
    buf.truncate(end);
}

/// Appends a column's head with the blank behind it; returns its width in characters.
pub(super) fn heading(name: &str, out: &mut Vec<u8>) -> usize {
    let len = name.chars().count();
    let width = len.max(NARROWEST) + 1;
    out.extend(name.bytes().map(|byte| byte.to_ascii_uppercase()));
    out.resize(out.len() + width - len, b' ');
    width
}

/// Appends a histogram whose slot n counts the values from 2^n to 2^(n+1)-1 (slot 0: 0 and 1). Lines are separated,
/// not ended, by line ends; nothing is appended if all slots are zero.
pub fn log2_hist(slots: &[u64], unit: &str, out: &mut Vec<u8>) {
    const LAST_NARROW: usize = 32;
    let Some((slots, most)) = used(slots) else { return };
    let wide = slots.len() - 1 > LAST_NARROW;
    let (blank, name, digits, stars) = if wide { (15, 29, 20, 20) } else { (5, 19, 10, 40) };
    append(out, format_args!("{:blank$}{unit:<name$} : count    distribution", ""));
    for (index, count) in slots.iter().enumerate() {
        let low = if index == 0 { 0 } else { 1u128 << index.min(64) };
        let high = (2u128 << index.min(64)) - 1;
        let bar = bar(*count, most, stars);
        append(out, format_args!("\n{low:>digits$} -> {high:<digits$} : {count:<8} |{bar:<stars$}|"));
    }
}

/// Appends a histogram with one row per slot, headed by the slot's index; otherwise as `log2_hist`.
pub fn linear_hist(slots: &[u64], unit: &str, out: &mut Vec<u8>) {
    const STARS: usize = 40;
    let Some((slots, most)) = used(slots) else { return };
    append(out, format_args!("{:5}{unit:<19} : count    distribution", ""));
    for (index, count) in slots.iter().enumerate() {
        let bar = bar(*count, most, STARS);
        append(out, format_args!("\n{index:>10}{:14} : {count:<8} |{bar:<STARS$}|", ""));
    }
}

/// The slots up to the last that is not zero, and the highest count.
fn used(slots: &[u64]) -> Option<(&[u64], u64)> {
    let last = slots.iter().rposition(|count| *count > 0)?;
    Some((&slots[..=last], *slots.iter().max()?))
}

fn bar(count: u64, most: u64, width: usize) -> String {
    "*".repeat((u128::from(count) * width as u128 / u128::from(most)) as usize)
}

fn append(out: &mut Vec<u8>, text: std::fmt::Arguments) {
    // Writing to a vector cannot fail.
    let _ = out.write_fmt(text);
}
