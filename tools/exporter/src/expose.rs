//! The metrics as text for Prometheus.

use std::fmt::{self, Write};
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, LabelSetEncoder, MetricEncoder, NoLabelSet,
};
use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use crate::config::Kind;
use crate::engine::Engine;
use crate::histogram::scaled;
use crate::itself::Itself;
use crate::metric::{Metric, Table};

/// An exposition format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The text format of Prometheus, 0.0.4.
    Classic,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// The media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Format::Classic => prometheus_text::CONTENT_TYPE,
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// The format that a request accepts.
    pub fn of(accept: &str) -> Format {
        match accept.contains("application/openmetrics-text") {
            true => Format::OpenMetrics,
            false => Format::Classic,
        }
    }
}

/// Reads all metrics and writes them.
pub fn expose(engine: &Arc<Engine>, itself: &Arc<Itself>, format: Format) -> Result<String, fmt::Error> {
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
    }
    Ok(out)
}

/// Corrects the type of each counter whose name does not end in `_total`. It was written as untyped, because the encoder appends
/// this ending to the name of a counter.
fn name_counters(engine: &Engine, out: &mut String) {
    for slot in engine.list() {
        let program = slot.program();
        for metric in program.metrics.iter().filter(|metric| is_unsuffixed(metric)) {
            let line = format!("# TYPE {} untyped\n", metric.name);
            if let Some(at) = out.find(&line).filter(|at| *at == 0 || out.as_bytes()[at - 1] == b'\n') {
                out.replace_range(at..at + line.len(), &format!("# TYPE {} counter\n", metric.name));
            }
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
            for entry in series.iter() {
                let labels = Labels(names, &entry.values);
                family.encode_family(&labels)?.encode_gauge(&scaled(entry.value, metric.scale))?;
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
                let mut one = family.encode_family(&labels)?;
                one.encode_histogram::<NoLabelSet>(sum, entry.value.count(), &buckets, None)?;
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
