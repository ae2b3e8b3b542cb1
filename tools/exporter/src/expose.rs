//! The metrics as text or messages for Prometheus.

use std::fmt::{self, Write};
use std::sync::Arc;

use bytes::Bytes;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::prometheus_protobuf::prometheus_data_model::{
    Counter, MetricFamily, MetricType as MessageType,
};
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, LabelSetEncoder, MetricEncoder, NativeHistogram,
    NativeHistogramBuckets, NoLabelSet,
};
use prometheus_client::encoding::{prometheus_protobuf, prometheus_text, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use prost::Message;

use crate::config::Kind;
use crate::engine::{Engine, Slot};
use crate::format::Format;
use crate::histogram::{Distribution, scaled};
use crate::itself::Itself;
use crate::metric::{Metric, Table};
use crate::native::{self, Spans};

/// Reads all metrics and writes them.
pub fn expose(engine: &Arc<Engine>, itself: &Arc<Itself>, format: Format) -> Result<Bytes, fmt::Error> {
    let mut registry = Registry::default();
    let scrape = Scrape { engine: Arc::clone(engine), itself: Arc::clone(itself), format };
    registry.register_collector(Box::new(scrape));
    let mut out = String::new();
    match format {
        Format::OpenMetrics => text::encode(&mut out, &registry)?,
        Format::Classic => {
            prometheus_text::encode(&mut out, &registry)?;
            name_counters(engine, &mut out);
        }
        Format::Protobuf => {
            let mut families = prometheus_protobuf::encode(&registry)?;
            retype_counters(engine, &mut families);
            let mut out = Vec::new();
            for family in families {
                family.encode_length_delimited(&mut out).map_err(|_| fmt::Error)?;
            }
            return Ok(out.into());
        }
    }
    Ok(out.into())
}

/// The names of the counters that do not end in `_total`. They were written as untyped, because the encoder appends this ending to
/// the name of a counter.
fn unsuffixed(engine: &Engine) -> Vec<String> {
    let names = |slot: &Arc<Slot>| {
        let program = slot.program();
        let found = program.metrics.iter().filter(|metric| is_unsuffixed(metric));
        found.map(|metric| metric.name.clone()).collect::<Vec<_>>()
    };
    engine.list().iter().flat_map(names).collect()
}

/// Corrects the type of counters in the text.
fn name_counters(engine: &Engine, out: &mut String) {
    for name in unsuffixed(engine) {
        let line = format!("# TYPE {name} untyped\n");
        if let Some(at) = out.find(&line).filter(|at| *at == 0 || out.as_bytes()[at - 1] == b'\n') {
            out.replace_range(at..at + line.len(), &format!("# TYPE {name} counter\n"));
        }
    }
}

/// Corrects the type of counters in messages.
fn retype_counters(engine: &Engine, families: &mut [MetricFamily]) {
    let names = unsuffixed(engine);
    for family in families.iter_mut().filter(|family| names.contains(&family.name)) {
        family.set_type(MessageType::Counter);
        for metric in &mut family.metric {
            metric.counter =
                metric.gauge.take().map(|gauge| Counter { value: gauge.value, ..Counter::default() });
        }
    }
}

fn is_unsuffixed(metric: &Metric) -> bool {
    metric.kind == Kind::Counter && !metric.name.ends_with("_total")
}

struct Scrape {
    engine: Arc<Engine>,
    itself: Arc<Itself>,
    format: Format,
}

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scrape({:?})", self.format)
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let now = self.engine.now();
        for slot in self.engine.list() {
            let mut program = slot.program();
            program.read(now);
            for metric in &mut program.metrics {
                encode(metric, &mut encoder, self.format)?;
                metric.note_scrape(now);
            }
        }
        self.itself.encode(&self.engine, &mut encoder)
    }
}

/// Labels of a series.
pub struct Labels<'a, N, V>(pub &'a [N], pub &'a [V]);

impl<N: AsRef<str>, V: AsRef<str>> EncodeLabelSet for Labels<'_, N, V> {
    fn encode(&self, encoder: &mut LabelSetEncoder) -> fmt::Result {
        for (name, value) in self.0.iter().zip(self.1) {
            let mut label = encoder.encode_label();
            let mut key = label.encode_label_key()?;
            key.write_str(name.as_ref())?;
            let mut text = key.encode_label_value()?;
            text.write_str(value.as_ref())?;
            text.finish()?;
        }
        Ok(())
    }
}

