//! What counting an event costs, for `make bench ROWS=exporter`: the metric of the exporter, a loop that is written by hand with
//! prometheus-client, and JSON that is parsed for each event as the exporter of eunomia-bpf does. Prints nanoseconds as JSON.

use std::sync::Arc;
use std::time::Instant;

use eunomia::render::{Clock, Plan};
use eunomia::types::Type;
use eunomia_exporter::config::Program;
use eunomia_exporter::metric::{Metric, Settings, Table};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

/// Different labels, and events of each measurement.
const SERIES: usize = 1000;
const EVENTS: usize = 2_000_000;
/// The members: pid, comm, fname.
const SIZE: usize = 4 + 16 + 44;

/// Labels as prometheus-client has them.
type Labels = Vec<(String, String)>;

fn main() {
    let ty = Type::from_c_members(
        "event",
        SIZE,
        &[
            ("pid", "int", "i32", 0),
            ("comm", "char[16]", "[16 x i8]", 32),
            ("fname", "char[44]", "[44 x i8]", 160),
        ],
    );
    let ty = ty.expect("a type");
    let records: Vec<[u8; SIZE]> = (0..SERIES).map(record).collect();
    let ours = ours(&ty, &records);
    let by_hand = by_hand(&records);
    let json = through_json(&ty, &records);
    println!("{{\"ours_ns\":{ours:.1},\"by_hand_ns\":{by_hand:.1},\"json_ns\":{json:.1}}}");
}

fn record(index: usize) -> [u8; SIZE] {
    let mut record = [0; SIZE];
    record[..4].copy_from_slice(&(index as u32 % 100).to_ne_bytes());
    record[4..10].copy_from_slice(b"worker");
    let path = format!("/usr/share/zoneinfo/{index}");
    record[20..20 + path.len()].copy_from_slice(path.as_bytes());
    record
}

/// Nanoseconds for each event.
fn measure(count: usize, mut work: impl FnMut(usize)) -> f64 {
    (0..SERIES).for_each(&mut work);
    let begun = Instant::now();
    (0..count).for_each(|index| work(index % SERIES));
    begun.elapsed().as_nanos() as f64 / count as f64
}

fn ours(ty: &Arc<Type>, records: &[[u8; SIZE]]) -> f64 {
    let text =
        "{name: cost, ebpf_data: x, metrics: {counters: [{name: opens_total, labels: [pid, comm, fname]}]}}";
    let program = Program::parse(text).expect("a program");
    let (kind, wanted) = program.value.metrics().next().expect("a metric");
    let settings = Settings { series: 2000, idle: 600, is_quoted: false };
    let mut metric = Metric::new(kind, wanted, ty, false, settings).expect("it fits");
    let cost = measure(EVENTS, |index| {
        metric.count(&records[index], 1);
    });
    let Table::Counter(series) = &metric.table else { unreachable!("a counter") };
    assert_eq!(series.iter().map(|entry| entry.value).sum::<u64>(), (EVENTS + SERIES) as u64);
    cost
}

fn by_hand(records: &[[u8; SIZE]]) -> f64 {
    let family = Family::<Labels, Counter>::default();
    measure(EVENTS, |index| {
        let record = &records[index];
        let text = |bytes: &[u8]| {
            let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
            String::from_utf8_lossy(&bytes[..end]).into_owned()
        };
        let pid = i32::from_ne_bytes([record[0], record[1], record[2], record[3]]);
        let labels = vec![
            ("pid".to_owned(), pid.to_string()),
            ("comm".to_owned(), text(&record[4..20])),
            ("fname".to_owned(), text(&record[20..])),
        ];
        family.get_or_create(&labels).inc();
    })
}

fn through_json(ty: &Arc<Type>, records: &[[u8; SIZE]]) -> f64 {
    let (plan, clock) = (Plan::new(ty).expect("a plan"), Clock::new(|| 0));
    let family = Family::<Labels, Counter>::default();
    let mut json = Vec::new();
    measure(EVENTS / 10, |index| {
        json.clear();
        plan.json(&records[index], &clock, &mut json);
        let value: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
        let label = |name: &str| (name.to_owned(), value[name].to_string());
        family.get_or_create(&vec![label("pid"), label("comm"), label("fname")]).inc();
    })
}
