//! Stack ids in records: looks them up in the stack map of the package.
//!
//! A record with `kern_stack_id` gets another member, the array `kern_stack`, which is shown like any other stack.

use std::sync::Arc;

use eunomia::Vm;
use eunomia::types::{Field, Kind, Type};

use super::stack::is_of_stacks;
use crate::error::Result;
use eunomia_records::field;

/// Adds stacks to records with stack ids.
pub struct StackIds {
    /// The type of the records with stacks.
    pub ty: Arc<Type>,
    vm: Arc<Vm>,
    map: String,
    ids: Vec<Field>,
    /// The offset of the first stack, and the size of each.
    start: usize,
    size: usize,
    record: Vec<u8>,
}

impl StackIds {
    /// Prepares for records of this type. Returns `None` if they have no ids, or the package does not have exactly one stack map.
    pub fn new(vm: &Arc<Vm>, ty: &Arc<Type>) -> Result<Option<StackIds>> {
        let ids = ids(ty);
        // A record with a flexible array has no fixed end to append to.
        let is_open = ty.fields.last().is_some_and(|last| last.ty.kind == Kind::Array && last.ty.count == 0);
        if ids.is_empty() || is_open || ty.kind != Kind::Struct {
            return Ok(None);
        }
        let Some((map, stack)) = map_of_stacks(vm)? else { return Ok(None) };
        let (start, size) = (ty.size.next_multiple_of(8), stack.size);
        let mut fields = ty.fields.to_vec();
        let mut shown = Vec::new();
        for (name, id) in ids {
            if ty.member(&name).is_none() {
                let at = start + shown.len() * size;
                fields.push(Field::member(&name, Arc::clone(&stack), at as u32));
                shown.push(id);
            }
        }
        let end = start + shown.len() * size;
        let name = ty.name.strip_prefix("struct ").unwrap_or(&ty.name).to_owned();
        let ty = Type::structure(&name, end, fields)?;
        Ok(Some(StackIds { ty, vm: Arc::clone(vm), map, ids: shown, start, size, record: vec![0; end] }))
    }

    /// Returns the record with its stacks.
    pub fn record(&mut self, record: &[u8]) -> &[u8] {
        self.record.fill(0);
        let len = record.len().min(self.start);
        self.record[..len].copy_from_slice(&record[..len]);
        for (index, id) in self.ids.iter().enumerate() {
            let start = self.start + index * self.size;
            // A negative id is an error number, and a stack may have been removed.
            let Ok(id) = u32::try_from(field::integer(id, record)) else { continue };
            let stack = &mut self.record[start..start + self.size];
            if self.vm.map_get(&self.map, &id.to_ne_bytes(), stack).is_err() {
                stack.fill(0);
            }
        }
        &self.record
    }
}

/// The stack ids in a type, with the names of their stacks.
fn ids(ty: &Arc<Type>) -> Vec<(String, Field)> {
    let mut found = Vec::new();
    for outer in field::all(ty) {
        let inner = field::all(&outer.ty).into_iter().map(|inner| {
            let bit_offset = outer.bit_offset.saturating_add(inner.bit_offset);
            Field { bit_offset, ..inner }
        });
        found.extend(inner.chain([outer.clone()]).filter_map(|field| Some((stack_name(&field)?, field))));
    }
    found
}

/// The name of the stack of an id: `kern_stack` for `kern_stack_id`.
fn stack_name(field: &Field) -> Option<String> {
    let is_number = matches!(field.ty.kind, Kind::Int | Kind::Uint) && matches!(field.ty.size, 4 | 8);
    let name = field.name.to_string();
    let stack = name.strip_suffix("id")?.trim_end_matches('_');
    (is_number && field.ty.format.is_none() && stack.ends_with("stack")).then(|| stack.to_owned())
}

/// Whether records may contain ids of a stack map.
pub fn has_stacks(vm: &Vm) -> Result<bool> {
    Ok(map_of_stacks(vm)?.is_some())
}

/// The stack map of the package and the type of its values, if there is exactly one.
fn map_of_stacks(vm: &Vm) -> Result<Option<(String, Arc<Type>)>> {
    let mut found = Vec::new();
    for index in 0..vm.map_count()? {
        let map = vm.map_at(index)?;
        // BPF_MAP_TYPE_STACK_TRACE. Other maps may contain stacks as well.
        if map.kind == 7 && is_of_stacks(map.value_type.as_deref()) {
            found.extend(map.value_type.map(|ty| (map.name.to_string_lossy().into_owned(), ty)));
        }
    }
    Ok(if found.len() == 1 { found.pop() } else { None })
}
