//! The cost of `ecli server`: starting, replacing and following tasks over its unix socket.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::getpgid;
use rustix::time::{ClockId, clock_gettime};

use super::host::field;
use super::programs::Built;
use super::report::{Figure, Report};
use super::{Result, numbers, output, package, tool};

/// Requests of each kind.
const COUNT: usize = 30;
/// Readers of one task.
const READERS: usize = 20;

pub fn figures(built: &Built, report: &mut Report) -> Result<()> {
    report.part("`ecli server`, over its unix socket");
    let mut server = Server::start()?;
    memory_and_wakeups(&server, report)?;
    wakeups_with_a_budget(&server, built, report)?;
    starts(&server, report)?;
    replaces(&server, built, report)?;
    server = recovery(server, report)?;
    readers(&server, built, report)?;
    flood(&server, built, report)
}

// ---- the server ----

struct Server {
    child: Child,
    folder: tempfile::TempDir,
}

impl Server {
    fn start() -> Result<Server> {
        Server::start_in(tempfile::tempdir().map_err(|e| e.to_string())?)
    }

    fn start_in(folder: tempfile::TempDir) -> Result<Server> {
        let mut command = Command::new(tool("ecli"));
        command.arg("server").arg("--socket").arg(folder.path().join("socket"));
        command.arg("--state").arg(folder.path().join("state")).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|e| e.to_string())?;
        let stderr = child.stderr.take().ok_or("stderr is no pipe")?;
        let mut lines = BufReader::new(stderr).lines().map_while(std::result::Result::ok);
        if !lines.any(|line| line == "server: ready") {
            return Err("the server does not get ready".into());
        }
        // The server writes a line for each request, which would fill the pipe.
        thread::spawn(move || lines.for_each(drop));
        Ok(Server { child, folder })
    }

    fn connect(&self, request: &str) -> Result<UnixStream> {
        let socket = UnixStream::connect(self.folder.path().join("socket"));
        let mut stream = socket.map_err(|e| e.to_string())?;
        stream.write_all(request.as_bytes()).map_err(|e| e.to_string())?;
        Ok(stream)
    }

    /// Sends a request. Returns the milliseconds until the response.
    fn request(&self, method: &str, path: &str, body: &str) -> Result<f64> {
        let begin = Instant::now();
        let len = body.len();
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n");
        let mut stream = self.connect(&format!("{head}Content-Length: {len}\r\n\r\n{body}"))?;
        let mut text = String::new();
        stream.read_to_string(&mut text).map_err(|e| e.to_string())?;
        match text.starts_with("HTTP/1.1 20") {
            true => Ok(begin.elapsed().as_secs_f64() * 1000.0),
            false => Err(format!("{method} {path}: {text}")),
        }
    }

    /// The lines of the events of a task from now on.
    fn events(&self, id: u64) -> Result<BufReader<UnixStream>> {
        let path = format!("/v1/tasks/{id}/events?since=now");
        let stream = self.connect(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))?;
        Ok(BufReader::with_capacity(1 << 20, stream))
    }

    /// The server and the processes that it needs.
    fn processes(&self) -> Vec<u32> {
        let folder = self.folder.path().to_string_lossy().into_owned();
        let is_ours =
            |pid: u32| pid == self.child.id() || socket_of(pid).is_some_and(|path| path.contains(&folder));
        let all = fs::read_dir("/proc").into_iter().flatten().flatten();
        all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(|pid| is_ours(*pid)).collect()
    }

    fn sum(&self, of: impl Fn(u32) -> Result<f64>) -> Result<f64> {
        self.processes().into_iter().map(of).sum()
    }

    /// Resident memory; pages that the processes share count once.
    fn resident_mb(&self) -> Result<f64> {
        self.sum(|pid| Ok(field(&format!("/proc/{pid}/smaps_rollup"), "Pss")? as f64 / 1000.0))
    }

    fn wakeups(&self) -> Result<f64> {
        self.sum(|pid| {
            tasks(pid, |path| Ok(field(&format!("{path}/status"), "voluntary_ctxt_switches")? as f64))
        })
    }

    fn cpu_seconds(&self) -> Result<f64> {
        let first = |path: &str| numbers(&fs::read_to_string(path).unwrap_or_default()).first().copied();
        self.sum(|pid| tasks(pid, |path| Ok(first(&format!("{path}/schedstat")).unwrap_or(0.0) / 1e9)))
    }

    fn kill(mut self) -> tempfile::TempDir {
        let _ = self.child.kill();
        let _ = self.child.wait();
        std::mem::replace(&mut self.folder, tempfile::tempdir().expect("a directory"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let mut command = Command::new(tool("ecli"));
        command.args(["server", "--uninstall", "--socket"]).arg(self.folder.path().join("socket"));
        let _ = command.arg("--state").arg(self.folder.path().join("state")).output();
    }
}

/// Returns the path of the listening socket that the loader and its keeper have as standard input.
fn socket_of(pid: u32) -> Option<String> {
    let link = fs::read_link(format!("/proc/{pid}/fd/0")).ok()?;
    let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned();
    let sockets = fs::read_to_string("/proc/net/unix").ok()?;
    let line = sockets.lines().find(|line| line.split_whitespace().nth(6) == Some(&inode))?;
    line.split_whitespace().nth(7).map(str::to_owned)
}

/// Returns the sum of a figure over the threads of a process.
pub fn tasks(pid: u32, of: impl Fn(&str) -> Result<f64>) -> Result<f64> {
    let folder = fs::read_dir(format!("/proc/{pid}/task")).map_err(|e| e.to_string())?;
    folder.flatten().map(|task| of(&task.path().to_string_lossy())).sum()
}

/// The body of a start.
fn body(path: &PathBuf, name: &str) -> Result<String> {
    let package = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(format!("{{\"name\":\"{name}\",\"package\":{package}}}"))
}

/// Returns the quantile `share` of the values: 0.5 is the median.
fn share(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share).round() as usize]
}

