//! The metrics and events as messages of OTLP.

use std::collections::HashMap;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram,
    HistogramDataPoint, Metric as Message, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum,
    number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;

use crate::config::{Kind, Otlp, Temporality};
use crate::engine::Engine;
use crate::histogram::scaled;
use crate::labels::Values;
use crate::logs::Event;
use crate::metric::{Metric, Table};
use crate::native::{self, Native};

/// The times of a push, in nanoseconds since 1970.
#[derive(Clone, Copy)]
pub struct Times {
    /// When counting began.
    pub start: u64,
    /// When the values of the last successful push were read.
    pub last: u64,
    /// Now.
    pub now: u64,
}

/// What was pushed for a series.
#[derive(Clone, Default)]
struct Pushed {
    buckets: Vec<u64>,
    sum: f64,
    value: f64,
    native: Option<Native>,
}

/// The values that the receiver has, for deltas.
#[derive(Default)]
pub struct Received(HashMap<(String, Values), Pushed>);

/// Reads all metrics into a message. With deltas, `received` is what the receiver has; the second result is what it has after this
/// message.
pub fn message(
    engine: &Engine,
    otlp: &Otlp,
    times: Times,
    received: &Received,
) -> (ExportMetricsServiceRequest, Received) {
    let mut next = Received::default();
    let mut metrics = Vec::new();
    let now = engine.now();
    for slot in engine.list() {
        let mut program = slot.program();
        program.read(now);
        for metric in &mut program.metrics {
            metrics.push(one(metric, otlp.temporality, times, received, &mut next));
            metric.note_scrape(now);
        }
    }
    let scope_metrics = vec![ScopeMetrics { scope: scope(), metrics, ..ScopeMetrics::default() }];
    let resource = resource(otlp);
    let resource_metrics = vec![ResourceMetrics { resource, scope_metrics, ..ResourceMetrics::default() }];
    (ExportMetricsServiceRequest { resource_metrics }, next)
}

/// Converts events to logs. The body has the fields of an event.
pub fn logs(otlp: &Otlp, events: Vec<Event>) -> ExportLogsServiceRequest {
    let record = |event: Event| LogRecord {
        time_unix_nano: event.time,
        observed_time_unix_nano: event.time,
        body: Some(any(serde_json::from_slice(&event.json).unwrap_or_default())),
        attributes: vec![
            attribute("program", &event.source.program),
            attribute("stream", &event.source.stream),
        ],
        ..LogRecord::default()
    };
    let log_records = events.into_iter().map(record).collect();
    let scope_logs = vec![ScopeLogs { scope: scope(), log_records, ..ScopeLogs::default() }];
    let resource_logs =
        vec![ResourceLogs { resource: resource(otlp), scope_logs, ..ResourceLogs::default() }];
    ExportLogsServiceRequest { resource_logs }
}

/// A value of JSON. An integer that OTLP has no type for becomes a string.
fn any(value: serde_json::Value) -> AnyValue {
    use any_value::Value;
    use serde_json::Value as Json;
    let value = match value {
        Json::Null => None,
        Json::Bool(value) => Some(Value::BoolValue(value)),
        Json::String(text) => Some(Value::StringValue(text)),
        Json::Number(number) => Some(match (number.as_i64(), number.is_u64()) {
            (Some(number), _) => Value::IntValue(number),
            (None, true) => Value::StringValue(number.to_string()),
            (None, false) => Value::DoubleValue(number.as_f64().unwrap_or(f64::NAN)),
        }),
        Json::Array(list) => {
            Some(Value::ArrayValue(ArrayValue { values: list.into_iter().map(any).collect() }))
        }
        Json::Object(members) => {
            let pair = |(key, value)| KeyValue { key, value: Some(any(value)), ..KeyValue::default() };
            Some(Value::KvlistValue(KeyValueList { values: members.into_iter().map(pair).collect() }))
        }
    };
    AnyValue { value }
}

fn scope() -> Option<InstrumentationScope> {
    Some(InstrumentationScope {
        name: "eunomia-exporter".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        ..InstrumentationScope::default()
    })
}

fn resource(otlp: &Otlp) -> Option<Resource> {
    Some(Resource { attributes: attributes(otlp), ..Resource::default() })
}

/// The attributes of the resource.
fn attributes(otlp: &Otlp) -> Vec<KeyValue> {
    let system = rustix::system::uname();
    let mut all = vec![
        attribute("service.name", "eunomia-exporter"),
        attribute("service.version", env!("CARGO_PKG_VERSION")),
        attribute("host.name", &system.nodename().to_string_lossy()),
        attribute("os.type", "linux"),
        attribute("os.version", &system.release().to_string_lossy()),
    ];
    for (name, value) in &otlp.attributes {
        all.retain(|known| known.key != *name);
        all.push(attribute(name, value));
    }
    all
}

fn attribute(name: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) });
    KeyValue { key: name.to_owned(), value, ..KeyValue::default() }
}

fn labels(names: &[String], values: &Values) -> Vec<KeyValue> {
    names.iter().zip(values).map(|(name, value)| attribute(name, value)).collect()
}

