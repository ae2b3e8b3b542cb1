//! Records as JSON, with function names instead of the addresses on stacks.

use super::stack::{self, Processes};
use crate::symbols::Symbols;
use eunomia_records::column::Column;

/// Formats the columns of a record; its stacks are arrays of strings.
pub struct NamedJson {
    columns: Vec<(Column, bool)>,
    processes: Processes,
    symbols: Symbols,
}

impl NamedJson {
    /// Returns `None` if none of the columns is a stack.
    pub fn new(columns: Vec<Column>, processes: Processes, symbols: Symbols) -> Option<NamedJson> {
        let stacks: Vec<bool> = columns.iter().map(stack::is_stack).collect();
        let has_stacks = stacks.contains(&true);
        let columns = columns.into_iter().zip(stacks).collect();
        has_stacks.then(|| NamedJson { columns, processes, symbols })
    }

    /// Appends a record.
    pub fn write(&mut self, record: &[u8], out: &mut Vec<u8>) {
        let pid = self.processes.of(record);
        for (index, (column, is_stack)) in self.columns.iter().enumerate() {
            out.push(if index == 0 { b'{' } else { b',' });
            if !is_stack {
                column.json_member(record, out);
                continue;
            }
            string(&column.name, out);
            out.extend_from_slice(b":[");
            let start = out.len();
            self.symbols.stack(&stack::addresses(&column.field, record), pid, |frame| {
                if out.len() > start {
                    out.push(b',');
                }
                string(frame, out);
            });
            out.push(b']');
        }
        out.push(b'}');
    }
}

/// Appends a JSON string.
fn string(text: &str, out: &mut Vec<u8>) {
    // Serializing a string to a vector cannot fail.
    let _ = serde_json::to_writer(out, text);
}
