//! A receiver of OTLP in Python decodes what the exporter pushes.

use std::io::{BufRead, BufReader};
use std::process::ChildStdout;

use serde_json::Value;

use super::*;

struct Receiver {
    child: Child,
    lines: BufReader<ChildStdout>,
    port: u16,
}

impl Receiver {
    fn start() -> Receiver {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new(root.join("../../target/venv/bin/python"));
        command.arg(root.join("tests/exporter/receiver.py")).stdout(Stdio::piped());
        let mut child = command.spawn().expect("python runs: tools/setup.sh test");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut port = String::new();
        lines.read_line(&mut port).expect("a line");
        Receiver { child, lines, port: port.trim().parse().expect("a port") }
    }

    /// The next request.
    fn next(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("a line");
        serde_json::from_str(&line).expect("JSON")
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const METRICS: &str = "    counters:
    - {name: calls_total, labels: [name]}
    histograms:
    - {name: value_seconds, observe: value, unit: ms, buckets: [0.001, 0.01]}
    gauges:
    - {name: last_value, map: totals, value: last}
";

/// The data of a metric of a request.
fn data<'a>(request: &'a Value, name: &str, kind: &str) -> &'a Value {
    let metrics = &request["resourceMetrics"][0]["scopeMetrics"][0]["metrics"];
    let metrics = metrics.as_array().expect("metrics");
    let found = metrics.iter().find(|metric| metric["name"] == name);
    &found.unwrap_or_else(|| panic!("{request}"))[kind]
}

fn configuration(option: u32, receiver: &Receiver, more: &str) -> String {
    let port = receiver.port;
    program(option, METRICS)
        + &format!(
            "otlp: {{endpoint: 'http://127.0.0.1:{port}', interval: 2s, headers: {{x-key: abc}}, {more}}}\n"
        )
}

#[test]
fn totals_are_pushed() {
    needs_root!();
    let (option, mut receiver) = (option(), Receiver::start());
    let exporter = Exporter::start(&configuration(option, &receiver, "attributes: {service.name: mine}"));
    call(option, &[(1, b"a"), (5, b"a"), (20, b"a")]);
    exporter.metrics_after(3);
    let request = receiver.next();
    for (key, expected) in
        [("path", "/v1/metrics"), ("type", "application/x-protobuf"), ("encoding", "gzip"), ("key", "abc")]
    {
        assert_eq!(request[key], expected, "{request}");
    }
    let attributes = request["resourceMetrics"][0]["resource"]["attributes"].as_array().expect("attributes");
    let service = attributes.iter().find(|attribute| attribute["key"] == "service.name");
    assert_eq!(service.expect("a name")["value"]["stringValue"], "mine");
    // The request that follows the refused one has the current state.
    let request = receiver.next();
    let sum = data(&request, "calls_total", "sum");
    assert_eq!(
        (&sum["isMonotonic"], &sum["aggregationTemporality"]),
        (&true.into(), &"AGGREGATION_TEMPORALITY_CUMULATIVE".into())
    );
    let point = &sum["dataPoints"][0];
    assert_eq!(point["asDouble"], 3.0);
    assert_eq!(point["attributes"][0]["value"]["stringValue"], "a");
    let point = &data(&request, "value_seconds", "histogram")["dataPoints"][0];
    // Not cumulative, and without the infinite edge.
    assert_eq!(point["bucketCounts"], serde_json::json!(["1", "1", "1"]));
    assert_eq!(point["explicitBounds"], serde_json::json!([0.001, 0.01]));
    assert_eq!(point["count"], "3");
    assert!((point["sum"].as_f64().expect("a number") - 0.026).abs() < 1e-9, "{point}");
    assert_eq!(data(&request, "last_value", "gauge")["dataPoints"][0]["asDouble"], 20.0);
    wait_for("the partial success", || exporter.log().contains("otlp: 3 values were rejected: too old"));
}