// ---- the figures ----

fn memory_and_wakeups(server: &Server, report: &mut Report) -> Result<()> {
    const FIVE: [&str; 5] = ["bootstrap", "hello", "opensnoop", "execsnoop", "sigsnoop"];
    thread::sleep(Duration::from_secs(1));
    report.alone(
        "resident memory of all processes, idle",
        Figure::new("", server.resident_mb()?, "MB"),
        Some(15.0),
    );
    report.alone("wake-ups in ten seconds, idle", Figure::new("", idle_wakeups(server)?, ""), Some(0.0));
    let mut started = 0;
    for name in FIVE {
        let path = package(name);
        if path.exists() {
            server.request("POST", "/v1/tasks", &body(&path, name)?)?;
            started += 1;
        }
    }
    let name = format!("resident memory of all processes, {started} packages");
    report.alone(&name, Figure::new("", server.resident_mb()?, "MB"), Some(30.0));
    (1..=started).try_for_each(|id| server.request("DELETE", &format!("/v1/tasks/{id}"), "").map(drop))
}

fn idle_wakeups(server: &Server) -> Result<f64> {
    let before = server.wakeups()?;
    thread::sleep(Duration::from_secs(10));
    Ok(server.wakeups()? - before)
}

/// The task has no events, but the loader compares it with its budget once per second.
fn wakeups_with_a_budget(server: &Server, built: &Built, report: &mut Report) -> Result<()> {
    let body = body(&PathBuf::from(&built.replaced[0].package), "budget")?;
    let limits = "\"limits\":{\"events_per_second\":1000}}";
    let body = format!("{},{limits}", body.strip_suffix('}').unwrap_or(&body));
    server.request("POST", "/v1/tasks", &body)?;
    let id = newest(server)?;
    // The server records after ten seconds that the task is healthy.
    thread::sleep(Duration::from_secs(12));
    let name = "wake-ups in ten seconds, idle, a task with a budget";
    report.alone(name, Figure::new("", idle_wakeups(server)?, ""), Some(10.0));
    server.request("DELETE", &format!("/v1/tasks/{id}"), "").map(drop)
}

