//! Distributions: counts by buckets, and the upper edges of these.

use eunomia::types::Field;
use eunomia_records::field;

use crate::config::Bucket;
use crate::metric::growth;
use crate::native::Native;

/// The number of buckets of a `log2` histogram of events. The last one has no upper edge.
const LOG2_BUCKETS: usize = 32;

/// The upper edges of buckets. There is one more bucket, without an upper edge.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Edges {
    /// In the unit of the kernel, or of the metric if they are explicit.
    edges: Vec<f64>,
    rule: Rule,
    /// The resolution of the native buckets, which exist in addition.
    native: Option<i8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Rule {
    #[default]
    Log2,
    Linear,
    /// The edges are in the unit of the metric.
    Explicit,
}

/// What an entry of a map with one entry for each bucket counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The values in a bucket.
    Bucket(usize),
    /// The sum of all values.
    Sum,
}

impl Place {
    /// The place of the entry with this number.
    pub fn of(number: u64, wanted: &Bucket) -> Option<Place> {
        match wanted.keys.binary_search(&number) {
            _ if wanted.sum == Some(number) => Some(Place::Sum),
            Ok(index) => Some(Place::Bucket(index)),
            Err(_) if wanted.keys.is_empty() => Some(Place::Bucket(number.min(usize::MAX as u64) as usize)),
            Err(_) => None,
        }
    }
}

/// The counts of one series.
#[derive(Default)]
pub struct Distribution {
    /// Not cumulative; the last one has no upper edge.
    pub buckets: Vec<u64>,
    /// In the unit of the kernel, or of the metric if the edges are explicit. `None` if it is unknown.
    sum: Option<f64>,
    /// The native buckets, in the unit of the metric.
    pub native: Option<Box<Native>>,
}

impl Edges {
    /// Powers of two, as `slots` counters in the kernel: slot i has the integers with i as their logarithm, rounded down,
    /// and slot 0 also has 0. So the largest integer of a slot is `2^(i+1) - 1`. The last slot has everything above.
    pub fn log2(slots: Option<usize>) -> Edges {
        let count = slots.unwrap_or(LOG2_BUCKETS) - 1;
        let edge = |index| 2f64.powi(index as i32 + 1) - 1.0;
        Edges { edges: (0..count).map(edge).collect(), rule: Rule::Log2, native: None }
    }

    /// Steps: slot i counts the integers from `i * width` up to, but not including, `(i + 1) * width`.
    pub fn linear(width: f64, count: usize) -> Edges {
        let last = |index: usize| (index + 1) as f64 * width - if width.fract() == 0.0 { 1.0 } else { 0.0 };
        Edges { edges: (0..count).map(last).collect(), rule: Rule::Linear, native: None }
    }

    /// Any edges, in the unit of the metric.
    pub fn explicit(edges: Vec<f64>) -> Edges {
        Edges { edges, rule: Rule::Explicit, native: None }
    }

    /// Native buckets, with powers of two for readers that do not know them.
    pub fn native(schema: i8) -> Edges {
        Edges { native: Some(schema), ..Edges::log2(None) }
    }

    /// Whether there are native buckets.
    pub fn is_native(&self) -> bool {
        self.native.is_some()
    }

    /// The upper edges in the unit of the metric, without the infinite one.
    pub fn shown(&self, scale: f64) -> impl Iterator<Item = f64> {
        let scale = if self.rule == Rule::Explicit { 1.0 } else { scale };
        self.edges.iter().map(move |edge| scaled(*edge, scale))
    }

    fn index(&self, value: f64) -> usize {
        self.edges.partition_point(|edge| *edge < value)
    }
}

/// A product in the shortest notation: 3 * 1e-6 is 0.000003 and not 0.0000029999999999999997.
pub fn scaled(value: f64, scale: f64) -> f64 {
    let inverse = (1.0 / scale).round();
    if scale < 1.0 && (1.0 / inverse - scale).abs() < scale * 1e-12 { value / inverse } else { value * scale }
}

impl Distribution {
    /// Adds a value in the unit of the kernel.
    pub fn observe(&mut self, value: f64, edges: &Edges, scale: f64) {
        if let Some(schema) = edges.native.filter(|_| !value.is_nan()) {
            let native = self.native.get_or_insert_with(|| Native::new(schema).into());
            native.observe(scaled(value, scale));
        }
        let value = if edges.rule == Rule::Explicit { scaled(value, scale) } else { value };
        if value.is_nan() {
            return;
        }
        self.buckets.resize(edges.edges.len() + 1, 0);
        self.buckets[edges.index(value)] += 1;
        self.sum = Some(self.sum.unwrap_or(0.0) + value);
    }

