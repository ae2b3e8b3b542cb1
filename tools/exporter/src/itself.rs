//! Metrics about the exporter itself.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use crate::engine::Engine;
use crate::expose::Labels;
use crate::logs::Counts;

/// The counters of the exporter about itself.
#[derive(Debug, Default)]
pub struct Itself {
    scrapes: AtomicU64,
    /// The duration of the last scrape, in nanoseconds.
    last: AtomicU64,
}

/// Counts of a program, and whether it runs.
struct Row {
    program: String,
    is_read: bool,
    outcomes: [(&'static str, u64); 3],
    failures: u64,
    memory: u64,
    /// The metric, its series, and how many values were folded.
    metrics: Vec<(String, usize, u64)>,
}

impl Itself {
    /// Records a scrape.
    pub fn note_scrape(&self, took: Duration) {
        self.scrapes.fetch_add(1, Relaxed);
        self.last.store(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Writes all metrics.
    pub fn encode(&self, engine: &Engine, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let rows = rows(engine);
        let version = Labels(&["version"], &[env!("CARGO_PKG_VERSION")]);
        let mut build = encoder.encode_descriptor(
            "eunomia_exporter_build",
            "version of the exporter",
            None,
            MetricType::Info,
        )?;
        build.encode_info(&version)?;
        let help = "whether the events of a program are read";
        let mut attached = encoder.encode_descriptor("eunomia_program_up", help, None, MetricType::Gauge)?;
        for row in &rows {
            attached
                .encode_family(&Labels(&["program"], &[&row.program]))?
                .encode_gauge(&u64::from(row.is_read))?;
        }
        let help = "events of a program: counted by a metric, ignored by all of them, or lost by the kernel";
        let mut events = encoder.encode_descriptor("eunomia_events", help, None, MetricType::Counter)?;
        for row in &rows {
            for (outcome, count) in row.outcomes {
                let labels = Labels(&["program", "outcome"], &[row.program.as_str(), outcome]);
                events.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, f64>(&count, None)?;
            }
        }
        let help = "readings of maps and variables that have failed";
        let mut failures =
            encoder.encode_descriptor("eunomia_read_failures", help, None, MetricType::Counter)?;
        for row in &rows {
            let labels = Labels(&["program"], &[&row.program]);
            failures.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, f64>(&row.failures, None)?;
        }
        let (help, unit) = ("kernel memory of the maps of a program when they are full", Unit::Bytes);
        let mut memory =
            encoder.encode_descriptor("eunomia_kernel_memory", help, Some(&unit), MetricType::Gauge)?;
        for row in &rows {
            memory.encode_family(&Labels(&["program"], &[&row.program]))?.encode_gauge(&row.memory)?;
        }
        encode_series(&rows, encoder)?;
        let help = "events that were to be pushed as logs: accepted or refused by the receiver, or dropped";
        let mut logs = encoder.encode_descriptor("eunomia_logs", help, None, MetricType::Counter)?;
        let Counts { sent, rejected, dropped } = engine.pusher.logs.counts();
        for (outcome, count) in [("sent", sent), ("rejected", rejected), ("dropped", dropped)] {
            let labels = Labels(&["outcome"], &[outcome]);
            logs.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, f64>(&count, None)?;
        }
        self.encode_scrapes(encoder)
    }

    fn encode_scrapes(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let help = "completed scrapes";
        let mut scrapes = encoder.encode_descriptor("eunomia_scrapes", help, None, MetricType::Counter)?;
        scrapes.encode_counter::<NoLabelSet, u64, f64>(&self.scrapes.load(Relaxed), None)?;
        let (help, unit) = ("duration of the previous scrape", Unit::Seconds);
        let mut last =
            encoder.encode_descriptor("eunomia_scrape_duration", help, Some(&unit), MetricType::Gauge)?;
        last.encode_gauge(&(self.last.load(Relaxed) as f64 / 1e9))?;
        let (help, unit) = ("memory of the process", Unit::Bytes);
        let mut memory =
            encoder.encode_descriptor("process_resident_memory", help, Some(&unit), MetricType::Gauge)?;
        memory.encode_gauge(&resident_memory())
    }
}

fn encode_series(rows: &[Row], encoder: &mut DescriptorEncoder) -> fmt::Result {
    let names = ["program", "metric"];
    let mut series =
        encoder.encode_descriptor("eunomia_series", "series of a metric", None, MetricType::Gauge)?;
    for row in rows {
        for (metric, count, _) in &row.metrics {
            let labels = Labels(&names, &[&row.program, metric]);
            series.encode_family(&labels)?.encode_gauge(&(*count as u64))?;
        }
    }
    let help =
        "values counted in the series other, because the metric has reached its maximum number of series";
    let mut folded = encoder.encode_descriptor("eunomia_series_folded", help, None, MetricType::Counter)?;
    for row in rows {
        for (metric, _, count) in &row.metrics {
            let labels = Labels(&names, &[&row.program, metric]);
            folded.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, f64>(count, None)?;
        }
    }
    Ok(())
}

fn rows(engine: &Engine) -> Vec<Row> {
    let one = |slot: &std::sync::Arc<crate::engine::Slot>| {
        let program = slot.program();
        let maps = (0..program.vm.map_count().unwrap_or(0)).filter_map(|index| program.vm.map_at(index).ok());
        let events = program.events;
        Row {
            program: slot.name.clone(),
            is_read: slot.failure().is_none(),
            outcomes: [("counted", events.counted), ("ignored", events.ignored), ("lost", events.lost)],
            failures: program.failures,
            memory: maps.map(|map| map.bytes).sum(),
            metrics: program
                .metrics
                .iter()
                .map(|metric| {
                    let (count, folded) = metric.usage();
                    (metric.name.clone(), count, folded)
                })
                .collect(),
        }
    };
    engine.list().iter().map(one).collect()
}

/// The resident memory of this process in bytes.
fn resident_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}
