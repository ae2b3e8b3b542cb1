//! Formats one record.

use eunomia::render::{Plan, hex_json, hex_text};

use super::clock::Clock;
use super::csv::Csv;
use super::map_entry::EntryText;
use super::symbolized::NamedJson;
use super::table::Table;
use crate::options::Format;
use crate::output::Output;
use eunomia_records::record_clock;

/// A format of records.
pub enum Writer {
    Json(Plan),
    Named(Box<NamedJson>),
    Entry(Box<EntryText>),
    Table(Box<Table>),
    Csv(Csv),
    /// The bytes from this offset on. The bytes before it are the key, which is written separately.
    Raw(usize),
    /// Bytes, for records without a type.
    Hex(Format),
}

impl Writer {
    /// The header line of a CSV table.
    pub fn csv_header(&mut self) -> Option<Vec<u8>> {
        match self {
            Writer::Csv(csv) => Some(csv.header()),
            _ => None,
        }
    }

    /// Prepares for records that follow those of another table.
    pub fn begin_again(&mut self, output: &mut Output) {
        match self {
            Writer::Table(table) => table.begin_again(),
            Writer::Csv(csv) => output.change_header(csv.header()),
            _ => {}
        }
    }

    /// Appends a record to the output; `key` is that of a map entry.
    pub fn write(
        &mut self,
        key: &[u8],
        record: &[u8],
        timestamps: bool,
        clock: &mut Clock,
        output: &mut Output,
    ) {
        match self {
            Writer::Json(plan) if timestamps => {
                let mut json = Vec::new();
                plan.json(record, &record_clock::clock(), &mut json);
                clock.json(&json, &mut output.buffer);
            }
            Writer::Json(plan) => plan.json(record, &record_clock::clock(), &mut output.buffer),
            Writer::Named(named) if timestamps => {
                let mut json = Vec::new();
                named.write(record, &mut json);
                clock.json(&json, &mut output.buffer);
            }
            Writer::Named(named) => named.write(record, &mut output.buffer),
            Writer::Entry(entry) => entry.write(record, clock.time(), &mut output.buffer),
            Writer::Table(table) => {
                let size = output.size();
                return table.row(record, clock, timestamps, size, &mut output.buffer);
            }
            Writer::Csv(csv) => csv.row(record, timestamps.then(|| clock.exact()), &mut output.buffer),
            Writer::Raw(start) => {
                output.buffer.extend_from_slice(key);
                return output.buffer.extend_from_slice(&record[*start..]);
            }
            Writer::Hex(Format::Json) => hex_json(record, &mut output.buffer),
            Writer::Hex(_) => hex_text(clock.time().as_bytes(), record, &mut output.buffer),
        }
        output.buffer.push(b'\n');
    }
}
