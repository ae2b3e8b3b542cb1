//! Stacks in records: arrays of addresses, recognized by their format or name.

use std::sync::Arc;

use eunomia::types::{Field, Kind, Type, ValueFormat};

use crate::symbols::Symbols;
use eunomia_records::column::Column;
use eunomia_records::field;

/// The stacks of a record, printed below its row.
pub struct Stacks {
    fields: Vec<Field>,
    processes: Processes,
    symbols: Symbols,
}

impl Stacks {
    /// Removes the stacks from the columns.
    pub fn take(columns: &mut Vec<Column>, processes: Processes, symbols: Symbols) -> Option<Stacks> {
        let (stacks, others): (Vec<Column>, Vec<Column>) = columns.drain(..).partition(is_stack);
        *columns = others;
        let fields: Vec<Field> = stacks.into_iter().map(|column| column.field).collect();
        (!fields.is_empty()).then(|| Stacks { fields, processes, symbols })
    }

    /// Appends the stacks of a record, innermost frame first.
    pub fn write(&mut self, record: &[u8], out: &mut Vec<u8>) {
        let pid = self.processes.of(record);
        for stack in &self.fields {
            self.symbols.stack(&addresses(stack, record), pid, |frame| {
                out.extend_from_slice(b"    ");
                out.extend_from_slice(frame.as_bytes());
                out.push(b'\n');
            });
        }
    }
}

/// The field with the process of the stacks.
pub struct Processes(Option<Field>);

impl Processes {
    /// Finds the field in records or map entries.
    pub fn new(record: &Arc<Type>) -> Processes {
        let names = ["tgid", "pid", "key.tgid", "key.pid"];
        Processes(names.iter().find_map(|name| field::find(record, name).ok()))
    }

    /// The process id; 0 if unknown.
    pub fn of(&self, record: &[u8]) -> u32 {
        self.0.as_ref().map_or(0, |pid| field::integer(pid, record) as u32)
    }
}

/// The addresses in a field.
pub fn addresses(field: &Field, record: &[u8]) -> Vec<u64> {
    let start = (field.bit_offset / 8) as usize;
    let bytes = record.get(start..).unwrap_or_default();
    let bytes = &bytes[..bytes.len().min(field.ty.size)];
    let address = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_ne_bytes);
    bytes.chunks_exact(8).map(address).collect()
}

/// Whether a column holds a stack.
pub fn is_stack(column: &Column) -> bool {
    let ty = &column.field.ty;
    let holds_addresses = |elem: &Type| matches!(elem.kind, Kind::Uint | Kind::Pointer) && elem.size == 8;
    ty.kind == Kind::Array
        && ty.elem.as_deref().is_some_and(holds_addresses)
        && (ty.format == Some(ValueFormat::Stack) || column.name.to_lowercase().contains("stack"))
}

/// Whether the values of a map are stacks.
pub fn is_of_stacks(value: Option<&Type>) -> bool {
    value.is_some_and(|ty| ty.format == Some(ValueFormat::Stack))
}
