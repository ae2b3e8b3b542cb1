//! Map entries as JSON, as lines and as histograms.

use super::event::Format;
use crate::bpf::map::{Form, is_per_cpu, value_json};
use crate::bpf::source::Shape;
use crate::package::{Sample, SampleKind};
use crate::render::{Clock, linear_hist, log2_hist};

/// Appends an entry as JSON or text. `key` is rendered already.
pub fn entry_text(
    source: &Shape,
    format: Format,
    time: &[u8],
    clock: &Clock,
    key: &[u8],
    value: &[u8],
    out: &mut Vec<u8>,
) {
    let (form, per_cpu) = (&source.map.value, is_per_cpu(source.map.kind));
    if format == Format::Json {
        out.extend_from_slice(b"{\"key\":");
        out.extend_from_slice(key);
        out.extend_from_slice(b",\"value\":");
        value_json(form, per_cpu, value, clock, out);
        return out.push(b'}');
    }
    let is_histogram = |sample: &&Sample| sample.kind != SampleKind::DefaultKv;
    if let Some(sample) = source.sample.as_ref().filter(is_histogram) {
        if let Some(slots) = slots(form, per_cpu, value) {
            return histogram(form, sample, clock, key, value, &slots, out);
        }
    }
    out.extend_from_slice(time);
    out.extend_from_slice(b"  ");
    out.extend_from_slice(key);
    out.push(b' ');
    value_json(form, per_cpu, value, clock, out);
}

/// Returns the slots of a histogram, summed over the CPUs of a per-CPU map.
fn slots(form: &Form, per_cpu: bool, value: &[u8]) -> Option<Vec<u64>> {
    let plan = form.plan.as_ref()?;
    let stride = if per_cpu { form.size.next_multiple_of(8) } else { form.size };
    let mut sum: Option<Vec<u64>> = None;
    for value in value.chunks(stride.max(1)) {
        let slots = plan.slots(value)?;
        match &mut sum {
            None => sum = Some(slots),
            Some(sum) => sum.iter_mut().zip(slots).for_each(|(sum, slot)| *sum = sum.saturating_add(slot)),
        }
    }
    sum
}

fn histogram(
    form: &Form,
    sample: &Sample,
    clock: &Clock,
    key: &[u8],
    value: &[u8],
    slots: &[u64],
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"key = ");
    out.extend_from_slice(key);
    out.push(b'\n');
    if let Some(plan) = &form.plan {
        plan.text_members(&value[..form.size], "slots", clock, out);
    }
    match sample.kind {
        SampleKind::LinearHist => linear_hist(slots, &sample.unit, out),
        _ => log2_hist(slots, &sample.unit, out),
    }
}
