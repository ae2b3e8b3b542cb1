//! The cost of the exporter: an event in a counter with three labels, a scrape of 10,000 series, its start and its memory.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::programs::Built;
use super::report::{Figure, Report};
use super::{Result, output, package, tool};

/// The targets: nanoseconds for an event, milliseconds for a start, bytes of memory.
const EVENT: f64 = 150.0;
const START: f64 = 100.0;
const MEMORY: f64 = 20.0;

pub fn figures(_: &Built, report: &mut Report) -> Result<()> {
    report.part("`eunomia-exporter`");
    events(report)?;
    let begun = Instant::now();
    let mut exporter = Exporter::start()?;
    exporter.scrape()?;
    let start = begun.elapsed().as_secs_f64() * 1e3;
    report.alone("start with five programs, to the first scrape", Figure::new("", start, "ms"), Some(START));
    let text = exporter.scrape()?;
    let memory = text
        .lines()
        .find_map(|line| line.strip_prefix("process_resident_memory_bytes ")?.parse::<f64>().ok());
    let memory = memory.ok_or("the exporter does not report its memory")? / 1e6;
    report.alone("memory with five programs", Figure::new("", memory, "MB"), Some(MEMORY));
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

/// An exporter with the same package five times.
struct Exporter {
    child: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Exporter {
    fn start() -> Result<Exporter> {
        let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
        let package = package("bootstrap").display().to_string();
        let program = |number: usize| {
            format!(
                "- {{name: p{number}, compiled_ebpf_filename: {package}, metrics: {{counters: [{{name: c{number}_total, labels: [comm]}}]}}}}\n"
            )
        };
        let config = "programs:\n".to_owned() + &(0..5).map(program).collect::<String>();
        std::fs::write(folder.path().join("config.yaml"), config).map_err(|e| e.to_string())?;
        let mut command = Command::new(tool("eunomia-exporter"));
        command.arg("--config").arg(folder.path().join("config.yaml")).args(["--listen", "127.0.0.1:0"]);
        command.arg("--loader").arg(folder.path().join("loader.sock")).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|e| e.to_string())?;
        let stderr = child.stderr.take().ok_or("stderr is not a pipe")?;
        let mut lines = BufReader::new(stderr).lines().map_while(std::result::Result::ok);
        let address = lines.find_map(|line| Some(line.strip_prefix("Listening on http://")?.to_owned()));
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Exporter { child, address: address.ok_or("the exporter does not start")?, _folder: folder })
    }

    fn scrape(&mut self) -> Result<String> {
        let mut stream = TcpStream::connect(&self.address).map_err(|e| e.to_string())?;
        let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(request).map_err(|e| e.to_string())?;
        let mut text = String::new();
        stream.read_to_string(&mut text).map_err(|e| e.to_string())?;
        Ok(text)
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        // SIGTERM, so that it ends its loader.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}
