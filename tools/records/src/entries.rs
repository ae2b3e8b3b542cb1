//! Entries of maps as records, so that fields of keys and values can be selected and compared.
//!
//! A record has the members `key` and `value`. An entry of a per-CPU map is one record per CPU, with a member `cpu`.

use std::sync::Arc;

use eunomia::types::{Field, Type};
use eunomia::vm::MapInfo;

use crate::error::Result;
use crate::field;

/// Converts the entries of one map to records.
pub struct Entries {
    /// The type of the records.
    pub ty: Arc<Type>,
    /// The number of records per entry.
    pub count: usize,
    key_size: usize,
    value: Field,
    record: Vec<u8>,
}

impl Entries {
    /// A converter for the entries of a map.
    pub fn new(map: &MapInfo) -> Result<Entries> {
        let bytes = |ty: &Option<Arc<Type>>, size| ty.clone().unwrap_or_else(|| Type::bytes(size));
        let (key, value) = (bytes(&map.key_type, map.key_size), bytes(&map.value_type, map.value_size));
        let (key_size, value_size) = (key.size, value.size);
        let cpu_start = map.key_size.next_multiple_of(8);
        let value = Field::member("value", value, cpu_start + 8);
        let cpu = (map.cpus > 1).then(|| Field::member("cpu", Type::unsigned_int(), cpu_start));
        let members = [Field::member("key", key, 0)].into_iter().chain(cpu).chain([value.clone()]);
        let size = cpu_start as usize + 8 + value_size;
        Ok(Entries {
            ty: Type::structure("entry", size, members.collect())?,
            count: map.cpus.max(1) as usize,
            key_size,
            value,
            record: vec![0; size],
        })
    }

    /// Record `index` of an entry.
    pub fn record(&mut self, key: &[u8], values: &[u8], index: usize) -> &[u8] {
        let start = self.value_start();
        let key = &key[..key.len().min(self.key_size)];
        self.record[..key.len()].copy_from_slice(key);
        self.record[start - 8..start - 4].copy_from_slice(&(index as u32).to_ne_bytes());
        let stride = values.len() / self.count;
        let value = &values[stride * index..];
        let len = self.value.ty.size.min(value.len());
        self.record[start..start + len].copy_from_slice(&value[..len]);
        &self.record
    }

    /// The offset of the value.
    pub fn value_start(&self) -> usize {
        (self.value.bit_offset / 8) as usize
    }

    /// The columns of a table: the members of key and value if these are structs.
    pub fn columns(&self) -> Vec<String> {
        let of = |field: &Field| -> Vec<String> {
            match field::names(&field.ty) {
                inner if inner.is_empty() => vec![field.name.to_string()],
                inner => inner.iter().map(|inner| format!("{}.{inner}", field.name)).collect(),
            }
        };
        self.ty.fields.iter().flat_map(of).collect()
    }
}
