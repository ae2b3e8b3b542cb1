//! Ids of stacks in records: what the package's map of stacks has under them is shown with the record.
//!
//! A record with `kern_stack_id` becomes one that has an array `kern_stack` besides, which is shown as any other stack.

use std::sync::Arc;

use eunomia::Vm;
use eunomia::types::{Field, Kind, Type};

use super::stack::is_of_stacks;
use crate::error::Result;
use crate::field;

/// Makes records with stacks of records with their ids.
pub struct StackIds {
    /// The type of these records.
    pub ty: Arc<Type>,
    vm: Arc<Vm>,
    map: String,
    ids: Vec<Field>,
    /// Where the first stack stands, and bytes of each.
    start: usize,
    size: usize,
    record: Vec<u8>,
}

impl StackIds {
    /// For records of this type; `None` if they have no ids, or the package has not one map of stacks.
    pub fn new(vm: &Arc<Vm>, ty: &Arc<Type>) -> Result<Option<StackIds>> {
        let ids = ids(ty);
        // A record that goes on behind its type has no end to put anything at.
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

    /// The record with its stacks.
    pub fn record(&mut self, record: &[u8]) -> &[u8] {
        self.record.fill(0);
        let len = record.len().min(self.start);
        self.record[..len].copy_from_slice(&record[..len]);
        for (index, id) in self.ids.iter().enumerate() {
            let start = self.start + index * self.size;
            // An id below zero is an error, and a stack may be gone by now: then there is none to show.
            let Ok(id) = u32::try_from(field::integer(id, record)) else { continue };
            let stack = &mut self.record[start..start + self.size];
            if self.vm.map_get(&self.map, &id.to_ne_bytes(), stack).is_err() {
                stack.fill(0);
            }
        }
        &self.record
    }
}

/// The integers whose names say that they are ids of stacks, with the names of these stacks.
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

/// `kern_stack` of a number called `kern_stack_id`.
fn stack_name(field: &Field) -> Option<String> {
    let is_number = matches!(field.ty.kind, Kind::Int | Kind::Uint) && matches!(field.ty.size, 4 | 8);
    let name = field.name.to_string();
    let stack = name.strip_suffix("id")?.trim_end_matches('_');
    (is_number && field.ty.format.is_none() && stack.ends_with("stack")).then(|| stack.to_owned())
}

/// Whether the package has a map whose stacks records may name.
pub fn has_stacks(vm: &Vm) -> Result<bool> {
    Ok(map_of_stacks(vm)?.is_some())
}

/// The package's map of stacks and the type of what it holds, if there is one only.
fn map_of_stacks(vm: &Vm) -> Result<Option<(String, Arc<Type>)>> {
    let mut found = Vec::new();
    for index in 0..vm.map_count()? {
        let map = vm.map_at(index)?;
        // `BPF_MAP_TYPE_STACK_TRACE`; other maps may have stacks in them as well.
        if map.kind == 7 && is_of_stacks(map.value_type.as_deref()) {
            found.extend(map.value_type.map(|ty| (map.name.to_string_lossy().into_owned(), ty)));
        }
    }
    Ok(if found.len() == 1 { found.pop() } else { None })
}
