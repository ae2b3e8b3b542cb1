//! A dashboard of Grafana with the metrics of a configuration.

use serde_json::{Value, json};

use crate::config::{File, Kind, Metric, Program};

/// The width of a panel; a dashboard has 24 columns.
const WIDTH: usize = 12;
/// The height of a panel.
const HEIGHT: usize = 8;
/// The most series in a panel.
const SERIES: usize = 20;
/// The instances that are selected.
const SELECTED: &str = "instance=~\"$instance\"";

/// The dashboard as JSON. `name` is its title, and with it its uid.
pub fn dashboard(file: &File, name: &str) -> String {
    let mut panels = Panels::default();
    for program in &file.programs {
        panels.program(&program.value);
    }
    let dashboard = json!({
        "uid": format!("eunomia-{name}"),
        "title": name,
        "tags": ["eunomia"],
        "schemaVersion": 39,
        "editable": true,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [
            {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
            {
                "name": "instance",
                "label": "Instance",
                "type": "query",
                "datasource": source(),
                "definition": INSTANCES,
                "query": {"query": INSTANCES, "refId": "instance"},
                "refresh": 2,
                "multi": true,
                "includeAll": true,
                "allValue": ".*",
                "current": {"text": "All", "value": "$__all"},
            },
        ]},
        "panels": panels.list,
    });
    serde_json::to_string_pretty(&dashboard).unwrap_or_default() + "\n"
}

/// All instances of the exporter.
const INSTANCES: &str = "label_values(eunomia_exporter_build_info, instance)";

fn source() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}

/// The panels, from left to right and from top to bottom.
#[derive(Default)]
struct Panels {
    list: Vec<Value>,
    x: usize,
    y: usize,
}

/// A query of a panel: PromQL, and the names of its series.
struct Query(String, String);

impl Panels {
    fn program(&mut self, program: &Program) {
        self.row(&program.name);
        for (kind, metric) in program.metrics() {
            self.metric(kind, &metric.value);
        }
        self.events(&program.name);
    }

    fn row(&mut self, title: &str) {
        self.end_line();
        let position = json!({"x": 0, "y": self.y, "w": 2 * WIDTH, "h": 1});
        self.list.push(json!({
            "id": self.list.len() + 1, "type": "row", "title": title, "collapsed": false, "panels": [], "gridPos": position,
        }));
        self.y += 1;
    }

    fn end_line(&mut self) {
        if self.x > 0 {
            (self.x, self.y) = (0, self.y + HEIGHT);
        }
    }

    /// Adds a panel. `more` has its options and the format of its queries.
    fn add(&mut self, kind: &str, title: &str, about: &str, unit: &str, queries: Vec<Query>, more: &Value) {
        let targets: Vec<Value> = queries
            .into_iter()
            .enumerate()
            .map(|(index, Query(expression, legend))| {
                json!({
                    "refId": char::from(b'A' + index as u8).to_string(),
                    "datasource": source(),
                    "expr": expression,
                    "legendFormat": legend,
                    "format": more["format"].as_str().unwrap_or("time_series"),
                    "instant": more["format"] == "table",
                })
            })
            .collect();
        self.list.push(json!({
            "id": self.list.len() + 1,
            "type": kind,
            "title": title,
            "description": about,
            "datasource": source(),
            "gridPos": {"x": self.x, "y": self.y, "w": WIDTH, "h": HEIGHT},
            "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
            "options": more["options"],
            "targets": targets,
        }));
        self.x += WIDTH;
        if self.x == 2 * WIDTH {
            self.end_line();
        }
    }

    fn metric(&mut self, kind: Kind, metric: &Metric) {
        let (name, about) = (&metric.name, &metric.description);
        let selected = format!("{name}{{{SELECTED}}}");
        match kind {
            Kind::Counter => {
                let rate = format!("rate({selected}[$__rate_interval])");
                self.add(
                    "timeseries",
                    &title(metric),
                    name,
                    unit(kind, name),
                    vec![by_labels(metric, &rate)],
                    &json!({}),
                );
            }
            Kind::Gauge => {
                self.add(
                    "timeseries",
                    &title(metric),
                    name,
                    unit(kind, name),
                    vec![by_labels(metric, &selected)],
                    &json!({}),
                );
            }
            Kind::Histogram => self.histogram(metric),
            Kind::Info => {
                let more = json!({"format": "table"});
                let about = if about.is_empty() { name } else { about };
                self.add("table", name, about, "none", vec![Query(selected, String::new())], &more);
            }
        }
    }

    fn histogram(&mut self, metric: &Metric) {
        let (name, title) = (&metric.name, title(metric));
        let buckets = format!("{name}_bucket{{{SELECTED}}}");
        let counts = Query(format!("sum by (le) (increase({buckets}[$__rate_interval]))"), "{{le}}".into());
        let more = json!({
            "format": "heatmap",
            "options": {"calculate": false, "yAxis": {"unit": unit(Kind::Histogram, name)}, "cellGap": 1},
        });
        self.add("heatmap", &title, name, "short", vec![counts], &more);
        let quantile = |number: &str| {
            let rate = format!("sum by (le) (rate({buckets}[$__rate_interval]))");
            Query(format!("histogram_quantile({number}, {rate})"), number.to_owned())
        };
        let quantiles = ["0.5", "0.9", "0.99"].map(quantile).into();
        let title = format!("{title}: quantiles");
        self.add("timeseries", &title, name, unit(Kind::Histogram, name), quantiles, &json!({}));
    }

    /// What the exporter exposes about a program.
    fn events(&mut self, name: &str) {
        let program = format!("program={}, {SELECTED}", Value::from(name));
        let rate = format!("sum by (outcome) (rate(eunomia_events_total{{{program}}}[$__rate_interval]))");
        let events = vec![Query(rate, "{{outcome}}".into())];
        self.add("timeseries", "Events by outcome", "eunomia_events_total", "cps", events, &json!({}));
        let series = format!("sum by (metric) (eunomia_series{{{program}}})");
        let series = vec![Query(series, "{{metric}}".into())];
        self.add("timeseries", "Series of each metric", "eunomia_series", "short", series, &json!({}));
    }
}

/// A query with a series for each combination of labels: those with the largest values.
fn by_labels(metric: &Metric, expression: &str) -> Query {
    let mut labels: Vec<&str> = metric.labels.iter().map(|label| &*label.value.name).collect();
    if metric.cpu {
        labels.push("cpu");
    }
    if labels.is_empty() {
        return Query(format!("sum({expression})"), metric.name.clone());
    }
    let legend: Vec<String> = labels.iter().map(|label| format!("{{{{{label}}}}}")).collect();
    Query(format!("topk({SERIES}, sum by ({}) ({expression}))", labels.join(", ")), legend.join(" "))
}

fn title(metric: &Metric) -> String {
    let text = if metric.description.is_empty() { &metric.name } else { &metric.description };
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// The unit in the terms of Grafana. The rate of a counter has another one than its value.
fn unit(kind: Kind, name: &str) -> &'static str {
    let base = name.strip_suffix("_total").unwrap_or(name);
    match (base.rsplit('_').next(), kind) {
        (Some("seconds"), Kind::Counter) => "percentunit",
        (Some("seconds"), _) => "s",
        (Some("bytes"), Kind::Counter) => "binBps",
        (Some("bytes"), _) => "bytes",
        (Some("ratio"), _) => "percentunit",
        (_, Kind::Counter) => "cps",
        _ => "short",
    }
}
