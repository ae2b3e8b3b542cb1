//! Records as rows of a table that fits the terminal.
//!
//! Numbers are right-aligned and their columns grow. Strings are left-aligned and cut if the terminal is narrow. In a file
//! or pipe, nothing is cut.

use std::borrow::Cow;
use std::sync::Arc;

use eunomia::types::Type;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::clock::Clock;
use super::stack::{Processes, Stacks};
use crate::symbols::Symbols;
use crate::terminal::Style;
use eunomia_records::column::Column;

/// The minimum width of a column.
const MIN_WIDTH: usize = 6;
/// The initial width of a string column.
const STRING_WIDTH: usize = 32;
/// The minimum width of a string column on a narrow terminal.
const MIN_STRING_WIDTH: usize = 8;

/// A table of the records of one source.
pub struct Table {
    columns: Vec<Column>,
    widths: Vec<usize>,
    style: Style,
    /// The size of the terminal that the widths are for.
    size: Option<(usize, usize)>,
    /// Rows since the last header; `None` before the first.
    rows: Option<usize>,
    cell: Vec<u8>,
    line: String,
    stacks: Option<Stacks>,
}

impl Table {
    /// A table of these columns.
    pub fn new(mut columns: Vec<Column>, record: &Arc<Type>, style: Style, symbols: Symbols) -> Table {
        let stacks = Stacks::take(&mut columns, Processes::new(record), symbols);
        let widths = columns.iter().map(initial_width).collect();
        Table {
            columns,
            widths,
            style,
            size: None,
            rows: None,
            cell: Vec::new(),
            line: String::new(),
            stacks,
        }
    }

    /// Appends a record as a row, after a header if one is due.
    pub fn row(
        &mut self,
        record: &[u8],
        clock: &mut Clock,
        exact: bool,
        size: Option<(usize, usize)>,
        out: &mut Vec<u8>,
    ) {
        let time: Cow<str> = if exact { clock.exact().into() } else { clock.time().into() };
        if self.size != size {
            self.size = size;
            self.fit(time.len());
        }
        let is_due = |rows: usize| size.is_some_and(|(_, height)| rows + 2 >= height);
        if self.rows.is_none_or(is_due) {
            self.header(time.len(), out);
            self.rows = Some(0);
        }
        self.rows = self.rows.map(|rows| rows + 1);
        self.line.clear();
        let last = self.columns.len().saturating_sub(1);
        for index in 0..self.columns.len() {
            let mut cell = std::mem::take(&mut self.cell);
            cell.clear();
            self.columns[index].text(record, &mut cell);
            let text = String::from_utf8_lossy(&cell);
            let is_number = self.columns[index].is_number();
            let len = width_of(&text);
            if is_number && len > self.widths[index] {
                self.widths[index] = len;
                self.narrow(time.len());
            }
            let width = self.widths[index];
            self.line.push(' ');
            if is_number {
                pad(&mut self.line, width - len);
            }
            match size {
                Some(_) if len > width && !is_number => cut(&text, width, &mut self.line),
                _ => self.line.push_str(&text),
            }
            if !is_number && index != last {
                pad(&mut self.line, width.saturating_sub(len));
            }
            drop(text);
            self.cell = cell;
        }
        self.style.dim(&time, out);
        match size {
            Some((width, _)) if time.len() + width_of(&self.line) > width => {
                let line = std::mem::take(&mut self.line);
                cut(&line, width.saturating_sub(time.len()), &mut self.line);
                out.extend_from_slice(self.line.as_bytes());
            }
            _ => out.extend_from_slice(self.line.as_bytes()),
        }
        out.push(b'\n');
        if let Some(stacks) = &mut self.stacks {
            stacks.write(record, out);
        }
    }

    /// Writes the header before the next row.
    pub fn begin_again(&mut self) {
        self.rows = None;
    }

    /// Whether there are stacks, whose symbols require privileges.
    pub fn has_stacks(&self) -> bool {
        self.stacks.is_some()
    }

    fn header(&self, time_width: usize, out: &mut Vec<u8>) {
        let mut line = format!("{:time_width$}", "TIME");
        for (index, (column, width)) in self.columns.iter().zip(&self.widths).enumerate() {
            let name = column.name.to_uppercase();
            let blanks = width.saturating_sub(width_of(&name));
            line.push(' ');
            if column.is_number() {
                pad(&mut line, blanks);
            }
            line.push_str(&name);
            if !column.is_number() && index + 1 < self.columns.len() {
                pad(&mut line, blanks);
            }
        }
        if let Some((width, _)) = self.size {
            let whole = std::mem::take(&mut line);
            cut(&whole, width, &mut line);
        }
        self.style.bold(&line, out);
        out.push(b'\n');
    }

    /// Distributes the width of the terminal among the strings.
    fn fit(&mut self, time_width: usize) {
        let Some((width, _)) = self.size else { return };
        self.widths = self.columns.iter().map(initial_width).collect();
        self.narrow(time_width);
        let is_short = |index: &usize| longest_string(&self.columns[*index]) > self.widths[*index];
        let strings: Vec<usize> = self.strings().filter(is_short).collect();
        let spare = width.saturating_sub(self.width(time_width));
        for index in &strings {
            let missing = longest_string(&self.columns[*index]) - self.widths[*index];
            self.widths[*index] += (spare / strings.len()).min(missing);
        }
    }

    /// Narrows the widest strings until the table fits the terminal.
    fn narrow(&mut self, time_width: usize) {
        let Some((width, _)) = self.size else { return };
        while self.width(time_width) > width {
            let widest = self.strings().max_by_key(|index| self.widths[*index]);
            let Some(widest) = widest.filter(|widest| self.widths[*widest] > MIN_STRING_WIDTH) else {
                return;
            };
            self.widths[widest] -= 1;
        }
    }

    fn width(&self, time_width: usize) -> usize {
        time_width + self.widths.iter().map(|width| width + 1).sum::<usize>()
    }

    fn strings(&self) -> impl Iterator<Item = usize> {
        (0..self.columns.len()).filter(|index| !self.columns[*index].is_number())
    }
}

/// The length of the longest string in a column.
fn longest_string(column: &Column) -> usize {
    let ty = &column.field.ty;
    if ty.is_string() && ty.count > 0 { ty.size - 1 } else { usize::from(u16::MAX) }
}

fn initial_width(column: &Column) -> usize {
    let ty = &column.field.ty;
    let width = if ty.is_string() { longest_string(column).min(STRING_WIDTH) } else { MIN_WIDTH };
    width.max(width_of(&column.name))
}

/// The width of a text on a terminal.
fn width_of(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.width() }
}

fn pad(line: &mut String, blanks: usize) {
    line.extend(std::iter::repeat_n(' ', blanks));
}

/// Appends a text, cut to `width` with an ellipsis.
fn cut(text: &str, width: usize, line: &mut String) {
    if width_of(text) <= width {
        return line.push_str(text);
    }
    let mut left = width.saturating_sub(1);
    for letter in text.chars() {
        let Some(rest) = left.checked_sub(letter.width().unwrap_or(0)) else { break };
        left = rest;
        line.push(letter);
    }
    line.push('…');
}
