//! What ecli costs as it is installed: beside a tool written for the purpose on plain libbpf, and beside bpftrace.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use super::host::Host;
use super::programs::{Built, sources};
use super::{Result, object, output, package, root, row, size};

/// Runs of everything; the medians count.
const ROUNDS: usize = 7;

/// ecli as it is installed; `make bench` builds it.
fn binary() -> PathBuf {
    root().join("target/release/ecli")
}

fn ecli() -> Command {
    Command::new(binary())
}

/// ecli with a package whose events do not come.
pub fn idle(package: &Path) -> Result<Host> {
    let host = Host::spawn(ecli().arg("run").arg(package).stdout(Stdio::null()).stderr(Stdio::null()))?;
    thread::sleep(Duration::from_secs(1));
    Ok(host)
}

/// Prints the rows.
pub fn figures(built: &Built) -> Result<()> {
    start_and_memory(built)?;
    const MOST: u64 = 8_000_000;
    let size = size(&binary())?;
    row("ecli, stripped", "", &format!("{size} bytes"), "", "<= 8000000 bytes", size <= MOST);
    flood(built)
}

// ---- start, and what it occupies then ----

/// From nothing to the first event of opensnoop, in turns.
fn start_and_memory(built: &Built) -> Result<()> {
    const MOST_RATIO: f64 = 1.3;
    const MOST_MS: f64 = 100.0;
    const MOST_KB: f64 = 12_000.0;
    let package = package("opensnoop");
    let address = serve(fs::read(&package).map_err(|e| e.to_string())?)?;
    let mut contestants = [Command::new(&built.plain_tool), ecli(), Command::new("bpftrace"), ecli()];
    contestants[0].arg(object("opensnoop"));
    contestants[1].args(["run", "-j"]).arg(&package);
    contestants[2].arg("-q").arg(sources().join("opensnoop.bt"));
    contestants[3].args(["run", "-j", "-n", &format!("http://{address}/package.json")]);

    let activity = AtomicBool::new(true);
    let firsts = thread::scope(|scope| {
        scope.spawn(|| {
            while activity.load(Relaxed) {
                let _ = fs::File::open("/dev/null");
                thread::sleep(Duration::from_micros(100));
            }
        });
        let firsts = (0..ROUNDS).map(|_| contestants.each_mut().map(first_event));
        let firsts: Vec<[Result<First>; 4]> = firsts.collect();
        activity.store(false, Relaxed);
        firsts
    });
    let mut times = [const { Vec::new() }; 4];
    let mut sizes = [const { Vec::new() }; 4];
    for first in firsts.into_iter().flat_map(|round| round.into_iter().enumerate()) {
        let (contestant, first) = (first.0, first.1?);
        times[contestant].push(first.ms);
        sizes[contestant].push(first.resident_kb);
    }
    let [plain, ours, bpftrace, url] = times.map(median);
    let [plain_kb, our_kb, bpftrace_kb, url_kb] = sizes.map(median);

    let ratio = ours / plain;
    let shown = format!("ratio {ratio:.2}");
    let reached = ratio <= MOST_RATIO && ours <= MOST_MS;
    let name = "ecli: first event";
    row(
        name,
        &format!("libbpf {plain:.1} ms"),
        &format!("ecli {ours:.1} ms"),
        &shown,
        "<= 1.30 and <= 100 ms",
        reached,
    );
    let shown = format!("ratio {:.2}", ours / bpftrace);
    row("", &format!("bpftrace {bpftrace:.1} ms"), &format!("ecli {ours:.1} ms"), &shown, "", true);
    let shown = format!("+{:.1} ms", url - ours);
    row("  package from a URL", "", &format!("ecli {url:.1} ms"), &shown, "", true);

    let name = "ecli: resident memory";
    let shown = format!("bpftrace {bpftrace_kb:.0} kB");
    row(
        name,
        &format!("libbpf {plain_kb:.0} kB"),
        &format!("ecli {our_kb:.0} kB"),
        &shown,
        "<= 12000 kB",
        our_kb <= MOST_KB,
    );
    row("  package from a URL", "", &format!("ecli {url_kb:.0} kB"), "", "<= 12000 kB", url_kb <= MOST_KB);
    Ok(())
}

