//! Entries of sampled maps as records, so that fields of keys and values can be selected and compared.
//!
//! A record has the members `key` and `value`. An entry of a per-CPU map is one record per CPU, with a member `cpu`.

use std::sync::Arc;

use eunomia::package::{Sample, SampleKind};
use eunomia::render::{Plan, linear_hist, log2_hist};
use eunomia::types::{Field, Type};
use eunomia::vm::MapInfo;

use crate::error::Result;
use crate::field;
use crate::record_clock;

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
    /// For the entries of a map.
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

/// Formats an entry as text, as the library does.
pub struct EntryText {
    key: Plan,
    value: Plan,
    value_start: usize,
    cpu: Option<Field>,
    sample: Option<Sample>,
}

impl EntryText {
    /// For the records of `entries`; `sample` specifies whether values are histograms.
    pub fn new(entries: &Entries, sample: Option<Sample>) -> Result<EntryText> {
        let ty = |name| entries.ty.member(name).map(|field| field.ty);
        let plan = |name| Plan::new(&ty(name).unwrap_or_else(|| Type::bytes(0)));
        Ok(EntryText {
            key: plan("key")?,
            value: plan("value")?,
            value_start: entries.value_start(),
            cpu: entries.ty.member("cpu"),
            sample,
        })
    }

    /// Appends a record without a line end.
    pub fn write(&self, record: &[u8], time: &str, out: &mut Vec<u8>) {
        let value = &record[self.value_start..];
        let cpu = self.cpu.as_ref().map(|cpu| format!(" (CPU {})", field::integer(cpu, record)));
        let cpu = cpu.unwrap_or_default();
        let histogram = self.sample.as_ref().and_then(|sample| match sample.kind {
            SampleKind::Log2Hist => Some((log2_hist as fn(&[u64], &str, &mut Vec<u8>), &sample.unit)),
            SampleKind::LinearHist => Some((linear_hist as _, &sample.unit)),
            _ => None,
        });
        if let (Some((histogram, unit)), Some(slots)) = (histogram, self.value.slots(value)) {
            out.extend_from_slice(b"key = ");
            self.key.json(record, &record_clock::clock(), out);
            out.extend_from_slice(cpu.as_bytes());
            out.push(b'\n');
            self.value.text_members(value, "slots", &record_clock::clock(), out);
            return histogram(&slots, unit, out);
        }
        out.extend_from_slice(time.as_bytes());
        out.extend_from_slice(b"  ");
        self.key.json(record, &record_clock::clock(), out);
        out.extend_from_slice(cpu.as_bytes());
        out.push(b' ');
        self.value.json(value, &record_clock::clock(), out);
    }
}
