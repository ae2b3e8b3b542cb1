//! Converts buckets. In ebpf_exporter, a map has an entry for each bucket, and one more for the sum of the values.

use super::theirs::{BucketType, Histogram};
use super::yaml;
use crate::config::MAX_BUCKETS;
use crate::histogram::scaled;

/// The buckets of a histogram of the exporter.
#[derive(Debug, PartialEq, Eq)]
pub struct Buckets {
    /// The value of `bucket`.
    pub bucket: String,
    /// The value of `buckets`.
    pub buckets: String,
}

/// Converts buckets whose numbers are in the field `from`. `is_compatible`: the upper edges of exp2 are those of ebpf_exporter, which
/// are half of the true ones.
pub fn convert(from: &str, histogram: &Histogram, is_compatible: bool) -> Result<Buckets, String> {
    let scale = scale(histogram);
    let (min, max) = (histogram.bucket_min, histogram.bucket_max);
    let keys: Vec<u64> = match histogram.bucket_type {
        BucketType::Fixed => histogram.bucket_keys.clone(),
        _ if max < min || max - min >= MAX_BUCKETS as u64 => {
            return Err(format!(
                "bucket_min is {min} and bucket_max is {max}; at most {MAX_BUCKETS} buckets are supported"
            ));
        }
        _ => (min..=max).collect(),
    };
    let Some(last) = keys.last().copied().filter(|last| *last < u64::MAX) else {
        return Err("there are no buckets".into());
    };
    let is_exact = is_compatible || matches!(histogram.bucket_type, BucketType::Linear | BucketType::Fixed);
    // The last bucket also counts everything above, so its true upper edge is infinite.
    let count = if is_exact { keys.len() } else { keys.len() - 1 };
    let edge = |key: &u64| {
        let power = |exponent: u64| 2_f64.powi(exponent.min(1023) as i32);
        let edge = match (histogram.bucket_type, is_compatible) {
            (BucketType::Exp2, true) => power(*key),
            (BucketType::Exp2, false) => power(key + 1) - 1.0,
            (BucketType::Exp2Zero, _) if *key == 0 => 0.0,
            (BucketType::Exp2Zero, true) => power(key - 1),
            (BucketType::Exp2Zero, false) => power(*key) - 1.0,
            (BucketType::Linear | BucketType::Fixed, _) => *key as f64,
        };
        scaled(edge, scale)
    };
    let is_log2 =
        histogram.bucket_type == BucketType::Exp2 && !is_compatible && min == 0 && (1..=64).contains(&count);
    let buckets = match is_log2 {
        true => format!("log2({count})"),
        false => yaml::list(keys[..count].iter().map(|key| edge(key).to_string())),
    };
    let mut bucket = vec![("from", yaml::scalar(from))];
    if keys.iter().enumerate().any(|(index, key)| *key != index as u64) {
        bucket.push(("keys", yaml::list(keys.iter().map(u64::to_string))));
    }
    bucket.push(("sum", (last + 1).to_string()));
    Ok(Buckets { bucket: yaml::mapping(&bucket), buckets })
}

/// The factor from the values in the kernel to those that are shown.
pub fn scale(histogram: &Histogram) -> f64 {
    if histogram.bucket_multiplier == 0.0 { 1.0 } else { histogram.bucket_multiplier }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(bucket_type: BucketType, bucket_min: u64, bucket_max: u64) -> Histogram {
        Histogram {
            name: "h".into(),
            help: String::new(),
            bucket_type,
            bucket_multiplier: 0.0,
            bucket_min,
            bucket_max,
            bucket_keys: vec![1, 5, 10],
            labels: Vec::new(),
        }
    }

    #[test]
    fn edges_are_correct_or_compatible() {
        let convert = |kind, min, is_compatible| {
            let found = convert("bucket", &histogram(kind, min, 3), is_compatible).unwrap();
            (found.buckets, found.bucket)
        };
        let all = "{from: bucket, sum: 4}".to_owned();
        let some = "{from: bucket, keys: [2, 3], sum: 4}".to_owned();
        assert_eq!(convert(BucketType::Exp2, 0, false), ("log2(3)".into(), all.clone()));
        assert_eq!(convert(BucketType::Exp2, 0, true), ("[1, 2, 4, 8]".into(), all.clone()));
        assert_eq!(convert(BucketType::Exp2, 2, false), ("[7]".into(), some.clone()));
        assert_eq!(convert(BucketType::Exp2, 2, true), ("[4, 8]".into(), some));
        assert_eq!(convert(BucketType::Exp2Zero, 0, false), ("[0, 1, 3]".into(), all.clone()));
        assert_eq!(convert(BucketType::Exp2Zero, 0, true), ("[0, 1, 2, 4]".into(), all.clone()));
        assert_eq!(convert(BucketType::Linear, 0, false), ("[0, 1, 2, 3]".into(), all));
        let fixed = ("[1, 5, 10]".to_owned(), "{from: bucket, keys: [1, 5, 10], sum: 11}".to_owned());
        assert_eq!(convert(BucketType::Fixed, 0, false), fixed);
    }

    #[test]
    fn edges_have_the_unit_of_the_metric() {
        let microseconds = Histogram { bucket_multiplier: 1e-6, ..histogram(BucketType::Exp2Zero, 0, 3) };
        assert_eq!(convert("b", &microseconds, false).unwrap().buckets, "[0, 0.000001, 0.000003]");
    }

    #[test]
    fn too_many_buckets_are_refused() {
        for (min, max) in [(2, 1), (0, 1 << 40), (0, u64::MAX)] {
            assert!(convert("b", &histogram(BucketType::Linear, min, max), false).is_err());
        }
    }
}
