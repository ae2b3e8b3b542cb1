//! The counts of the exporter for real events.

use super::*;

const CALLS: [(u64, &[u8]); 8] =
    [(0, b"a"), (1, b"a"), (2, b"b"), (3, b"b"), (4, b"b"), (7, b"c"), (8, b"c"), (100, b"c")];

#[test]
fn events_and_maps_are_counted_exactly() {
    needs_root!();
    let option = option();
    let exporter = Exporter::start(&program(
        option,
        "    counters:
    - {name: calls_counter, labels: [name]}
    - {name: calls_bytes_total, add: value, unit: kib, labels: [{name: is, value: constant}]}
    - {name: large_total, where: value > 3, labels: [{name: first, from: name, regexp: '^([ab])'}]}
    - {name: map_total, map: totals, value: count, labels: [name]}
    - {name: cpu_total, map: by_cpu, cpu: true}
    - {name: all_cpus_total, map: by_cpu}
    - {name: errors_total, labels: [error]}
    gauges:
    - {name: last_value, map: totals, value: value.last, labels: [{name: name, values: {c: sea}}]}
    - {name: all_calls, variable: calls}
    histograms:
    - {name: values, observe: value, buckets: [1, 4, 10]}
    - {name: value_seconds, map: hists, slots: slots, sum: sum, unit: us}
    - {name: powers, observe: value}
    infos:
    - {name: about_info, variables: [option], labels: [{name: tool, value: calls}]}
",
    ));
    call(option, &CALLS);
    let text = exporter.metrics_after(8);
    for (series, expected) in [
        ("calls_counter{name=\"a\"}", 2.0),
        ("calls_counter{name=\"b\"}", 3.0),
        ("calls_counter{name=\"c\"}", 3.0),
        ("calls_bytes_total{is=\"constant\"}", 125.0 * 1024.0),
        ("large_total{first=\"b\"}", 1.0),
        ("map_total{name=\"b\"}", 3.0),
        ("all_cpus_total", 8.0),
        ("errors_total{error=\"EPERM\"}", 1.0),
        ("last_value{name=\"b\"}", 4.0),
        ("last_value{name=\"sea\"}", 100.0),
        ("all_calls", 8.0),
        ("values_bucket{le=\"1\"}", 2.0),
        ("values_bucket{le=\"4\"}", 5.0),
        ("values_bucket{le=\"10\"}", 7.0),
        ("values_bucket{le=\"+Inf\"}", 8.0),
        ("values_count", 8.0),
        ("values_sum", 125.0),
        ("value_seconds_bucket{le=\"1e-06\"}", 2.0),
        ("value_seconds_bucket{le=\"3e-06\"}", 4.0),
        ("value_seconds_bucket{le=\"7e-06\"}", 6.0),
        ("value_seconds_bucket{le=\"1.5e-05\"}", 7.0),
        ("value_seconds_bucket{le=\"+Inf\"}", 8.0),
        ("value_seconds_count", 8.0),
        ("value_seconds_sum", 125e-6),
        ("powers_bucket{le=\"7\"}", 6.0),
        ("powers_bucket{le=\"15\"}", 7.0),
        ("eunomia_events_total{program=\"calls\",outcome=\"lost\"}", 0.0),
    ] {
        assert_eq!(value(&text, series), Some(expected), "{series}\n{text}");
    }
    assert!(text.contains(&format!("about_info{{tool=\"calls\",option=\"{option}\"}} 1\n")), "{text}");
    assert!(!text.contains("large_total{first=\"c\"}"), "the expression does not match: {text}");
    let cpus = text.lines().filter(|line| line.starts_with("cpu_total{cpu=\""));
    let sum: f64 = cpus.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum();
    assert_eq!(sum, 8.0, "{text}");
    // A map is read again, and nothing in it is counted twice.
    let again = exporter.metrics();
    assert_eq!(value(&again, "map_total{name=\"b\"}"), Some(3.0));
    assert_eq!(value(&again, "value_seconds_count"), Some(8.0));
    assert_eq!(value(&again, "last_value{name=\"b\"}"), Some(4.0));
}