fn one(
    metric: &Metric,
    temporality: Temporality,
    times: Times,
    received: &Received,
    next: &mut Received,
) -> Message {
    let is_delta = temporality == Temporality::Delta;
    let (start, kind) = match is_delta {
        true => (times.last, AggregationTemporality::Delta),
        false => (times.start, AggregationTemporality::Cumulative),
    };
    let mut before = |values: &Values, now: Pushed| {
        let key = (metric.name.clone(), values.clone());
        let before =
            if is_delta { received.0.get(&key).cloned().unwrap_or_default() } else { Pushed::default() };
        if is_delta {
            next.0.insert(key, now);
        }
        before
    };
    let point = |attributes, value| NumberDataPoint {
        attributes,
        start_time_unix_nano: start,
        time_unix_nano: times.now,
        value: Some(value),
        ..NumberDataPoint::default()
    };
    let number = number_data_point::Value::AsDouble;
    let names = &metric.labels.names;
    let data = match &metric.table {
        Table::Counter(series) => {
            let points = series.iter().map(|entry| {
                let value = scaled(entry.value as f64, metric.scale);
                let before = before(&entry.values, Pushed { value, ..Pushed::default() });
                point(labels(names, &entry.values), number(value - before.value))
            });
            Data::Sum(Sum {
                data_points: points.collect(),
                aggregation_temporality: kind.into(),
                is_monotonic: true,
            })
        }
        Table::Gauge(series) => {
            let points = series
                .iter()
                .map(|(values, value)| point(labels(names, values), number(scaled(*value, metric.scale))));
            Data::Gauge(Gauge { data_points: points.collect() })
        }
        Table::Histogram(series, edges) if edges.is_native() => {
            let points = series.iter().filter_map(|entry| {
                let now = entry.value.native.as_deref()?.clone();
                let sum = entry.value.sum(edges, metric.scale).unwrap_or(0.0);
                let pushed = Pushed { native: Some(now.clone()), sum, ..Pushed::default() };
                let before = before(&entry.values, pushed);
                let counts = before.native.map_or_else(|| now.clone(), |before| now.since(&before));
                Some(ExponentialHistogramDataPoint {
                    attributes: labels(names, &entry.values),
                    start_time_unix_nano: start,
                    time_unix_nano: times.now,
                    count: counts.count(),
                    sum: Some(sum - before.sum),
                    scale: counts.schema.into(),
                    zero_count: counts.zero,
                    zero_threshold: native::ZERO_THRESHOLD,
                    positive: Some(dense(&counts.positive)),
                    negative: Some(dense(&counts.negative)),
                    ..ExponentialHistogramDataPoint::default()
                })
            });
            Data::ExponentialHistogram(ExponentialHistogram {
                data_points: points.collect(),
                aggregation_temporality: kind.into(),
            })
        }
        Table::Histogram(series, edges) => {
            let bounds: Vec<f64> = edges.shown(metric.scale).collect();
            let points = series.iter().map(|entry| {
                let mut buckets = entry.value.buckets.clone();
                buckets.resize(bounds.len() + 1, 0);
                let sum = entry.value.sum(edges, metric.scale);
                let now = Pushed { buckets: buckets.clone(), sum: sum.unwrap_or(0.0), ..Pushed::default() };
                let before = before(&entry.values, now);
                buckets.iter_mut().zip(&before.buckets).for_each(|(count, before)| *count -= before);
                HistogramDataPoint {
                    attributes: labels(names, &entry.values),
                    start_time_unix_nano: start,
                    time_unix_nano: times.now,
                    count: buckets.iter().sum(),
                    sum: sum.map(|sum| sum - before.sum),
                    bucket_counts: buckets,
                    explicit_bounds: bounds.clone(),
                    ..HistogramDataPoint::default()
                }
            });
            Data::Histogram(Histogram { data_points: points.collect(), aggregation_temporality: kind.into() })
        }
        Table::Info(values) => {
            let attributes = values.iter().map(|(name, value)| attribute(name, value)).collect();
            Data::Gauge(Gauge { data_points: vec![point(attributes, number(1.0))] })
        }
    };
    Message {
        // The receiver appends the unit and `_total` itself when it writes for Prometheus.
        name: metric.name.clone(),
        description: metric.help.clone(),
        unit: unit(metric).to_owned(),
        data: Some(data),
        ..Message::default()
    }
}

/// Counts without gaps. OTLP numbers a bucket by its lower edge, Prometheus by its upper edge.
fn dense(buckets: &[(i32, u64)]) -> Buckets {
    let (Some((first, _)), Some((last, _))) = (buckets.first(), buckets.last()) else {
        return Buckets::default();
    };
    let mut bucket_counts = vec![0; (last - first) as usize + 1];
    buckets.iter().for_each(|(index, count)| bucket_counts[(index - first) as usize] = *count);
    Buckets { offset: first - 1, bucket_counts }
}

/// The unit in the notation of UCUM.
fn unit(metric: &Metric) -> &'static str {
    match (metric.unit, metric.kind) {
        (Some("seconds"), _) => "s",
        (Some("bytes"), _) => "By",
        (Some("ratio"), _) => "1",
        (_, Kind::Counter | Kind::Gauge | Kind::Histogram | Kind::Info) => "",
    }
}