    /// Adds the growth of an array of counts. `last` contains the counts of the previous reading, and gets the current ones.
    pub fn add_slots(
        &mut self,
        slots: &Field,
        sum: Option<&Field>,
        record: &[u8],
        last: &mut [u64],
        edges: &Edges,
    ) {
        self.buckets.resize(edges.edges.len() + 1, 0);
        let Some(elem) = &slots.ty.elem else { return };
        for (index, (bucket, last)) in self.buckets.iter_mut().zip(&mut *last).enumerate() {
            let bits = (index * elem.size * 8) as u32;
            let one = Field {
                ty: std::sync::Arc::clone(elem),
                bit_offset: slots.bit_offset + bits,
                bit_size: elem.size as u32 * 8,
                ..slots.clone()
            };
            *bucket += growth(last, u64::try_from(field::integer(&one, record)).unwrap_or(0));
        }
        if let (Some(sum), Some(last)) = (sum, last.last_mut()) {
            let value = u64::try_from(field::integer(sum, record)).unwrap_or(0);
            self.sum = Some(self.sum.unwrap_or(0.0) + growth(last, value) as f64);
        }
    }

    /// Adds to the bucket of an entry, or to the sum if the entry has that. `is_summed`: the map has an entry with the sum.
    pub fn add_entry(&mut self, place: Place, added: u64, is_summed: bool, edges: &Edges, scale: f64) {
        let scale = if edges.rule == Rule::Explicit { scale } else { 1.0 };
        self.buckets.resize(edges.edges.len() + 1, 0);
        if is_summed {
            self.sum.get_or_insert(0.0);
        }
        match place {
            Place::Bucket(index) => {
                let last = self.buckets.len() - 1;
                self.buckets[index.min(last)] += added;
            }
            Place::Sum => self.sum = Some(self.sum.unwrap_or(0.0) + scaled(added as f64, scale)),
        }
    }

    /// The number of values.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The sum of the values in the unit of the metric; `None` if it is unknown.
    pub fn sum(&self, edges: &Edges, scale: f64) -> Option<f64> {
        let scale = if edges.rule == Rule::Explicit { 1.0 } else { scale };
        self.sum.map(|sum| scaled(sum, scale))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_of_powers_of_two_is_the_largest_integer_of_its_slot() {
        let edges = Edges::log2(Some(5));
        assert_eq!(edges.shown(1.0).collect::<Vec<_>>(), [1.0, 3.0, 7.0, 15.0]);
        // What the kernel computes: the logarithm rounded down, and 0 for 0.
        for value in [0_u64, 1, 2, 3, 4, 7, 8, 15, 16, 1000] {
            let slot = (value.checked_ilog2().unwrap_or(0) as usize).min(4);
            assert_eq!(edges.index(value as f64), slot, "{value}");
        }
    }

    #[test]
    fn a_linear_slot_ends_before_the_next_one() {
        let edges = Edges::linear(10.0, 3);
        assert_eq!(edges.shown(1.0).collect::<Vec<_>>(), [9.0, 19.0, 29.0]);
        for (value, slot) in [(0, 0), (9, 0), (10, 1), (29, 2), (30, 3), (99, 3)] {
            assert_eq!(edges.index(f64::from(value)), slot, "{value}");
        }
    }

    #[test]
    fn sum_count_and_buckets_agree() {
        let edges = Edges::explicit(vec![0.001, 0.01]);
        let mut all = Distribution::default();
        for nanoseconds in [1_000.0, 1_000_000.0, 1_000_001.0, 5e9] {
            all.observe(nanoseconds, &edges, 1e-9);
        }
        assert_eq!((all.buckets.as_slice(), all.count()), (&[2, 1, 1][..], 4));
        let sum = all.sum(&edges, 1e-9).unwrap();
        assert!((sum - 5.002_001_001).abs() < 1e-9, "{sum}");
    }

    #[test]
    fn an_entry_is_a_bucket_or_the_sum() {
        let first = Bucket { from: "bucket".into(), keys: Vec::new(), sum: Some(3) };
        let places = |wanted: &Bucket| [0, 2, 3, 4].map(|number| Place::of(number, wanted));
        let [zero, two, four] = [0, 2, 4].map(|index| Some(Place::Bucket(index)));
        assert_eq!(places(&first), [zero, two, Some(Place::Sum), four]);
        let some = Bucket { keys: vec![2, 3], sum: None, ..first };
        assert_eq!(places(&some), [None, zero, Some(Place::Bucket(1)), None]);
        let (edges, mut all) = (Edges::explicit(vec![0.001, 0.01]), Distribution::default());
        for (place, added) in [(Place::Bucket(0), 2), (Place::Bucket(9), 1), (Place::Sum, 7000)] {
            all.add_entry(place, added, true, &edges, 1e-6);
        }
        assert_eq!(
            (all.buckets.as_slice(), all.count(), all.sum(&edges, 1e-6)),
            (&[2, 0, 1][..], 3, Some(0.007))
        );
    }

    #[test]
    fn scaled_edges_are_short() {
        let shown: Vec<String> = Edges::log2(Some(5)).shown(1e-6).map(|edge| edge.to_string()).collect();
        assert_eq!(shown, ["0.000001", "0.000003", "0.000007", "0.000015"]);
    }
}
