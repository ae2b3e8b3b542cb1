//! Native histograms of Prometheus: buckets that grow exponentially, as many as are in use.
//!
//! With the schema n, bucket i counts the values above `2^((i-1) / 2^n)` up to and including `2^(i / 2^n)`.

use std::sync::OnceLock;

/// The schemas of Prometheus.
const LOWEST: i8 = -4;
const HIGHEST: i8 = 8;

/// Maximum number of buckets with values. Beyond it, pairs of buckets are merged.
const MAX_BUCKETS: usize = 160;

/// Values up to this one are counted in the zero bucket.
pub const ZERO_THRESHOLD: f64 = 2.938_735_877_055_719e-39;

/// The buckets of one series.
#[derive(Clone, Debug, PartialEq)]
pub struct Native {
    /// The resolution.
    pub schema: i8,
    /// The number of values in the zero bucket.
    pub zero: u64,
    /// The counts of positive values by the index of their bucket, in order.
    pub positive: Vec<(i32, u64)>,
    /// The counts of negative values by the index of the bucket of their absolute value.
    pub negative: Vec<(i32, u64)>,
}

/// Counts in the notation of Prometheus: runs of buckets, and the difference of each count to the one before it.
pub struct Spans {
    /// The gap before each run, and its length. The gap of the first one is its index.
    pub spans: Vec<(i32, u32)>,
    /// The differences.
    pub deltas: Vec<i64>,
}

/// The lowest resolution with which each bucket is at most `factor` times as large as the one before it.
pub fn schema(factor: f64) -> i8 {
    (-factor.log2().log2().floor()).clamp(LOWEST.into(), HIGHEST.into()) as i8
}

impl Native {
    /// Creates buckets without values.
    pub fn new(schema: i8) -> Native {
        Native { schema, zero: 0, positive: Vec::new(), negative: Vec::new() }
    }

    /// Counts a value, which is a number.
    pub fn observe(&mut self, value: f64) {
        if value.abs() <= ZERO_THRESHOLD {
            self.zero += 1;
            return;
        }
        let index = index(self.schema, value.abs().min(f64::MAX));
        let side = if value < 0.0 { &mut self.negative } else { &mut self.positive };
        match side.binary_search_by_key(&index, |(index, _)| *index) {
            Ok(at) => side[at].1 += 1,
            Err(at) => side.insert(at, (index, 1)),
        }
        while self.positive.len() + self.negative.len() > MAX_BUCKETS && self.schema > LOWEST {
            self.reduce(self.schema - 1);
        }
    }

    /// Merges buckets until the resolution is not above `schema`.
    fn reduce(&mut self, schema: i8) {
        let Some(steps) = self.schema.checked_sub(schema).filter(|steps| *steps > 0) else { return };
        for side in [&mut self.positive, &mut self.negative] {
            for (index, _) in side.iter_mut() {
                // Rounded up, because a bucket includes its upper edge.
                *index = (*index + (1 << steps) - 1) >> steps;
            }
            side.dedup_by(|next, kept| {
                let is_same = next.0 == kept.0;
                kept.1 += if is_same { next.1 } else { 0 };
                is_same
            });
        }
        self.schema = schema;
    }

    /// What was counted since an earlier state, with the current resolution.
    pub fn since(&self, before: &Native) -> Native {
        let mut before = before.clone();
        before.reduce(self.schema);
        let difference = |now: &[(i32, u64)], before: &[(i32, u64)]| {
            let earlier =
                |index: i32| before.iter().find(|known| known.0 == index).map_or(0, |known| known.1);
            let all = now.iter().map(|(index, count)| (*index, count - earlier(*index).min(*count)));
            all.filter(|(_, count)| *count > 0).collect()
        };
        Native {
            schema: self.schema,
            zero: self.zero - before.zero.min(self.zero),
            positive: difference(&self.positive, &before.positive),
            negative: difference(&self.negative, &before.negative),
        }
    }

    /// The number of values.
    pub fn count(&self) -> u64 {
        self.zero + self.positive.iter().chain(&self.negative).map(|(_, count)| count).sum::<u64>()
    }
}

