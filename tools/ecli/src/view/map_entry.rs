//! Entries of sampled maps as text.

use eunomia::package::{Sample, SampleKind};
use eunomia::render::{Plan, linear_hist, log2_hist};
use eunomia::types::{Field, Type};
use eunomia_records::{Entries, field, record_clock};

use crate::error::Result;

/// Formats an entry as text, as the library does.
pub struct EntryText {
    key: Plan,
    value: Plan,
    value_start: usize,
    cpu: Option<Field>,
    sample: Option<Sample>,
}

impl EntryText {
    /// Creates a formatter for the records of `entries`; `sample` specifies whether values are histograms.
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