fn encode(metric: &Metric, encoder: &mut DescriptorEncoder, format: Format) -> fmt::Result {
    let unit = metric.unit.map(|unit| Unit::Other(unit.to_owned()));
    let (name, kind) = match metric.kind {
        Kind::Counter if is_unsuffixed(metric) => (&*metric.name, MetricType::Unknown),
        Kind::Counter => (metric.name.strip_suffix("_total").unwrap_or(&metric.name), MetricType::Counter),
        Kind::Gauge => (&*metric.name, MetricType::Gauge),
        Kind::Histogram => (&*metric.name, MetricType::Histogram),
        Kind::Info => (metric.name.strip_suffix("_info").unwrap_or(&metric.name), MetricType::Info),
    };
    // The encoder appends the unit.
    let stem = metric.unit.and_then(|unit| name.strip_suffix(unit)?.strip_suffix('_')).unwrap_or(name);
    let help = if format == Format::OpenMetrics { escaped(&metric.help) } else { metric.help.clone() };
    let mut family = encoder.encode_descriptor(stem, &help, unit.as_ref(), kind)?;
    let names = &metric.labels.names;
    match &metric.table {
        Table::Counter(series) => {
            for entry in series.iter() {
                let labels = Labels(names, &entry.values);
                counter(family.encode_family(&labels)?, entry.value, metric.scale, kind)?;
            }
        }
        Table::Gauge(series) => {
            for (values, value) in series.iter() {
                let labels = Labels(names, values);
                family.encode_family(&labels)?.encode_gauge(&scaled(*value, metric.scale))?;
            }
        }
        Table::Histogram(series, edges) => {
            let mut buckets: Vec<(f64, u64)> = edges.shown(metric.scale).map(|edge| (edge, 0)).collect();
            buckets.push((f64::INFINITY, 0));
            for entry in series.iter() {
                let labels = Labels(names, &entry.values);
                let all = entry.value.buckets.iter().chain(std::iter::repeat(&0));
                buckets.iter_mut().zip(all).for_each(|(bucket, count)| bucket.1 = *count);
                let sum = entry.value.sum(edges, metric.scale).unwrap_or(f64::NAN);
                histogram(family.encode_family(&labels)?, &entry.value, sum, &buckets)?;
            }
        }
        Table::Info(labels) => {
            let (names, values): (Vec<&String>, Vec<&String>) =
                labels.iter().map(|(name, value)| (name, value)).unzip();
            family.encode_info(&Labels(&names, &values))?;
        }
    }
    Ok(())
}

/// Writes a histogram, in text without its native buckets.
fn histogram(
    mut encoder: MetricEncoder,
    counts: &Distribution,
    sum: f64,
    buckets: &[(f64, u64)],
) -> fmt::Result {
    let Some(native) = &counts.native else {
        return encoder.encode_histogram::<NoLabelSet>(sum, counts.count(), buckets, None);
    };
    let (positive, negative) = (Spans::new(&native.positive), Spans::new(&native.negative));
    let native = NativeHistogram {
        schema: native.schema.into(),
        zero_threshold: native::ZERO_THRESHOLD,
        zero_count: native.zero,
        negative: NativeHistogramBuckets { spans: &negative.spans, deltas: &negative.deltas },
        positive: NativeHistogramBuckets { spans: &positive.spans, deltas: &positive.deltas },
        created: None,
    };
    encoder.encode_histogram_with_native::<NoLabelSet>(sum, counts.count(), buckets, None, native)
}

fn counter(mut encoder: MetricEncoder, value: u64, scale: f64, kind: MetricType) -> fmt::Result {
    match (scale == 1.0, kind == MetricType::Counter) {
        (true, true) => encoder.encode_counter::<NoLabelSet, u64, f64>(&value, None),
        (false, true) => encoder.encode_counter::<NoLabelSet, f64, f64>(&scaled(value as f64, scale), None),
        (true, false) => encoder.encode_gauge(&value),
        (false, false) => encoder.encode_gauge(&scaled(value as f64, scale)),
    }
}

/// The encoder for OpenMetrics does not escape descriptions.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}
