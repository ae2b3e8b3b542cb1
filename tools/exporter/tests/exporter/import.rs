//! Configurations of ebpf_exporter: they are converted, pass `--check`, and give the same numbers.

use super::*;

const CALLS: [(u64, &[u8]); 8] =
    [(0, b"a"), (1, b"a"), (2, b"ab"), (3, b"ab"), (4, b"ab"), (7, b"c"), (8, b"c"), (100, b"c")];

/// The object of features.bpf.c, compiled once.
fn object() -> PathBuf {
    static COMPILED: OnceLock<PathBuf> = OnceLock::new();
    COMPILED.get_or_init(|| compiled("features.bpf.c", "features").join("features.bpf.o")).clone()
}

/// What `import` prints on standard output, and on standard error.
fn import(config: &Path, options: &[&str]) -> (bool, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eunomia-exporter"));
    let output = command.arg("import").args(options).arg(config).arg(object()).output().expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

fn features() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/exporter/features.yaml")
}

/// The converted configuration.
#[track_caller]
fn converted(options: &[&str]) -> String {
    let (is_done, text, errors) = import(&features(), options);
    assert!(is_done && errors.is_empty(), "{errors}");
    text
}

#[test]
fn every_feature_is_converted() {
    needs_root!();
    let text = converted(&[]);
    let expected = format!(
        r#"# Converted from a configuration of ebpf_exporter.
# Values that a static_map does not have are shown as they are, without "unknown:".
programs:
- name: features
  package: "{}"
  kaddrs: [do_exit]
  metrics:
    counters:
    - name: calls_total
      description: "Calls, by what the \"test\" has called"
      map: calls_total
      labels:
      - {{name: operation, from: key.operation, values: {{"1": read, "2": write}}}}
      - {{name: device, from: key.device, as: majorminor}}
      - {{name: address, from: key.address, as: ipv4}}
      - {{name: address6, from: key.address6, as: ipv6}}
      - {{name: error, from: key.error, as: errno}}
      - {{name: interface, from: key.interface, as: ifname}}
      - {{name: syscall, from: key.syscall, as: syscall}}
      - {{name: vendor, from: key.vendor, as: hex}}
      - {{name: cgroup, from: key.cgroup, as: cgroup}}
      - {{name: who, from: key.name}}
    - name: names_total
      description: "Calls with some names"
      map: names_total
      labels:
      - {{name: name, from: key.name, regexp: "(?s)^(.*(?:^a$|b).*)$"}}
    - name: cpu_calls_total
      description: "Calls by CPU"
      map: cpu_calls_total
      cpu: true
      labels:
      - {{name: kind, from: key, values: {{"0": call}}}}
    - name: number_calls_total
      description: "Calls on all CPUs"
      map: number_calls_total
      labels:
      - {{name: number, from: key, as: hex}}
    - name: array_calls_total
      description: "Calls in an array"
      map: array_calls_total
      labels:
      - {{name: index, from: key}}
    - name: function_calls_total
      description: "Calls by a function of the kernel"
      map: function_calls_total
      labels:
      - {{name: function, from: key, as: ksym}}
    - name: stack_calls_total
      description: "Calls by stack"
      map: stack_calls_total
      labels:
      - {{name: stack, from: key.addresses, as: stack}}
    - name: event_calls_total
      description: "Calls as events"
      stream: event_calls_total
      labels:
      - {{name: pid}}
      - {{name: name}}
    histograms:
    - name: latency_seconds
      description: "Powers of two"
      map: latency_seconds
      bucket: {{from: key.bucket, sum: 5}}
      buckets: log2(4)
      scale: 0.000001
      labels:
      - {{name: operation, from: key.operation, as: uint, values: {{"1": read}}}}
    - name: values
      description: "Powers of two, and zero"
      map: values
      bucket: {{from: key.bucket, sum: 6}}
      buckets: [0, 1, 3, 7, 15]
      labels:
      - {{name: operation, from: key.operation}}
    - name: depth
      description: Steps
      map: depth
      bucket: {{from: key, sum: 5}}
      buckets: [0, 10, 20, 30, 40]
      scale: 10
    - name: sizes
      description: "Fixed edges"
      map: sizes
      bucket: {{from: key, keys: [1, 5, 10], sum: 11}}
      buckets: [1, 5, 10]
"#,
        object().display()
    );
    let differences = text.lines().zip(expected.lines()).find(|(line, expected)| line != expected);
    assert!(text == expected, "{differences:?}\n{text}");
}

