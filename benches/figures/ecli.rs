//! The cost of the installed ecli, compared with a hand-written tool on plain libbpf and with bpftrace.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use super::host::Host;
use super::programs::{Built, sources};
use super::report::{Figure, Report};
use super::{RUNS, Result, columns, object, output, package, tool};

fn ecli() -> Command {
    Command::new(tool("ecli"))
}

/// ecli with a package that delivers no events.
pub fn idle(package: &Path) -> Result<Host> {
    let host = Host::spawn(ecli().arg("run").arg(package).stdout(Stdio::null()).stderr(Stdio::null()))?;
    thread::sleep(Duration::from_secs(1));
    Ok(host)
}

pub fn figures(built: &Built, report: &mut Report) -> Result<()> {
    report.part("`ecli`, a tool on plain libbpf, and bpftrace: opensnoop as JSON");
    start_and_memory(built, report)?;
    report.part("A million events per second to /dev/null, on one core: CPU time per event");
    flood(built, report)
}

// ---- start-up time and memory ----

/// The time from process start to the first event of opensnoop. The sides alternate.
fn start_and_memory(built: &Built, report: &mut Report) -> Result<()> {
    const MOST_KB: f64 = 12_000.0;
    let package = package("opensnoop");
    let address = serve(fs::read(&package).map_err(|e| e.to_string())?)?;
    let mut contestants = [Command::new(&built.plain_tool), ecli(), Command::new("bpftrace"), ecli()];
    contestants[0].arg(object("opensnoop"));
    contestants[1].args(["run", "-j"]).arg(&package);
    contestants[2].arg("-q").arg(sources().join("opensnoop.bt"));
    contestants[3].args(["run", "-j", "-n", &format!("http://{address}/package.json")]);

    let activity = AtomicBool::new(true);
    let runs = thread::scope(|scope| {
        scope.spawn(|| {
            while activity.load(Relaxed) {
                let _ = fs::File::open("/dev/null");
                thread::sleep(Duration::from_micros(100));
            }
        });
        let runs: Vec<Result<Vec<First>>> =
            (0..RUNS).map(|_| contestants.iter_mut().map(first_event).collect()).collect();
        activity.store(false, Relaxed);
        runs
    });
    let runs: Vec<Vec<First>> = runs.into_iter().collect::<Result<_>>()?;
    let figures = |of: fn(&First) -> f64| {
        columns(&runs.iter().map(|run| run.iter().map(of).collect()).collect::<Vec<_>>())
    };
    let times = figures(|first| first.ms);
    let ms = |who, contestant: usize| Figure::new(who, times[contestant], "ms");
    report.ratio("from process start to its first line", ms("libbpf", 0), ms("", 1), Some(1.3), Some(100.0));
    report.ratio("the same", ms("bpftrace", 2), ms("", 1), None, None);
    report.more("the package from a web server on loopback", ms("from a file", 1), ms("", 3), None);

    let sizes = figures(|first| first.resident_kb);
    let kb = |who, contestant: usize| Figure::new(who, sizes[contestant], "kB");
    report.ratio("peak resident memory (VmHWM) by then", kb("bpftrace", 2), kb("", 1), None, None);
    report.more("the same", kb("libbpf", 0), kb("", 1), None);
    report.alone("the same", kb("", 1), Some(MOST_KB));
    report.alone("the same, the package from a web server", kb("", 3), Some(MOST_KB));
    Ok(())
}

struct First {
    /// Time to the first line.
    ms: f64,
    /// Peak memory until then.
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

/// Serves `body` over HTTP for any request. Returns the address.
fn serve(body: Vec<u8>) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
    let address = listener.local_addr().map_err(|e| e.to_string())?.to_string();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            // A failure shows in the client.
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        }
    });
    Ok(address)
}

// ---- a million events a second ----

/// Each side has one core; the events come from another one.
fn flood(built: &Built, report: &mut Report) -> Result<()> {
    let mut plain = on_one_core(&built.plain_tool);
    plain.arg(&built.signal().object);
    let formats = ["json", "csv", "text"];
    let mut ours = formats.map(|format| {
        let mut command = on_one_core(&tool("ecli"));
        command.args(["run", "--duration", "4s", "--format", format]).arg(&built.signal().package);
        command
    });
    let (mut runs, mut lost) = (Vec::new(), [0; 3]);
    for _ in 0..RUNS {
        let mut run = vec![flooded(&mut plain, built)?.ns];
        for (command, lost) in ours.iter_mut().zip(&mut lost) {
            let flooded = flooded(command, built)?;
            run.push(flooded.ns);
            *lost += flooded.lost;
        }
        runs.push(run);
    }
    let medians = columns(&runs);
    for ((format, ns), lost) in formats.into_iter().zip(&medians[1..]).zip(lost) {
        let cells = [
            &format!("as {format}"),
            &format!("libbpf, `printf` of JSON {:.0} ns", medians[0]),
            &format!("{ns:.0} ns, {lost} lost"),
            &format!("{:.2}", ns / medians[0]),
        ];
        report.row(cells.map(String::as_str), Some(("0 lost", lost == 0)));
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
    /// CPU time per event.
    ns: f64,
}

/// The result of a program that gets a million events per second. ecli itself reports how many it printed.
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

/// The number after a word.
fn number(text: &str, name: &str) -> Result<u64> {
    let mut words = text.split_whitespace().skip_while(|word| *word != name);
    words.nth(1).and_then(|word| word.parse().ok()).ok_or_else(|| format!("no {name} in {text:?}"))
}
