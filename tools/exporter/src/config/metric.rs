//! One metric, as the user has written it.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;

use super::Label;
use crate::native;

/// The growth of native buckets, unless the file specifies it.
const FACTOR: f64 = 1.1;

/// The kinds of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Grows only.
    Counter,
    /// Is read at each scrape.
    Gauge,
    /// A distribution.
    Histogram,
    /// Constants.
    Info,
}

impl Kind {
    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Info => "info",
        }
    }
}

/// A metric. Which keys are allowed depends on its kind and its source.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// Its description for users.
    pub description: String,
    /// Its labels.
    pub labels: Vec<Spanned<Label>>,
    /// The stream of events, if the package has several.
    pub stream: Option<String>,
    /// The map that is read at each scrape, instead of events.
    pub map: Option<String>,
    /// A condition on events or entries.
    #[serde(rename = "where")]
    pub condition: Option<String>,
    /// Counters: the field that is added; without it, 1.
    pub add: Option<String>,
    /// Maps: the field that is the value.
    pub value: Option<String>,
    /// Gauges: the global variable that is the value.
    pub variable: Option<String>,
    /// Infos: global variables that become labels.
    pub variables: Vec<String>,
    /// Histograms of events: the field whose distribution is shown.
    pub observe: Option<String>,
    /// Histograms of maps: the array of counts.
    pub slots: Option<String>,
    /// Histograms of maps: the field with the sum of the values.
    pub sum: Option<String>,
    /// Histograms of maps that have an entry for each bucket: the number of the bucket.
    pub bucket: Option<Bucket>,
    /// Histograms: the upper edges of buckets.
    pub buckets: Option<Buckets>,
    /// The unit of the values in the kernel, which are converted to seconds or bytes.
    pub unit: Option<String>,
    /// A factor, instead of a unit.
    pub scale: Option<f64>,
    /// Per-CPU maps: a series for each CPU, with a label `cpu`.
    pub cpu: bool,
    /// The maximum number of series.
    pub series: Option<usize>,
}

/// The number of a bucket, in maps that have an entry for each bucket.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bucket {
    /// The field.
    pub from: String,
    /// The numbers of the buckets, in order. Empty: 0, 1, 2 and so on.
    pub keys: Vec<u64>,
    /// The number of the entry with the sum of the values.
    pub sum: Option<u64>,
}

/// The same as a map; it can also be the name of the field alone.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BucketMap {
    from: String,
    #[serde(default)]
    keys: Vec<u64>,
    #[serde(default)]
    sum: Option<u64>,
}

impl<'de> Deserialize<'de> for Bucket {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bucket, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Bucket;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("the field with the number of a bucket, or a map with from, keys and sum")
            }

            fn visit_str<E>(self, from: &str) -> Result<Bucket, E> {
                Ok(Bucket { from: from.to_owned(), ..Bucket::default() })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Bucket, A::Error> {
                let BucketMap { from, keys, sum } = BucketMap::deserialize(MapAccessDeserializer::new(map))?;
                if keys.len() > MAX_BUCKETS + 1 {
                    let text = format!("bucket: more than {} keys", MAX_BUCKETS + 1);
                    return Err(serde::de::Error::custom(text));
                }
                Ok(Bucket { from, keys, sum })
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// The edges of buckets.
#[derive(Clone, Debug, PartialEq)]
pub enum Buckets {
    /// Powers of two of the value in the kernel: bucket 0 has 0 and 1, bucket 1 has 2 and 3, bucket 2 has 4 to 7. The number of
    /// buckets with an upper edge, unless it is that of the array or the default.
    Log2(Option<usize>),
    /// Buckets of the same width.
    Linear {
        /// The width, in units of the value in the kernel.
        width: f64,
        /// The number of buckets with an upper edge.
        count: usize,
    },
    /// A native histogram of Prometheus.
    Native {
        /// The resolution.
        schema: i8,
    },
    /// Upper edges, in the unit of the metric.
    Explicit(Vec<f64>),
}

/// Maximum number of buckets of a histogram, and of those by powers of two.
pub const MAX_BUCKETS: usize = 256;
const MAX_LOG2: usize = 64;

impl<'de> Deserialize<'de> for Buckets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Buckets, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Buckets;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("log2, log2(COUNT), linear(WIDTH, COUNT), native, native(FACTOR), or a list of upper edges")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Buckets, E> {
                let linear = || {
                    let inner = text.strip_prefix("linear(")?.strip_suffix(')')?;
                    let (width, count) = inner.split_once(',')?;
                    let (width, count) = (width.trim().parse().ok()?, count.trim().parse().ok()?);
                    let is_valid = width > 0.0 && f64::is_finite(width) && (1..=MAX_BUCKETS).contains(&count);
                    is_valid.then_some(Buckets::Linear { width, count })
                };
                let native = || {
                    let factor: f64 = text.strip_prefix("native(")?.strip_suffix(')')?.trim().parse().ok()?;
                    let is_valid = factor > 1.0 && factor <= 65536.0;
                    is_valid.then(|| Buckets::Native { schema: native::schema(factor) })
                };
                let log2 = || {
                    let count = text.strip_prefix("log2(")?.strip_suffix(')')?.trim().parse().ok()?;
                    (1..=MAX_LOG2).contains(&count).then_some(Buckets::Log2(Some(count)))
                };
                match text {
                    "log2" | "exp2" => Ok(Buckets::Log2(None)),
                    "native" => Ok(Buckets::Native { schema: native::schema(FACTOR) }),
                    _ => linear().or_else(log2).or_else(native).ok_or_else(|| {
                        E::custom(format_args!(
                            "buckets: expected log2, log2(COUNT) with at most {MAX_LOG2} buckets, linear(WIDTH, COUNT) with at most {MAX_BUCKETS} buckets, native, native(FACTOR) with a factor above 1, or a list of upper edges, found {text:?}"
                        ))
                    }),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Buckets, A::Error> {
                let mut edges: Vec<f64> = Vec::new();
                while let Some(edge) = list.next_element::<f64>()? {
                    let error = |text: String| serde::de::Error::custom(format_args!("buckets: {text}"));
                    if !edge.is_finite() {
                        return Err(error(format!(
                            "{edge} is not a finite number; the last bucket has no upper edge anyway"
                        )));
                    }
                    if edges.last().is_some_and(|last| *last >= edge) {
                        return Err(error(format!("{edge} is not larger than the edge before it")));
                    }
                    edges.push(edge);
                    if edges.len() > MAX_BUCKETS {
                        return Err(error(format!("more than {MAX_BUCKETS} edges")));
                    }
                }
                Ok(Buckets::Explicit(edges))
            }
        }

        deserializer.deserialize_any(Either)
    }
}