#[test]
fn names_and_edges_can_stay_as_they_were() {
    needs_root!();
    let text = converted(&["--keep-names", "--compatible-edges"]);
    for expected in [
        "name: ebpf_exporter_calls_total\n",
        "buckets: [0.000001, 0.000002, 0.000004, 0.000008, 0.000016]\n",
        "buckets: [0, 1, 2, 4, 8, 16]\n",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[test]
fn a_converted_configuration_gives_the_same_numbers() {
    needs_root!();
    let option = option();
    let with = |text: String| {
        text.replace("  metrics:\n", &format!("  variables: {{option: {option}}}\n  metrics:\n"))
    };
    let compatible = folder();
    let path = compatible.path().join("config.yaml");
    std::fs::write(&path, with(converted(&["--compatible-edges"]))).expect("a file");
    let mut check = Command::new(env!("CARGO_BIN_EXE_eunomia-exporter"));
    let output = check.arg("--check").arg("--config").arg(&path).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let exporter = Exporter::start(&with(converted(&[])));
    call(option, &CALLS);
    let counted = "eunomia_events_total{program=\"features\",outcome=\"counted\"}";
    wait_for("the events", || value(&exporter.metrics(), counted) == Some(8.0));
    let text = exporter.metrics();
    for (series, expected) in [
        ("names_total{name=\"a\"}", 2.0),
        ("names_total{name=\"ab\"}", 3.0),
        ("number_calls_total{number=\"0xbeef\"}", 8.0),
        ("array_calls_total{index=\"0\"}", 8.0),
        ("function_calls_total{function=\"do_exit\"}", 8.0),
        ("latency_seconds_bucket{operation=\"read\",le=\"1e-06\"}", 2.0),
        ("latency_seconds_bucket{operation=\"read\",le=\"3e-06\"}", 4.0),
        ("latency_seconds_bucket{operation=\"read\",le=\"7e-06\"}", 6.0),
        ("latency_seconds_bucket{operation=\"read\",le=\"1.5e-05\"}", 7.0),
        ("latency_seconds_bucket{operation=\"read\",le=\"+Inf\"}", 8.0),
        ("latency_seconds_count{operation=\"read\"}", 8.0),
        ("latency_seconds_sum{operation=\"read\"}", 125e-6),
        ("values_bucket{operation=\"1\",le=\"0\"}", 1.0),
        ("values_bucket{operation=\"1\",le=\"1\"}", 2.0),
        ("values_bucket{operation=\"1\",le=\"3\"}", 4.0),
        ("values_bucket{operation=\"1\",le=\"7\"}", 6.0),
        ("values_bucket{operation=\"1\",le=\"15\"}", 7.0),
        ("values_count{operation=\"1\"}", 8.0),
        ("values_sum{operation=\"1\"}", 125.0),
        ("depth_bucket{le=\"0\"}", 7.0),
        ("depth_bucket{le=\"40\"}", 8.0),
        ("depth_sum", 1250.0),
        ("sizes_bucket{le=\"1\"}", 2.0),
        ("sizes_bucket{le=\"5\"}", 5.0),
        ("sizes_bucket{le=\"10\"}", 8.0),
        ("sizes_sum", 0.0),
    ] {
        assert_eq!(value(&text, series), Some(expected), "{series}\n{text}");
    }
    assert!(!text.contains("names_total{name=\"c\"}"), "{text}");
    let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    let calls = line("calls_total{");
    for label in [
        "operation=\"write\"",
        "device=\"4095:1\"",
        "address=\"127.0.0.1\"",
        "address6=\"::1\"",
        "error=\"EPERM\"",
        "interface=\"lo\"",
        "syscall=\"read\"",
        "vendor=\"0x8086\"",
    ] {
        assert!(calls.contains(label), "{label}: {calls}");
    }
    assert!(line("cpu_calls_total{").contains("kind=\"call\",cpu=\""), "{text}");
    assert!(line("event_calls_total{").contains(",name=\"a\"} "), "{text}");
}

#[test]
fn what_the_exporter_does_not_have_is_refused() {
    needs_root!();
    let metric = "metrics:\n  counters:\n  - name: array_calls_total\n    labels:\n    - name: index\n      size: 4\n      decoders:\n      - name: uint\n";
    let with = |from: &str, to: &str| {
        assert!(metric.contains(from), "{from}");
        metric.replacen(from, to, 1)
    };
    let folder = folder();
    let path = folder.path().join("theirs.yaml");
    for (text, expected) in [
        (
            format!("{metric}cgroup_id_map:\n  name: a\n  type: hash\n"),
            "cgroup_id_map: the exporter does not fill maps with control groups",
        ),
        (
            "tracing:\n  spans:\n  - name: a\n".into(),
            "tracing: the exporter has no spans, and there are no metrics",
        ),
        (
            "programs:\n- name: a\n  code: int main;\n".into(),
            "line 2, column 3: programs: a configuration of ebpf_exporter 1",
        ),
        ("metrics: {}\n".into(), "there are no metrics"),
        (
            with("uint", "dname"),
            "line 8, column 9: counter \"array_calls_total\": label \"index\": decoder dname",
        ),
        (with("uint", "unit"), "unknown decoder \"unit\""),
        (
            with("uint", "inet_ip\n      - name: ksym"),
            "decoder ksym: the exporter applies a format, then a regexp, then a static_map",
        ),
        (
            with("size: 4", "size: 8"),
            "line 5, column 7: counter \"array_calls_total\": label \"index\": the key has no field of 8 bytes at 0; u32, 4 bytes",
        ),
        (
            with("size: 4", "size: 4\n      padding: 4"),
            "the labels have 8 bytes with their padding, and the key has 4",
        ),
        (with("size: 4", "size: 0"), "has no size"),
        (
            with("array_calls", "no_calls"),
            "the object has no map named \"no_calls_total\"; the map must have the name of the metric",
        ),
        (with("labels", "label"), "line 4, column 5: unknown field `label`"),
        (with("counters", "histograms"), "missing field `bucket_type`"),
        (
            with("labels", "perf_event_array: true\n    labels"),
            "the object has no perf buffer \"array_calls_total\"",
        ),
    ] {
        std::fs::write(&path, &text).expect("a file");
        let (is_done, printed, errors) = import(&path, &[]);
        assert!(!is_done && printed.is_empty() && errors.contains(expected), "{text}: {errors}{printed}");
    }
    std::fs::write(&path, format!("{metric}tracing:\n  spans: []\n")).expect("a file");
    let (is_done, _, errors) = import(&path, &[]);
    assert!(is_done && errors.contains("line 10, column 3: tracing is left out"), "{errors}");
}