fn starts(server: &Server, report: &mut Report) -> Result<()> {
    let path = package("bootstrap");
    let size = fs::metadata(&path).map_or(0, |about| about.len()) / 1000;
    let body = body(&path, "start")?;
    let mut times = Vec::new();
    for _ in 0..COUNT {
        times.push(server.request("POST", "/v1/tasks", &body)?);
        server.request("DELETE", &format!("/v1/tasks/{}", newest(server)?), "")?;
    }
    let name = format!("start of a task, package of {size} kB, p50");
    report.alone(&name, Figure::new("", share(&mut times, 0.5), "ms"), Some(15.0));
    Ok(())
}

/// The number of the newest task.
fn newest(server: &Server) -> Result<u64> {
    let mut text = String::new();
    let mut stream = server.connect("GET /v1/tasks HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    stream.read_to_string(&mut text).map_err(|e| e.to_string())?;
    let ids = text
        .split("\"id\":")
        .skip(1)
        .filter_map(|rest| rest.split(',').next()?.trim_end_matches('}').parse().ok());
    ids.max().ok_or_else(|| format!("no task in {text}"))
}

/// The times from a request for a replace until the new version handles its first event, in milliseconds, while there are so many
/// events per millisecond.
fn replaces(server: &Server, built: &Built, report: &mut Report) -> Result<()> {
    let versions = built.replaced.each_ref().map(|version| PathBuf::from(&version.package));
    server.request("POST", "/v1/tasks", &body(&versions[0], "replaced")?)?;
    let id = newest(server)?;
    let bodies = versions.iter().map(|path| {
        fs::read_to_string(path).map(|text| format!("{{\"package\":{text}}}")).map_err(|e| e.to_string())
    });
    let bodies = bodies.collect::<Result<Vec<String>>>()?;
    for (load, calls) in [("", 1), (", with 100,000 events per second", 100)] {
        let (firsts, is_over) = (first_events(server, id)?, Arc::new(AtomicBool::new(false)));
        let producer = thread::spawn({
            let is_over = Arc::clone(&is_over);
            move || {
                while !is_over.load(Relaxed) {
                    (0..calls).for_each(|_| _ = getpgid(None));
                    thread::sleep(Duration::from_millis(1));
                }
            }
        });
        let one = |round: usize| {
            let (begin, new) = (monotonic_ns(), (round + 1) % 2);
            server.request("PUT", &format!("/v1/tasks/{id}/package"), &bodies[new])?;
            let is_new = |(version, _): &(u64, u64)| *version == new as u64 + 1;
            let (_, first) = firsts.iter().find(is_new).ok_or("the events have ended")?;
            Ok(first.saturating_sub(begin) as f64 / 1e6)
        };
        let times = (0..2 * COUNT).map(one).collect::<Result<Vec<f64>>>();
        is_over.store(true, Relaxed);
        producer.join().map_err(|_| "the producer has failed")?;
        let mut times = times?;
        for (name, part, most) in [("p50", 0.5, 20.0), ("p99", 0.99, 100.0)] {
            let name = format!(
                "update of a task, from the request to the first event of the new version{load}, {name}"
            );
            report.alone(&name, Figure::new("", share(&mut times, part), "ms"), Some(most));
        }
    }
    server.request("DELETE", &format!("/v1/tasks/{id}"), "").map(drop)
}

/// The version and the time of the first event after each change of the version.
fn first_events(server: &Server, id: u64) -> Result<mpsc::Receiver<(u64, u64)>> {
    let (mut events, (sender, firsts)) = (server.events(id)?, mpsc::channel());
    thread::spawn(move || {
        let (mut line, mut last) = (String::new(), 0);
        while events.read_line(&mut line).is_ok_and(|len| len > 0) {
            let number = |name: &str| {
                let digits = line.split_once(name)?.1;
                digits.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u64>().ok()
            };
            if let (Some(version), Some(time)) = (number("\"version\":"), number("\"time_ns\":"))
                && version != last
            {
                last = version;
                if sender.send((version, time)).is_err() {
                    return;
                }
            }
            line.clear();
        }
    });
    Ok(firsts)
}

fn monotonic_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn recovery(server: Server, report: &mut Report) -> Result<Server> {
    server.request("POST", "/v1/tasks", &body(&package("bootstrap"), "recovery")?)?;
    let id = newest(&server)?;
    let folder = server.kill();
    let begin = Instant::now();
    let server = Server::start_in(folder)?;
    let mut events = server.events(id)?;
    let mut line = String::new();
    while !line.contains("\"event\"") {
        Command::new("/bin/true").status().map_err(|e| e.to_string())?;
        line.clear();
        events.read_line(&mut line).map_err(|e| e.to_string())?;
    }
    let ms = begin.elapsed().as_secs_f64() * 1000.0;
    report.alone(
        "after kill -9 of the server, from the start of the next one to its first event",
        Figure::new("", ms, "ms"),
        Some(100.0),
    );
    server.request("DELETE", &format!("/v1/tasks/{id}"), "")?;
    Ok(server)
}

/// Reads events until the task ends. Returns the events, and the lines that were dropped before they were read.
fn count(mut events: BufReader<UnixStream>) -> (u64, u64) {
    // A search in the whole line would take longer than the server has for it, because this program is not optimised.
    const BEFORE: usize = b"{\"cursor\":\"".len();
    const EVENT: &[u8] = b"\",\"map\":\"events\",\"event\":";
    let (mut line, mut count, mut lost) = (Vec::new(), 0, 0);
    while events.read_until(b'\n', &mut line).is_ok_and(|len| len > 0) {
        let rest = line.get(BEFORE..).unwrap_or_default();
        let end = rest.iter().position(|byte| *byte == b'"').unwrap_or(0);
        if rest[end..].starts_with(EVENT) {
            count += 1;
        } else if let Some(rest) = String::from_utf8_lossy(&line).split("\"lost\":").nth(1) {
            lost += rest.split(',').next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0);
        }
        line.clear();
    }
    (count, lost)
}