#[test]
fn differences_add_up_to_the_totals() {
    needs_root!();
    let (option, mut receiver) = (option(), Receiver::start());
    let more = "temporality: delta, compression: none";
    let exporter = Exporter::start(&configuration(option, &receiver, more));
    let (mut calls, mut observed, mut pushes) = (0.0, 0, 0);
    let mut end = String::from("0");
    while calls < 30.0 {
        call(option, &[(1, &b"a"[..]); 10]);
        let request = receiver.next();
        let sum = data(&request, "calls_total", "sum");
        assert_eq!(sum["aggregationTemporality"], "AGGREGATION_TEMPORALITY_DELTA");
        let Some(point) = sum["dataPoints"].get(0) else { continue };
        let text = |key: &str| point[key].as_str().expect("a time").to_owned();
        assert!(text("startTimeUnixNano") >= end, "intervals do not overlap");
        end = text("timeUnixNano");
        calls += point["asDouble"].as_f64().expect("a number");
        let counts = data(&request, "value_seconds", "histogram")["dataPoints"][0]["count"].as_str();
        observed += counts.map_or(0, |count| count.parse::<u64>().expect("a number"));
        pushes += 1;
        assert!(pushes < 30, "{calls} calls");
    }
    assert_eq!(observed as f64, calls);
    drop(exporter);
}

#[test]
fn events_are_pushed_as_logs_on_request() {
    needs_root!();
    let (option, mut receiver) = (option(), Receiver::start());
    let config = configuration(option, &receiver, "attributes: {service.name: mine}")
        .replace("  metrics:\n", "  logs: {where: value > 1}\n  metrics:\n");
    let exporter = Exporter::start(&config);
    let calls: Vec<(u64, &[u8])> = (0..6).map(|number| (number, &b"\"a\\n"[..])).collect();
    call(option, &calls);
    let (mut logs, mut bodies) = (Vec::new(), 0);
    while logs.len() < 4 {
        let request = receiver.next();
        let Some(resource) = request["resourceLogs"].get(0) else { continue };
        assert_eq!((&request["path"], &request["encoding"]), (&"/v1/logs".into(), &"gzip".into()));
        let service = &resource["resource"]["attributes"].as_array().expect("attributes");
        assert!(service.iter().any(|attribute| attribute["value"]["stringValue"] == "mine"), "{request}");
        logs.extend(resource["scopeLogs"][0]["logRecords"].as_array().expect("logs").clone());
        bodies += 1;
    }
    let text = |list: &Value, key: &str, kind: &str| {
        let list = list.as_array().expect("a list");
        let found = list.iter().find(|pair| pair["key"] == key).unwrap_or_else(|| panic!("{list:?}"));
        found["value"][kind].clone()
    };
    for (log, value) in logs.iter().zip(2..) {
        let body = &log["body"]["kvlistValue"]["values"];
        assert_eq!(text(body, "value", "intValue"), value.to_string(), "{log}");
        assert_eq!(text(body, "name", "stringValue"), "\"a\\n", "{log}");
        assert_eq!(text(&log["attributes"], "program", "stringValue"), "calls");
        assert_eq!(text(&log["attributes"], "stream", "stringValue"), "events");
        assert!(log["timeUnixNano"].as_str().is_some_and(|time| time.len() == 19), "{log}");
    }
    // The receiver rejects one of each body.
    wait_for("the reply", || {
        let text = exporter.metrics();
        let outcome = |word: &str| value(&text, &format!("eunomia_logs_total{{outcome=\"{word}\"}}"));
        (outcome("sent"), outcome("rejected")) == (Some(4.0 - f64::from(bodies)), Some(f64::from(bodies)))
    });
    assert!(exporter.log().contains("otlp: 1 logs were rejected: too long"), "{}", exporter.log());
    let wrong = refused(&program(option, METRICS).replace("  metrics:\n", "  logs: {}\n  metrics:\n"));
    assert!(wrong.contains("logs: there is no receiver; add otlp with its endpoint"), "{wrong}");
}

#[test]
fn native_histograms_are_pushed() {
    needs_root!();
    let (option, mut receiver) = (option(), Receiver::start());
    let config = configuration(option, &receiver, "compression: none");
    let exporter = Exporter::start(&config.replace("buckets: [0.001, 0.01]", "buckets: native(2)"));
    // 4 ms is 2^-8 s and a little more.
    call(option, &[(0, b"a"), (4, b"a"), (1000, b"a"), (2000, b"a")]);
    let point = loop {
        let request = receiver.next();
        let point = &data(&request, "value_seconds", "exponentialHistogram")["dataPoints"][0];
        if point["count"] == "4" {
            break point.clone();
        }
    };
    drop(exporter);
    assert_eq!((&point["count"], &point["zeroCount"]), (&"4".into(), &"1".into()), "{point}");
    // The scale 0 is the default, which is left out. Index i counts what is above 2^i.
    assert!(point.get("scale").is_none() && point["positive"]["offset"] == -8, "{point}");
    let counts = serde_json::json!(["1", "0", "0", "0", "0", "0", "0", "1", "1"]);
    assert_eq!(point["positive"]["bucketCounts"], counts, "{point}");
}
