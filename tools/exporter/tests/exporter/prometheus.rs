//! Debian's Prometheus scrapes the exporter, and strict parsers read its text.

use super::*;

/// Names that are hard to write: invalid UTF-8, line ends, quotes, backslashes.
const HOSTILE: [&[u8]; 6] = [b"\xff\xfe", b"a\nb", b"\"", b"\\", b"} 1", b"\xe6\xbc\xa2"];

const METRICS: &str = "    counters:
    - {name: calls_counter, description: 'a \"quoted\\\\ description', labels: [name]}
    - {name: calls_bytes_total, add: value, unit: bytes, labels: [name]}
    histograms:
    - {name: value_seconds, observe: value, unit: ms, buckets: [0.01, 0.1]}
    gauges:
    - {name: last_value, map: totals, value: last, labels: [name]}
    infos:
    - {name: about_info, variables: [option]}
";

/// A Prometheus that scrapes an exporter every 100 ms.
pub struct Prometheus {
    child: Child,
    _folder: tempfile::TempDir,
    address: String,
}

impl Prometheus {
    fn start(target: &str, features: &[&str]) -> Prometheus {
        Prometheus::start_with(target, features, "")
    }

    /// `more` are lines of the configuration of the job.
    pub fn start_with(target: &str, features: &[&str], more: &str) -> Prometheus {
        let folder = folder();
        let address = free_address();
        let config = folder.path().join("prometheus.yml");
        let text = format!(
            "global: {{scrape_interval: 100ms, scrape_timeout: 100ms}}\nscrape_configs:\n- job_name: test\n  static_configs: [{{targets: ['{target}']}}]\n{more}"
        );
        std::fs::write(&config, text).expect("a file");
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
        command.arg(format!("--web.listen-address={address}")).args(features);
        command.stdout(Stdio::null()).stderr(File::create(folder.path().join("log")).expect("a log"));
        let child = command.spawn().expect("prometheus is installed: tools/setup.sh test");
        Prometheus { child, _folder: folder, address }
    }

    /// The value of a query with one result.
    fn query(&self, query: &str) -> Option<f64> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        let escaped: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let head = format!("GET /api/v1/query?query={escaped} HTTP/1.0\r\nHost: localhost\r\n\r\n");
        stream.write_all(head.as_bytes()).ok()?;
        let mut response = String::new();
        stream.read_to_string(&mut response).ok()?;
        let body: serde_json::Value = serde_json::from_str(response.split_once("\r\n\r\n")?.1).ok()?;
        body["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    }

    #[track_caller]
    pub fn wait_for(&self, query: &str, expected: f64) {
        let mut found = None;
        for _ in 0..600 {
            found = self.query(query);
            if found == Some(expected) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("{query}: {found:?} instead of {expected}");
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").to_string()
}

#[test]
fn prometheus_computes_the_true_numbers() {
    needs_root!();
    let option = option();
    let exporter = Exporter::start(&program(option, METRICS));
    let prometheus = Prometheus::start(&exporter.address, &[]);
    call(option, &[(1, b"a")]);
    prometheus.wait_for("calls_counter{name=\"a\"}", 1.0);
    let calls: Vec<(u64, &[u8])> = (0..1000).map(|number| (number % 100, &b"a"[..])).collect();
    call(option, &calls);
    prometheus.wait_for("sum(calls_counter)", 1001.0);
    prometheus.wait_for("sum(calls_bytes_total)", 49501.0);
    // There is a sample every tenth of a second, so the increase is exact, apart from what Prometheus extrapolates to the edges of the range.
    prometheus.wait_for("max_over_time(calls_counter[1h]) - min_over_time(calls_counter[1h])", 1000.0);
    prometheus.wait_for("value_seconds_count", 1001.0);
    prometheus.wait_for("value_seconds_bucket{le=\"0.01\"}", 111.0);
    prometheus.wait_for("round(value_seconds_sum * 1000)", 49501.0);
    prometheus.wait_for("up", 1.0);
    prometheus.wait_for("count(about_info)", 1.0);
}

#[test]
fn native_histograms_have_the_true_numbers() {
    needs_root!();
    let option = option();
    let more = "    - {name: sizes, observe: value, buckets: native, labels: [name]}\n    gauges:";
    let exporter = Exporter::start(&program(option, &METRICS.replace("    gauges:", more)));
    let prometheus = Prometheus::start(&exporter.address, &["--enable-feature=native-histograms"]);
    let calls: Vec<(u64, &[u8])> = (0..1000).map(|number| (number % 100, &b"a"[..])).collect();
    call(option, &calls);
    prometheus.wait_for("histogram_count(sizes)", 1000.0);
    prometheus.wait_for("histogram_sum(sizes)", 49500.0);
    // 64 is the upper edge of a bucket, so this is exact: 1 to 64 of 0 to 99.
    prometheus.wait_for("round(histogram_fraction(0.5, 64, sizes) * 1000)", 640.0);
    // The other metrics are in the same messages.
    prometheus.wait_for("calls_counter{name=\"a\"}", 1000.0);
    prometheus.wait_for("calls_bytes_total", 49500.0);
    prometheus.wait_for("value_seconds_bucket{le=\"0.01\"}", 110.0);
    prometheus.wait_for("last_value", 99.0);
    prometheus.wait_for("count(about_info)", 1.0);
    prometheus.wait_for("up", 1.0);
    let text = exporter.metrics();
    assert_eq!(value(&text, "sizes_bucket{name=\"a\",le=\"63\"}"), Some(640.0), "{text}");
    assert_eq!(value(&text, "sizes_count{name=\"a\"}"), Some(1000.0), "{text}");
}

#[test]
fn strict_parsers_accept_hostile_label_values() {
    needs_root!();
    let option = option();
    let exporter = Exporter::start(&program(option, METRICS));
    let calls: Vec<(u64, &[u8])> = HOSTILE.iter().map(|name| (1, *name)).collect();
    call(option, &calls);
    let classic = exporter.metrics_after(6);
    check("promtool", &["check", "metrics"], &classic, |text| {
        // The name of the manual's metric does not end in _total.
        text.lines().all(|line| line.contains("calls_counter") || line.is_empty())
    });
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/venv/bin/python");
    let script = |parser: &str| {
        format!(
            "import sys\nfrom prometheus_client{parser} import text_fd_to_metric_families as parse\n\
             names = [s.labels['name'] for m in parse(sys.stdin) for s in m.samples if s.name.startswith('calls_counter')]\n\
             assert sorted(names) == sorted(['\\ufffd\\ufffd', 'a\\nb', '\"', '\\\\', '}} 1', '\\u6f22']), names\n"
        )
    };
    let python = python.to_str().expect("UTF-8");
    check(python, &["-c", &script(".parser")], &classic, str::is_empty);
    check(python, &["-c", &script(".openmetrics.parser")], &exporter.open_metrics(), str::is_empty);
}

/// Runs a program with `input`. What it prints must be acceptable.
#[track_caller]
fn check(program: &str, args: &[&str], input: &str, is_fine: impl Fn(&str) -> bool) {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child =
        command.spawn().unwrap_or_else(|error| panic!("{program}: {error}: run tools/setup.sh test"));
    let mut stdin = child.stdin.take().expect("a pipe");
    let text = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = child.wait_with_output().expect("it ends");
    let _ = writer.join();
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed);
    assert!(is_fine(&printed), "{program}: {printed}\n{input}");
}
