//! The cost of the exporter: an event in a counter with three labels, a scrape of 10,000 series, a million events per second, its
//! start, its memory and its wake-ups.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::agent::tasks;
use super::host::field;
use super::programs::Built;
use super::report::{Figure, Report};
use super::{Result, median, numbers, output, package, tool};

/// The targets: nanoseconds for an event, milliseconds for a scrape and a start, megabytes of memory, system calls for 256 entries.
const EVENT: f64 = 150.0;
const SCRAPE: f64 = 10.0;
const START: f64 = 100.0;
const MEMORY: f64 = 20.0;
const CALLS: f64 = 2.0;

/// The repetitions of a start, and of a scrape.
const STARTS: usize = 5;
const SCRAPES: usize = 20;

pub fn figures(built: &Built, report: &mut Report) -> Result<()> {
    report.part("`eunomia-exporter`");
    events(report)?;
    starts(report)?;
    wakeups(built, report)?;
    scrapes(built, report)?;
    flood(built, report)
}

/// Starts with five programs, and what they use.
fn starts(report: &mut Report) -> Result<()> {
    let package = package("bootstrap").display().to_string();
    let program = |number: usize| {
        format!(
            "- {{name: p{number}, compiled_ebpf_filename: {package}, metrics: {{counters: [{{name: c{number}_total, labels: [comm]}}]}}}}\n"
        )
    };
    let config = "programs:\n".to_owned() + &(0..5).map(program).collect::<String>();
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let begun = Instant::now();
        Exporter::start(&config)?.scrape()?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    let name = "start with five programs, to the first scrape";
    report.alone(name, Figure::new("", median(times), "ms"), Some(START));
    let exporter = Exporter::start(&config)?;
    exporter.scrape()?;
    let memory = exporter.value("process_resident_memory_bytes")? / 1e6;
    report.alone("resident memory with five programs", Figure::new("", memory, "MB"), Some(MEMORY));
    let all = exporter.sum(|pid| Ok(field(&format!("/proc/{pid}/smaps_rollup"), "Pss")? as f64 / 1000.0))?;
    report.alone("resident memory with five programs, with its loader", Figure::new("", all, "MB"), None);
    Ok(())
}

/// Wake-ups between scrapes, of a package that sends no events.
fn wakeups(built: &Built, report: &mut Report) -> Result<()> {
    let package = built.idle.package.display();
    let exporter = Exporter::start(&format!(
        "programs:\n- {{name: idle, compiled_ebpf_filename: {package}, metrics: {{}}}}\n"
    ))?;
    exporter.scrape()?;
    let wakeups = || {
        exporter.sum(|pid| {
            tasks(pid, |path| Ok(field(&format!("{path}/status"), "voluntary_ctxt_switches")? as f64))
        })
    };
    // The connection of the scrape is closed within a second.
    thread::sleep(Duration::from_secs(2));
    let before = wakeups()?;
    thread::sleep(Duration::from_secs(10));
    let count = wakeups()? - before;
    report.alone("wake-ups in ten seconds between scrapes", Figure::new("", count, ""), Some(0.0));
    Ok(())
}

/// A scrape of a map with 10,000 entries.
fn scrapes(built: &Built, report: &mut Report) -> Result<()> {
    let config = format!(
        "programs:\n- {{name: series, compiled_ebpf_filename: {}, metrics: {{counters: [{{name: entries_total, map: entries, labels: [number, name], series: 10000}}]}}}}\n",
        built.series.package.display()
    );
    let exporter = Exporter::start(&config)?;
    output(Command::new(&built.flood).args(["10000", "1"]))?;
    let mut times = Vec::new();
    for _ in 0..SCRAPES {
        let begun = Instant::now();
        let text = exporter.scrape()?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        let series = text.lines().filter(|line| line.starts_with("entries_total{")).count();
        if series != 10_000 {
            return Err(format!("the scrape has {series} series"));
        }
        // Fewer than its limit of requests per second.
        thread::sleep(Duration::from_millis(30));
    }
    let scrape = median(times);
    report.alone("scrape of 10,000 series of a map", Figure::new("", scrape, "ms"), Some(SCRAPE));
    let calls = exporter.calls_in_scrape()? * 256.0 / 10_000.0;
    report.alone("bpf() calls of a scrape for 256 entries", Figure::new("", calls, ""), Some(CALLS));
    Ok(())
}

