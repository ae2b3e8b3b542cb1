//! The exporter under load: many scrapes, callers that are slow, label values without end, and an exporter that is killed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use super::*;

const METRICS: &str = "    counters:
    - {name: events_total}
    - {name: names_total, labels: [name]}
    gauges:
    - {name: all_calls, variable: calls}
";

/// Ends the threads of a test, also if it fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Calls prctl with as many different names, from `first` on.
fn call_with_names(option: u32, first: u64, count: u64) {
    let script = format!(
        "import ctypes\nprctl = ctypes.CDLL(None, use_errno=False).prctl\n\
         for number in range({first}, {}):\n    prctl({}, 1, b'%d' % number, 0, 0)\n",
        first + count,
        option as i32
    );
    let done = Command::new("python3").args(["-c", &script]).status().expect("python3 runs");
    assert!(done.success());
}

/// Counts of events: those that a metric has, and those that the kernel had no space for.
fn counted_and_lost(text: &str) -> (f64, f64) {
    let outcome = |word: &str| {
        let series = format!("eunomia_events_total{{program=\"calls\",outcome=\"{word}\"}}");
        value(text, &series).unwrap_or_else(|| panic!("{text}"))
    };
    (outcome("counted"), outcome("lost"))
}

/// The metrics, once every event that the program has sent is accounted for.
#[track_caller]
fn settled(exporter: &Exporter) -> String {
    let mut text = String::new();
    wait_for("all events", || {
        text = exporter.metrics();
        let (counted, lost) = counted_and_lost(&text);
        value(&text, "all_calls") == Some(counted + lost)
    });
    text
}

#[test]
fn scrape_storms_and_slow_callers_cost_no_event() {
    needs_root!();
    let option = option();
    let exporter = Exporter::start(&program(option, METRICS));
    let connect = || TcpStream::connect(&exporter.address).expect("it listens");
    let slow: Vec<TcpStream> = (0..30)
        .map(|index| {
            let mut stream = connect();
            let head: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
            // Half of them never complete their request, and the others never read the response.
            stream.write_all(&head[..if index % 2 == 0 { 20 } else { head.len() }]).expect("it reads");
            stream
        })
        .collect();
    let (complete, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                while !is_over.load(Relaxed) {
                    let (status, body) = exporter.request("GET", "/metrics", "", "");
                    match status {
                        200 => assert!(body.ends_with('\n') && body.contains("events_total ")),
                        // The limits for one caller.
                        429 => std::thread::sleep(Duration::from_millis(20)),
                        other => panic!("{other}: {body}"),
                    }
                    complete.fetch_add(u64::from(status == 200), Relaxed);
                }
            });
        }
        let _over = Over(&is_over);
        call_with_names(option, 0, 20_000);
        wait_for("scrapes", || complete.load(Relaxed) > 100);
    });
    let text = settled(&exporter);
    assert_eq!((value(&text, "events_total"), counted_and_lost(&text)), (Some(20_000.0), (20_000.0, 0.0)));
    let readings = value(&text, "eunomia_scrapes_total").expect("a value");
    assert!(readings <= complete.load(Relaxed) as f64 + 40.0, "{readings} readings");
    drop(slow);
}

#[test]
fn memory_is_bounded_whatever_the_label_values_are() {
    needs_root!();
    let option = option();
    let exporter = Exporter::start(&program(option, METRICS));
    let total: u64 = if std::env::var_os("EUNOMIA_ENDURANCE").is_some() { 10_000_000 } else { 100_000 };
    call_with_names(option, 0, total / 10);
    let memory = |text: &str| value(text, "process_resident_memory_bytes").expect("a value");
    let first = memory(&settled(&exporter));
    call_with_names(option, total / 10, total - total / 10);
    let text = settled(&exporter);
    let (counted, lost) = counted_and_lost(&text);
    assert_eq!(counted + lost, total as f64);
    let names = text.lines().filter(|line| line.starts_with("names_total{"));
    let sum: f64 = names.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum();
    assert_eq!((sum, value(&text, "events_total")), (counted, Some(counted)), "nothing is counted twice");
    let series = value(&text, "eunomia_series{program=\"calls\",metric=\"names_total\"}");
    assert_eq!(series, Some(2001.0));
    let folded = value(&text, "eunomia_series_folded_total{program=\"calls\",metric=\"names_total\"}");
    assert_eq!(folded, Some(counted - 2000.0));
    println!("{total} names: {lost} events lost, memory {first} -> {}", memory(&text));
    assert!(memory(&text) < first + 4e6, "{first} -> {}", memory(&text));
}

#[test]
fn counts_are_exact_after_the_exporter_was_killed_under_load() {
    needs_root!();
    let option = option();
    let mut exporter = Exporter::start(&program(option, METRICS));
    let is_over = AtomicBool::new(false);
    let exporter = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Relaxed) {
                call_with_names(option, 0, 2000);
            }
        });
        let _over = Over(&is_over);
        for _ in 0..3 {
            wait_for("events", || value(&exporter.metrics(), "events_total") > Some(0.0));
            exporter = exporter.killed();
        }
        wait_for("events", || value(&exporter.metrics(), "events_total") > Some(0.0));
        exporter
    });
    let text = settled(&exporter);
    let (counted, lost) = counted_and_lost(&text);
    assert_eq!((value(&text, "events_total"), lost), (Some(counted), 0.0));
}

impl Exporter {
    /// Kills it and starts another one with the same configuration.
    fn killed(mut self) -> Exporter {
        self.child.kill().expect("it runs");
        self.child.wait().expect("a child");
        let folder = std::mem::replace(&mut self.folder, folder());
        Exporter::run(folder, |command| command)
    }
}
