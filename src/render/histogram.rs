//! Writes histograms, as the tools of bcc do.

use std::io::Write;

use super::plan::Plan;
use super::run::load_bits;
use crate::types::{Field, Kind};

impl Plan {
    /// Returns the slots of a histogram: the array of integers named `slots`, or the value itself if it is such an array.
    pub fn slots(&self, record: &[u8]) -> Option<Vec<u64>> {
        let slots = match self.ty().kind {
            Kind::Array => Field::member("slots", self.ty().clone(), 0),
            _ => self.ty().member("slots")?,
        };
        let elem = slots.ty.elem.as_ref()?;
        if !matches!(elem.kind, Kind::Int | Kind::Uint) || elem.size > 8 {
            return None;
        }
        let start = slots.bit_offset as usize / 8;
        let bits = 8 * elem.size as u32;
        let slot = |index: usize| load_bits(record, start + index * elem.size, 0, bits) as u64;
        Some((0..slots.ty.count as usize).map(slot).collect())
    }
}

/// Appends a histogram whose slot n counts the values from 2^n to 2^(n+1)-1 (slot 0: 0 and 1). The last line has no
/// newline. Nothing is appended if all slots are zero.
pub fn log2_hist(slots: &[u64], unit: &str, out: &mut Vec<u8>) {
    const LAST_NARROW: usize = 32;
    let Some((slots, most)) = nonzero_slots(slots) else { return };
    let wide = slots.len() - 1 > LAST_NARROW;
    let (blank, name, digits, stars) = if wide { (15, 29, 20, 20) } else { (5, 19, 10, 40) };
    append(out, format_args!("{:blank$}{unit:<name$} : count    distribution", ""));
    for (index, count) in slots.iter().enumerate() {
        let low = if index == 0 { 0 } else { 1u128 << index.min(64) };
        let high = (2u128 << index.min(64)) - 1;
        let bar = bar(*count, most, stars);
        append(out, format_args!("\n{low:>digits$} -> {high:<digits$} : {count:<8} |{bar:<stars$}|"));
    }
}

/// Appends a histogram with one row per slot, which begins with the index of the slot. Otherwise as [`log2_hist`].
pub fn linear_hist(slots: &[u64], unit: &str, out: &mut Vec<u8>) {
    const STARS: usize = 40;
    let Some((slots, most)) = nonzero_slots(slots) else { return };
    append(out, format_args!("{:5}{unit:<19} : count    distribution", ""));
    for (index, count) in slots.iter().enumerate() {
        let bar = bar(*count, most, STARS);
        append(out, format_args!("\n{index:>10}{:14} : {count:<8} |{bar:<STARS$}|", ""));
    }
}

/// Returns the slots up to the last that is not zero, and the greatest count.
fn nonzero_slots(slots: &[u64]) -> Option<(&[u64], u64)> {
    let last = slots.iter().rposition(|count| *count > 0)?;
    Some((&slots[..=last], *slots.iter().max()?))
}

fn bar(count: u64, most: u64, width: usize) -> String {
    "*".repeat((u128::from(count) * width as u128 / u128::from(most)) as usize)
}

fn append(out: &mut Vec<u8>, text: std::fmt::Arguments) {
    // Writing to a vector cannot fail.
    let _ = out.write_fmt(text);
}
