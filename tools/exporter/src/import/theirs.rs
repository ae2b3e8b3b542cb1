//! The configuration of ebpf_exporter, version 2.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_saphyr::Spanned;

/// A file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// The metrics.
    #[serde(default)]
    pub metrics: Metrics,
    /// Symbols of the kernel whose addresses become variables.
    #[serde(default)]
    pub kaddrs: Vec<String>,
    /// Spans.
    #[serde(default)]
    pub tracing: Option<Spanned<serde_json::Value>>,
    /// A map that is filled with control groups.
    #[serde(default)]
    pub cgroup_id_map: Option<Spanned<serde_json::Value>>,
    /// The programs of version 1, which contain C source.
    #[serde(default)]
    pub programs: Option<Spanned<serde_json::Value>>,
}

/// The metrics. The name of each is also that of its map.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// Counters.
    pub counters: Vec<Spanned<Counter>>,
    /// Histograms.
    pub histograms: Vec<Spanned<Histogram>>,
}

/// A counter.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counter {
    /// Its name.
    pub name: String,
    /// Its description.
    #[serde(default)]
    pub help: String,
    /// Whether it counts the events of a perf buffer.
    #[serde(default)]
    pub perf_event_array: bool,
    /// How often idle series are removed. The exporter has `limits` instead.
    #[serde(default, rename = "flush_interval")]
    pub _flush_interval: Option<String>,
    /// Its labels.
    #[serde(default)]
    pub labels: Vec<Spanned<Label>>,
}

/// A histogram. Its last label is the number of the bucket.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Histogram {
    /// Its name.
    pub name: String,
    /// Its description.
    #[serde(default)]
    pub help: String,
    /// The kind of its buckets.
    pub bucket_type: BucketType,
    /// The factor from the values in the kernel to those that are shown; 0 is 1.
    #[serde(default)]
    pub bucket_multiplier: f64,
    /// The first bucket.
    #[serde(default)]
    pub bucket_min: u64,
    /// The last bucket.
    #[serde(default)]
    pub bucket_max: u64,
    /// The buckets of `fixed`.
    #[serde(default)]
    pub bucket_keys: Vec<u64>,
    /// Its labels.
    #[serde(default)]
    pub labels: Vec<Spanned<Label>>,
}

/// The kind of the buckets of a histogram.
#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum BucketType {
    /// Bucket i counts the values from 2^i on.
    Exp2,
    /// Bucket 0 counts zeros, and bucket i the values from 2^(i-1) on.
    Exp2Zero,
    /// The number of a bucket, multiplied, is its upper edge.
    Linear,
    /// As `linear`, with a list of numbers.
    Fixed,
}

/// A label: the next bytes of a key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// Its name.
    pub name: String,
    /// The number of bytes.
    #[serde(default)]
    pub size: u32,
    /// The number of bytes after it that are not used.
    #[serde(default)]
    pub padding: u32,
    /// How bytes become text.
    #[serde(default)]
    pub decoders: Vec<Spanned<Decoder>>,
}

/// A step of a conversion to text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decoder {
    /// Its name.
    pub name: String,
    /// Texts for values.
    #[serde(default)]
    pub static_map: BTreeMap<String, String>,
    /// Whether other values are shown as they are.
    #[serde(default)]
    pub allow_unknown: bool,
    /// One of them must match.
    #[serde(default)]
    pub regexps: Vec<String>,
}