/// The results of the readers of a task.
struct Followed {
    produced: u64,
    /// The events of each reader, and the lines that were dropped before it read them.
    read: Vec<(u64, u64)>,
    /// The share of one CPU that the server and its loader used.
    cpu: f64,
}

/// Sends events of one task to `readers` readers, at `rate` events per second.
fn followed(server: &Server, built: &Built, rate: &str, readers: usize) -> Result<Followed> {
    const SECONDS: &str = "4";
    server.request("POST", "/v1/tasks", &body(&PathBuf::from(&built.signal().package), "signal")?)?;
    let id = newest(server)?;
    let streams = (0..readers).map(|_| server.events(id)).collect::<Result<Vec<_>>>()?;
    let threads: Vec<_> = streams.into_iter().map(|stream| thread::spawn(move || count(stream))).collect();
    thread::sleep(Duration::from_millis(300));
    let before = server.cpu_seconds()?;
    let said = output(Command::new(&built.flood).args([rate, SECONDS]))?;
    let cpu = server.cpu_seconds()? - before;
    thread::sleep(Duration::from_millis(500));
    server.request("DELETE", &format!("/v1/tasks/{id}"), "")?;
    let read = threads.into_iter().map(|thread| thread.join().unwrap_or_default()).collect();
    let produced = numbers(&said).first().copied().unwrap_or(0.0) as u64;
    Ok(Followed { produced, read, cpu: cpu / 4.0 })
}

fn readers(server: &Server, built: &Built, report: &mut Report) -> Result<()> {
    let Followed { produced, read, cpu } = followed(server, built, "1000", READERS)?;
    let missing: u64 = read.iter().map(|(count, _)| produced.saturating_sub(*count)).sum();
    let name =
        format!("1,000 events per second to {READERS} readers: share of one CPU ({missing} events missing)");
    report.alone(&name, Figure::new("", cpu * 100.0, "%"), Some(5.0));
    Ok(())
}

fn flood(server: &Server, built: &Built, report: &mut Report) -> Result<()> {
    let Followed { produced, read, .. } = followed(server, built, "1000000", 1)?;
    let [(count, lost)] = read[..] else { return Err("not one reader".into()) };
    let name = format!(
        "1,000,000 events per second to one reader: {produced} sent, {lost} dropped before they were read"
    );
    report.alone(&name, Figure::new("", produced.saturating_sub(count) as f64, "lost"), Some(0.0));
    Ok(())
}
