//! Stacks among the fields of a record: arrays of addresses whose name says so.

use eunomia::types::{Field, Kind, Type};

use super::column::Column;
use crate::field;
use crate::symbols::Symbols;

/// The stacks of a record, which stand below its row.
pub struct Stacks {
    fields: Vec<Field>,
    /// The process that the addresses belong to.
    pid: Option<Field>,
    symbols: Option<Symbols>,
}

impl Stacks {
    /// Takes the stacks out of the columns.
    pub fn take(columns: &mut Vec<Column>, record: &Type) -> Option<Stacks> {
        let (stacks, others): (Vec<Column>, Vec<Column>) = columns.drain(..).partition(is_stack);
        *columns = others;
        let pid = ["tgid", "pid"].iter().find_map(|name| record.member(name));
        let fields: Vec<Field> = stacks.into_iter().map(|column| column.field).collect();
        (!fields.is_empty()).then_some(Stacks { fields, pid, symbols: None })
    }

    /// Appends the stacks of a record, innermost frames first.
    pub fn write(&mut self, record: &[u8], out: &mut Vec<u8>) {
        let symbols = self.symbols.get_or_insert_with(Symbols::new);
        let pid = self.pid.as_ref().map_or(0, |pid| field::integer(pid, record) as u32);
        for stack in &self.fields {
            let start = (stack.bit_offset / 8) as usize;
            let bytes = record.get(start..).unwrap_or_default();
            let bytes = &bytes[..bytes.len().min(stack.ty.size)];
            let address = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_ne_bytes);
            let addresses: Vec<u64> = bytes.chunks_exact(8).map(address).collect();
            symbols.stack(&addresses, pid, out);
        }
    }
}

fn is_stack(column: &Column) -> bool {
    let ty = &column.field.ty;
    let holds_addresses = |elem: &Type| matches!(elem.kind, Kind::Uint | Kind::Pointer) && elem.size == 8;
    ty.kind == Kind::Array
        && ty.elem.as_deref().is_some_and(holds_addresses)
        && column.name.to_lowercase().contains("stack")
}
