//! Records as comma-separated values: RFC 4180, but with LF line ends.

use csv_core::{WriteResult, Writer};

use eunomia_records::column::Column;

/// A CSV table.
pub struct Csv {
    columns: Vec<Column>,
    timestamps: bool,
    writer: Writer,
    cell: Vec<u8>,
}

impl Csv {
    /// A table of these columns.
    pub fn new(columns: Vec<Column>, timestamps: bool) -> Csv {
        Csv { columns, timestamps, writer: Writer::new(), cell: Vec::new() }
    }

    /// The names of its columns.
    pub fn names(&self) -> Vec<&str> {
        self.columns.iter().map(|column| &*column.name).collect()
    }

    /// The first line of the table.
    pub fn header(&mut self) -> Vec<u8> {
        let mut line = Vec::new();
        let time = self.timestamps.then_some("time");
        for (index, name) in time.into_iter().chain(self.columns.iter().map(|c| &*c.name)).enumerate() {
            cell(&mut self.writer, index, name.as_bytes(), &mut line);
        }
        self.end(&mut line);
        line.push(b'\n');
        line
    }

    /// Appends a record without a line end.
    pub fn row(&mut self, record: &[u8], time: Option<String>, out: &mut Vec<u8>) {
        let mut index = 0;
        if let Some(time) = time {
            cell(&mut self.writer, index, time.as_bytes(), out);
            index += 1;
        }
        for column in &self.columns {
            self.cell.clear();
            column.unambiguous_text(record, &mut self.cell);
            cell(&mut self.writer, index, &self.cell, out);
            index += 1;
        }
        self.end(out);
    }

    /// Closes the quotes of the last cell.
    fn end(&mut self, out: &mut Vec<u8>) {
        let mut space = [0; 8];
        let (_, len) = self.writer.finish(&mut space);
        out.extend_from_slice(&space[..len]);
        self.writer = Writer::new();
    }
}

/// Appends a cell, after a comma unless it is the first.
fn cell(writer: &mut Writer, index: usize, text: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    // Space for every character to be a quote, which is doubled, and for two quotes and a comma.
    out.resize(start + 2 * text.len() + 8, 0);
    let mut end = start;
    if index > 0 {
        end += writer.delimiter(&mut out[end..]).1;
    }
    let (result, _, len) = writer.field(text, &mut out[end..]);
    debug_assert!(matches!(result, WriteResult::InputEmpty));
    out.truncate(end + len);
}