#[test]
fn label_values_of_the_ancestor_have_quotes_on_request() {
    needs_root!();
    let option = option();
    let metrics = "    counters:\n    - {name: eunomia_calls, labels: [name, value]}\n";
    let config = program(option, metrics) + "  compat: quotes\n";
    let exporter = Exporter::start(&config);
    call(option, &[(7, b"cat")]);
    let text = exporter.metrics_after(1);
    assert_eq!(value(&text, r#"eunomia_calls{name="\"cat\"",value="7"}"#), Some(1.0), "{text}");
    assert!(text.contains("# TYPE eunomia_calls counter\n"), "{text}");
    assert!(exporter.open_metrics().contains("# TYPE eunomia_calls unknown\n"));
}

#[test]
fn beyond_the_budget_sums_are_still_exact() {
    needs_root!();
    let option = option();
    let metrics = "    counters:
    - {name: events_total, labels: [name], series: 10}
    - {name: entries_total, map: totals, value: count, labels: [name], series: 10}\n";
    let exporter = Exporter::start(&program(option, metrics));
    let names: Vec<String> = (0..500).map(|number| format!("name{number}")).collect();
    for _ in 0..2 {
        let calls: Vec<(u64, &[u8])> = names.iter().map(|name| (1, name.as_bytes())).collect();
        call(option, &calls);
    }
    let text = exporter.metrics_after(1000);
    for metric in ["events_total", "entries_total"] {
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with(&format!("{metric}{{"))).collect();
        let sum: f64 = lines.iter().filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum();
        assert_eq!((lines.len(), sum), (11, 1000.0), "{lines:?}");
        assert_eq!(value(&text, &format!("{metric}{{name=\"other\"}}")), Some(980.0));
    }
    let folded = value(&text, "eunomia_series_folded_total{program=\"calls\",metric=\"events_total\"}");
    assert_eq!(folded, Some(980.0));
}

#[test]
fn a_gauge_keeps_the_largest_values_of_each_scrape() {
    needs_root!();
    let option = option();
    let metrics = "    counters:\n    - {name: events_total}\n    gauges:
    - {name: largest, map: totals, value: bytes, labels: [name], series: 2}\n";
    let exporter = Exporter::start(&program(option, metrics));
    let shown = |text: &str| {
        let lines = text.lines().filter_map(|line| line.strip_prefix("largest{name="));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    call(option, &[(1, b"a"), (20, b"b"), (3, b"c"), (4, b"d")]);
    assert_eq!(shown(&exporter.metrics_after(4)), ["\"b\"} 20.0", "\"d\"} 4.0", "\"other\"} 4.0"]);
    call(option, &[(30, b"c")]);
    let text = exporter.metrics_after(5);
    assert_eq!(shown(&text), ["\"c\"} 33.0", "\"b\"} 20.0", "\"other\"} 5.0"]);
    let folded = value(&text, "eunomia_series_folded_total{program=\"calls\",metric=\"largest\"}");
    assert!(folded >= Some(4.0), "two values were folded in each scrape: {text}");
}

#[test]
fn programs_are_started_and_stopped_by_requests() {
    needs_root!();
    let option = option();
    let metrics = "    counters:\n    - {name: first_total}\n";
    let exporter = Exporter::start_with(&program(option, metrics), &["--insecure-no-auth"]);
    let json = "Content-Type: application/json\r\n";
    let body = format!(
        r#"{{"name":"more","compiled_ebpf_filename":{:?},"variables":{{"option":{option}}},"metrics":{{"counters":[{{"name":"second_total"}}]}}}}"#,
        package()
    );
    assert_eq!(exporter.request("POST", "/start", json, &body), (200, r#"{"id":1}"#.into()));
    assert_eq!(
        exporter.request("GET", "/list", "", "").1,
        r#"[{"id":0,"name":"calls"},{"id":1,"name":"more"}]"#
    );
    let (status, text) = exporter.request("POST", "/start", json, &body);
    assert!(status == 404 && text.contains("program \\\"more\\\" runs already"), "{status}: {text}");
    call(option, &[(1, b"a")]);
    let text = exporter.metrics_after(1);
    assert_eq!(value(&text, "first_total"), Some(1.0));
    wait_for("the other program", || value(&exporter.metrics(), "second_total") == Some(1.0));
    assert_eq!(exporter.request("POST", "/stop", json, r#"{"id":1}"#), (200, String::new()));
    assert!(!exporter.metrics().contains("second_total"));
    assert_eq!(exporter.request("POST", "/stop", json, r#"{"id":1}"#).0, 404);
    assert_eq!(exporter.request("POST", "/start", "", &body).0, 415, "a web page could send it");
    let (status, text) = exporter.request("GET", "/other", "", "");
    assert!(status == 404 && text.contains("Missing Page"), "{status}: {text}");
}

#[test]
fn nobody_starts_programs_without_a_token() {
    needs_root!();
    let exporter = Exporter::start(&program(option(), "    counters:\n    - {name: first_total}\n"));
    let json = "Content-Type: application/json\r\n";
    for (method, path) in [("POST", "/start"), ("POST", "/stop"), ("GET", "/list")] {
        let (status, text) = exporter.request(method, path, json, "{\"id\":0}");
        assert_eq!(status, 401, "{path}: {text}");
    }
    assert_eq!(exporter.request("GET", "/-/ready", "", ""), (200, "OK\n".into()));
}

#[test]
fn a_configuration_that_does_not_fit_the_package_is_explained() {
    needs_root!();
    for (metrics, expected) in [
        (
            "counters:\n    - {name: a_total, labels: [nam]}",
            "line 7, column 32: counter \"a_total\": label \"nam\": field \"nam\": struct event has no \"nam\"; there are: value, error, pid, name",
        ),
        (
            "counters:\n    - {name: a_total, map: total}",
            "the package has no map \"total\"; there are: events, totals, hists, by_cpu",
        ),
        (
            "counters:\n    - {name: a_total, map: totals}",
            "\"value\" is a struct; choose one of its fields as value: count, bytes, last",
        ),
        ("counters:\n    - {name: a_total, add: name}", "\"name\" is char[16], not a number"),
        (
            "counters:\n    - {name: a_total, stream: event}",
            "the package has no stream \"event\"; there are: events",
        ),
        ("counters:\n    - {name: a_total, where: 'pid >'}", "counter \"a_total\": where: "),
        (
            "counters:\n    - {name: a_total, labels: [{name: name, as: ipv4}]}",
            "as: ipv4 requires 4 bytes, and the field is char[16]",
        ),
        (
            "counters:\n    - {name: a_total, labels: [{name: name, as: ip}]}",
            "as: there is no format \"ip\"; there are: ipv4",
        ),
        (
            "counters:\n    - {name: a_total, map: totals, value: count, cpu: true}",
            "cpu: the map does not have a value for each CPU",
        ),
        ("gauges:\n    - {name: a, variable: nothing}", "variable \"nothing\""),
        ("histograms:\n    - {name: a, map: hists, slots: sum}", "is not an array of 1 to 256 integers"),
        (
            "histograms:\n    - {name: a, map: hists, slots: slots, buckets: 'linear(10, 7)'}",
            "7 buckets and one without an upper edge need 8 slots, and the array has 5",
        ),
        ("infos:\n    - {name: a, variables: [nothing]}", "variable \"nothing\""),
    ] {
        let text = refused(&program(1, &format!("    {metrics}\n")));
        assert!(text.contains(expected), "{metrics}: {text}");
    }
}