struct First {
    /// Until its first line.
    ms: f64,
    /// The most that it had in memory until then.
    resident_kb: f64,
}

fn first_event(command: &mut Command) -> Result<First> {
    let begin = Instant::now();
    let mut host = Host::spawn(command.stdout(Stdio::piped()).stderr(Stdio::null()))?;
    let line = host.first_line()?;
    let ms = begin.elapsed().as_secs_f64() * 1000.0;
    if !line.starts_with('{') {
        return Err(format!("{command:?}: no event but {line:?}"));
    }
    Ok(First { ms, resident_kb: host.status("VmHWM")? as f64 })
}

/// Hands out `body` over HTTP from now on, whatever is asked for. The address.
fn serve(body: Vec<u8>) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
    let address = listener.local_addr().map_err(|e| e.to_string())?.to_string();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            // Whether the client got it shows in what the client does.
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        }
    });
    Ok(address)
}

// ---- a million events a second ----

/// Everybody writes to /dev/null and has one core; the events come from elsewhere.
fn flood(built: &Built) -> Result<()> {
    let mut plain = on_one_core(&built.plain_tool);
    plain.arg(&built.signal_object);
    let mut ours = ["json", "csv", "text"].map(|format| {
        let mut command = on_one_core(&binary());
        command.args(["run", "--duration", "4s", "--format", format]).arg(&built.signal_package);
        (format, command, Vec::new())
    });
    let mut theirs = Vec::new();
    for _ in 0..ROUNDS {
        theirs.push(flooded(&mut plain, built)?.ns);
        for (_, command, runs) in &mut ours {
            runs.push(flooded(command, built)?);
        }
    }
    let theirs = median(theirs);
    for (format, _, runs) in &ours {
        let lost: u64 = runs.iter().map(|run| run.lost).sum();
        let ns = median(runs.iter().map(|run| run.ns).collect());
        let competitor = format!("libbpf, snprintf {theirs:.0} ns");
        let (shown, ratio) = (format!("ecli {ns:.0} ns, {lost} lost"), format!("ratio {:.2}", ns / theirs));
        row(&format!("ecli: 1 M/s as {format}"), &competitor, &shown, &ratio, "0 lost", lost == 0);
    }
    Ok(())
}

fn on_one_core(program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", "0"]).arg(program);
    command
}

struct Flooded {
    lost: u64,
    /// CPU time for an event.
    ns: f64,
}

/// What a program does that gets a million events a second. ecli says itself how many it has shown.
fn flooded(command: &mut Command, built: &Built) -> Result<Flooded> {
    const RATE: &str = "1000000";
    const SECONDS: &str = "2";
    let mut host = Host::spawn(command.stdout(Stdio::null()).stderr(Stdio::piped()))?;
    thread::sleep(Duration::from_millis(500));
    let before = host.cpu_ns()?;
    let said = output(Command::new(&built.flood).args([RATE, SECONDS]))?;
    thread::sleep(Duration::from_millis(200));
    let ns = host.cpu_ns()? - before;
    let produced = number(&said, "produced")?;
    let mut lost = number(&said, "lost")?;
    if command.get_args().any(|arg| arg == "--duration") {
        let shown = number(&host.last_words()?, "ecli:")?;
        lost = produced - shown;
    }
    Ok(Flooded { lost, ns: ns / produced as f64 })
}

/// The number behind a word.
fn number(text: &str, name: &str) -> Result<u64> {
    let mut words = text.split_whitespace().skip_while(|word| *word != name);
    words.nth(1).and_then(|word| word.parse().ok()).ok_or_else(|| format!("no {name} in {text:?}"))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