impl Spans {
    /// Converts counts.
    pub fn new(buckets: &[(i32, u64)]) -> Spans {
        let mut all = Spans { spans: Vec::new(), deltas: Vec::new() };
        let (mut next, mut last) = (0, 0);
        for (index, count) in buckets {
            match all.spans.last_mut().filter(|_| *index == next) {
                Some((_, length)) => *length += 1,
                None => all.spans.push((index - next, 1)),
            }
            all.deltas.push(*count as i64 - last);
            (next, last) = (index + 1, *count as i64);
        }
        all
    }
}

/// The bucket of a positive, normal number.
fn index(schema: i8, value: f64) -> i32 {
    const EXPONENT: u64 = 0x7ff << 52;
    let bits = value.to_bits();
    // The value is `fraction * 2^exponent`, with 0.5 <= fraction < 1.
    let exponent = ((bits & EXPONENT) >> 52) as i32 - 1022;
    let fraction = f64::from_bits(bits & !EXPONENT | 1022 << 52);
    if schema > 0 {
        let edges = edges(schema);
        return ((exponent - 1) << schema) + edges.partition_point(|edge| *edge < fraction) as i32;
    }
    let whole = if fraction == 0.5 { exponent - 1 } else { exponent };
    (whole + (1 << -schema) - 1) >> -schema
}

/// The upper edges of the buckets of a positive schema from 0.5 to 1.
fn edges(schema: i8) -> &'static [f64] {
    static EDGES: [OnceLock<Vec<f64>>; HIGHEST as usize + 1] =
        [const { OnceLock::new() }; HIGHEST as usize + 1];
    EDGES[schema as usize].get_or_init(|| {
        let count = 1 << schema;
        (0..count).map(|number| 0.5 * 2f64.powf(f64::from(number) / f64::from(count))).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_includes_its_upper_edge() {
        for (schema, value, expected) in [
            (0, 1.0, 0),
            (0, 1.1, 1),
            (0, 2.0, 1),
            (0, 2.1, 2),
            (0, 0.5, -1),
            (0, 0.3, -1),
            (3, 1.0, 0),
            (3, 2.0, 8),
            (3, 2.0000001, 9),
            (3, 1024.0, 80),
            (-1, 1.0, 0),
            (-1, 2.0, 1),
            (-1, 4.0, 1),
            (-1, 4.1, 2),
            (-4, 65536.0, 1),
            (-4, 65537.0, 2),
        ] {
            assert_eq!(index(schema, value), expected, "schema {schema}, {value}");
        }
        // The definition, for values that are not close to an edge.
        for (schema, value) in [(1_i8, 3.3), (2, 0.01), (3, 123.0), (5, 7.7), (8, 1e9)] {
            let expected = (f64::log2(value) * 2f64.powi(schema.into())).ceil() as i32;
            assert_eq!(index(schema, value), expected, "schema {schema}, {value}");
        }
    }

    #[test]
    fn the_resolution_follows_from_the_factor() {
        assert_eq!([2.0, 1.1, 1.5, 1.001, 1e6].map(schema), [0, 3, 1, 8, -4]);
    }

    #[test]
    fn runs_of_buckets_are_spans() {
        let all = Spans::new(&[(-2, 3), (-1, 1), (4, 5)]);
        assert_eq!(all.spans, [(-2, 2), (4, 1)]);
        assert_eq!(all.deltas, [3, -2, 4]);
    }

    #[test]
    fn memory_is_bounded_and_nothing_is_lost() {
        let mut native = Native::new(8);
        for number in 0..100_000 {
            native.observe(1.001_f64.powi(number % 40_000) * if number % 3 == 0 { -1.0 } else { 1.0 });
        }
        native.observe(0.0);
        assert_eq!((native.count(), native.zero), (100_001, 1));
        assert!(native.positive.len() + native.negative.len() <= MAX_BUCKETS, "{}", native.positive.len());
        assert!(native.positive.is_sorted_by_key(|(index, _)| *index));
    }

    #[test]
    fn a_difference_has_the_resolution_of_now() {
        let mut before = Native::new(3);
        [1.0, 1.0, 3.0].into_iter().for_each(|value| before.observe(value));
        let mut now = before.clone();
        [3.0, 100.0].into_iter().for_each(|value| now.observe(value));
        now.reduce(0);
        assert_eq!(now.since(&before).positive, [(2, 1), (7, 1)]);
    }
}