/// A million events per second.
fn flood(built: &Built, report: &mut Report) -> Result<()> {
    let config = format!(
        "programs:\n- {{name: signal, compiled_ebpf_filename: {}, metrics: {{counters: [{{name: signals_total, labels: [sig, ret, comm]}}]}}}}\n",
        built.signal().package.display()
    );
    let exporter = Exporter::start(&config)?;
    let said = output(Command::new(&built.flood).args(["1000000", "4"]))?;
    let sent = numbers(&said).first().copied().unwrap_or(0.0);
    thread::sleep(Duration::from_millis(500));
    let counted = exporter.value("eunomia_events_total{program=\"signal\",outcome=\"counted\"}")?;
    let name =
        format!("1,000,000 events per second in a counter with three labels: {sent} sent, {counted} counted");
    report.alone(&name, Figure::new("", sent - counted, "lost"), Some(0.0));
    Ok(())
}

/// Events that are in memory already.
fn events(report: &mut Report) -> Result<()> {
    let mut command = Command::new(tool("examples/cost"));
    let costs: serde_json::Value = serde_json::from_str(&output(&mut command)?).map_err(|e| e.to_string())?;
    let cost = |name: &str| costs[name].as_f64().ok_or(format!("no {name}"));
    let ours = cost("ours_ns")?;
    let name = "an event in a counter with three labels";
    report.compared(
        name,
        Figure::new("by hand", cost("by_hand_ns")?, "ns"),
        Figure::new("", ours, "ns"),
        EVENT,
    );
    report.compared(name, Figure::new("JSON", cost("json_ns")?, "ns"), Figure::new("", ours, "ns"), EVENT);
    Ok(())
}

/// An exporter that runs.
struct Exporter {
    child: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Exporter {
    fn start(config: &str) -> Result<Exporter> {
        let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
        fs::write(folder.path().join("config.yaml"), config).map_err(|e| e.to_string())?;
        let mut command = Command::new(tool("eunomia-exporter"));
        command.arg("--config").arg(folder.path().join("config.yaml")).args(["--listen", "127.0.0.1:0"]);
        command.arg("--loader").arg(folder.path().join("loader.sock")).stderr(Stdio::piped());
        let mut child = command.stdin(Stdio::null()).spawn().map_err(|e| e.to_string())?;
        let stderr = child.stderr.take().ok_or("stderr is not a pipe")?;
        let mut lines = BufReader::new(stderr).lines().map_while(std::result::Result::ok);
        let address = lines.find_map(|line| Some(line.strip_prefix("Listening on http://")?.to_owned()));
        thread::spawn(move || lines.for_each(drop));
        Ok(Exporter { child, address: address.ok_or("the exporter does not start")?, _folder: folder })
    }

    fn scrape(&self) -> Result<String> {
        let mut stream = TcpStream::connect(&self.address).map_err(|e| e.to_string())?;
        let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(request).map_err(|e| e.to_string())?;
        let mut text = String::new();
        stream.read_to_string(&mut text).map_err(|e| e.to_string())?;
        Ok(text)
    }

    /// The value of a series.
    fn value(&self, series: &str) -> Result<f64> {
        let text = self.scrape()?;
        let found = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok());
        found.ok_or(format!("the exporter does not report {series}"))
    }

    /// The sum of a figure over the exporter, the loader and its keeper.
    fn sum(&self, of: impl Fn(u32) -> Result<f64>) -> Result<f64> {
        let children = |pid: u32| {
            let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            numbers(&text).into_iter().map(|child| child as u32).collect::<Vec<_>>()
        };
        let (mut all, mut next) = (vec![self.child.id()], 0);
        while let Some(pid) = all.get(next) {
            all.extend(children(*pid));
            next += 1;
        }
        all.into_iter().map(of).sum()
    }

    /// The number of bpf() calls in a scrape, as bpftrace counts them.
    fn calls_in_scrape(&self) -> Result<f64> {
        const BPF: u32 = 321;
        let text = format!(
            "BEGIN {{ printf(\"ready\\n\"); }} rawtracepoint:sys_enter /pid == {} && arg1 == {BPF}/ {{ @calls = count(); }}",
            self.child.id()
        );
        let mut command = Command::new("bpftrace");
        command.args(["-e", &text]).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|e| e.to_string())?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("stdout is not a pipe")?).lines();
        if !lines.by_ref().map_while(std::result::Result::ok).any(|line| line == "ready") {
            return Err("bpftrace does not start".into());
        }
        self.scrape()?;
        output(Command::new("kill").args(["-INT", &child.id().to_string()]))?;
        let found = lines
            .map_while(std::result::Result::ok)
            .find_map(|line| line.strip_prefix("@calls: ")?.parse().ok());
        child.wait().map_err(|e| e.to_string())?;
        found.ok_or("bpftrace prints no number".into())
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        // SIGTERM, so that it ends its loader.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}
